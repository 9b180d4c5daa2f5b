//! Kills in the model, and what comes of them.

use kanade_model::{Receipt, TargetState};
use kanade_ports::Outcome;

use super::{
    execution::{Exec, Kill},
    step::{Name, Secs},
};

impl Kill {
    /// Its time for answers begins anew.
    pub(super) fn ask_again(&mut self, at: Secs) {
        self.settled = false;
        self.asked_again_at = Some(at.max(self.asked_again_at.unwrap_or(self.at)));
    }
}

pub(super) fn kill(execution: &mut Exec, at: Secs) -> Outcome {
    if execution.is_final() {
        return Outcome::Superseded;
    }
    if let Some(kill) = &mut execution.kill {
        kill.ask_again(at);
        return Outcome::Duplicate;
    }
    execution.kill = Some(Kill {
        at,
        asked_again_at: None,
        settled: false,
    });
    execution.stop(at, |target| target.receipt = Some(Receipt::Requested));
    Outcome::Applied
}

/// Somebody has killed it past the server, which hears of that after what it did.
pub(super) fn kill_heard(execution: &mut Exec, at: Secs) -> Outcome {
    if execution.kill.is_some() {
        return Outcome::Duplicate;
    }
    let mut states = execution.targets.values().map(|target| target.state);
    if !execution.is_final() || !states.any(|state| state == TargetState::Killed) {
        return Outcome::Superseded;
    }
    execution.kill = Some(Kill {
        at,
        asked_again_at: None,
        settled: true,
    });
    for target in execution.targets.values_mut() {
        target.receipt = match target.state {
            TargetState::Killed => Some(Receipt::Confirmed),
            _ if target.is_guess() => target.receipt,
            _ => Some(Receipt::Finished),
        };
    }
    execution.stop(at, |_| ());
    Outcome::Applied
}

pub(super) fn delivered(execution: &mut Exec, pc: Name, at: Secs) -> Outcome {
    match execution.targets.get(pc).map(|target| target.receipt) {
        None => Outcome::Unknown,
        Some(Some(Receipt::Requested | Receipt::Unreachable)) => {
            execution.on(pc, at, |target| target.receipt = Some(Receipt::Delivered));
            Outcome::Applied
        }
        Some(Some(Receipt::Delivered)) => Outcome::Duplicate,
        Some(_) => Outcome::Superseded,
    }
}

pub(super) fn settle(execution: &mut Exec, at: Secs) -> Outcome {
    match &mut execution.kill {
        None => return Outcome::Unknown,
        Some(kill) if kill.settled => return Outcome::Duplicate,
        Some(kill) => kill.settled = true,
    }
    for pc in execution.open() {
        execution.on(pc, at, |target| {
            let heard = target.receipt == Some(Receipt::Delivered);
            if target.state == TargetState::Waiting {
                // Whoever has it and has not started it never will.
                target.receipt = Some(if heard {
                    Receipt::Confirmed
                } else {
                    Receipt::Unreachable
                });
                target.end(TargetState::Withdrawn, at);
            } else if !heard {
                target.receipt = Some(Receipt::Unreachable);
            }
        });
    }
    Outcome::Applied
}
