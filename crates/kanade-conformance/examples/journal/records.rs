//! The records in memory, and what one commit does to them: the same when it is made and when it is read again.

use std::collections::BTreeMap;

use kanade_model::{AuditEvent, ExecId, JobId, PcId, ResultId, ScheduleId, SendId, Timestamp};
use kanade_ports::{
    Agent, DeadLetter, Execution, Facts, KeyRecord, Needs, Order, Output, Run, ScheduleCursor, Send,
    SlotRecord, TargetRecord, WorkingSet,
};
use serde::{Deserialize, Serialize};

#[derive(Default)]
pub(super) struct Records {
    pub(super) executions: BTreeMap<ExecId, Execution>,
    pub(super) orders: BTreeMap<ExecId, Order>,
    pub(super) targets: BTreeMap<(ExecId, PcId), TargetRecord>,
    pub(super) sends: BTreeMap<SendId, Send>,
    pub(super) runs: BTreeMap<ResultId, Run>,
    pub(super) outputs: BTreeMap<ResultId, Output>,
    pub(super) agents: BTreeMap<PcId, Agent>,
    pub(super) facts: BTreeMap<(PcId, JobId), Facts>,
    pub(super) keys: BTreeMap<String, KeyRecord>,
    pub(super) audit: BTreeMap<i64, AuditEvent>,
    pub(super) dead_letters: BTreeMap<i64, DeadLetter>,
    pub(super) marks: BTreeMap<String, Timestamp>,
    pub(super) slots: BTreeMap<(ScheduleId, Timestamp), SlotRecord>,
    pub(super) cursors: BTreeMap<ScheduleId, ScheduleCursor>,
    pub(super) successes: BTreeMap<(JobId, PcId), Timestamp>,
    /// The numbers last given; never given again, whatever is forgotten.
    last_audit: i64,
    last_letter: i64,
}

/// One commit: what is removed, then what is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Commit {
    forget_executions: Vec<ExecId>,
    forget_runs: Vec<ResultId>,
    forget_audit: Vec<i64>,
    forget_dead_letters: Vec<i64>,
    forget_keys: Vec<String>,
    forget_slots: Vec<(ScheduleId, Timestamp)>,
    executions: Vec<Execution>,
    orders: Vec<(ExecId, Order)>,
    targets: Vec<TargetRecord>,
    sends: Vec<Send>,
    runs: Vec<Run>,
    outputs: Vec<(ResultId, Output)>,
    agents: Vec<Agent>,
    facts: Vec<Facts>,
    keys: Vec<(String, KeyRecord)>,
    audit: Vec<(i64, AuditEvent)>,
    dead_letters: Vec<(i64, DeadLetter)>,
    marks: Vec<(String, Timestamp)>,
    slots: Vec<SlotRecord>,
    cursors: Vec<ScheduleCursor>,
    successes: Vec<(JobId, PcId, Timestamp)>,
}

impl Records {
    /// The rows that a batch needs.
    pub(super) fn load(&self, needs: &Needs) -> WorkingSet {
        let mut set = WorkingSet::default();
        for id in &needs.executions {
            self.executions
                .get(id)
                .inspect(|row| set.executions.load(id.clone(), (*row).clone()));
        }
        for (key, row) in &self.targets {
            if needs.whole.contains(&key.0) || needs.targets.contains(key) {
                set.targets.load(key.clone(), row.clone());
            }
        }
        for (id, row) in &self.sends {
            if needs.whole.contains(&row.exec_id) || needs.sends.contains(id) {
                set.sends.load(*id, row.clone());
            }
        }
        for (id, row) in &self.runs {
            let of_it = row.exec_id.as_ref().is_some_and(|id| needs.runs_of.contains(id));
            if of_it || needs.runs.contains(id) {
                set.runs.load(*id, row.clone());
            }
        }
        for id in &needs.agents {
            self.agents
                .get(id)
                .inspect(|row| set.agents.load(id.clone(), (*row).clone()));
        }
        for key in &needs.facts {
            self.facts
                .get(key)
                .inspect(|row| set.facts.load(key.clone(), (*row).clone()));
        }
        for key in &needs.keys {
            self.keys
                .get(key)
                .inspect(|row| set.keys.load(key.clone(), (*row).clone()));
        }
        for name in &needs.marks {
            self.marks
                .get(name)
                .inspect(|at| set.marks.load(name.clone(), **at));
        }
        for key in &needs.slots {
            self.slots
                .get(key)
                .inspect(|row| set.slots.load(key.clone(), (*row).clone()));
        }
        let known = self.audit.values().filter_map(|event| event.event_id);
        set.audit_ids = known.filter(|id| needs.audit.contains(id)).collect();
        set
    }

    /// What a batch has changed.
    pub(super) fn commit(&self, set: WorkingSet) -> Commit {
        Commit {
            executions: set.executions.changed().map(|row| row.now.clone()).collect(),
            targets: set.targets.changed().map(|row| row.now.clone()).collect(),
            sends: set.sends.changed().map(|row| row.now.clone()).collect(),
            runs: set.runs.changed().map(|row| row.now.clone()).collect(),
            agents: set.agents.changed().map(|row| row.now.clone()).collect(),
            facts: set.facts.changed().map(|row| row.now.clone()).collect(),
            keys: set
                .keys
                .changed()
                .map(|row| (row.key.clone(), row.now.clone()))
                .collect(),
            marks: set
                .marks
                .changed()
                .map(|row| (row.key.clone(), *row.now))
                .collect(),
            slots: set.slots.changed().map(|row| row.now.clone()).collect(),
            cursors: set.cursors.changed().map(|row| row.now.clone()).collect(),
            successes: set
                .successes
                .into_iter()
                .map(|((job_id, pc_id), at)| (job_id, pc_id, at))
                .collect(),
            orders: set.orders,
            outputs: set.outputs.into_iter().collect(),
            audit: (self.last_audit + 1..).zip(set.audit).collect(),
            dead_letters: (self.last_letter + 1..).zip(set.dead_letters).collect(),
            forget_executions: set.forget.executions,
            forget_runs: set.forget.runs,
            forget_audit: set.forget.audit,
            forget_dead_letters: set.forget.dead_letters,
            forget_keys: set.forget.keys,
            forget_slots: set.forget.slots,
        }
    }

    /// Makes a commit's changes. What is to be forgotten goes first: the same batch may have written it anew.
    pub(super) fn redo(&mut self, commit: Commit) {
        for id in &commit.forget_executions {
            self.executions.remove(id);
            self.orders.remove(id);
            self.targets.retain(|(exec_id, _), _| exec_id != id);
            self.sends.retain(|_, send| send.exec_id != *id);
            self.runs.retain(|_, run| run.exec_id.as_ref() != Some(id));
        }
        commit
            .forget_runs
            .iter()
            .for_each(|id| drop(self.runs.remove(id)));
        if !(commit.forget_executions.is_empty() && commit.forget_runs.is_empty()) {
            self.outputs.retain(|id, _| self.runs.contains_key(id));
        }
        commit
            .forget_audit
            .iter()
            .for_each(|id| drop(self.audit.remove(id)));
        commit
            .forget_dead_letters
            .iter()
            .for_each(|id| drop(self.dead_letters.remove(id)));
        commit
            .forget_keys
            .iter()
            .for_each(|key| drop(self.keys.remove(key)));
        commit
            .forget_slots
            .iter()
            .for_each(|key| drop(self.slots.remove(key)));

        let executions = commit.executions.into_iter();
        self.executions
            .extend(executions.map(|row| (row.exec_id.clone(), row)));
        let targets = commit.targets.into_iter();
        self.targets
            .extend(targets.map(|row| ((row.exec_id.clone(), row.pc_id.clone()), row)));
        self.sends
            .extend(commit.sends.into_iter().map(|row| (row.send_id, row)));
        self.runs
            .extend(commit.runs.into_iter().map(|row| (row.result_id, row)));
        self.agents
            .extend(commit.agents.into_iter().map(|row| (row.pc_id.clone(), row)));
        let facts = commit.facts.into_iter();
        self.facts
            .extend(facts.map(|row| ((row.pc_id.clone(), row.job_id.clone()), row)));
        self.keys.extend(commit.keys);
        self.marks.extend(commit.marks);
        let slots = commit.slots.into_iter();
        self.slots
            .extend(slots.map(|row| ((row.schedule_id.clone(), row.slot), row)));
        let cursors = commit.cursors.into_iter();
        self.cursors
            .extend(cursors.map(|row| (row.schedule_id.clone(), row)));
        for (job_id, pc_id, at) in commit.successes {
            let newest = self.successes.entry((job_id, pc_id)).or_insert(at);
            *newest = at.max(*newest);
        }
        self.orders.extend(commit.orders);
        self.outputs.extend(commit.outputs);
        self.last_audit = commit.audit.last().map_or(self.last_audit, |(number, _)| *number);
        self.audit.extend(commit.audit);
        self.last_letter = commit
            .dead_letters
            .last()
            .map_or(self.last_letter, |(number, _)| *number);
        self.dead_letters.extend(commit.dead_letters);
    }
}
