//! Steers executions: pauses, resumes and aborts them, decides the gates between their waves, and lets out what waits for
//! room or for an agent's next attempt. Each is a fact in the store, so it holds after a crash at any point, and what is on
//! its way to the bus is waited for first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kanade_model::{AuditAction, Caller, ExecId, PcId, SendId};
use kanade_ports::{
    Addressee, Change, ChangeSet, Clock, Execution, ExecutionStore, Outcome, Position, SendState,
};
use serde_json::{Value, json};

use tokio::sync::Notify;

use crate::{ACTIVE_WITHIN, Audit, Committer, Dispatcher, Error, Settings, error::Result};

/// Executions read at once.
const PAGE: usize = 500;
/// Ends that come close together make room together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Woken when a commit may have made room in an execution that is steered.
#[derive(Default)]
pub(crate) struct Wake {
    /// Whether the last round found something that waits.
    waits: AtomicBool,
    notify: Notify,
}

impl Wake {
    /// Looks at what was committed.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        let makes_room = |change: &Change| match change {
            Change::Fire(new) => new.pace.max_parallel.is_some(),
            Change::RunFinished(_)
            | Change::RunSkipped(_)
            | Change::ExpireTarget { .. }
            | Change::LoseRun { .. } => self.waits.load(Ordering::Relaxed),
            _ => false,
        };
        if set.changes().any(makes_room) {
            self.notify.notify_one();
        }
    }
}

/// Pauses, resumes and aborts executions. Cheap to clone.
#[derive(Clone)]
pub struct Steering {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) committer: Committer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) audit: Audit,
    pub(crate) settings: Arc<Settings>,
    pub(crate) wake: Arc<Wake>,
}

impl Steering {
    /// Keeps back everything of an execution that has not been sent, until it is resumed. Answers once nothing more
    /// leaves. One that is paused already stays so.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Standing`] where nothing of it is to be sent any more.
    pub async fn pause(&self, exec: &ExecId, caller: &Caller) -> Result<()> {
        let change = Change::Pause {
            exec_id: exec.clone(),
            by: caller.name().to_owned(),
            at: self.clock.now(),
        };
        let over = "over, killed or aborted, and nothing of it is still to be sent";
        self.steer(
            exec,
            change,
            (caller, AuditAction::ExecutionPause),
            ("paused", over),
        )
        .await
    }

    /// Lets a paused execution go on, also past a gate that has failed: what was due meanwhile goes out at once, what is due
    /// later keeps its time.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Standing`] where it is not paused.
    pub async fn resume(&self, exec: &ExecId, caller: &Caller) -> Result<()> {
        let change = Change::Resume {
            exec_id: exec.clone(),
            at: self.clock.now(),
        };
        self.steer(
            exec,
            change,
            (caller, AuditAction::ExecutionResume),
            ("resumed", "not paused"),
        )
        .await
    }

    /// Withdraws everything of an execution that has not been sent; what has been sent goes on. One that was aborted or
    /// killed before is left alone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Standing`] where it is over.
    pub async fn abort(&self, exec: &ExecId, caller: &Caller) -> Result<()> {
        let change = Change::Abort {
            exec_id: exec.clone(),
            by: caller.name().to_owned(),
            at: self.clock.now(),
        };
        self.steer(
            exec,
            change,
            (caller, AuditAction::ExecutionAbort),
            ("aborted", "over already"),
        )
        .await
    }

    async fn steer(
        &self,
        exec: &ExecId,
        change: Change,
        (caller, action): (&Caller, AuditAction),
        (attempt, standing): (&'static str, &'static str),
    ) -> Result<()> {
        let entry = |payload: Value| self.audit.entry(caller, action, Some(exec.to_string()), payload);
        match self
            .commit(exec, ChangeSet::of(change).and(entry(json!({}))))
            .await?
        {
            Outcome::Applied => Ok(()),
            // Asked for again: nothing has changed, and who asked is known all the same.
            Outcome::Duplicate => {
                let entry = entry(json!({ "repeated": true }));
                self.committer.commit(ChangeSet::of(entry)).await?;
                Ok(())
            }
            Outcome::Unknown => Err(Error::NotFound {
                what: "execution",
                id: exec.to_string(),
            }),
            Outcome::Superseded => Err(Error::Standing {
                exec: exec.clone(),
                attempt,
                standing,
            }),
        }
    }

    /// Commits a change about what of an execution is due, while nothing of it leaves, and tells the dispatcher.
    async fn commit(&self, exec: &ExecId, set: ChangeSet) -> Result<Outcome> {
        let _held = self.dispatcher.hold(exec).await;
        let outcome = self.committer.commit(set).await.inspect_err(|_| {
            // Whether it was kept is not known; the store knows.
            self.dispatcher.look_in_store();
        })?;
        if outcome == Outcome::Applied {
            self.dispatcher.forget(exec);
            match self.store.sends(exec).await {
                Ok(mut sends) => {
                    sends.retain(|send| send.state == SendState::Due);
                    self.dispatcher.enqueue(sends);
                }
                Err(error) => {
                    tracing::warn!(%exec, %error, "cannot read what is due now; it is read later");
                    self.dispatcher.look_in_store();
                }
            }
        }
        Ok(outcome)
    }

    /// Decides gates and lets out what there is room for, for ever: what waits stands in the store, so this goes on after a
    /// restart.
    pub(crate) async fn run(self) {
        loop {
            let mut failed = false;
            match self.round().await {
                Ok(waits) => self.wake.waits.store(waits, Ordering::Relaxed),
                Err(error) => {
                    failed = true;
                    tracing::warn!(error = %error.report(), "cannot steer executions");
                }
            }
            let pause = self.clock.sleep(self.settings.steer_every);
            if failed {
                pause.await;
                continue;
            }
            tokio::select! {
                () = pause => {}
                () = self.wake.notify.notified() => self.clock.sleep(TOGETHER).await,
            }
        }
    }

    /// Looks once at each execution that waits; says whether there are any.
    async fn round(&self) -> Result<bool> {
        let mut after = None;
        let mut any = false;
        loop {
            let waiting = self.store.to_steer(after.as_ref(), PAGE).await?;
            after = waiting.last().map(|last| Position {
                at: last.initiated_at.as_micros(),
                id: last.exec_id.to_string(),
            });
            any |= !waiting.is_empty();
            let is_last = waiting.len() < PAGE;
            for execution in waiting {
                self.decide_gate(&execution).await?;
                self.let_out(&execution).await?;
            }
            if is_last {
                return Ok(any);
            }
        }
    }

    async fn decide_gate(&self, execution: &Execution) -> Result<()> {
        let Some((wave, verdict)) = execution.course.judge(self.clock.now()) else {
            return Ok(());
        };
        let action = if verdict.passed {
            AuditAction::GatePass
        } else {
            AuditAction::GateFail
        };
        let payload = json!({ "wave": wave, "succeeded": verdict.succeeded, "of": verdict.of });
        let exec = &execution.exec_id;
        let entry = self
            .audit
            .entry(&scheduler(), action, Some(exec.to_string()), payload);
        let judged = Change::Judged {
            exec_id: exec.clone(),
            wave,
            verdict,
        };
        // Superseded when a result came in between: the next round looks again.
        if self.commit(exec, ChangeSet::of(judged).and(entry)).await? == Outcome::Applied {
            tracing::info!(%exec, wave, passed = verdict.passed, "a gate is decided");
        }
        Ok(())
    }

    /// Lets out as many parked sends of an execution as there is room for.
    async fn let_out(&self, execution: &Execution) -> Result<()> {
        if execution.room() == 0 {
            return Ok(());
        }
        let exec = &execution.exec_id;
        let mut parked = self.store.sends(exec).await?;
        parked.retain(|send| send.state == SendState::Parked && execution.course.lets_out(send.wave));
        parked.sort_by_key(|send| (send.wave, send.due_at, send.send_id));
        let parked = parked.into_iter().filter_map(|send| match send.to {
            Addressee::Pc(pc) => Some((send.send_id, pc)),
            Addressee::All => None,
        });
        let sends = self.next_of(execution, parked.collect()).await?;
        if sends.is_empty() {
            return Ok(());
        }
        let change = Change::LetOut {
            exec_id: exec.clone(),
            sends,
            at: self.clock.now(),
        };
        // Superseded when somebody has paused or killed it meanwhile.
        self.commit(exec, ChangeSet::of(change)).await?;
        Ok(())
    }

    /// Which parked sends go out next: those of agents that are there, before those of agents that would keep a place while
    /// they are away.
    async fn next_of(
        &self,
        execution: &Execution,
        parked: Vec<(SendId, PcId)>,
    ) -> Result<Vec<(SendId, PcId)>> {
        let room = usize::try_from(execution.room()).unwrap_or(usize::MAX);
        if parked.len() <= room {
            return Ok(parked);
        }
        let since = self.clock.now().minus(ACTIVE_WITHIN);
        let (mut next, mut away) = (Vec::with_capacity(room), Vec::new());
        for (send, pc) in parked {
            let agent = self.store.agent(&pc).await?;
            if agent.is_some_and(|agent| agent.updated_at >= since) {
                next.push((send, pc));
            } else if away.len() < room {
                away.push((send, pc));
            }
            if next.len() == room {
                break;
            }
        }
        away.truncate(room - next.len());
        next.extend(away);
        Ok(next)
    }
}

fn scheduler() -> Caller {
    Caller {
        actor: "scheduler".into(),
        sub: None,
        source: Some("gate".into()),
    }
}
