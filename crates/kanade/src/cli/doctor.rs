//! `kanade doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{
    Context,
    failure::{Done, Failure},
    table::Tone,
};
use crate::doctor::{self, Check, Places, Verdict};

/// Look at a deployment and say what is wrong with it
///
/// Checks the configuration, the data directory and its disk, the server if it runs, and with NATS the broker: version,
/// JetStream, streams, buckets and consumers against what kanade needs, clock, and when it syncs to disk. Nothing is
/// changed. The exit code is 1 when a check failed; a warning alone is none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kanade doctor --config kanade.toml\n  \
                  kanade doctor --config kanade.toml --nats-monitor http://127.0.0.1:8222")]
pub(crate) struct Doctor {
    /// The configuration; defaults without it
    #[arg(long, value_name = "FILE", env = "KANADE_CONFIG")]
    config: Option<PathBuf>,
    /// The broker's monitoring address, for what a connection does not tell
    #[arg(long, value_name = "URL")]
    nats_monitor: Option<String>,
}

pub(super) async fn run(command: Doctor, context: &Context) -> Done {
    let checks = doctor::examine(&Places {
        config: command.config.as_deref(),
        server: context.client.clone(),
        monitor: command.nats_monitor.as_deref(),
    })
    .await;
    if context.out.is_json() {
        context.out.json(&checks)?;
    } else {
        let width = checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
        for Check {
            check,
            verdict,
            detail,
        } in &checks
        {
            let (word, tone) = match verdict {
                Verdict::Ok => ("ok     ", Tone::Good),
                Verdict::Warning => ("warning", Tone::Odd),
                Verdict::Failed => ("FAILED ", Tone::Bad),
            };
            let word = context.out.toned(word, tone);
            context.out.line(&format!("{word}  {check:<width$}  {detail}"))?;
        }
    }
    match checks.iter().any(|check| check.verdict == Verdict::Failed) {
        true => Err(Failure::Unsuccessful),
        false => Ok(()),
    }
}
