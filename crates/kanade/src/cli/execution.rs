//! `kanade executions`.

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use kanade_client::{ExecutionQuery, TargetQuery};
use kanade_model::{ExecId, ExecutionStatus, JobId, TargetState, Timestamp, api};
use serde::Serialize;

use super::{
    Context,
    failure::Done,
    output::{Output, Paging, ago},
    table::{Cell, Tone},
    watch::{self, Watching, counts},
    waves, when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ExecutionCommand {
    /// List executions, newest first
    #[command(after_help = "Examples:\n  kanade executions list --job backup\n  \
                            kanade executions list --status running --output json")]
    List(List),
    /// Show an execution with its runs
    #[command(
        after_help = "Examples:\n  kanade executions show 5f0c… --targets --state failed\n  \
                            kanade executions show 5f0c… --watch"
    )]
    Show(Show),
    /// Keep back what of an execution has not been sent, until it is resumed
    #[command(after_help = "Example:\n  kanade executions pause 5f0c…")]
    Pause(One),
    /// Let a paused execution go on, also past a gate that has failed
    ///
    /// What was due meanwhile goes out at once; what is due later keeps its time.
    #[command(after_help = "Example:\n  kanade executions resume 5f0c…")]
    Resume(One),
    /// Withdraw what of an execution has not been sent; what runs goes on (`kanade kill` ends it)
    #[command(after_help = "Example:\n  kanade executions abort 5f0c…")]
    Abort(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The execution
    exec_id: ExecId,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this job
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,
    /// Only with this status: pending, running, completed, killed, expired
    #[arg(long, value_name = "STATUS")]
    status: Option<ExecutionStatus>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The execution
    exec_id: ExecId,
    /// Show where it stands on each agent instead of its runs
    #[arg(long)]
    targets: bool,
    /// Only targets in this state
    #[arg(long, value_name = "STATE", requires = "targets")]
    state: Option<TargetState>,
    #[command(flatten)]
    watching: Watching,
}

pub(super) async fn run(command: ExecutionCommand, context: &Context) -> Done {
    match command {
        ExecutionCommand::List(List { job, status, paging }) => {
            let query = ExecutionQuery {
                job_id: job,
                status,
                page_size: paging.page_size(),
            };
            context
                .out
                .list(context.client.executions(&query), &paging, &HEADS, row)
                .await
        }
        ExecutionCommand::Show(show) if show.watching.wanted() => {
            watch::execution(&show.exec_id, &show.watching, context).await
        }
        ExecutionCommand::Show(show) => self::show(&show, context).await,
        ExecutionCommand::Pause(One { exec_id }) => {
            context.client.pause(&exec_id).await?;
            steered(&exec_id, context).await
        }
        ExecutionCommand::Resume(One { exec_id }) => {
            context.client.resume(&exec_id).await?;
            steered(&exec_id, context).await
        }
        ExecutionCommand::Abort(One { exec_id }) => {
            context.client.abort(&exec_id).await?;
            steered(&exec_id, context).await
        }
    }
}

/// Says how an execution stands now.
async fn steered(exec: &ExecId, Context { client, out }: &Context) -> Done {
    let detail = client.execution(exec).await?;
    let now = when::now();
    out.show(&detail, |detail| heads(detail, now, out))
}

/// What is told of an execution, with a table of its waves where it has any.
fn heads(detail: &api::ExecutionDetail, now: Timestamp, out: &Output) -> String {
    let (execution, fields) = (&detail.execution, out.fields(&lines(detail, now)));
    if execution.waves.is_empty() {
        return fields;
    }
    let rows = execution.waves.iter().map(|wave| waves::row(wave, now)).collect();
    format!("{fields}\n\n{}", out.table(&waves::HEADS, rows))
}

const HEADS: [&str; 7] = ["EXECUTION", "JOB", "VERSION", "STATUS", "TARGETS", "FIRED", "BY"];

fn row(execution: &api::Execution, now: Timestamp) -> Vec<Cell> {
    vec![
        (&execution.exec_id).into(),
        (&execution.job_id).into(),
        (&execution.version).into(),
        Cell::state(execution.status),
        outcome(execution),
        ago(execution.initiated_at, now),
        (&execution.initiated_by).into(),
    ]
}

/// How many have succeeded, and whether any has not.
fn outcome(execution: &api::Execution) -> Cell {
    let api::Execution {
        success_count,
        failure_count,
        target_count,
        ..
    } = execution;
    let failed = if *failure_count == 0 {
        String::new()
    } else {
        format!(", {failure_count} failed")
    };
    let tone = match (success_count == target_count, *failure_count > 0) {
        (_, true) => Tone::Bad,
        (true, _) => Tone::Good,
        _ => Tone::Plain,
    };
    Cell::toned(format!("{success_count}/{target_count} succeeded{failed}"), tone)
}

/// What the API says of an execution, and its targets.
#[derive(Serialize)]
struct WithTargets<'a> {
    #[serde(flatten)]
    detail: &'a api::ExecutionDetail,
    targets: &'a [api::ExecutionTarget],
}

async fn show(show: &Show, context: &Context) -> Done {
    let Context { client, out } = context;
    let detail = client.execution(&show.exec_id).await?;
    let now = when::now();
    if !show.targets {
        return out.show(&detail, |detail| {
            let runs = detail.results.iter().map(|run| run_row(run, now)).collect();
            let heads = heads(detail, now, out);
            if detail.results.is_empty() {
                heads
            } else {
                format!("{heads}\n\n{}", out.table(&RUN_HEADS, runs))
            }
        });
    }
    let query = TargetQuery {
        state: show.state,
        page_size: Some(1000),
    };
    let targets: Vec<api::ExecutionTarget> = client.targets(&show.exec_id, &query).try_collect().await?;
    out.show(
        &WithTargets {
            detail: &detail,
            targets: &targets,
        },
        |_| {
            let rows = targets.iter().map(|target| target_row(target, now)).collect();
            let heads = heads(&detail, now, out);
            format!("{heads}\n\n{}", out.table(&TARGET_HEADS, rows))
        },
    )
}

fn lines(detail: &api::ExecutionDetail, now: Timestamp) -> Vec<(&'static str, Cell)> {
    let execution = &detail.execution;
    let moment = |at: Timestamp| format!("{at} ({})", when::relative(at, now));
    let mut lines = vec![
        ("execution", (&execution.exec_id).into()),
        (
            "job",
            format!("{} {}", execution.job_id, execution.version).into(),
        ),
        ("status", Cell::state(execution.status)),
        ("targets", counts(execution).into()),
        (
            "fired",
            format!("{} by {}", moment(execution.initiated_at), execution.initiated_by).into(),
        ),
    ];
    if let Some(most) = execution.max_parallel {
        lines.push(("at once", format!("{most} at most").into()));
    }
    if let Some(retry) = &execution.retry {
        let (most, backoff) = (retry.max_attempts, retry.backoff);
        lines.push((
            "retries",
            format!("{most} attempts, {backoff} apart at first").into(),
        ));
    }
    if let Some(parked) = execution.parked_count {
        let text = format!("{parked} for others to finish, or for their next attempt");
        lines.push(("waiting", Cell::toned(text, Tone::Odd)));
    }
    for (name, text) in &detail.params {
        let text = text.as_deref().unwrap_or("•••");
        lines.push(("param", format!("{name}={text}").into()));
    }
    if let Some(at) = execution.paused_at {
        let paused = format!("{}, {}", moment(at), waves::paused(execution));
        lines.push(("paused", Cell::toned(paused, Tone::Odd)));
    }
    if let Some(at) = execution.aborted_at {
        let by = execution.aborted_by.as_deref().unwrap_or("somebody unknown");
        lines.push(("aborted", format!("{} by {by}", moment(at)).into()));
    }
    if let Some(at) = execution.killed_at {
        let by = execution.killed_by.as_deref().unwrap_or("somebody unknown");
        lines.push(("killed", format!("{} by {by}", moment(at)).into()));
    }
    if let Some(at) = execution.finished_at {
        let took = when::span(at.since(execution.initiated_at));
        lines.push(("finished", format!("{}, after {took}", moment(at)).into()));
    }
    lines
}

const RUN_HEADS: [&str; 5] = ["RESULT", "PC", "EXIT", "STARTED", "TOOK"];

fn run_row(run: &api::RunHead, now: Timestamp) -> Vec<Cell> {
    vec![
        run.result_id.into(),
        (&run.pc_id).into(),
        exit_code(run.exit_code),
        ago(run.started_at, now),
        took(run.started_at, run.finished_at),
    ]
}

pub(super) const TARGET_HEADS: [&str; 7] = ["PC", "STATE", "EXIT", "RECEIPT", "STARTED", "TOOK", "DETAIL"];

pub(super) fn target_row(target: &api::ExecutionTarget, now: Timestamp) -> Vec<Cell> {
    vec![
        (&target.pc_id).into(),
        Cell::state(target.state),
        exit_code(target.exit_code),
        target.receipt.map_or_else(|| "-".into(), Cell::state),
        target.started_at.map_or_else(|| "-".into(), |at| ago(at, now)),
        target
            .started_at
            .map_or_else(|| "-".into(), |at| took(at, target.finished_at)),
        match (&target.detail, target.state) {
            (Some(detail), TargetState::Waiting) if target.due_at > now => {
                let due = when::relative(target.due_at, now);
                format!("{detail}; attempt {} is due {due}", target.attempt).into()
            }
            (Some(detail), _) => detail.into(),
            (None, state) if target.attempt > 1 && state != TargetState::Waiting => {
                format!("attempt {}", target.attempt).into()
            }
            (None, TargetState::Waiting) if target.due_at > now => {
                format!("due {}", when::relative(target.due_at, now)).into()
            }
            _ => "-".into(),
        },
    ]
}

pub(super) fn exit_code(code: Option<i32>) -> Cell {
    match code {
        Some(code) => Cell::toned(code.to_string(), if code == 0 { Tone::Good } else { Tone::Bad }),
        None => "-".into(),
    }
}

pub(super) fn took(started: Timestamp, finished: Option<Timestamp>) -> Cell {
    Cell::maybe(finished.map(|at| when::span(at.since(started))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(row: &[Cell]) -> Vec<&str> {
        row.iter().map(|cell| cell.text.as_str()).collect()
    }

    fn execution() -> api::Execution {
        serde_json::from_value(json!({
            "exec_id": "e-1", "job_id": "backup", "version": "1", "initiated_by": "ann", "target_count": 3,
            "initiated_at": "2026-05-01T08:30:00Z", "success_count": 2, "failure_count": 1, "status": "killed",
            "targets": {"succeeded": 2, "killed": 1}, "finished_at": "2026-05-01T08:31:20Z",
            "killed_at": "2026-05-01T08:31:00Z", "killed_by": "bob"
        }))
        .unwrap()
    }

    #[test]
    fn an_execution_is_listed_with_its_outcome() {
        let now = "2026-05-01T08:35:00Z".parse().unwrap();
        let row = row(&execution(), now);
        assert_eq!(
            texts(&row),
            [
                "e-1",
                "backup",
                "1",
                "killed",
                "2/3 succeeded, 1 failed",
                "5m ago",
                "ann"
            ]
        );
        assert_eq!((row[4].tone, row.len()), (Tone::Bad, HEADS.len()));
    }

    #[test]
    fn an_execution_is_shown_with_who_ended_it() {
        let now = "2026-05-01T08:35:00Z".parse().unwrap();
        let detail = api::ExecutionDetail {
            execution: execution(),
            results: Vec::new(),
            params: [
                ("region".to_owned(), Some("eu".to_owned())),
                ("token".to_owned(), None),
            ]
            .into(),
        };
        let lines = lines(&detail, now);
        let text: Vec<String> = lines
            .iter()
            .map(|(label, cell)| format!("{label}: {}", cell.text))
            .collect();
        assert!(
            text.contains(&"killed: 2026-05-01T08:31:00Z (4m ago) by bob".to_owned()),
            "{text:?}"
        );
        assert!(
            text.contains(&"finished: 2026-05-01T08:31:20Z (3m ago), after 1m 20s".to_owned()),
            "{text:?}"
        );
        assert!(
            text.contains(&"targets: 2 of 3 succeeded, 1 killed".to_owned()),
            "{text:?}"
        );
    }

    #[test]
    fn a_target_says_why_it_has_not_run() {
        let now: Timestamp = "2026-05-01T08:35:00Z".parse().unwrap();
        let target = |state: &str, due: &str, detail: Option<&str>| -> api::ExecutionTarget {
            serde_json::from_value(json!({
                "pc_id": "pc", "state": state, "wave": 0, "due_at": due, "result_id": null, "started_at": null,
                "finished_at": null, "exit_code": null, "detail": detail, "receipt": null
            }))
            .unwrap()
        };
        for (target, detail) in [
            (target("waiting", "2026-05-01T08:40:00Z", None), "due in 5m"),
            (target("waiting", "2026-05-01T08:30:00Z", None), "-"),
            (
                target("refused", "2026-05-01T08:30:00Z", Some("the job is revoked")),
                "the job is revoked",
            ),
        ] {
            let row = target_row(&target, now);
            assert_eq!((row.len(), row[6].text.as_str()), (TARGET_HEADS.len(), detail));
        }
    }
}
