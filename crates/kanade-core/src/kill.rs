//! Kills: recorded first, then published, then repeated until every target is final or the time for answers is over.

mod many;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{AuditAction, Caller, ExecId, ExecutionStatus, JobId, Subject, Timestamp};
use kanade_ports::{
    Bus, BusError, Change, ChangeSet, Clock, Execution, ExecutionStore, Outcome, RunFilter, RunQuery,
    TextFilter,
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    Audit, Committer, Dispatcher, Documents, Error, Settings,
    error::{Result, chain},
    retained::Retained,
};

/// The most targets of executions whose kills are settled in one commit, which loads them all.
const SETTLED_TOGETHER: u32 = 20_000;
/// Open kills that are repeated in one round.
const ROUND: usize = 1000;
/// How long before a kill from the bus, by agents' clocks, what it killed may have ended.
const HINDSIGHT: Duration = Duration::from_secs(60);
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// Kills executions. Cheap to clone.
#[derive(Clone)]
pub struct Kills {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) committer: Committer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) retained: Option<Retained>,
    pub(crate) audit: Audit,
    pub(crate) documents: Documents,
    pub(crate) settings: Arc<Settings>,
    /// Since when this process has been repeating which kill: after a restart agents get the whole time again.
    pub(crate) repeating: Arc<Mutex<HashMap<ExecId, Timestamp>>>,
}

impl Kills {
    /// Kills one execution. Answers once the kill is recorded and on the bus, and no broker retains anything of the
    /// execution. One that is final already is left alone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when the store or the bus fails, the kill may be recorded and is then repeated, and what is
    /// retained is removed later.
    pub async fn execution(&self, exec: &ExecId, caller: &Caller) -> Result<()> {
        let outcome = self.record(exec, caller.name(), None).await?;
        if outcome == Outcome::Unknown && !self.is_running_ad_hoc(exec).await? {
            return Err(Error::NotFound {
                what: "execution",
                id: exec.to_string(),
            });
        }
        self.audit
            .write(caller, AuditAction::ExecutionKill, exec.to_string(), json!({}))
            .await?;
        // Also where all is final: an end that was only presumed (lost, withdrawn) may be wrong.
        self.stop(std::slice::from_ref(exec)).await
    }

    /// Whether a run without a recorded execution goes by this id.
    async fn is_running_ad_hoc(&self, exec: &ExecId) -> Result<bool> {
        let query = RunQuery {
            exec_id: Some(TextFilter::Exact(exec.to_string())),
            status: Some(RunFilter::Running),
            limit: 1,
            ..RunQuery::default()
        };
        Ok(!self.store.runs(&query).await?.items.is_empty())
    }

    /// Kills every execution of a job that is not final, none being fine too.
    ///
    /// # Errors
    /// As [`execution`](Self::execution), but a job need not exist.
    pub async fn job(&self, job: &JobId, caller: &Caller) -> Result<()> {
        let executions = self.store.in_flight(job).await?;
        for exec in &executions {
            self.record(exec, caller.name(), None).await?;
        }
        let payload = json!({ "executions": executions });
        self.audit
            .write(caller, AuditAction::JobKill, job.to_string(), payload)
            .await?;
        self.stop(&executions).await
    }

    /// Stops executions whose kills are recorded: first what waits for agents that are away, then what agents run.
    async fn stop(&self, executions: &[ExecId]) -> Result<()> {
        let withdrawn = self.withdraw(executions).await;
        // Also where something is still retained: what runs does not wait for that.
        for exec in executions {
            self.publish(exec).await?;
        }
        self.bus.flush().await?;
        Ok(withdrawn?)
    }

    /// Removes what a broker retains of killed executions.
    async fn withdraw(&self, executions: &[ExecId]) -> Result<(), BusError> {
        match &self.retained {
            Some(retained) if !executions.is_empty() => retained.withdraw(executions).await,
            _ => Ok(()),
        }
    }

    /// Records a kill so that nothing more of the execution is sent, and what is in flight has left.
    async fn record(&self, exec: &ExecId, by: &str, then: Option<Change>) -> Result<Outcome> {
        let _held = self.dispatcher.hold(exec).await;
        let kill = Change::Kill {
            exec_id: exec.clone(),
            by: by.to_owned(),
            at: self.clock.now(),
        };
        let set = ChangeSet {
            lead: kill,
            then: Vec::from_iter(then),
            key: None,
        };
        let outcome = self.committer.commit(set).await?;
        if outcome != Outcome::Unknown {
            self.dispatcher.forget(exec);
        }
        Ok(outcome)
    }

    async fn publish(&self, exec: &ExecId) -> Result<()> {
        self.bus.publish(&Subject::kill(exec), Bytes::new()).await?;
        Ok(())
    }

    /// Repeats open kills and settles those whose time is over, for ever. What is open stands in the store, so this
    /// goes on after a restart, and begins anew for a killed execution that shows life.
    pub async fn repeat(self) {
        loop {
            self.clock.sleep(self.settings.kill_repeat).await;
            if let Err(error) = self.repeat_once().await {
                tracing::warn!(error = %error.report(), "cannot repeat kills");
            }
        }
    }

    async fn repeat_once(&self) -> Result<()> {
        let open = self.store.open_kills(ROUND).await?;
        let now = self.clock.now();
        let mut settled = Vec::new();
        {
            let mut repeating = self.repeating.lock().await;
            repeating.retain(|exec, _| open.iter().any(|execution| execution.exec_id == *exec));
            for execution in &open {
                let first = *repeating.entry(execution.exec_id.clone()).or_insert(now);
                let asked_at = execution.kill.as_ref().map(kanade_ports::Kill::asked_at);
                let since = first.max(asked_at.unwrap_or(first));
                if now.since(since) >= self.settings.kill_window {
                    let change = Change::KillSettled {
                        exec_id: execution.exec_id.clone(),
                        at: now,
                    };
                    settled.push((execution.counts.total(), ChangeSet::of(change)));
                }
            }
        }
        for execution in &open {
            self.publish(&execution.exec_id).await?;
        }
        self.bus.flush().await?;
        for together in in_chunks(settled) {
            for outcome in self.committer.commit_all(together).await {
                outcome?;
            }
        }
        Ok(())
    }

    /// Records kills that others publish on the bus, for ever.
    pub async fn record_foreign(self) {
        let pattern = "kill.>".parse().expect("a literal pattern");
        loop {
            match self.bus.subscribe(&pattern).await {
                Ok(mut kills) => {
                    while let Some(message) = kills.next().await {
                        let exec = message
                            .subject
                            .as_str()
                            .strip_prefix("kill.")
                            .and_then(|exec| exec.parse().ok());
                        if let Some(exec) = exec {
                            self.note_foreign(&exec).await;
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "cannot listen for kills"),
            }
            self.clock.sleep(RESUBSCRIBE).await;
        }
    }

    async fn note_foreign(&self, exec: &ExecId) {
        // Our own come back too; those are recorded already.
        match self.store.execution(exec).await {
            Ok(Some(execution)) if execution.kill.is_some() => return,
            Ok(Some(execution)) if execution.is_final() && !self.may_have_ended(&execution) => return,
            Ok(Some(_)) => {}
            // Of an execution that was never recorded here something may be retained all the same.
            Ok(None) => return self.withdraw_foreign(exec).await,
            Err(error) => {
                tracing::warn!(%exec, error = %chain(&error), "cannot look up a kill from the bus");
                return;
            }
        }
        let caller = Caller {
            source: Some("bus".into()),
            ..Caller::operator()
        };
        let audit = self.audit.entry(
            &caller,
            AuditAction::ExecutionKill,
            Some(exec.to_string()),
            json!({}),
        );
        let mut recorded = self.record(exec, caller.name(), Some(audit.clone())).await;
        if let Ok(Outcome::Superseded) = recorded {
            // The result of what it killed came faster than the kill itself.
            let heard = Change::KillHeard {
                exec_id: exec.clone(),
                by: caller.name().to_owned(),
                at: self.clock.now(),
            };
            let set = ChangeSet {
                lead: heard,
                then: vec![audit],
                key: None,
            };
            recorded = self.committer.commit(set).await.map_err(Into::into);
        }
        if let Err(error) = recorded {
            tracing::warn!(%exec, error = %error.report(), "cannot record a kill from the bus");
        }
        self.withdraw_foreign(exec).await;
    }

    /// Whether a kill that is heard of now may be what ended an execution whose killer is not known.
    fn may_have_ended(&self, execution: &Execution) -> bool {
        let now = self.clock.now();
        execution.status == ExecutionStatus::Killed
            && execution.finished_at.is_some_and(|at| {
                // Whichever of the two clocks is ahead.
                now.since(at).max(at.since(now)) < HINDSIGHT
            })
    }

    async fn withdraw_foreign(&self, exec: &ExecId) {
        if let Err(error) = self.withdraw(std::slice::from_ref(exec)).await {
            tracing::warn!(%exec, error = %chain(&error), "a kill from the bus leaves something retained for now");
        }
    }
}

/// Groups sets so that each group is about no more than so many targets, or is one set.
fn in_chunks(sets: Vec<(u32, ChangeSet)>) -> Vec<Vec<ChangeSet>> {
    let (mut chunks, mut room) = (Vec::<Vec<ChangeSet>>::new(), 0);
    for (targets, set) in sets {
        match chunks.last_mut() {
            Some(chunk) if targets <= room => chunk.push(set),
            _ => {
                chunks.push(vec![set]);
                room = SETTLED_TOGETHER;
            }
        }
        room = room.saturating_sub(targets);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_kills_are_settled_a_few_at_a_time() {
        let set = |targets| {
            let change = Change::KillSettled {
                exec_id: "e-1".parse().unwrap(),
                at: Timestamp::UNIX_EPOCH,
            };
            (targets, ChangeSet::of(change))
        };
        for (targets, wanted) in [
            (vec![], vec![]),
            (vec![1, 2, 3], vec![3]),
            (vec![10_000, 10_000, 1], vec![2, 1]),
            (vec![50_000, 1, 50_000, 1, 1], vec![1, 1, 1, 2]),
            (vec![0, 20_000, 0], vec![3]),
        ] {
            let chunks = in_chunks(targets.iter().copied().map(set).collect());
            let sizes: Vec<usize> = chunks.iter().map(Vec::len).collect();
            assert_eq!(sizes, wanted, "{targets:?}");
        }
    }
}
