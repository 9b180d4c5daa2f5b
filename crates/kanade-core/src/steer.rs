//! Steers executions: pauses, resumes and aborts them, and decides the gates between their waves. Each is a fact in the
//! store, so it holds after a crash at any point, and what is on its way to the bus is waited for first.

use std::sync::Arc;

use kanade_model::{AuditAction, Caller, ExecId};
use kanade_ports::{Change, ChangeSet, Clock, ExecutionStore, Outcome, Position, SendState};
use serde_json::{Value, json};

use crate::{Audit, Committer, Dispatcher, Error, Settings, error::Result};

/// Open gates read at once.
const PAGE: usize = 500;

/// Pauses, resumes and aborts executions. Cheap to clone.
#[derive(Clone)]
pub struct Steering {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) committer: Committer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) audit: Audit,
    pub(crate) settings: Arc<Settings>,
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

    /// Decides gates, for ever: which are open stands in the store, so this goes on after a restart.
    pub(crate) async fn decide_gates(self) {
        loop {
            self.clock.sleep(self.settings.gates_every).await;
            if let Err(error) = self.decide_once().await {
                tracing::warn!(error = %error.report(), "cannot decide the gates of executions");
            }
        }
    }

    async fn decide_once(&self) -> Result<()> {
        let mut after = None;
        loop {
            let open = self.store.open_gates(after.as_ref(), PAGE).await?;
            let now = self.clock.now();
            after = open.last().map(|last| Position {
                at: last.initiated_at.as_micros(),
                id: last.exec_id.to_string(),
            });
            let is_last = open.len() < PAGE;
            for execution in open {
                let Some((wave, verdict)) = execution.course.judge(now) else {
                    continue;
                };
                let action = if verdict.passed {
                    AuditAction::GatePass
                } else {
                    AuditAction::GateFail
                };
                let payload = json!({ "wave": wave, "succeeded": verdict.succeeded, "of": verdict.of });
                let exec = execution.exec_id;
                let entry = self
                    .audit
                    .entry(&scheduler(), action, Some(exec.to_string()), payload);
                let judged = Change::Judged {
                    exec_id: exec.clone(),
                    wave,
                    verdict,
                };
                // Superseded when a result came in between: the next round looks again.
                if self.commit(&exec, ChangeSet::of(judged).and(entry)).await? == Outcome::Applied {
                    tracing::info!(%exec, wave, passed = verdict.passed, "a gate is decided");
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

fn scheduler() -> Caller {
    Caller {
        actor: "scheduler".into(),
        sub: None,
        source: Some("gate".into()),
    }
}
