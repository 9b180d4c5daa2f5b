//! `kanade results`.

use clap::{Args, Subcommand, ValueEnum};
use kanade_client::{Outcome, RunQuery};
use kanade_model::{OutputStream, ResultId, RunState, Timestamp, api};
use serde_json::json;

use super::{
    Context,
    execution::{exit_code, took},
    failure::Done,
    follow,
    output::{Output, Paging, ago},
    table::{Cell, shortened},
    when,
};

/// How much of an output a list shows, in characters.
const EXCERPT: usize = 60;

#[derive(Debug, Subcommand)]
pub(crate) enum ResultCommand {
    /// List runs, newest first
    ///
    /// The filters --pc, --job, --exec, --stdout and --stderr are regular expressions that match anywhere; `^web-1$`
    /// matches a whole name.
    #[command(
        after_help = "Examples:\n  kanade results list --job '^backup$' --status failure --since 1d\n  \
                            kanade results list --stderr 'disk full' --output json"
    )]
    List(Box<List>),
    /// Show a run with its output
    #[command(after_help = "Example:\n  kanade results show 018f…")]
    Show {
        /// The run
        result_id: ResultId,
    },
    /// Print what a run has printed: standard output and standard error each to its own
    ///
    /// With --follow it begins with what is kept of a run that goes on, stays until the run ends, and ends with exit code 0
    /// if it has succeeded.
    #[command(
        after_help = "Examples:\n  kanade results output 018f… > log.txt\n  kanade results output 018f… --follow"
    )]
    Output {
        /// The run
        result_id: ResultId,
        /// Stay until the run ends, and print what comes
        #[arg(long)]
        follow: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// On agents like this
    #[arg(long, value_name = "REGEX")]
    pc: Option<String>,
    /// Of jobs like this
    #[arg(long, value_name = "REGEX")]
    job: Option<String>,
    /// Of executions like this
    #[arg(long, value_name = "REGEX")]
    exec: Option<String>,
    /// With such a standard output
    #[arg(long, value_name = "REGEX")]
    stdout: Option<String>,
    /// With such a standard error
    #[arg(long, value_name = "REGEX")]
    stderr: Option<String>,
    /// With this outcome
    #[arg(long, value_enum, value_name = "OUTCOME")]
    status: Option<Status>,
    /// Started after this (RFC 3339, or a duration ago)
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Success,
    Failure,
    Running,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Failure => Self::Failure,
            Status::Running => Self::Running,
        }
    }
}

pub(super) async fn run(command: ResultCommand, context: &Context) -> Done {
    match command {
        ResultCommand::List(list) => {
            let List {
                pc,
                job,
                exec,
                stdout,
                stderr,
                status,
                since,
                paging,
            } = *list;
            let query = RunQuery {
                pc_id: pc,
                job_id: job,
                exec_id: exec,
                stdout,
                stderr,
                status: status.map(Outcome::from),
                since,
                page_size: paging.page_size(),
            };
            context
                .out
                .list(context.client.results(&query), &paging, &HEADS, row)
                .await
        }
        ResultCommand::Show { result_id } => {
            let run = context.client.result(result_id).await?;
            context
                .out
                .show(&run, |run| detail(run, when::now(), &context.out))
        }
        ResultCommand::Output {
            result_id,
            follow: true,
        } => follow::run(result_id, context).await,
        ResultCommand::Output { result_id, .. } => {
            let run = context.client.result(result_id).await?;
            if run.finished_at.is_none() && run.state == Some(RunState::Running) {
                context.out.note("it goes on: --follow prints what it prints");
            }
            if context.out.is_json() {
                return context
                    .out
                    .json(&json!({"stdout": run.stdout, "stderr": run.stderr}));
            }
            context.out.print(OutputStream::Stdout, &run.stdout)?;
            context.out.print(OutputStream::Stderr, &run.stderr)
        }
    }
}

const HEADS: [&str; 8] = [
    "RESULT", "JOB", "PC", "STATE", "EXIT", "STARTED", "TOOK", "OUTPUT",
];

fn row(run: &api::Run, now: Timestamp) -> Vec<Cell> {
    vec![
        run.result_id.into(),
        Cell::maybe(run.job_id.as_ref()),
        (&run.pc_id).into(),
        state(run),
        exit_code(run.exit_code),
        ago(run.started_at, now),
        took(run.started_at, run.finished_at),
        shortened(&excerpt(run), EXCERPT).into(),
    ]
}

fn state(run: &api::Run) -> Cell {
    match (run.state, run.exit_code) {
        (Some(state), _) => Cell::state(state),
        // Servers that do not tell states tell exit codes.
        (None, Some(0)) => Cell::state(RunState::Succeeded),
        (None, Some(_)) => Cell::state(RunState::Failed),
        (None, None) => Cell::state(RunState::Running),
    }
}

/// The line that says most: of a failure the last one on stderr, else the first one of the output.
fn excerpt(run: &api::Run) -> String {
    let first = |text: &str| {
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(str::to_owned)
    };
    let last = |text: &str| {
        text.lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(str::to_owned)
    };
    let failed = run.exit_code.is_some_and(|code| code != 0);
    let said = if failed {
        last(&run.stderr).or_else(|| last(&run.stdout))
    } else {
        None
    };
    said.or_else(|| first(&run.stdout))
        .or_else(|| first(&run.stderr))
        .unwrap_or_default()
}

fn detail(run: &api::Run, now: Timestamp, out: &Output) -> String {
    let job = run.job_id.as_ref().map(|job| match &run.version {
        Some(version) => format!("{job} {version}"),
        None => job.to_string(),
    });
    let mut lines = vec![
        ("result", run.result_id.into()),
        ("execution", Cell::maybe(run.exec_id.as_ref())),
        ("job", Cell::maybe(job)),
        ("pc", (&run.pc_id).into()),
        ("state", state(run)),
        ("exit code", exit_code(run.exit_code)),
        (
            "started",
            format!("{} ({})", run.started_at, when::relative(run.started_at, now)).into(),
        ),
    ];
    if let Some(at) = run.finished_at {
        lines.push((
            "finished",
            format!("{at}, after {}", took(run.started_at, run.finished_at).text).into(),
        ));
    }
    let mut text = out.fields(&lines);
    for (name, output) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if !output.is_empty() {
            text = format!("{text}\n\n--- {name} ---\n{}", output.trim_end_matches('\n'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use serde_json::json;

    fn finished(exit_code: Option<i32>, state: Option<&str>, stdout: &str, stderr: &str) -> api::Run {
        serde_json::from_value(json!({
            "result_id": "00000000-0000-0000-0000-000000000001", "state": state, "exec_id": "e-1", "pc_id": "pc-1",
            "request_id": "00000000-0000-0000-0000-000000000002", "exit_code": exit_code, "stdout": stdout,
            "stderr": stderr, "started_at": "2026-05-01T08:30:00Z", "job_id": "backup", "version": "1",
            "finished_at": exit_code.map(|_| "2026-05-01T08:31:20Z")
        }))
        .unwrap()
    }

    #[test]
    fn a_run_is_listed_with_the_line_that_says_most() {
        for (exit_code, stdout, stderr, said) in [
            (Some(0), "\n  first\nsecond\n", "a warning\n", "first"),
            (Some(3), "checking\n", "warning\ndisk full\n\n", "disk full"),
            (Some(3), "one\ntwo\n", "", "two"),
            (Some(0), "", "only a warning", "only a warning"),
            (None, "", "", ""),
        ] {
            let row = row(
                &finished(exit_code, None, stdout, stderr),
                "2026-05-01T08:35:00Z".parse().unwrap(),
            );
            assert_eq!((row.len(), row[7].text.as_str()), (HEADS.len(), said));
        }
    }

    #[test]
    fn a_state_that_is_not_told_follows_from_the_exit_code() {
        for (exit_code, told, shown) in [
            (Some(-1), Some("killed"), "killed"),
            (Some(0), None, "succeeded"),
            (Some(1), None, "failed"),
            (None, None, "running"),
        ] {
            assert_eq!(state(&finished(exit_code, told, "", "")).text, shown);
        }
    }

    #[test]
    fn a_run_is_shown_with_its_whole_output() {
        let out = Output::new(Format::Table, false);
        let run = finished(Some(3), Some("failed"), "a\n\nb\n", "c\n");
        let text = detail(&run, "2026-05-01T08:35:00Z".parse().unwrap(), &out);
        assert!(
            text.contains("finished   2026-05-01T08:31:20Z, after 1m 20s"),
            "{text}"
        );
        assert!(
            text.ends_with("\n\n--- stdout ---\na\n\nb\n\n--- stderr ---\nc"),
            "{text}"
        );
    }
}
