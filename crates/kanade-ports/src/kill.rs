//! What kills, and what is heard of them, do to loaded rows.

use kanade_model::{EventKill, ExecId, Receipt, TargetState, Timestamp};

use crate::{Execution, Kill, Outcome, WorkingSet};

impl WorkingSet {
    pub(crate) fn kill(&mut self, exec_id: &ExecId, by: &str, at: Timestamp) -> Outcome {
        match self.executions.get_mut(exec_id) {
            None => return Outcome::Unknown,
            Some(execution) if execution.is_final() => return Outcome::Superseded,
            Some(Execution { kill: Some(kill), .. }) => {
                kill.ask_again(at);
                return Outcome::Duplicate;
            }
            Some(execution) => {
                execution.kill = Some(Kill {
                    by: by.to_owned(),
                    at,
                    settled: false,
                    asked_again_at: None,
                });
                execution.course.pause = None;
            }
        }
        self.withdraw_sends(exec_id);
        for key in self.open_targets(exec_id) {
            let unsent = self.is_unsent(&key);
            self.update_target(&key, at, |target| {
                if target.state == TargetState::Waiting && unsent {
                    target.finish(TargetState::Withdrawn, at);
                } else {
                    target.receipt = Some(Receipt::Requested);
                }
            });
        }
        self.start_the_clock(exec_id, at);
        Outcome::Applied
    }

    pub(crate) fn kill_heard(&mut self, exec_id: &ExecId, by: &str, at: Timestamp) -> Outcome {
        let Some(execution) = self.executions.get_mut(exec_id) else {
            return Outcome::Unknown;
        };
        if execution.kill.is_some() {
            return Outcome::Duplicate;
        }
        if !execution.is_final() || execution.counts.of(TargetState::Killed) == 0 {
            return Outcome::Superseded;
        }
        execution.kill = Some(Kill {
            by: by.to_owned(),
            at,
            settled: true,
            asked_again_at: None,
        });
        self.withdraw_sends(exec_id);
        for key in self.targets.keys_of(exec_id, |_| true) {
            self.update_target(&key, at, |target| {
                target.receipt = receipt_after(target.state, target.receipt);
            });
        }
        Outcome::Applied
    }

    pub(crate) fn kill_delivered(&mut self, event: &EventKill) -> Outcome {
        let key = (event.exec_id.clone(), event.pc_id.clone());
        match self.targets.get(&key).map(|target| target.receipt) {
            None => Outcome::Unknown,
            Some(Some(Receipt::Requested | Receipt::Unreachable)) => {
                self.update_target(&key, event.at, |target| target.receipt = Some(Receipt::Delivered));
                Outcome::Applied
            }
            Some(Some(Receipt::Delivered)) => Outcome::Duplicate,
            Some(_) => Outcome::Superseded,
        }
    }

    pub(crate) fn kill_settled(&mut self, exec_id: &ExecId, at: Timestamp) -> Outcome {
        match self
            .executions
            .get_mut(exec_id)
            .map(|execution| execution.kill.as_mut())
        {
            None | Some(None) => return Outcome::Unknown,
            Some(Some(kill)) if kill.settled => return Outcome::Duplicate,
            Some(Some(kill)) => kill.settled = true,
        }
        for key in self.open_targets(exec_id) {
            self.update_target(&key, at, |target| {
                let heard = target.receipt == Some(Receipt::Delivered);
                if target.state == TargetState::Waiting {
                    target.receipt = Some(if heard {
                        Receipt::Confirmed
                    } else {
                        Receipt::Unreachable
                    });
                    target.finish(TargetState::Withdrawn, at);
                } else if !heard {
                    target.receipt = Some(Receipt::Unreachable);
                }
            });
        }
        Outcome::Applied
    }
}

/// What a state says about a kill that was asked for.
pub(crate) fn receipt_after(state: TargetState, receipt: Option<Receipt>) -> Option<Receipt> {
    match state {
        TargetState::Killed => Some(Receipt::Confirmed),
        TargetState::Succeeded
        | TargetState::Failed
        | TargetState::TimedOut
        | TargetState::Refused
        | TargetState::Superseded => Some(Receipt::Finished),
        // Life after a kill: it has to be asked again.
        TargetState::Running => Some(Receipt::Requested),
        // Nobody is waited for any more, and how it went was never said.
        TargetState::Lost | TargetState::Expired => receipt.map(|_| Receipt::Unreachable),
        TargetState::Waiting | TargetState::Withdrawn => receipt,
    }
}
