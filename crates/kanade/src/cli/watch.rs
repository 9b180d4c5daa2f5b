//! `--watch`: stays with an execution until all its targets are final, shows how far it is, tells failures as they
//! come.

mod follow;
mod progress;
mod pulse;

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use kanade_client::{Client, TargetQuery};
use kanade_model::{ExecId, HumanDuration, TargetState, api};

use super::{
    Context,
    failure::{Done, Failure},
    table::{Tone, one_line, shortened},
    when,
};

use follow::Follow;
pub(super) use follow::{Ending, counts, ending};
pub(super) use progress::Progress;
pub(super) use pulse::{Beat, Pulse};

/// How many characters of an agent's last word are shown.
const LAST_WORD: usize = 160;

/// Whether to stay, and for how long.
#[derive(Debug, Clone, Args)]
pub(super) struct Watching {
    /// Stay until every target has its end
    #[arg(long)]
    watch: bool,
    /// Stay no longer than this; the execution goes on
    #[arg(long, value_name = "DURATION", requires = "watch")]
    watch_timeout: Option<HumanDuration>,
}

impl Watching {
    pub(super) fn wanted(&self) -> bool {
        self.watch
    }
}

/// Watches an execution to its end; a failure unless all its targets have succeeded.
pub(super) async fn execution(exec: &ExecId, watching: &Watching, context: &Context) -> Done {
    let progress = Progress::targets(&context.out);
    let watch = follow(exec, context, &progress);
    let (execution, ending) = bounded(exec, watching, watch).await?;
    progress.clear();
    if context.out.is_json() {
        context.out.json(&context.client.execution(exec).await?)?;
    } else {
        let tone = if ending == Ending::AllSucceeded {
            Tone::Good
        } else {
            Tone::Bad
        };
        context.out.line(&told(&execution, ending, |counts| {
            context.out.toned(counts, tone)
        }))?;
    }
    match ending {
        Ending::AllSucceeded => Ok(()),
        Ending::NotAll | Ending::NeverStarted => Err(Failure::Unsuccessful),
    }
}

/// Ends `watch` when its time is over, or at Ctrl-C; what is watched goes on.
pub(super) async fn bounded<T>(
    exec: &ExecId,
    watching: &Watching,
    watch: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let hint =
        format!("`kanade executions show {exec} --watch` goes on watching, `kanade kill {exec}` ends it");
    let over = async {
        match watching.watch_timeout {
            Some(HumanDuration(limit)) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending::<Duration>().await,
        }
    };
    tokio::select! {
        watched = watch => watched,
        limit = over => {
            let limit = when::span(limit);
            Err(Failure::Failed(format!("execution {exec} has not ended within {limit} and goes on; {hint}")))
        }
        Ok(()) = tokio::signal::ctrl_c() => {
            Err(Failure::Interrupted(format!("execution {exec} goes on; {hint}")))
        }
    }
}

async fn follow(
    exec: &ExecId,
    context: &Context,
    progress: &Progress,
) -> Result<(api::Execution, Ending), Failure> {
    let Context { client, out } = context;
    let mut pulse = Pulse::new(client, exec);
    let mut follow = Follow::default();
    loop {
        let execution = match pulse.next().await? {
            Beat::Stands(execution) => *execution,
            Beat::Away(error) => {
                progress.tell(|| out.note(&format!("{error}; trying again")));
                continue;
            }
        };
        progress.show(&execution);
        for state in follow.untold(&execution) {
            let query = TargetQuery {
                state: Some(state),
                page_size: Some(Follow::SHOWN * 2),
            };
            let targets: Vec<_> = match some(client, exec, &query).await {
                Ok(targets) => targets,
                // The next beat tries again.
                Err(error) if error.is_transient() => break,
                Err(error) => return Err(error.into()),
            };
            for target in follow.take(targets) {
                let line = failure(&target, last_word(client, &target).await.as_deref());
                let mut told = Ok(());
                progress.tell(|| told = out.say(&out.toned(&line, Tone::from(target.state))));
                told?;
            }
        }
        if let Some(ending) = ending(&execution) {
            let hidden = follow.hidden(&execution);
            if hidden > 0 {
                let show = format!("`kanade executions show {exec} --targets` shows all");
                progress.tell(|| out.note(&format!("and {hidden} more that did not succeed; {show}")));
            }
            return Ok((execution, ending));
        }
    }
}

/// The first page of targets.
async fn some(
    client: &Client,
    exec: &ExecId,
    query: &TargetQuery,
) -> Result<Vec<api::ExecutionTarget>, kanade_client::Error> {
    let (mut targets, mut taken) = (client.targets(exec, query), Vec::new());
    while taken.len() < query.page_size.unwrap_or(usize::MAX) {
        let Some(target) = targets.try_next().await? else {
            break;
        };
        taken.push(target);
    }
    Ok(taken)
}

/// The last line a run printed on stderr. It only adds to what is told, so that it is missing is no failure.
async fn last_word(client: &Client, target: &api::ExecutionTarget) -> Option<String> {
    let run = client.result(target.result_id?).await.ok()?;
    let line = run
        .stderr
        .lines()
        .rev()
        .map(|line| one_line(line.to_owned()))
        .find(|line| !line.trim().is_empty())?;
    Some(shortened(line.trim(), LAST_WORD))
}

/// A target that did not succeed, in a line.
fn failure(target: &api::ExecutionTarget, last_word: Option<&str>) -> String {
    let mut line = format!("{} {}", target.pc_id, words(target.state));
    if let Some(code) = target.exit_code {
        line = format!("{line}, exit code {code}");
    }
    match target.detail.as_deref().or(last_word) {
        Some(why) => format!("{line}: {}", one_line(why.to_owned())),
        None => line,
    }
}

fn words(state: TargetState) -> String {
    state.as_str().replace('_', " ")
}

/// How an execution has ended, in a sentence.
pub(super) fn summary(execution: &api::Execution, ending: Ending) -> String {
    told(execution, ending, str::to_owned)
}

fn told(execution: &api::Execution, ending: Ending, toned: impl Fn(&str) -> String) -> String {
    let counts = toned(&counts(execution));
    let took = execution
        .finished_at
        .map(|at| format!(" in {}", when::span(at.since(execution.initiated_at))));
    match ending {
        Ending::NeverStarted => format!(
            "{counts}: nothing has started for long; its targets still run it when they come back, unless `kanade \
             kill {}` withdraws it",
            execution.exec_id
        ),
        Ending::AllSucceeded | Ending::NotAll => format!("{counts}{}", took.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn target(state: &str, exit_code: Option<i32>, detail: Option<&str>) -> api::ExecutionTarget {
        serde_json::from_value(json!({
            "pc_id": "pc-1", "state": state, "wave": 0, "due_at": "2026-05-01T08:30:00Z", "result_id": null,
            "started_at": null, "finished_at": null, "exit_code": exit_code, "detail": detail, "receipt": null
        }))
        .unwrap()
    }

    #[test]
    fn a_failure_says_where_how_and_why() {
        for (target, last_word, line) in [
            (
                target("failed", Some(3), None),
                Some("disk full"),
                "pc-1 failed, exit code 3: disk full",
            ),
            (
                target("timed_out", Some(-1), None),
                None,
                "pc-1 timed out, exit code -1",
            ),
            (
                target("refused", None, Some("it is\nrevoked")),
                None,
                "pc-1 refused: it is revoked",
            ),
            (target("lost", None, None), None, "pc-1 lost"),
        ] {
            assert_eq!(failure(&target, last_word), line);
        }
    }
}
