//! Takes over what another server has recorded: what each of its records, as its API shows them, becomes in a store.
//!
//! Nothing is ever sent because of it. Records keep their ids, so that taking them over again changes nothing.

use std::time::Duration;

use kanade_model::{
    AuditEvent, EventStarted, ExecResult, ExecutionStatus, FanoutPlan, Heartbeat, InventoryHints, PcId,
    RunAs, Shell, Staleness, Timestamp, api,
};
use kanade_ports::{Change, ChangeSet, Facts, Limits, Order, PastExecution, Standing};

/// Why a record cannot be taken over, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(&'static str);

/// Makes changes of another server's records.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The present.
    pub now: Timestamp,
    /// How long after a fire agents may still start what they were sent.
    pub command_ttl: Duration,
}

impl Import {
    /// An execution. At whom it was aimed is not known: whoever has a run of it becomes a target, whether the run is
    /// taken over before or after. Its script is not known either.
    pub fn execution(&self, execution: api::Execution) -> ChangeSet {
        let ttl = self.command_ttl.as_secs();
        ChangeSet::of(Change::TakeOver(Box::new(PastExecution {
            standing: self.standing(execution.status, execution.initiated_at),
            exec_id: execution.exec_id,
            initiated_by: execution.initiated_by,
            initiated_at: execution.initiated_at,
            order: Order {
                job_id: execution.job_id,
                version: execution.version,
                shell: Shell::Powershell,
                script: String::new(),
                timeout_secs: 0,
                jitter_secs: None,
                run_as: RunAs::default(),
                cwd: None,
                deadline_at: None,
                staleness: Staleness::default(),
                inventory: None,
                description: None,
                params: kanade_ports::OrderParams::default(),
                plan: FanoutPlan::default(),
            },
            // Nobody knows how long its runs may take; what agents keep for so long they may also run for so long.
            limits: Limits {
                start_within_secs: ttl,
                run_within_secs: ttl,
            },
        })))
    }

    /// How an execution stands as long as no run of it is known.
    fn standing(&self, status: ExecutionStatus, initiated_at: Timestamp) -> Standing {
        let deliverable = self.now.since(initiated_at) <= self.command_ttl;
        match status {
            ExecutionStatus::Completed | ExecutionStatus::Killed => Standing::Over,
            _ if !deliverable => Standing::Over,
            ExecutionStatus::Expired => Standing::Expired,
            ExecutionStatus::Pending | ExecutionStatus::Running => Standing::Open,
        }
    }

    /// A run: one that has ended, or one that is under way.
    ///
    /// # Errors
    /// When it is neither, or is under way and does not say of what.
    pub fn run(&self, run: api::Run) -> Result<ChangeSet, Unfit> {
        let of = (run.exec_id.clone(), run.job_id.clone(), run.version);
        let started = match of {
            (Some(exec_id), Some(manifest_id), Some(version)) => Some(Change::RunStarted {
                event: EventStarted {
                    result_id: run.result_id,
                    request_id: run.request_id,
                    exec_id,
                    pc_id: run.pc_id.clone(),
                    started_at: run.started_at,
                    manifest_id,
                    version,
                },
                // It was heard of then, not now: what nobody has heard of since is lost.
                at: run.started_at,
            }),
            _ => None,
        };
        match (run.exit_code, run.finished_at) {
            (None, None) => match started {
                Some(started) => Ok(ChangeSet::of(started)),
                None => Err(Unfit(
                    "it is under way and does not say of which execution, job and version",
                )),
            },
            (None, Some(_)) => Err(Unfit("it has an end and no exit code")),
            (Some(_), None) => Err(Unfit("it has an exit code and no end")),
            (Some(exit_code), Some(finished_at)) => {
                let finished = Change::RunFinished(Box::new(ExecResult {
                    result_id: Some(run.result_id),
                    request_id: run.request_id,
                    exec_id: run.exec_id,
                    pc_id: run.pc_id,
                    exit_code,
                    stdout: run.stdout,
                    stderr: run.stderr,
                    started_at: run.started_at,
                    finished_at,
                    manifest_id: run.job_id,
                    ended: None,
                }));
                // A result names no version. A start that comes after it fills in what is missing.
                Ok(ChangeSet {
                    then: started.into_iter().collect(),
                    ..ChangeSet::of(finished)
                })
            }
        }
    }

    /// An agent, as it was last seen.
    pub fn agent(&self, agent: api::Agent) -> ChangeSet {
        ChangeSet::of(Change::AgentSeen {
            heartbeat: Heartbeat {
                pc_id: agent.pc_id,
                at: agent.last_heartbeat,
                agent_version: agent.agent_version.unwrap_or_else(|| "unknown".to_owned()),
                hostname: agent.hostname,
                os_family: agent.os_family,
            },
            at: agent.updated_at,
        })
    }

    /// What a job has found out about an agent.
    pub fn facts(&self, pc_id: PcId, facts: api::InventoryFacts) -> ChangeSet {
        ChangeSet::of(Change::Facts(Box::new(Facts {
            pc_id,
            job_id: facts.job_id,
            facts: facts.facts,
            hints: InventoryHints {
                display: facts.display,
                summary: facts.summary,
            },
            description: None,
            collected_at: facts.collected_at,
            recorded_at: facts.recorded_at,
        })))
    }

    /// An entry of the audit trail. It gets the id that it also has when it comes from the audit stream.
    pub fn audit(&self, entry: api::AuditEntry) -> ChangeSet {
        let event = AuditEvent {
            event_id: None,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            payload: entry.payload,
            occurred_at: entry.occurred_at,
        };
        ChangeSet::of(Change::Audit(AuditEvent {
            event_id: Some(event.id()),
            ..event
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::RunState;
    use serde_json::{Value, json};

    fn import() -> Import {
        Import {
            now: "2026-05-08T00:00:00Z".parse().unwrap(),
            command_ttl: Duration::from_secs(7 * 24 * 3600),
        }
    }

    fn execution(status: &str, initiated_at: &str) -> api::Execution {
        serde_json::from_value(json!({
            "exec_id": "e-1", "job_id": "backup", "version": "1", "initiated_by": "operator",
            "initiated_at": initiated_at, "target_count": 3, "success_count": 1, "failure_count": 0, "status": status
        }))
        .unwrap()
    }

    fn run(more: &Value) -> api::Run {
        let mut run = json!({
            "result_id": "00000000-0000-0000-0000-000000000001", "request_id": "00000000-0000-0000-0000-000000000002",
            "exec_id": "e-1", "pc_id": "pc-1", "exit_code": 0, "stdout": "out", "stderr": "",
            "started_at": "2026-05-01T08:00:00Z", "finished_at": "2026-05-01T08:00:05Z", "job_id": "backup",
            "version": "1"
        });
        run.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn what_agents_may_still_start_stays_open() {
        let (old, at_its_end, young) = (
            "2026-04-30T23:59:59Z",
            "2026-05-01T00:00:00Z",
            "2026-05-07T23:00:00Z",
        );
        for (status, at, standing) in [
            ("pending", young, Standing::Open),
            ("running", young, Standing::Open),
            ("expired", young, Standing::Expired),
            ("expired", at_its_end, Standing::Expired),
            ("completed", young, Standing::Over),
            ("killed", young, Standing::Over),
            ("pending", old, Standing::Over),
            ("running", old, Standing::Over),
            ("expired", old, Standing::Over),
            ("completed", old, Standing::Over),
        ] {
            let set = import().execution(execution(status, at));
            let Change::TakeOver(past) = set.lead else {
                panic!("an execution is taken over")
            };
            assert_eq!(past.standing, standing, "{status} since {at}");
            assert!(set.then.is_empty() && past.order.script.is_empty());
        }
    }

    #[test]
    fn a_run_is_as_it_ended_or_under_way() {
        let killed = run(&json!({"exit_code": -1, "stderr": "killed by remote signal (kill.e-1)"}));
        let set = import().run(killed).unwrap();
        let Change::RunFinished(result) = &set.lead else {
            panic!("it has ended: {set:?}")
        };
        assert_eq!(result.state(), RunState::Killed);
        assert!(
            matches!(&set.then[..], [Change::RunStarted { .. }]),
            "for its version"
        );
        let bare = run(&json!({"version": null, "job_id": null}));
        assert!(import().run(bare).unwrap().then.is_empty(), "nothing to fill in");
        let under_way = run(&json!({"exit_code": null, "finished_at": null}));
        let set = import().run(under_way).unwrap();
        assert!(matches!(set.lead, Change::RunStarted { .. }) && set.then.is_empty());
    }

    #[test]
    fn a_run_that_makes_no_sense_is_refused_with_the_reason() {
        for (more, reason) in [
            (json!({"exit_code": null}), "it has an end and no exit code"),
            (json!({"finished_at": null}), "it has an exit code and no end"),
            (
                json!({"exit_code": null, "finished_at": null, "version": null}),
                "it is under way and does not say of which execution, job and version",
            ),
        ] {
            assert_eq!(import().run(run(&more)).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn an_audit_entry_has_the_same_id_from_the_file_and_from_the_stream() {
        let said = json!({
            "actor": "operator", "action": "exec", "target": "backup", "payload": {"version": "1"},
            "occurred_at": "2026-05-01T08:00:00Z"
        });
        let streamed: AuditEvent = serde_json::from_value(said.clone()).unwrap();
        let mut entry = said;
        entry["id"] = json!(7);
        let set = import().audit(serde_json::from_value(entry).unwrap());
        let Change::Audit(event) = set.lead else {
            panic!("an entry: {set:?}")
        };
        assert_eq!(event.event_id, Some(streamed.id()));
    }
}
