//! Kills by what executions have in common: a job, a group, an agent, or nothing at all.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use kanade_model::{AgentGroups, AuditAction, Caller, ExecId, ExecutionStatus, Invalid, PcId, api};
use kanade_ports::{ExecutionQuery, MAX_LIMIT, Position};
use serde_json::json;

use super::Kills;
use crate::error::Result;

/// Executions that are recorded as killed at once, and agents that are asked about at once.
const AT_ONCE: usize = 32;
/// Executions that are stopped before the next ones are recorded.
const TOGETHER: usize = 500;

impl Kills {
    /// Kills every execution in flight that the request names, or only says which those are. Work is done in pages: what
    /// the first ones run is stopped before the last ones are recorded.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a request that does not name exactly one thing, or all without the
    /// confirmation; otherwise as [`execution`](Self::execution), where some of them may be killed and others not.
    pub async fn many(&self, request: &api::KillRequest, caller: &Caller) -> Result<api::Killed> {
        check(request)?;
        let mut executions = Vec::new();
        let mut found = stream::iter(self.named(request).await?)
            .map(|exec| async move { self.store.execution(&exec).await })
            .buffered(AT_ONCE);
        while let Some(execution) = found.try_next().await? {
            executions.extend(
                execution
                    .filter(|execution| !execution.is_final())
                    .map(|execution| api::KillOf {
                        targets: execution.counts.total() - execution.counts.finished(),
                        exec_id: execution.exec_id,
                        job_id: execution.job_id,
                    }),
            );
        }
        let killed = api::Killed {
            targets: executions.iter().map(|of| u64::from(of.targets)).sum(),
            executions,
            dry_run: request.dry_run,
        };
        if request.dry_run {
            return Ok(killed);
        }
        // First of all: what is answered by an error has left its entry too.
        let payload = json!({
            "job_id": request.job_id, "group": request.group, "pc_id": request.pc_id, "all": request.all,
            "executions": killed.executions.len(), "targets": killed.targets,
        });
        self.audit.write(caller, AuditAction::Kill, None, payload).await?;
        for page in killed.executions.chunks(TOGETHER) {
            let ids: Vec<ExecId> = page.iter().map(|of| of.exec_id.clone()).collect();
            stream::iter(ids.clone().into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |exec| async move {
                    self.record(&exec, caller.name(), None).await.map(drop)
                })
                .await?;
            self.stop(&ids).await?;
        }
        Ok(killed)
    }

    async fn named(&self, request: &api::KillRequest) -> Result<BTreeSet<ExecId>> {
        if let Some(job) = &request.job_id {
            return Ok(self.store.in_flight(job).await?.into_iter().collect());
        }
        if let Some(pc) = &request.pc_id {
            return self.open_on(pc).await;
        }
        if let Some(group) = &request.group {
            let is_member = |agent: &AgentGroups| agent.groups.iter().any(|of| of == group);
            let members: Vec<PcId> = self
                .documents
                .list::<AgentGroups>()
                .into_iter()
                .filter(|(_, stored)| is_member(&stored.document))
                .filter_map(|(key, _)| key.as_str().parse().ok())
                .collect();
            let mut named = BTreeSet::new();
            let mut open = stream::iter(members)
                .map(|pc| async move { self.open_on(&pc).await })
                .buffer_unordered(AT_ONCE);
            while let Some(found) = open.try_next().await? {
                named.extend(found);
            }
            return Ok(named);
        }
        self.in_flight().await
    }

    /// The executions that are not at their end on an agent.
    async fn open_on(&self, pc: &PcId) -> Result<BTreeSet<ExecId>> {
        let (mut open, mut after) = (BTreeSet::new(), None);
        loop {
            let found = self.store.open_on(pc, after.as_ref(), MAX_LIMIT).await?;
            let is_last = found.len() < MAX_LIMIT;
            after = found.last().map(|last| Position {
                at: last.due_at.as_micros(),
                id: last.exec_id.to_string(),
            });
            open.extend(found.into_iter().map(|target| target.exec_id));
            if is_last {
                return Ok(open);
            }
        }
    }

    async fn in_flight(&self) -> Result<BTreeSet<ExecId>> {
        let mut found = BTreeSet::new();
        for status in [
            ExecutionStatus::Pending,
            ExecutionStatus::Running,
            ExecutionStatus::Expired,
        ] {
            let mut query = ExecutionQuery {
                status: Some(status),
                limit: MAX_LIMIT,
                ..ExecutionQuery::default()
            };
            loop {
                let page = self.store.executions(&query).await?;
                found.extend(page.items.into_iter().map(|execution| execution.exec_id));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(found)
    }
}

fn check(request: &api::KillRequest) -> Result<(), Invalid> {
    let named = [
        request.job_id.is_some(),
        request.group.is_some(),
        request.pc_id.is_some(),
        request.all,
    ];
    let count = named.iter().filter(|named| **named).count();
    if count != 1 {
        let why = "exactly one of `job_id`, `group`, `pc_id` and `all` is wanted";
        return Err(Invalid::new("kill", format!("{count} of them"), why));
    }
    let confirmed = request.confirm.as_deref();
    if request.all && !request.dry_run && confirmed != Some(api::KillRequest::CONFIRMATION) {
        let why =
            "`kill all` must stand here to kill everything that is in flight; `dry_run` says what that is";
        return Err(Invalid::new("confirm", confirmed.unwrap_or_default(), why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn checked(request: Value) -> Option<String> {
        let request: api::KillRequest = serde_json::from_value(request).unwrap();
        check(&request).err().map(|error| error.field)
    }

    #[test]
    fn a_request_names_one_thing_and_all_only_with_its_confirmation() {
        for (request, wrong) in [
            (json!({"job_id": "backup"}), None),
            (json!({"group": "lab"}), None),
            (json!({"pc_id": "pc-1"}), None),
            (json!({"all": true, "confirm": "kill all"}), None),
            (json!({"all": true, "dry_run": true}), None),
            (json!({}), Some("kill")),
            (json!({"job_id": "backup", "group": "lab"}), Some("kill")),
            (
                json!({"pc_id": "pc-1", "all": true, "confirm": "kill all"}),
                Some("kill"),
            ),
            (json!({"all": true}), Some("confirm")),
            (json!({"all": true, "confirm": "yes"}), Some("confirm")),
        ] {
            assert_eq!(checked(request.clone()).as_deref(), wrong, "{request}");
        }
    }
}
