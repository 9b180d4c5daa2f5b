//! The rows that a batch of change-sets touches, between being read and being written by a backend.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use kanade_model::{AuditEvent, ExecId, JobId, PcId, ResultId, ScheduleId, SendId, Timestamp};
use uuid::Uuid;

use crate::{
    Agent, Change, ChangeSet, DeadLetter, Execution, Facts, Forget, KeyRecord, Order, Outcome, Output, Run,
    ScheduleCursor, Send, SlotRecord, TargetRecord,
};

/// The rows that must be loaded before a batch can be applied. A row that does not exist is not loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// These executions.
    pub executions: BTreeSet<ExecId>,
    /// These targets.
    pub targets: BTreeSet<(ExecId, PcId)>,
    /// Every target and every send of these executions.
    pub whole: BTreeSet<ExecId>,
    /// These sends.
    pub sends: BTreeSet<SendId>,
    /// These runs (without output).
    pub runs: BTreeSet<ResultId>,
    /// Every run (without output) of these executions.
    pub runs_of: BTreeSet<ExecId>,
    /// These agents.
    pub agents: BTreeSet<PcId>,
    /// These facts.
    pub facts: BTreeSet<(PcId, JobId)>,
    /// These idempotency keys.
    pub keys: BTreeSet<String>,
    /// Which of these audit event ids exist.
    pub audit: BTreeSet<Uuid>,
    /// These marks.
    pub marks: BTreeSet<String>,
    /// These slots.
    pub slots: BTreeSet<(ScheduleId, Timestamp)>,
}

impl Needs {
    /// What `sets` need.
    pub fn of(sets: &[ChangeSet]) -> Self {
        let mut needs = Self::default();
        for set in sets {
            needs.keys.extend(set.key.as_ref().map(|key| key.key.clone()));
            for change in set.changes() {
                needs.add(change);
            }
        }
        needs
    }

    fn add(&mut self, change: &Change) {
        match change {
            Change::Fire(new) => {
                self.executions.insert(new.exec_id.clone());
            }
            Change::TakeOver(past) => {
                self.executions.insert(past.exec_id.clone());
                self.runs_of.insert(past.exec_id.clone());
            }
            Change::Expire { exec_id, .. } => {
                self.executions.insert(exec_id.clone());
            }
            Change::Sent { exec_id, sends, .. } => {
                self.executions.insert(exec_id.clone());
                self.sends.extend(sends);
            }
            Change::Kill { exec_id, .. }
            | Change::KillHeard { exec_id, .. }
            | Change::KillSettled { exec_id, .. }
            | Change::Pause { exec_id, .. }
            | Change::Resume { exec_id, .. }
            | Change::Abort { exec_id, .. }
            | Change::Judged { exec_id, .. } => {
                self.executions.insert(exec_id.clone());
                self.whole.insert(exec_id.clone());
            }
            Change::LetOut { exec_id, sends, .. } => {
                self.executions.insert(exec_id.clone());
                for (send, pc) in sends {
                    self.sends.insert(*send);
                    self.targets.insert((exec_id.clone(), pc.clone()));
                }
            }
            Change::KillDelivered(event) => self.add_target(&event.exec_id, &event.pc_id),
            Change::RunSkipped(event) => self.add_target(&event.exec_id, &event.pc_id),
            Change::ExpireTarget { exec_id, pc_id, .. } => self.add_target(exec_id, pc_id),
            Change::RunStarted { event, .. } => {
                self.add_target(&event.exec_id, &event.pc_id);
                self.runs.insert(event.result_id);
            }
            Change::LoseRun {
                result_id,
                exec_id,
                pc_id,
                ..
            } => {
                self.add_target(exec_id, pc_id);
                self.runs.insert(*result_id);
            }
            Change::RunFinished(result) => {
                if let Some(exec_id) = &result.exec_id {
                    self.add_target(exec_id, &result.pc_id);
                }
                self.runs.insert(result.run_id());
            }
            Change::AgentSeen { heartbeat, .. } => {
                self.agents.insert(heartbeat.pc_id.clone());
            }
            Change::Facts(facts) => {
                self.facts.insert((facts.pc_id.clone(), facts.job_id.clone()));
            }
            Change::Audit(event) => self.audit.extend(event.event_id),
            Change::Mark { name, .. } => {
                self.marks.insert(name.clone());
            }
            Change::Slot(slot) => {
                self.slots.insert((slot.schedule_id.clone(), slot.slot));
            }
            Change::DeadLetter(_) | Change::ScheduleLooked(_) | Change::Forget(_) => {}
        }
    }

    fn add_target(&mut self, exec_id: &ExecId, pc_id: &PcId) {
        self.executions.insert(exec_id.clone());
        self.targets.insert((exec_id.clone(), pc_id.clone()));
    }
}

/// Loaded rows, changed in place by [`apply`](Self::apply). A backend then removes [`forget`](Self::forget) (with
/// everything that belongs to it), and writes the changed rows and the new ones.
#[derive(Debug, Default)]
pub struct WorkingSet {
    /// Executions.
    pub executions: Rows<ExecId, Execution>,
    /// Targets. Their keys sort all targets of an execution together.
    pub targets: Rows<(ExecId, PcId), TargetRecord>,
    /// Sends.
    pub sends: Rows<SendId, Send>,
    /// Runs without output.
    pub runs: Rows<ResultId, Run>,
    /// Agents.
    pub agents: Rows<PcId, Agent>,
    /// Facts.
    pub facts: Rows<(PcId, JobId), Facts>,
    /// Idempotency keys.
    pub keys: Rows<String, KeyRecord>,
    /// The audit event ids that exist; entries added by this batch are among them once applied.
    pub audit_ids: BTreeSet<Uuid>,
    /// Marks, and since when.
    pub marks: Rows<String, Timestamp>,
    /// Slots of schedules.
    pub slots: Rows<(ScheduleId, Timestamp), SlotRecord>,
    /// How far schedules were looked at; not loaded, they replace what is there.
    pub cursors: Rows<ScheduleId, ScheduleCursor>,
    /// When jobs have succeeded on agents; of this and what is there, the newest is kept.
    pub successes: BTreeMap<(JobId, PcId), Timestamp>,
    /// New orders.
    pub orders: Vec<(ExecId, Order)>,
    /// Outputs of finished runs; they replace what is there.
    pub outputs: BTreeMap<ResultId, Output>,
    /// New audit entries, to be numbered in this order.
    pub audit: Vec<AuditEvent>,
    /// New dead letters, to be numbered in this order.
    pub dead_letters: Vec<DeadLetter>,
    /// What to remove, before anything is written.
    pub forget: Forget,
}

impl WorkingSet {
    /// Applies every set in order and says what each did.
    pub fn apply(&mut self, sets: &[ChangeSet]) -> Vec<Outcome> {
        sets.iter().map(|set| self.apply_set(set)).collect()
    }
}

/// The loaded rows of one kind.
#[derive(Debug)]
pub struct Rows<K, V>(BTreeMap<K, Slot<V>>);

#[derive(Debug)]
struct Slot<V> {
    before: Option<V>,
    now: V,
    changed: bool,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A row to write.
#[derive(Debug)]
pub struct Row<'a, K, V> {
    /// Its key.
    pub key: &'a K,
    /// As it was loaded; none for a new row. Tells which index entries to remove.
    pub before: Option<&'a V>,
    /// As it is now.
    pub now: &'a V,
}

/// The keys of targets, and the place before all targets of an execution.
trait TargetPlace {
    fn place(&self) -> (&ExecId, Option<&PcId>);
}

impl TargetPlace for (ExecId, PcId) {
    fn place(&self) -> (&ExecId, Option<&PcId>) {
        (&self.0, Some(&self.1))
    }
}

impl TargetPlace for ExecId {
    fn place(&self) -> (&ExecId, Option<&PcId>) {
        (self, None)
    }
}

impl PartialEq for dyn TargetPlace + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn TargetPlace + '_ {}

impl PartialOrd for dyn TargetPlace + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn TargetPlace + '_ {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl<'a> Borrow<dyn TargetPlace + 'a> for (ExecId, PcId) {
    fn borrow(&self) -> &(dyn TargetPlace + 'a) {
        self
    }
}

impl Rows<(ExecId, PcId), TargetRecord> {
    /// The keys of one execution's targets that are wanted, without looking at those of others.
    pub(crate) fn keys_of(
        &self,
        exec_id: &ExecId,
        wanted: impl Fn(&TargetRecord) -> bool,
    ) -> Vec<(ExecId, PcId)> {
        let from: &dyn TargetPlace = exec_id;
        self.0
            .range::<dyn TargetPlace, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|((of, _), _)| of == exec_id)
            .filter(|(_, slot)| wanted(&slot.now))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Rows<K, V> {
    /// Takes a row as it stands in the store.
    pub fn load(&mut self, key: K, value: V) {
        self.0.entry(key).or_insert_with(|| Slot {
            before: Some(value.clone()),
            now: value,
            changed: false,
        });
    }

    /// The rows to write, in the order of their keys.
    pub fn changed(&self) -> impl Iterator<Item = Row<'_, K, V>> {
        self.0
            .iter()
            .filter(|(_, slot)| slot.changed && slot.before.as_ref() != Some(&slot.now))
            .map(|(key, slot)| Row {
                key,
                before: slot.before.as_ref(),
                now: &slot.now,
            })
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|slot| &slot.now)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(|slot| {
            slot.changed = true;
            &mut slot.now
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.0.get_mut(&key) {
            Some(slot) => {
                slot.now = value;
                slot.changed = true;
            }
            None => {
                self.0.insert(
                    key,
                    Slot {
                        before: None,
                        now: value,
                        changed: true,
                    },
                );
            }
        }
    }

    pub(crate) fn remove_if(&mut self, gone: impl Fn(&K, &V) -> bool) {
        self.0.retain(|key, slot| !gone(key, &slot.now));
    }

    pub(crate) fn keys_where(&self, wanted: impl Fn(&K, &V) -> bool) -> Vec<K> {
        self.0
            .iter()
            .filter(|(key, slot)| wanted(key, &slot.now))
            .map(|(key, _)| key.clone())
            .collect()
    }
}
