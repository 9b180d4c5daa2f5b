//! An agent of this workspace: first the disk, then the deed; a kill meets a run whichever comes first.

use std::{sync::Arc, time::Duration};

use kanade_model::{Command, Ended, EventKill, ExecId, RequestId, Subject};
use tokio::sync::watch;

use super::{Conduct, Inner, Taken, by_itself};
use crate::simulation::Deed;

/// How long kills that came while it was away get to come again, before it starts what was left.
const SETTLE_IN: Duration = Duration::from_secs(3);

impl Inner {
    /// Takes a Command in hand, once.
    pub(super) fn take(self: &Arc<Self>, command: Command) {
        let Some(exec) = command.exec_id.clone() else {
            return;
        };
        let request = command.request_id;
        {
            let mut state = self.state();
            if state.disk.taken.contains_key(&request) {
                return;
            }
            let taken = Taken {
                command,
                result_id: state.fresh_run(),
                started_at: None,
                is_reported: false,
            };
            state.disk.taken.insert(request, taken);
        }
        self.note(&exec, Deed::Took(request));
        self.attend_to(request, &exec, Duration::ZERO);
    }

    /// Goes on with what an earlier life has left.
    pub(super) fn take_up(self: &Arc<Self>) {
        let left: Vec<_> = self
            .state()
            .disk
            .taken
            .iter()
            .filter(|(_, taken)| !taken.is_reported)
            .filter_map(|(request, taken)| Some((*request, taken.command.exec_id.clone()?)))
            .collect();
        for (request, exec) in left {
            self.attend_to(request, &exec, SETTLE_IN);
        }
    }

    fn attend_to(self: &Arc<Self>, request: RequestId, exec: &ExecId, settle_in: Duration) {
        let killed = {
            let mut state = self.state();
            let (sender, killed) = watch::channel(state.disk.killed.contains(exec));
            state.memory.holds.insert(request, (exec.clone(), sender));
            killed
        };
        self.spawn(Arc::clone(self).attend(request, killed, settle_in));
    }

    async fn attend(
        self: Arc<Self>,
        request: RequestId,
        mut killed: watch::Receiver<bool>,
        settle_in: Duration,
    ) {
        let (command, run, started_at) = {
            let state = self.state();
            let taken = &state.disk.taken[&request];
            (taken.command.clone(), taken.result_id, taken.started_at)
        };
        let Some(exec) = command.exec_id.clone() else {
            return;
        };
        if let Some(started_at) = started_at {
            // It was running when the power went.
            let ended = if *killed.borrow() {
                Ended::Killed
            } else {
                Ended::Interrupted
            };
            self.release(request);
            return self.report(&command, run, started_at, (ended, -1));
        }
        let jitter = Duration::from_secs(command.jitter_secs.unwrap_or(0));
        let pause = settle_in + self.state().within(jitter);
        let is_killed = tokio::select! {
            biased;
            _ = killed.wait_for(|killed| *killed) => true,
            () = self.clock.sleep(pause) => false,
        };
        let now = self.clock.now();
        let conduct = if is_killed {
            None
        } else {
            Some(self.conduct(&command))
        };
        match conduct {
            None => {
                self.release(request);
                self.report(&command, run, now, (Ended::Killed, -1));
            }
            Some(Conduct::Refuses) => {
                self.release(request);
                self.refuse(&command, &exec);
            }
            Some(Conduct::Breaks) => {
                self.release(request);
                self.report(&command, run, now, (Ended::NotStarted, -1));
            }
            Some(Conduct::Runs(runs_for, exit_code)) => {
                if let Some(taken) = self.state().disk.taken.get_mut(&request) {
                    taken.started_at = Some(now);
                }
                self.said_started(&command, &exec, run);
                let (runs_for, end) = by_itself(&command, runs_for, exit_code);
                let end = tokio::select! {
                    biased;
                    () = self.clock.sleep(runs_for) => end,
                    _ = killed.wait_for(|killed| *killed) => (Ended::Killed, -1),
                };
                // From now on a kill comes too late.
                self.state().memory.holds.remove(&request);
                if end.0 == Ended::Killed {
                    let dying = self.state().within(self.temper.dies_within);
                    self.clock.sleep(dying).await;
                }
                self.release(request);
                self.report(&command, run, now, end);
            }
        }
    }

    /// It is over; the report goes to the disk in the same moment.
    fn release(&self, request: RequestId) {
        let mut state = self.state();
        state.memory.holds.remove(&request);
        if let Some(taken) = state.disk.taken.get_mut(&request) {
            taken.is_reported = true;
        }
    }

    /// Hears a kill.
    pub(super) fn killed(self: &Arc<Self>, exec: &ExecId) {
        let (is_new, has_met) = {
            let mut state = self.state();
            let is_new = state.disk.killed.insert(exec.clone());
            let holds = state.memory.holds.values().filter(|(of, _)| of == exec);
            let has_met = holds.fold(false, |met, (_, killed)| !killed.send_replace(true) || met);
            (is_new, has_met)
        };
        if is_new {
            self.note(exec, Deed::HeardKill);
        }
        if has_met {
            let event = EventKill {
                exec_id: exec.clone(),
                pc_id: self.pc.clone(),
                at: self.clock.now(),
            };
            self.post(Subject::kill_delivered(exec, &self.pc), &event);
        }
    }
}
