//! Which runs the agent has in hand, and which executions were killed: where a kill meets a run, whichever comes first.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use kanade_model::{ExecId, RequestId};
use tokio_util::sync::CancellationToken;

use crate::journal::MOST_KILLS;

/// The runs in hand. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InHand(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    runs: HashMap<RequestId, Held>,
    killed: HashSet<ExecId>,
    /// The same, oldest first.
    killed_in_order: VecDeque<ExecId>,
}

#[derive(Debug)]
struct Held {
    exec_id: Option<ExecId>,
    killed: CancellationToken,
    /// It has ended; only its report is still to be made.
    ended: bool,
}

/// Keeps a run in hand until dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    in_hand: InHand,
    request: RequestId,
    killed: CancellationToken,
}

/// Why a run was not taken in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It is already.
    InHand,
    /// There are too many.
    Full,
}

/// What a kill has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    /// It was not known before.
    pub(crate) is_new: bool,
    /// It has reached a run that had not ended and was not killed yet.
    pub(crate) reached_a_run: bool,
}

impl InHand {
    /// Takes a run in hand, unless that would be more than `limit`. A run of a killed execution is killed from the start.
    pub(crate) fn take(
        &self,
        request: RequestId,
        exec_id: Option<ExecId>,
        limit: usize,
    ) -> Result<Hold, NotTaken> {
        let mut state = self.state();
        if state.runs.contains_key(&request) {
            return Err(NotTaken::InHand);
        }
        if state.runs.len() >= limit {
            return Err(NotTaken::Full);
        }
        let killed = CancellationToken::new();
        if exec_id
            .as_ref()
            .is_some_and(|exec_id| state.killed.contains(exec_id))
        {
            killed.cancel();
        }
        let held = Held {
            exec_id,
            killed: killed.clone(),
            ended: false,
        };
        state.runs.insert(request, held);
        Ok(Hold {
            in_hand: self.clone(),
            request,
            killed,
        })
    }

    /// Kills an execution: the runs in hand, and those that may still come.
    pub(crate) fn kill(&self, exec_id: &ExecId) -> Hit {
        let mut state = self.state();
        let is_new = state.remember_kill(exec_id);
        let mut reached_a_run = false;
        for held in state
            .runs
            .values()
            .filter(|held| !held.ended && held.exec_id.as_ref() == Some(exec_id))
        {
            reached_a_run |= !held.killed.is_cancelled();
            held.killed.cancel();
        }
        Hit {
            is_new,
            reached_a_run,
        }
    }

    /// Remembers kills of an earlier life.
    pub(crate) fn remember(&self, kills: Vec<ExecId>) {
        let mut state = self.state();
        for exec_id in kills {
            state.remember_kill(&exec_id);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while locked")
    }
}

impl State {
    fn remember_kill(&mut self, exec_id: &ExecId) -> bool {
        if !self.killed.insert(exec_id.clone()) {
            return false;
        }
        self.killed_in_order.push_back(exec_id.clone());
        if self.killed_in_order.len() > MOST_KILLS
            && let Some(oldest) = self.killed_in_order.pop_front()
        {
            self.killed.remove(&oldest);
        }
        true
    }
}

impl Hold {
    /// Returns when the run has been killed.
    pub(crate) async fn killed(&self) {
        self.killed.cancelled().await;
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// From now on a kill comes too late.
    pub(crate) fn end(&self) {
        if let Some(held) = self.in_hand.state().runs.get_mut(&self.request) {
            held.ended = true;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.in_hand.state().runs.remove(&self.request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn request(number: u128) -> RequestId {
        RequestId(Uuid::from_u128(number))
    }

    fn exec(text: &str) -> ExecId {
        text.parse().unwrap()
    }

    #[test]
    fn a_kill_reaches_the_runs_of_its_execution_and_nobody_else() {
        let in_hand = InHand::default();
        let one = in_hand.take(request(1), Some(exec("a")), 9).unwrap();
        let other = in_hand.take(request(2), Some(exec("b")), 9).unwrap();
        let ad_hoc = in_hand.take(request(3), None, 9).unwrap();
        assert_eq!(
            in_hand.kill(&exec("a")),
            Hit {
                is_new: true,
                reached_a_run: true
            }
        );
        assert_eq!(
            in_hand.kill(&exec("a")),
            Hit {
                is_new: false,
                reached_a_run: false
            }
        );
        assert!(one.is_killed() && !other.is_killed() && !ad_hoc.is_killed());
    }

    #[test]
    fn a_kill_is_remembered_for_runs_that_come_later() {
        let in_hand = InHand::default();
        assert_eq!(
            in_hand.kill(&exec("a")),
            Hit {
                is_new: true,
                reached_a_run: false
            }
        );
        assert!(in_hand.take(request(1), Some(exec("a")), 9).unwrap().is_killed());
        in_hand.remember(vec![exec("b")]);
        assert!(in_hand.take(request(2), Some(exec("b")), 9).unwrap().is_killed());
    }

    #[test]
    fn a_kill_after_the_end_meets_nothing() {
        let in_hand = InHand::default();
        let hold = in_hand.take(request(1), Some(exec("a")), 9).unwrap();
        hold.end();
        assert_eq!(
            in_hand.kill(&exec("a")),
            Hit {
                is_new: true,
                reached_a_run: false
            }
        );
        assert!(!hold.is_killed());
    }

    #[test]
    fn a_run_is_in_hand_once_and_only_so_many_are() {
        let in_hand = InHand::default();
        let hold = in_hand.take(request(1), None, 9).unwrap();
        assert_eq!(in_hand.take(request(1), None, 9).unwrap_err(), NotTaken::InHand);
        assert_eq!(in_hand.take(request(1), None, 1).unwrap_err(), NotTaken::InHand);
        assert_eq!(in_hand.take(request(2), None, 1).unwrap_err(), NotTaken::Full);
        drop(hold);
        assert!(in_hand.take(request(1), None, 1).is_ok());
    }

    #[test]
    fn only_so_many_kills_are_remembered_and_the_newest_are() {
        let in_hand = InHand::default();
        for number in 0..=MOST_KILLS {
            in_hand.kill(&exec(&format!("e-{number}")));
        }
        assert!(
            !in_hand
                .take(request(1), Some(exec("e-0")), 9)
                .unwrap()
                .is_killed()
        );
        assert!(
            in_hand
                .take(request(2), Some(exec("e-1")), 9)
                .unwrap()
                .is_killed()
        );
    }
}
