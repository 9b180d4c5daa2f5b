//! One run from the Command to its report: wait out the jitter, queue, be admitted, start, end.

use std::{future::Future, sync::Arc, time::Duration};

use kanade_model::{Ended, ExecId, Timestamp};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    admission::{Refusal, share_of_jitter},
    agent::Shared,
    backoff::Backoff,
    in_hand::Hold,
    journal::{Outgoing, RunRecord, Started},
    live::Live,
    outbox::report,
    params::Secrets,
    process::{self, Launch, Process},
    report::{Finished, NO_EXIT_CODE},
    schedules::Holding,
};

/// A run that the journal has, in this agent's hands only.
pub(crate) struct Run {
    shared: Arc<Shared>,
    record: RunRecord,
    secrets: Secrets,
    hold: Hold,
    /// Kills that came while nobody listened get this long to come again before the run starts.
    settle_in: Duration,
    /// Where this agent has fired it by itself.
    _holding: Option<Holding>,
}

/// How a run leaves the agent's hands.
enum End {
    Refused(Refusal),
    Finished(Finished),
    /// The agent stops; the run is started in the next life.
    Later,
    /// It was ended before: nothing is left to do.
    Over,
}

impl Run {
    pub(crate) fn new(
        shared: Arc<Shared>,
        record: RunRecord,
        secrets: Secrets,
        hold: Hold,
        settle_in: Duration,
    ) -> Self {
        let holding = record.schedule.clone().zip(record.command.exec_id.clone());
        let holding = holding.map(|(schedule, exec_id)| shared.ticking.hold(schedule, exec_id));
        Self {
            shared,
            record,
            secrets,
            hold,
            settle_in,
            _holding: holding,
        }
    }

    /// Carries the run out and reports it.
    pub(crate) async fn carry_out(self) {
        // The slot is kept until the report is safe: with a full disk, no more is begun than can be reported.
        let (end, _slot) = match self.record.started.clone() {
            Some(started) => (End::Finished(self.clear_up(started).await), None),
            None => self.attend().await,
        };
        self.hold.end();
        let command = &self.record.command;
        let report = self.shared.reporter();
        let message = match end {
            End::Later | End::Over => return,
            End::Refused(refusal) => {
                tracing::info!(job = %command.id, version = %command.version, reason = refusal.detail, "not started");
                report.refused(&self.record, &refusal, self.shared.clock.now())
            }
            End::Finished(finished) => {
                tracing::info!(
                    job = %command.id, run = %self.record.result_id, ended = ?finished.ended,
                    exit_code = finished.exit_code, "ended"
                );
                if finished.exit_code == 0 {
                    self.shared.succeeded(&command.id, finished.finished_at).await;
                }
                report.finished(&self.record, finished)
            }
        };
        self.report(message).await;
    }

    /// From the acceptance to the end of the process.
    async fn attend(&self) -> (End, Option<OwnedSemaphorePermit>) {
        tokio::select! {
            biased;
            () = self.hold.killed() => (End::Finished(self.killed_before_start()), None),
            () = self.shared.stopping.cancelled() => (End::Later, None),
            turn = self.turn() => match turn {
                Ok(slot) => (self.start().await, Some(slot)),
                Err(refusal) => (End::Refused(refusal), None),
            },
        }
    }

    /// Waits until the run may start. What holds before the wait may not hold after it, so it is asked twice.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let Shared {
            knowledge,
            clock,
            config,
            slots,
            ..
        } = &*self.shared;
        clock.sleep(self.settle_in).await;
        let command = &self.record.command;
        // Nobody else fires it, so nobody pins its version.
        let is_own = self.record.schedule.is_some();
        knowledge.admit(command, is_own).await?;
        let jitter = command.jitter_secs.unwrap_or(0);
        let share = share_of_jitter(jitter, command.request_id, config.pc_id.as_str());
        // After a restart, part of it has been waited.
        let waited = clock.now().since(self.record.accepted_at);
        clock.sleep(share.saturating_sub(waited)).await;
        let slot = Arc::clone(slots)
            .acquire_owned()
            .await
            .expect("the slots are never closed");
        knowledge.admit(command, is_own).await?;
        Ok(slot)
    }

    async fn start(&self) -> End {
        let started_at = self.shared.clock.now();
        let script = match self.note_start(started_at).await {
            Ok(script) => script,
            Err(end) => return end,
        };
        if self.hold.is_killed() {
            return End::Finished(self.killed_before_start());
        }
        let command = &self.record.command;
        let live = Live::begin(&self.shared, &self.record);
        let launch = Launch {
            shell: command.shell,
            script,
            cwd: command.cwd.clone(),
            run_as: command.run_as,
            variables: self.secrets.variables(command),
            run_id: self.record.result_id.to_string(),
            scripts: self.shared.scripts.clone(),
            output_limit: self.shared.config.limits.output_bytes,
            live: live.as_ref().map(Live::tap),
            closing: self.shared.closing.clone(),
        };
        // The folder a script is to run in may be on a disk that hangs. There is no process before this returns.
        let started = tokio::select! {
            biased;
            () = self.hold.killed() => return End::Finished(self.killed_before_start()),
            () = self.shared.stopping.cancelled() => return End::Later,
            started = Process::start(launch) => started,
        };
        match started {
            Ok(process) => {
                tracing::info!(job = %command.id, version = %command.version, run = %self.record.result_id, "started");
                // Side by side: a disk that hangs must not keep a kill from working.
                let noted = self.note_process(&process, started_at);
                let (finished, ()) = tokio::join!(self.supervise(process, started_at), noted);
                End::Finished(finished)
            }
            Err(error) => {
                let reason = error.to_string();
                End::Finished(Finished::without_start(
                    Ended::NotStarted,
                    NO_EXIT_CODE,
                    started_at,
                    reason,
                ))
            }
        }
    }

    /// Notes the start before there is a process, so that what may have started is never started again.
    async fn note_start(&self, at: Timestamp) -> Result<String, End> {
        let mut backoff = Backoff::new();
        loop {
            match self
                .shared
                .journal
                .starting(self.record.command.request_id, at)
                .await
            {
                Ok(Some(script)) => return Ok(script),
                Ok(None) => return Err(End::Over),
                Err(error) => tracing::error!(
                    job = %self.record.command.id, error = %report(&error),
                    "cannot record the start of a run; it will be tried again"
                ),
            }
            tokio::select! {
                biased;
                () = self.hold.killed() => return Err(End::Finished(self.killed_before_start())),
                () = self.shared.stopping.cancelled() => return Err(End::Later),
                () = self.shared.clock.sleep(backoff.pause()) => {}
            }
        }
    }

    /// Notes which process it is, and says that it has started.
    fn note_process(&self, process: &Process, started_at: Timestamp) -> impl Future<Output = ()> + use<'_> {
        let mark = process.mark();
        let event = self.shared.reporter().started(&self.record, started_at);
        async move {
            let Shared { journal, outbox, .. } = &*self.shared;
            let posting = journal.started(self.record.command.request_id, mark, event.clone());
            let posted = outbox.post(event.iter().len(), posting).await;
            if let Err(error) = posted {
                tracing::error!(job = %self.record.command.id, error = %report(&error), "cannot record a start");
                if let Some(event) = event {
                    // Nothing depends on it: the result says the same and more.
                    self.shared.send_unkept(&event).await;
                }
            }
        }
    }

    /// Waits for the end of the process, or brings it about.
    async fn supervise(&self, mut process: Process, started_at: Timestamp) -> Finished {
        let timeout = self.record.command.timeout_secs;
        let ended_by_itself = tokio::select! {
            biased;
            status = process.wait() => Ok(status),
            () = self.hold.killed() => Err(Ended::Killed),
            () = self.shared.clock.sleep(Duration::from_secs(timeout)) => Err(Ended::TimedOut),
            () = self.shared.stopping.cancelled() => Err(Ended::Interrupted),
        };
        // It is decided: a kill that arrives from now on is too late.
        self.hold.end();
        let (ended, exit_code, reason) = match ended_by_itself {
            Ok(Ok(status)) => {
                let (code, reason) = process::exit_code(status);
                (Ended::Exited, code, reason)
            }
            Ok(Err(error)) => {
                process.end().await;
                (
                    Ended::Exited,
                    NO_EXIT_CODE,
                    Some(format!("the end of the script cannot be observed: {error}")),
                )
            }
            Err(ended) => {
                process.end().await;
                let reason = match ended {
                    Ended::Killed => self.kill_reason(),
                    Ended::TimedOut => format!("timeout after {timeout}s"),
                    _ => "interrupted: the agent was stopped while the script was running".to_owned(),
                };
                (ended, NO_EXIT_CODE, Some(reason))
            }
        };
        let finished_at = self.shared.clock.now();
        let (stdout, stderr) = process.output().await;
        let mut finished = Finished {
            ended,
            exit_code,
            started_at,
            finished_at,
            stdout,
            stderr,
        };
        if let Some(reason) = reason {
            finished.add_reason(&reason);
        }
        finished
    }

    /// A run that was started in an earlier life of the agent and not reported: what is left of it is ended.
    async fn clear_up(&self, started: Started) -> Finished {
        process::end_left_behind(self.record.result_id.to_string(), started.process).await;
        let (ended, reason) = if self.hold.is_killed() {
            (Ended::Killed, self.kill_reason())
        } else {
            let reason = "interrupted: the agent stopped while the script was running, or was being started";
            (Ended::Interrupted, reason.to_owned())
        };
        let now = self.shared.clock.now();
        Finished {
            started_at: started.at,
            ..Finished::without_start(ended, NO_EXIT_CODE, now, reason)
        }
    }

    fn killed_before_start(&self) -> Finished {
        let now = self.shared.clock.now();
        Finished::without_start(Ended::Killed, NO_EXIT_CODE, now, self.kill_reason())
    }

    fn kill_reason(&self) -> String {
        let exec_id = self.record.command.exec_id.as_ref().map_or("", ExecId::as_str);
        format!("killed by remote signal (kill.{exec_id})")
    }

    /// Moves the run from the journal to the outbox. If the disk does not take it, it is sent from memory.
    async fn report(&self, message: Outgoing) {
        let Shared { journal, outbox, .. } = &*self.shared;
        let mut messages = vec![message];
        let mut backoff = Backoff::new();
        loop {
            let posting = journal.finish(self.record.command.request_id, messages.clone());
            let Err(error) = outbox.post(messages.len(), posting).await else {
                return;
            };
            tracing::error!(
                job = %self.record.command.id, error = %report(&error),
                "cannot record the end of a run; it will be tried again"
            );
            if let Some(message) = messages.first()
                && self.shared.send_unkept(message).await
            {
                messages.clear();
            }
            let pause = self.shared.clock.sleep(backoff.pause());
            // The journal still has the run: it will be reported as interrupted, which the server takes for a
            // repetition if it has heard the end.
            if self.shared.stopping.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }
}
