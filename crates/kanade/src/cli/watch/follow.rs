//! What a watcher has told and has still to tell. Decides from what is known of an execution; asks nobody.

use std::collections::BTreeMap;

use kanade_model::{ExecutionStatus, PcId, TargetState, api};

/// Which failures have been told.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Each agent that was told of, and the state it was in.
    told: BTreeMap<PcId, TargetState>,
    /// How many lines that took: an agent takes two when a late result replaces a lost one.
    lines: usize,
}

/// How an execution has ended, as far as a watcher is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ending {
    /// Every target has succeeded.
    AllSucceeded,
    /// Every target is final, some in another way.
    NotAll,
    /// Nothing has started for long.
    NeverStarted,
}

impl Follow {
    /// The most failures that are told one by one.
    pub(super) const SHOWN: usize = 50;

    /// The states in which there are more targets than have been told.
    pub(super) fn untold(&self, execution: &api::Execution) -> Vec<TargetState> {
        if self.lines >= Self::SHOWN {
            return Vec::new();
        }
        unsuccessful(execution)
            .filter(|(state, count)| *count > self.told_in(*state))
            .map(|(state, _)| state)
            .collect()
    }

    /// Those among `targets` that are to be told now.
    pub(super) fn take(&mut self, targets: Vec<api::ExecutionTarget>) -> Vec<api::ExecutionTarget> {
        let mut new = Vec::new();
        for target in targets {
            if self.lines < Self::SHOWN && self.told.get(&target.pc_id) != Some(&target.state) {
                self.told.insert(target.pc_id.clone(), target.state);
                self.lines += 1;
                new.push(target);
            }
        }
        new
    }

    /// How many failures have not been told one by one.
    pub(super) fn hidden(&self, execution: &api::Execution) -> usize {
        unsuccessful(execution)
            .map(|(state, count)| count.saturating_sub(self.told_in(state)))
            .sum()
    }

    fn told_in(&self, state: TargetState) -> usize {
        self.told.values().filter(|told| **told == state).count()
    }
}

/// The states other than success that are final, with how many targets are in them.
fn unsuccessful(execution: &api::Execution) -> impl Iterator<Item = (TargetState, usize)> {
    execution
        .targets
        .iter()
        .filter(|(state, _)| state.is_final() && **state != TargetState::Succeeded)
        .map(|(state, count)| (*state, *count as usize))
}

/// How an execution has ended; none while it goes on.
pub(in super::super) fn ending(execution: &api::Execution) -> Option<Ending> {
    match execution.status {
        ExecutionStatus::Pending | ExecutionStatus::Running => None,
        ExecutionStatus::Expired => Some(Ending::NeverStarted),
        ExecutionStatus::Completed | ExecutionStatus::Killed => {
            let all = execution.success_count == execution.target_count && execution.target_count > 0;
            Some(if all { Ending::AllSucceeded } else { Ending::NotAll })
        }
    }
}

/// How many targets are in which state, in words: `2 of 3 succeeded, 1 failed`.
pub(in super::super) fn counts(execution: &api::Execution) -> String {
    let others = execution
        .targets
        .iter()
        .filter(|(state, count)| **state != TargetState::Succeeded && **count > 0);
    let others: String = others
        .map(|(state, count)| format!(", {count} {}", state.as_str().replace('_', " ")))
        .collect();
    format!(
        "{} of {} succeeded{others}",
        execution.success_count, execution.target_count
    )
}

/// How many targets are final.
pub(super) fn finished(execution: &api::Execution) -> u64 {
    let finished: u32 = execution
        .targets
        .iter()
        .filter(|(state, _)| state.is_final())
        .map(|(_, count)| count)
        .sum();
    u64::from(finished.max(execution.success_count + execution.failure_count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
    fn execution(status: &str, targets: serde_json::Value) -> api::Execution {
        let count =
            |states: &[&str]| -> u64 { states.iter().filter_map(|state| targets[state].as_u64()).sum() };
        let all: u64 = targets
            .as_object()
            .unwrap()
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum();
        serde_json::from_value(json!({
            "exec_id": "e", "job_id": "backup", "version": "1", "initiated_by": "operator",
            "initiated_at": "2026-05-01T08:30:00Z", "status": status, "targets": targets, "target_count": all,
            "success_count": count(&["succeeded"]),
            "failure_count": count(&["failed", "killed", "timed_out", "lost"])
        }))
        .unwrap()
    }

    fn targets(state: TargetState, from: usize, to: usize) -> Vec<api::ExecutionTarget> {
        let target = |n: usize| {
            serde_json::from_value(json!({
                "pc_id": format!("pc-{n}"), "state": state, "wave": 0, "due_at": "2026-05-01T08:30:00Z",
                "result_id": null, "started_at": null, "finished_at": null, "exit_code": null, "detail": null,
                "receipt": null
            }))
            .unwrap()
        };
        (from..to).map(target).collect()
    }

    #[test]
    fn an_execution_ends_when_it_is_final_and_well_only_when_all_succeeded() {
        for (status, states, wanted) in [
            ("pending", json!({"waiting": 3}), None),
            ("running", json!({"succeeded": 2, "running": 1}), None),
            ("completed", json!({"succeeded": 3}), Some(Ending::AllSucceeded)),
            (
                "completed",
                json!({"succeeded": 2, "failed": 1}),
                Some(Ending::NotAll),
            ),
            (
                "completed",
                json!({"succeeded": 2, "refused": 1}),
                Some(Ending::NotAll),
            ),
            ("completed", json!({}), Some(Ending::NotAll)),
            (
                "killed",
                json!({"killed": 1, "withdrawn": 1}),
                Some(Ending::NotAll),
            ),
            ("expired", json!({"waiting": 2}), Some(Ending::NeverStarted)),
        ] {
            assert_eq!(
                ending(&execution(status, states.clone())),
                wanted,
                "{status} {states}"
            );
        }
    }

    #[test]
    fn each_failure_is_told_once_in_each_state() {
        let mut follow = Follow::default();
        let one = execution("running", json!({"failed": 1, "refused": 1, "running": 1}));
        assert_eq!(follow.untold(&one), [TargetState::Failed, TargetState::Refused]);
        assert_eq!(follow.take(targets(TargetState::Failed, 0, 1)).len(), 1);
        assert_eq!(follow.untold(&one), [TargetState::Refused]);
        assert_eq!(follow.take(targets(TargetState::Refused, 1, 2)).len(), 1);
        assert!(follow.untold(&one).is_empty());
        assert!(
            follow.take(targets(TargetState::Failed, 0, 1)).is_empty(),
            "told before"
        );
        let lost = execution("completed", json!({"failed": 1, "refused": 1, "lost": 1}));
        assert_eq!(follow.take(targets(TargetState::Lost, 2, 3)).len(), 1);
        assert_eq!(follow.hidden(&lost), 0);
        assert_eq!(
            follow.take(targets(TargetState::Failed, 2, 3)).len(),
            1,
            "a late result has replaced lost"
        );
    }

    #[test]
    fn many_failures_are_told_up_to_a_limit_and_counted_beyond() {
        let mut follow = Follow::default();
        let many = execution("running", json!({"failed": 120, "running": 1}));
        assert_eq!(
            follow.take(targets(TargetState::Failed, 0, 100)).len(),
            Follow::SHOWN
        );
        assert!(follow.untold(&many).is_empty());
        assert_eq!(follow.hidden(&many), 70);
    }

    #[test]
    fn counts_are_told_in_words() {
        let some = execution("running", json!({"succeeded": 1, "timed_out": 2, "running": 3}));
        assert_eq!(counts(&some), "1 of 6 succeeded, 3 running, 2 timed out");
        assert_eq!(finished(&some), 3);
        assert_eq!(
            counts(&execution("completed", json!({"succeeded": 2}))),
            "2 of 2 succeeded"
        );
    }
}
