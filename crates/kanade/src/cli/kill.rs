//! `kanade kill`: ends what runs, withdraws what waits, and shows what became of it at each agent.

use std::{collections::BTreeMap, io::IsTerminal};

use clap::Args;
use futures::TryStreamExt;
use kanade_client::{Client, Error, ExecutionQuery, TargetQuery};
use kanade_model::{ExecId, ExecutionStatus, GroupName, JobId, PcId, Receipt, TargetState, api};
use serde::Serialize;

use super::{
    Context,
    execution::{TARGET_HEADS, target_row},
    failure::{Done, Failure},
    table::Cell,
    watch::{self, Beat, Progress, Pulse, Watching},
    when,
};

/// The most receipts that are shown in a table.
const SHOWN: usize = 100;

/// Kill an execution, or everything of a job, a group, an agent, or all
///
/// A kill is of whole executions: one that an agent or a group is in ends on its other agents too.
///
/// What has not started is withdrawn, what runs is ended. With --watch it stays until every agent has a final receipt:
/// confirmed, finished (it had ended by itself) or unreachable; exit code 1 if any is unreachable.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade kill 5f0c… --watch\n  kanade kill --job backup\n  \
                        kanade kill --group lab --dry-run\n  kanade kill --all --yes"
)]
pub(crate) struct Kill {
    #[command(flatten)]
    what: What,
    /// Only show what would be killed
    #[arg(long, conflicts_with_all = ["watch", "exec_id"])]
    dry_run: bool,
    /// Kill all without asking
    #[arg(long, requires = "all")]
    yes: bool,
    #[command(flatten)]
    watching: Watching,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The execution
    exec_id: Option<ExecId>,
    /// Kill every execution of this job that is pending or running
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,
    /// Kill every execution that is not at its end on a member of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// Kill every execution that is not at its end on this agent
    #[arg(long, value_name = "PC")]
    pc: Option<PcId>,
    /// Kill everything that is pending or running
    #[arg(long)]
    all: bool,
}

impl What {
    /// As a request; none where an execution is named.
    fn request(&self, dry_run: bool) -> Option<api::KillRequest> {
        self.exec_id.is_none().then(|| api::KillRequest {
            job_id: self.job.clone(),
            group: self.group.clone(),
            pc_id: self.pc.clone(),
            all: self.all,
            confirm: self.all.then(|| api::KillRequest::CONFIRMATION.to_owned()),
            dry_run,
        })
    }
}

/// A target that the kill is about, as programs see it.
#[derive(Debug, Serialize)]
struct Killed {
    exec_id: ExecId,
    #[serde(flatten)]
    target: api::ExecutionTarget,
}

pub(super) async fn run(kill: Kill, context: &Context) -> Done {
    let Context { client, out } = context;
    if let (true, Some(request)) = (kill.dry_run, kill.what.request(true)) {
        return would_kill(&client.kill_many(&request).await?, context);
    }
    if kill.what.all && !kill.yes {
        confirm(context).await?;
    }
    let executions = match (&kill.what.exec_id, &kill.what.job) {
        (Some(exec), _) => {
            client.kill(exec).await?;
            vec![exec.clone()]
        }
        (None, Some(job)) => {
            // Asked for before the kill: afterwards they may be final.
            let executions = live(client, job).await?;
            client.kill_job(job).await?;
            if executions.is_empty() {
                out.note(&format!("nothing of job {job} is pending or running"));
            }
            executions
        }
        (None, None) => {
            let Some(request) = kill.what.request(false) else {
                return Err(Failure::Usage("name an execution, or a job with --job".into()));
            };
            let killed = client.kill_many(&request).await?;
            if killed.executions.is_empty() {
                out.note("nothing of that is pending or running");
            }
            killed.executions.into_iter().map(|of| of.exec_id).collect()
        }
    };
    if kill.watching.wanted() {
        for exec in &executions {
            watch::bounded(exec, &kill.watching, settle(exec, client, context)).await?;
        }
    }
    let mut killed = Vec::new();
    for exec in &executions {
        let mut targets = client.targets(
            exec,
            &TargetQuery {
                state: None,
                page_size: Some(1000),
            },
        );
        while let Some(target) = targets.try_next().await? {
            // What was withdrawn before it was sent needs no answer of an agent.
            if target.receipt.is_some() || target.state == TargetState::Withdrawn {
                killed.push(Killed {
                    exec_id: exec.clone(),
                    target,
                });
            }
        }
    }
    show(&executions, &killed, context)?;
    let unreachable = killed
        .iter()
        .any(|killed| killed.target.receipt == Some(Receipt::Unreachable));
    if kill.watching.wanted() && unreachable {
        Err(Failure::Unsuccessful)
    } else {
        Ok(())
    }
}

/// Shows what all is, and waits for the words that say that it is meant.
async fn confirm(Context { client, out }: &Context) -> Result<(), Failure> {
    const WORDS: &str = api::KillRequest::CONFIRMATION;
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "`--all` kills everything that is in flight: add `--yes`, or `--dry-run` to see what that is"
                .into(),
        ));
    }
    let request = api::KillRequest {
        job_id: None,
        group: None,
        pc_id: None,
        all: true,
        confirm: None,
        dry_run: true,
    };
    let would = client.kill_many(&request).await?;
    let (executions, targets) = (would.executions.len(), would.targets);
    out.note(&format!(
        "{executions} executions that are not at their end on {targets} agents would be killed; type `{WORDS}` to do it"
    ));
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == WORDS {
        Ok(())
    } else {
        Err(Failure::Failed("nothing was killed".into()))
    }
}

fn would_kill(would: &api::Killed, Context { out, .. }: &Context) -> Done {
    out.show(would, |would| {
        let total = format!(
            "{} executions that are not at their end on {} agents would be killed",
            would.executions.len(),
            would.targets
        );
        if would.executions.is_empty() {
            return total;
        }
        let row = |of: &api::KillOf| vec![(&of.exec_id).into(), (&of.job_id).into(), of.targets.into()];
        let rows = would.executions.iter().take(SHOWN).map(row).collect();
        format!("{}\n{total}", out.table(&["EXECUTION", "JOB", "AGENTS"], rows))
    })
}

/// The executions of a job that a kill of it reaches.
async fn live(client: &Client, job: &JobId) -> Result<Vec<ExecId>, Error> {
    let mut live = Vec::new();
    for status in [
        ExecutionStatus::Pending,
        ExecutionStatus::Running,
        ExecutionStatus::Expired,
    ] {
        let query = ExecutionQuery {
            job_id: Some(job.clone()),
            status: Some(status),
            page_size: None,
        };
        let mut executions = client.executions(&query);
        while let Some(execution) = executions.try_next().await? {
            if !live.contains(&execution.exec_id) {
                live.push(execution.exec_id);
            }
        }
    }
    Ok(live)
}

/// Returns when no receipt of an execution is open.
async fn settle(exec: &ExecId, client: &Client, context: &Context) -> Result<(), Failure> {
    let progress = Progress::spinner();
    let mut pulse = Pulse::new(client, exec);
    loop {
        let execution = match pulse.next().await? {
            Beat::Stands(execution) => execution,
            Beat::Away(error) => {
                progress.tell(|| context.out.note(&format!("{error}; trying again")));
                continue;
            }
        };
        progress.message(format!("killing {exec}: {}", watch::counts(&execution)));
        match open(exec, client, &execution).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many receipts of an execution are not final. Only targets that are not final can have one.
async fn open(exec: &ExecId, client: &Client, execution: &api::Execution) -> Result<usize, Error> {
    let mut open = 0;
    for state in [TargetState::Waiting, TargetState::Running] {
        if execution.targets.get(&state).is_some_and(|count| *count > 0) {
            let query = TargetQuery {
                state: Some(state),
                page_size: Some(1000),
            };
            let targets: Vec<_> = client.targets(exec, &query).try_collect().await?;
            open += targets.iter().filter(|target| is_open(target)).count();
        }
    }
    Ok(open)
}

fn is_open(target: &api::ExecutionTarget) -> bool {
    matches!(
        target.receipt,
        None | Some(Receipt::Requested | Receipt::Delivered)
    )
}

fn show(executions: &[ExecId], killed: &[Killed], context: &Context) -> Done {
    let out = &context.out;
    if out.is_json() {
        return out.json(&killed);
    }
    let now = when::now();
    for exec in executions {
        let of: Vec<&Killed> = killed.iter().filter(|killed| killed.exec_id == *exec).collect();
        out.line(&format!("execution {exec}: {}", receipts(&of)))?;
        if !of.is_empty() {
            let rows: Vec<Vec<Cell>> = of
                .iter()
                .take(SHOWN)
                .map(|killed| target_row(&killed.target, now))
                .collect();
            out.line(&out.table(&TARGET_HEADS, rows))?;
        }
        if of.len() > SHOWN {
            out.note(&format!(
                "and {} more: `kanade executions show {exec} --targets`",
                of.len() - SHOWN
            ));
        }
    }
    Ok(())
}

/// How many receipts there are of which kind.
fn receipts(killed: &[&Killed]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for Killed { target, .. } in killed {
        *counts
            .entry(
                target
                    .receipt
                    .map_or("withdrawn before it was sent", Receipt::as_str),
            )
            .or_default() += 1;
    }
    if counts.is_empty() {
        return "nothing was left to kill".into();
    }
    counts
        .iter()
        .map(|(receipt, count)| format!("{count} {receipt}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn killed(receipt: Option<&str>) -> Killed {
        let target = json!({
            "pc_id": "pc", "state": "running", "wave": 0, "due_at": "2026-05-01T08:30:00Z", "result_id": null,
            "started_at": null, "finished_at": null, "exit_code": null, "detail": null, "receipt": receipt
        });
        Killed {
            exec_id: "e-1".parse().unwrap(),
            target: serde_json::from_value(target).unwrap(),
        }
    }

    #[test]
    fn a_receipt_is_open_until_the_agent_or_time_has_answered() {
        for (receipt, open) in [
            (None, true),
            (Some("requested"), true),
            (Some("delivered"), true),
            (Some("confirmed"), false),
            (Some("finished"), false),
            (Some("unreachable"), false),
        ] {
            assert_eq!(is_open(&killed(receipt).target), open, "{receipt:?}");
        }
    }

    #[test]
    fn receipts_are_counted_by_kind() {
        let all = [Some("confirmed"), Some("unreachable"), None, Some("confirmed")].map(killed);
        assert_eq!(
            receipts(&all.iter().collect::<Vec<_>>()),
            "2 confirmed, 1 unreachable, 1 withdrawn before it was sent"
        );
        assert_eq!(receipts(&[]), "nothing was left to kill");
    }

    #[test]
    fn programs_see_the_target_with_its_execution() {
        let json = serde_json::to_value(killed(Some("confirmed"))).unwrap();
        assert_eq!(
            (json["exec_id"].as_str(), json["receipt"].as_str()),
            (Some("e-1"), Some("confirmed"))
        );
    }
}
