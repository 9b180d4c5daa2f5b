//! An agent of kanade 0.30: it knows by memory what it has been told, and has ears for a kill only while a script runs.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kanade_model::{Command, Ended, Subject};

use super::{Conduct, Inner, by_itself};
use crate::simulation::Deed;

impl Inner {
    /// Hears a Command.
    pub(super) fn hear(self: &Arc<Self>, command: Command) {
        let Some(exec) = command.exec_id.clone() else {
            return;
        };
        if !self.state().memory.known.insert(command.request_id) {
            return;
        }
        self.note(&exec, Deed::Took(command.request_id));
        self.spawn(Arc::clone(self).run(command));
    }

    async fn run(self: Arc<Self>, command: Command) {
        let Some(exec) = command.exec_id.clone() else {
            return;
        };
        let jitter = Duration::from_secs(command.jitter_secs.unwrap_or(0));
        let pause = self.state().within(jitter);
        self.clock.sleep(pause).await;
        let (runs_for, exit_code) = match self.conduct(&command) {
            Conduct::Refuses => return self.refuse(&command, &exec),
            Conduct::Breaks => {
                let run = self.state().fresh_run();
                self.said_started(&command, &exec, run);
                self.state().memory.running.remove(&run);
                return self.note(&exec, Deed::Vanished(run));
            }
            Conduct::Runs(runs_for, exit_code) => (runs_for, exit_code),
        };
        let subject = Subject::kill(&exec).into();
        let Ok(mut kills) = self.bus.subscribe(&subject).await else {
            return;
        };
        let (run, started_at) = (self.state().fresh_run(), self.clock.now());
        self.said_started(&command, &exec, run);
        let (runs_for, end) = by_itself(&command, runs_for, exit_code);
        let end = tokio::select! {
            biased;
            () = self.clock.sleep(runs_for) => end,
            Some(_) = kills.next() => {
                self.note(&exec, Deed::HeardKill);
                (Ended::Killed, -1)
            }
        };
        if end.0 == Ended::Killed {
            let dying = self.state().within(self.temper.dies_within);
            self.clock.sleep(dying).await;
        }
        self.report(&command, run, started_at, end);
    }
}
