//! `--follow`: prints what runs print, as it comes: standard output and standard error each to its own.

mod lines;

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream, stream::FuturesUnordered};
use kanade_client::{Client, Error, OutputUpdate};
use kanade_model::{ExecId, PcId, ResultId, RunState, api, api::OutputEvent};
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    Context,
    failure::{Done, Failure},
    output::Output,
    watch::{self, Beat, Ending, Pulse, Watching},
};
use lines::Lines;

/// Runs that are followed at once. Others wait until one has ended; what they have printed is kept.
const AT_ONCE: usize = 32;
/// A server that is away for longer is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    pc_id: &'a PcId,
    result_id: ResultId,
    #[serde(flatten)]
    event: &'a OutputEvent,
}

/// Follows all runs of an execution to its end; a failure unless all its targets have succeeded.
pub(super) async fn execution(exec: &ExecId, watching: &Watching, context: &Context) -> Done {
    let (execution, ending) = watch::bounded(exec, watching, runs(exec, context)).await?;
    if context.out.is_json() {
        let event = api::LiveEvent::Execution(Box::new(execution));
        context.out.json_line(&event)?;
    } else {
        context.out.note(&watch::summary(&execution, ending));
    }
    match ending {
        Ending::AllSucceeded => Ok(()),
        Ending::NotAll | Ending::NeverStarted => Err(Failure::Unsuccessful),
    }
}

/// Follows one run to its end; a failure unless it has succeeded.
pub(super) async fn run(id: ResultId, context: &Context) -> Done {
    let run = context.client.result(id).await?;
    let reader = Reader {
        out: &context.out,
        pc: run.pc_id,
        id,
        is_one_of_many: false,
    };
    let follow = reader.follow(&context.client);
    let state = tokio::select! {
        state = follow => state?,
        Ok(()) = tokio::signal::ctrl_c() => {
            let kill = run.exec_id.map(|exec| format!("; `kanade kill {exec}` ends its execution"));
            let kill = kill.unwrap_or_default();
            return Err(Failure::Interrupted(format!("run {id} goes on{kill}")));
        }
    };
    match state {
        RunState::Succeeded => Ok(()),
        _ => Err(Failure::Unsuccessful),
    }
}

async fn runs(exec: &ExecId, context: &Context) -> Result<(api::Execution, Ending), Failure> {
    let Context { client, out } = context;
    // A stream, so that nothing is lost when something else comes first.
    let beats = stream::unfold(Pulse::new(client, exec), |mut pulse| async {
        Some((pulse.next().await, pulse))
    });
    let mut beats = std::pin::pin!(beats);
    let places = Semaphore::new(AT_ONCE);
    let mut known = BTreeSet::new();
    let mut readers: FuturesUnordered<BoxFuture<'_, Result<RunState, Failure>>> = FuturesUnordered::new();
    let mut ended = None;
    loop {
        tokio::select! {
            Some(read) = readers.next(), if !readers.is_empty() => drop(read?),
            Some(beat) = beats.next(), if ended.is_none() => {
                match beat? {
                    Beat::Away(error) => {
                        out.note(&format!("{error}; trying again"));
                        continue;
                    }
                    Beat::Stands(_) => {}
                }
                let detail = match client.execution(exec).await {
                    Ok(detail) => detail,
                    // The next beat tries again.
                    Err(error) if error.is_transient() => continue,
                    Err(error) => return Err(error.into()),
                };
                let is_one_of_many = detail.execution.target_count != 1;
                for run in detail.results.into_iter().rev() {
                    if known.insert(run.result_id) {
                        let reader = Reader { out, pc: run.pc_id, id: run.result_id, is_one_of_many };
                        let places = &places;
                        readers.push(Box::pin(async move {
                            let _place = places.acquire().await.expect("it is never closed");
                            reader.follow(client).await
                        }));
                    }
                }
                ended = watch::ending(&detail.execution).map(|ending| (detail.execution, ending));
            }
            else => return Ok(ended.expect("beats end only when it has ended")),
        }
    }
}

/// Prints what one run prints.
struct Reader<'a> {
    out: &'a Output,
    pc: PcId,
    id: ResultId,
    /// Then each line says whose it is.
    is_one_of_many: bool,
}

impl Reader<'_> {
    async fn follow(&self, client: &Client) -> Result<RunState, Failure> {
        let mut updates = client.output(self.id);
        let mut lines = Lines::new(self.is_one_of_many.then(|| self.pc.to_string()));
        let mut away: Option<Instant> = None;
        while let Some(update) = updates.next().await {
            match update? {
                OutputUpdate::Connected => {}
                OutputUpdate::Disconnected(error) => match away {
                    Some(since) if since.elapsed() > PATIENCE => return Err(error.into()),
                    Some(_) => {}
                    None => {
                        self.remark(&remark(&error));
                        away = Some(Instant::now());
                    }
                },
                OutputUpdate::Event(event) => {
                    away = None;
                    if let Some(state) = self.tell(&mut lines, &event)? {
                        return Ok(state);
                    }
                }
            }
        }
        // Only after an error, which has been told.
        Err(Failure::Failed(format!(
            "the output of run {} has no end",
            self.id
        )))
    }

    /// Prints an event; the state of the run when it has ended.
    fn tell(&self, lines: &mut Lines, event: &OutputEvent) -> Result<Option<RunState>, Failure> {
        if self.out.is_json() {
            let told = Told {
                pc_id: &self.pc,
                result_id: self.id,
                event,
            };
            self.out.json_line(&told)?;
        }
        match event {
            OutputEvent::Output { .. } if self.out.is_json() => Ok(None),
            OutputEvent::Output {
                stream,
                text,
                dropped,
                ..
            } => {
                if *dropped > 0 {
                    self.out.print(*stream, &lines.rest(*stream))?;
                    self.remark(&format!("[… {dropped} bytes left out …]"));
                }
                self.out.print(*stream, &lines.of(*stream, text))?;
                Ok(None)
            }
            OutputEvent::End {
                state,
                exit_code,
                complete,
                ..
            } => {
                if !self.out.is_json() {
                    for stream in kanade_model::OutputStream::ALL {
                        self.out.print(stream, &lines.rest(stream))?;
                    }
                }
                if !complete {
                    self.remark(&format!(
                        "some of the output is not here; `kanade results show {}` has what is kept",
                        self.id
                    ));
                }
                if *state != RunState::Succeeded {
                    let code = exit_code
                        .map(|code| format!(", exit code {code}"))
                        .unwrap_or_default();
                    let state = state.as_str().replace('_', " ");
                    self.out.note(&format!("{} {state}{code}", self.pc));
                }
                Ok(Some(*state))
            }
        }
    }

    fn remark(&self, text: &str) {
        if self.is_one_of_many {
            self.out.note(&format!("{}: {text}", self.pc));
        } else {
            self.out.note(text);
        }
    }
}

fn remark(error: &Error) -> String {
    format!("{error}; trying again")
}
