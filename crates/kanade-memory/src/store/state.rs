//! The tables of the store: which lists each kind of record stands in, reading for a batch, writing one.

use std::collections::BTreeMap;

use kanade_model::{
    AuditEvent, ExecId, ExecutionStatus, JobId, PcId, ResultId, RunState, ScheduleId, SendId, SlotState,
    TargetState, Timestamp,
};
use kanade_ports::{
    Agent, AuditRecord, DeadLetterRecord, Execution, Facts, Forget, KeyRecord, Needs, Order, Output,
    Position, Run, RunFilter, ScheduleCursor, Send, SendState, SlotRecord, TargetRecord, WorkingSet,
};
use uuid::Uuid;

use super::table::Table;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExecutionList {
    /// Of a job, with a status; none stands for any.
    Of(Option<JobId>, Option<ExecutionStatus>),
    /// With a kill that is not settled, by the time of the kill.
    OpenKill,
    /// To be steered, by the time they were fired.
    ToSteer,
    /// Pending ones that nothing holds, by the time their last send is due.
    Pending,
    /// Final ones by the time they finished.
    Final,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TargetList {
    /// Of an execution, in a state; none stands for any.
    Of(ExecId, Option<TargetState>),
    /// Waiting and running ones on an agent, by due time.
    UnfinishedOn(PcId),
    /// Those on an agent that have an unanswered kill, by the time they ended.
    UnansweredOn(PcId),
    /// Waiting ones, by the time they expire.
    Expiring,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SendList {
    /// Of an execution.
    Of(ExecId),
    /// Still owed.
    Due,
}

/// Ids are plain text here: what is looked for exactly may be anything, also the empty text of a missing id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RunList {
    All,
    On(String),
    OfJob(String),
    Of(String),
    /// With the outcome of this number.
    With(u8),
    /// Running ones, by the time they are lost.
    Expiring,
    /// Ended ones, by the time they ended.
    Ended,
}

impl RunList {
    pub(super) fn with(filter: RunFilter) -> Self {
        Self::With(filter as u8)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FactsList {
    About(PcId),
    By(JobId),
}

/// The lists of audit entries; dead letters stand in the first and the last, keys only in the last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TrailList {
    All,
    By(String),
    Age,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SlotList {
    Of(ScheduleId),
    Waiting,
    Age,
}

/// Everything the store holds.
pub(super) struct State {
    pub(super) executions: Table<ExecId, Execution, ExecutionList>,
    pub(super) orders: BTreeMap<ExecId, Order>,
    pub(super) targets: Table<(ExecId, PcId), TargetRecord, TargetList>,
    pub(super) sends: Table<SendId, Send, SendList>,
    pub(super) runs: Table<ResultId, Run, RunList>,
    pub(super) outputs: BTreeMap<ResultId, Output>,
    pub(super) agents: Table<PcId, Agent, ()>,
    pub(super) facts: Table<(PcId, JobId), Facts, FactsList>,
    pub(super) audit: Table<i64, AuditRecord, TrailList>,
    pub(super) dead_letters: Table<i64, DeadLetterRecord, TrailList>,
    pub(super) keys: Table<String, (String, KeyRecord), TrailList>,
    pub(super) marks: BTreeMap<String, Timestamp>,
    pub(super) slots: Table<(ScheduleId, Timestamp), SlotRecord, SlotList>,
    pub(super) cursors: BTreeMap<ScheduleId, ScheduleCursor>,
    pub(super) successes: BTreeMap<JobId, BTreeMap<PcId, Timestamp>>,
    audit_ids: BTreeMap<Uuid, i64>,
    /// The numbers last given; never given again, whatever is forgotten.
    last_audit: i64,
    last_letter: i64,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            executions: Table::new(execution_places),
            orders: BTreeMap::new(),
            targets: Table::new(target_places),
            sends: Table::new(send_places),
            runs: Table::new(run_places),
            outputs: BTreeMap::new(),
            agents: Table::new(|agent| vec![((), by_id(agent.pc_id.as_str()))]),
            facts: Table::new(|facts| {
                vec![
                    (
                        FactsList::About(facts.pc_id.clone()),
                        by_id(facts.job_id.as_str()),
                    ),
                    (FactsList::By(facts.job_id.clone()), by_id(facts.pc_id.as_str())),
                ]
            }),
            audit: Table::new(|record| {
                let number = by_number(record.id);
                vec![
                    (TrailList::All, number.clone()),
                    (TrailList::By(record.event.actor.clone()), number),
                    (TrailList::Age, place(record.event.occurred_at, &record.id)),
                ]
            }),
            dead_letters: Table::new(|record| {
                vec![
                    (TrailList::All, by_number(record.id)),
                    (TrailList::Age, place(record.letter.at, &record.id)),
                ]
            }),
            keys: Table::new(|(key, record)| vec![(TrailList::Age, place(record.at, key))]),
            marks: BTreeMap::new(),
            slots: Table::new(slot_places),
            cursors: BTreeMap::new(),
            successes: BTreeMap::new(),
            audit_ids: BTreeMap::new(),
            last_audit: 0,
            last_letter: 0,
        }
    }

    /// The rows that a batch needs.
    pub(super) fn load(&self, needs: &Needs) -> WorkingSet {
        let mut set = WorkingSet::default();
        for id in &needs.executions {
            if let Some(row) = self.executions.get(id) {
                set.executions.load(id.clone(), row.clone());
            }
        }
        for key in &needs.targets {
            if let Some(row) = self.targets.get(key) {
                set.targets.load(key.clone(), row.clone());
            }
        }
        for exec_id in &needs.whole {
            for (_, row) in self
                .targets
                .forwards(&TargetList::Of(exec_id.clone(), None), None)
            {
                set.targets
                    .load((exec_id.clone(), row.pc_id.clone()), row.clone());
            }
            for (_, row) in self.sends.forwards(&SendList::Of(exec_id.clone()), None) {
                set.sends.load(row.send_id, row.clone());
            }
        }
        for id in &needs.sends {
            if let Some(row) = self.sends.get(id) {
                set.sends.load(*id, row.clone());
            }
        }
        for id in &needs.runs {
            if let Some(row) = self.runs.get(id) {
                set.runs.load(*id, row.clone());
            }
        }
        for exec_id in &needs.runs_of {
            let list = RunList::Of(exec_id.as_str().to_owned());
            for (_, row) in self.runs.forwards(&list, None) {
                set.runs.load(row.result_id, row.clone());
            }
        }
        for id in &needs.agents {
            if let Some(row) = self.agents.get(id) {
                set.agents.load(id.clone(), row.clone());
            }
        }
        for key in &needs.facts {
            if let Some(row) = self.facts.get(key) {
                set.facts.load(key.clone(), row.clone());
            }
        }
        for key in &needs.keys {
            if let Some((_, row)) = self.keys.get(key) {
                set.keys.load(key.clone(), row.clone());
            }
        }
        for name in &needs.marks {
            if let Some(at) = self.marks.get(name) {
                set.marks.load(name.clone(), *at);
            }
        }
        for key in &needs.slots {
            if let Some(row) = self.slots.get(key) {
                set.slots.load(key.clone(), row.clone());
            }
        }
        set.audit_ids = needs
            .audit
            .iter()
            .filter(|id| self.audit_ids.contains_key(id))
            .copied()
            .collect();
        set
    }

    /// Writes what a batch changed.
    pub(super) fn write(&mut self, set: WorkingSet) {
        self.forget(&set.forget);
        for row in set.executions.changed() {
            self.executions.put(row.key.clone(), row.now.clone());
        }
        for row in set.targets.changed() {
            self.targets.put(row.key.clone(), row.now.clone());
        }
        for row in set.sends.changed() {
            self.sends.put(*row.key, row.now.clone());
        }
        for row in set.runs.changed() {
            self.runs.put(*row.key, row.now.clone());
        }
        for row in set.agents.changed() {
            self.agents.put(row.key.clone(), row.now.clone());
        }
        for row in set.facts.changed() {
            self.facts.put(row.key.clone(), row.now.clone());
        }
        for row in set.keys.changed() {
            self.keys.put(row.key.clone(), (row.key.clone(), row.now.clone()));
        }
        for row in set.marks.changed() {
            self.marks.insert(row.key.clone(), *row.now);
        }
        for row in set.slots.changed() {
            self.slots.put(row.key.clone(), row.now.clone());
        }
        for row in set.cursors.changed() {
            self.cursors.insert(row.key.clone(), row.now.clone());
        }
        for ((job_id, pc_id), at) in set.successes {
            let newest = self
                .successes
                .entry(job_id)
                .or_default()
                .entry(pc_id)
                .or_insert(at);
            *newest = (*newest).max(at);
        }
        self.orders.extend(set.orders);
        self.outputs.extend(set.outputs);
        for event in set.audit {
            self.record(event);
        }
        for letter in set.dead_letters {
            self.last_letter += 1;
            let id = self.last_letter;
            self.dead_letters.put(id, DeadLetterRecord { id, letter });
        }
    }

    fn record(&mut self, event: AuditEvent) {
        self.last_audit += 1;
        let id = self.last_audit;
        if let Some(event_id) = event.event_id {
            self.audit_ids.insert(event_id, id);
        }
        self.audit.put(id, AuditRecord { id, event });
    }

    fn forget(&mut self, forget: &Forget) {
        for exec_id in &forget.executions {
            self.executions.remove(exec_id);
            self.orders.remove(exec_id);
            let targets: Vec<_> = self
                .targets
                .forwards(&TargetList::Of(exec_id.clone(), None), None)
                .map(|(_, row)| row.pc_id.clone())
                .collect();
            for pc_id in targets {
                self.targets.remove(&(exec_id.clone(), pc_id));
            }
            let sends = ids(self.sends.forwards(&SendList::Of(exec_id.clone()), None), |row| {
                row.send_id
            });
            for id in sends {
                self.sends.remove(&id);
            }
            let runs = ids(
                self.runs
                    .forwards(&RunList::Of(exec_id.as_str().to_owned()), None),
                |row| row.result_id,
            );
            for id in runs {
                self.forget_run(&id);
            }
        }
        for id in &forget.runs {
            self.forget_run(id);
        }
        for id in &forget.audit {
            let event_id = self.audit.remove(id).and_then(|record| record.event.event_id);
            if let Some(event_id) = event_id {
                self.audit_ids.remove(&event_id);
            }
        }
        for id in &forget.dead_letters {
            self.dead_letters.remove(id);
        }
        for key in &forget.slots {
            self.slots.remove(key);
        }
        for key in &forget.keys {
            self.keys.remove(key);
        }
    }

    fn forget_run(&mut self, id: &ResultId) {
        self.runs.remove(id);
        self.outputs.remove(id);
    }
}

fn ids<'a, R: 'a, K>(rows: impl Iterator<Item = (&'a Position, &'a R)>, id: fn(&R) -> K) -> Vec<K> {
    rows.map(|(_, row)| id(row)).collect()
}

/// The place of a record that is sorted by time and, among equals, by id.
pub(super) fn place(at: Timestamp, id: &impl ToString) -> Position {
    Position {
        at: at.as_micros(),
        id: id.to_string(),
    }
}

/// The place of a record that is sorted by its id alone.
pub(super) fn by_id(id: &str) -> Position {
    Position {
        at: 0,
        id: id.to_owned(),
    }
}

/// The place of a record that is sorted by its number.
pub(super) fn by_number(number: i64) -> Position {
    Position {
        at: number,
        id: String::new(),
    }
}

fn execution_places(row: &Execution) -> Vec<(ExecutionList, Position)> {
    let fired = place(row.initiated_at, &row.exec_id);
    let mut places = Vec::with_capacity(6);
    for job in [None, Some(row.job_id.clone())] {
        for status in [None, Some(row.status)] {
            places.push((ExecutionList::Of(job.clone(), status), fired.clone()));
        }
    }
    if let Some(kill) = row.kill.as_ref().filter(|kill| !kill.settled) {
        places.push((ExecutionList::OpenKill, place(kill.at, &row.exec_id)));
    }
    if row.is_to_be_steered() {
        places.push((ExecutionList::ToSteer, fired));
    }
    if row.status == ExecutionStatus::Pending && row.hold().is_none() {
        places.push((ExecutionList::Pending, place(row.last_due_at, &row.exec_id)));
    }
    if let (true, Some(at)) = (row.is_final(), row.finished_at) {
        places.push((ExecutionList::Final, place(at, &row.exec_id)));
    }
    places
}

fn target_places(row: &TargetRecord) -> Vec<(TargetList, Position)> {
    let pc = by_id(row.pc_id.as_str());
    let mut places = vec![
        (TargetList::Of(row.exec_id.clone(), None), pc.clone()),
        (TargetList::Of(row.exec_id.clone(), Some(row.state)), pc),
    ];
    if !row.state.is_final() {
        let due = place(row.due_at, &row.exec_id);
        places.push((TargetList::UnfinishedOn(row.pc_id.clone()), due));
    }
    if let (true, Some(at)) = (row.has_unanswered_kill(), row.finished_at) {
        let ended = place(at, &row.exec_id);
        places.push((TargetList::UnansweredOn(row.pc_id.clone()), ended));
    }
    if row.state == TargetState::Waiting {
        // Neither id holds white space, so no two pairs make the same text.
        let both = format!("{} {}", row.exec_id, row.pc_id);
        places.extend(row.check_at.map(|at| (TargetList::Expiring, place(at, &both))));
    }
    places
}

fn send_places(row: &Send) -> Vec<(SendList, Position)> {
    let due = place(row.due_at, &row.send_id);
    let mut places = vec![(SendList::Of(row.exec_id.clone()), due.clone())];
    if row.state == SendState::Due {
        places.push((SendList::Due, due));
    }
    places
}

fn slot_places(row: &SlotRecord) -> Vec<(SlotList, Position)> {
    let due = place(row.slot, &row.schedule_id);
    let mut places = vec![
        (
            SlotList::Of(row.schedule_id.clone()),
            by_number(row.slot.as_micros()),
        ),
        (SlotList::Age, due.clone()),
    ];
    if row.state == SlotState::Waiting {
        places.push((SlotList::Waiting, due));
    }
    places
}

fn run_places(row: &Run) -> Vec<(RunList, Position)> {
    let started = place(row.started_at, &row.result_id);
    let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
    let mut places: Vec<_> = [
        RunList::All,
        RunList::On(row.pc_id.as_str().to_owned()),
        RunList::OfJob(text(row.job_id.as_ref().map(JobId::as_str))),
        RunList::Of(text(row.exec_id.as_ref().map(ExecId::as_str))),
        RunList::with(outcome(row.state)),
    ]
    .into_iter()
    .map(|list| (list, started.clone()))
    .collect();
    if row.state == RunState::Running {
        places.extend(
            row.check_at
                .map(|at| (RunList::Expiring, place(at, &row.result_id))),
        );
    } else {
        let ended = row.finished_at.unwrap_or(row.started_at);
        places.push((RunList::Ended, place(ended, &row.result_id)));
    }
    places
}

fn outcome(state: RunState) -> RunFilter {
    [RunFilter::Success, RunFilter::Failure, RunFilter::Running]
        .into_iter()
        .find(|filter| filter.states().contains(&state))
        .expect("every state of a run has an outcome")
}
