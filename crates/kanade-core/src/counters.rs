//! What this server has done since it started, in numbers: how often, never what or for whom.

use std::sync::atomic::{AtomicU64, Ordering};

use kanade_model::{RunState, SlotState};
use kanade_ports::{Change, ChangeSet, Forget};

/// A family of counters, told apart by one label where it has more than one.
#[derive(Debug)]
pub struct Family {
    /// Its name, without the `_total` of counters.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The label that tells its counters apart.
    pub label: Option<&'static str>,
    /// The value of that label, and the count, of each.
    pub counts: Vec<(&'static str, u64)>,
}

/// The counters of a server. They begin at zero with it.
#[derive(Debug, Default)]
pub struct Counters {
    executions_fired: Count,
    executions_killed: Count,
    executions_expired: Count,
    commands_sent: Count,
    commands_let_out: Count,
    commands_sent_again: Count,
    kills_sent_again: Count,
    kills_settled: Count,
    runs_started: Count,
    runs_finished: [Count; RUN_STATES.len()],
    runs_skipped: Count,
    runs_lost: Count,
    targets_expired: Count,
    slots_settled: [Count; SLOT_STATES.len()],
    dead_letters: Count,
    records_removed: [Count; KINDS.len()],
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The states that a result can say.
const RUN_STATES: [RunState; 4] = [
    RunState::Succeeded,
    RunState::Failed,
    RunState::Killed,
    RunState::TimedOut,
];
const SLOT_STATES: &[SlotState] = SlotState::ALL;
const KINDS: [&str; 6] = [
    "executions",
    "runs",
    "audit",
    "dead_letters",
    "idempotency_keys",
    "slots",
];

impl Counters {
    /// Counts what was committed.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        set.changes().for_each(|change| self.count(change));
    }

    /// Counts a Command that an agent which is back got again.
    pub(crate) fn sent_again(&self) {
        self.commands_sent_again.add(1);
    }

    /// Counts a kill that an agent which is back got again.
    pub(crate) fn killed_again(&self) {
        self.kills_sent_again.add(1);
    }

    fn count(&self, change: &Change) {
        match change {
            Change::Fire(_) => self.executions_fired.add(1),
            Change::Kill { .. } | Change::KillHeard { .. } => self.executions_killed.add(1),
            Change::KillSettled { .. } => self.kills_settled.add(1),
            Change::Expire { .. } => self.executions_expired.add(1),
            Change::Sent { sends, .. } => self.commands_sent.add(sends.len()),
            Change::LetOut { sends, .. } => self.commands_let_out.add(sends.len()),
            Change::RunStarted { .. } => self.runs_started.add(1),
            Change::RunFinished(result) => {
                let state = result.state();
                if let Some(at) = RUN_STATES.iter().position(|known| *known == state) {
                    self.runs_finished[at].add(1);
                }
            }
            Change::RunSkipped(_) => self.runs_skipped.add(1),
            Change::LoseRun { .. } => self.runs_lost.add(1),
            Change::ExpireTarget { .. } => self.targets_expired.add(1),
            Change::Slot(slot) => {
                if let Some(at) = SLOT_STATES.iter().position(|known| *known == slot.state) {
                    self.slots_settled[at].add(1);
                }
            }
            Change::DeadLetter(_) => self.dead_letters.add(1),
            Change::Forget(forget) => self.removed(forget),
            Change::TakeOver(_)
            | Change::Pause { .. }
            | Change::Resume { .. }
            | Change::Abort { .. }
            | Change::Judged { .. }
            | Change::KillDelivered(_)
            | Change::AgentSeen { .. }
            | Change::Facts(_)
            | Change::Audit(_)
            | Change::ScheduleLooked(_)
            | Change::Mark { .. } => {}
        }
    }

    fn removed(&self, forget: &Forget) {
        let counts = [
            forget.executions.len(),
            forget.runs.len(),
            forget.audit.len(),
            forget.dead_letters.len(),
            forget.keys.len(),
            forget.slots.len(),
        ];
        for (count, more) in self.records_removed.iter().zip(counts) {
            count.add(more);
        }
    }

    /// All of them, as they stand.
    pub fn read(&self) -> Vec<Family> {
        let one = |name, help, count: &Count| Family {
            name,
            help,
            label: None,
            counts: vec![("", count.get())],
        };
        let many = |name, help, label, names: Vec<&'static str>, counts: &[Count]| Family {
            name,
            help,
            label: Some(label),
            counts: names.into_iter().zip(counts.iter().map(Count::get)).collect(),
        };
        let run_states = RUN_STATES.iter().map(|state| state.as_str()).collect();
        let slot_states = SLOT_STATES.iter().map(|state| state.as_str()).collect();
        vec![
            one(
                "executions_fired",
                "Executions that were fired",
                &self.executions_fired,
            ),
            one(
                "executions_killed",
                "Executions that were killed",
                &self.executions_killed,
            ),
            one(
                "executions_expired",
                "Executions labelled expired, because nothing of them had started in time",
                &self.executions_expired,
            ),
            one(
                "commands_sent",
                "Commands that were sent for the first time",
                &self.commands_sent,
            ),
            one(
                "commands_let_out",
                "Commands that waited for room or for a next attempt and were let out",
                &self.commands_let_out,
            ),
            one(
                "commands_sent_again",
                "Commands sent again to agents that were back and had not started them",
                &self.commands_sent_again,
            ),
            one(
                "kills_sent_again",
                "Kills sent again to agents that were back or still ran what was killed",
                &self.kills_sent_again,
            ),
            one(
                "kills_settled",
                "Kills whose time for answers was over",
                &self.kills_settled,
            ),
            one(
                "runs_started",
                "Runs that agents said they had started",
                &self.runs_started,
            ),
            many(
                "runs_finished",
                "Results of runs",
                "state",
                run_states,
                &self.runs_finished,
            ),
            one(
                "runs_skipped",
                "Commands that agents refused or that were superseded",
                &self.runs_skipped,
            ),
            one(
                "runs_lost",
                "Runs given up, because no result came in time",
                &self.runs_lost,
            ),
            one(
                "targets_expired",
                "Agents given up, because they had not started a run in time",
                &self.targets_expired,
            ),
            many(
                "slots_settled",
                "Slots of schedules",
                "state",
                slot_states,
                &self.slots_settled,
            ),
            one(
                "dead_letters",
                "Messages that were set aside, because they made no sense",
                &self.dead_letters,
            ),
            many(
                "records_removed",
                "Records removed by retention",
                "kind",
                KINDS.to_vec(),
                &self.records_removed,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::Timestamp;

    #[test]
    fn what_is_committed_is_counted_once() {
        let counters = Counters::default();
        let at = Timestamp::UNIX_EPOCH;
        let (exec_id, pc_id) = ("e-1".parse().unwrap(), "pc-1".parse().unwrap());
        let set = ChangeSet::of(Change::ExpireTarget { exec_id, pc_id, at }).and(Change::Forget(Forget {
            slots: vec![("nightly".parse().unwrap(), at), ("nightly".parse().unwrap(), at)],
            ..Forget::default()
        }));
        counters.committed(&set);
        counters.sent_again();
        let counted: Vec<_> = counters
            .read()
            .into_iter()
            .flat_map(|family| family.counts.into_iter().map(move |count| (family.name, count)))
            .filter(|(_, (_, count))| *count > 0)
            .collect();
        assert_eq!(
            counted,
            [
                ("commands_sent_again", ("", 1)),
                ("targets_expired", ("", 1)),
                ("records_removed", ("slots", 2))
            ]
        );
    }
}
