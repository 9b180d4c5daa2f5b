//! `kanade freeze` and `kanade simulate`: what keeps schedules from firing, and what they would fire.

use clap::{Args, Subcommand};
use kanade_model::{Freeze, Timestamp};

use super::{Context, failure::Done, output::Output, schedule, table::Cell, when};

#[derive(Debug, Subcommand)]
pub(crate) enum FreezeCommand {
    /// Keep every schedule from firing for a while
    ///
    /// Slots that come meanwhile are skipped. What is fired by hand is not concerned, nor are schedules that agents tick.
    #[command(
        after_help = "Examples:\n  kanade freeze set --until 4h --reason 'network works'\n  \
                            kanade freeze set --from 2026-12-24T00:00:00Z --until 2027-01-02T00:00:00Z --reason closing"
    )]
    Set {
        /// Its end: RFC 3339, or in how long
        #[arg(long, value_name = "WHEN", value_parser = when::future)]
        until: Timestamp,
        /// Its begin: RFC 3339, or in how long [default: now]
        #[arg(long, value_name = "WHEN", value_parser = when::future)]
        from: Option<Timestamp>,
        /// Why, for people
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show the freeze that holds or is to come
    #[command(after_help = "Example:\n  kanade freeze show")]
    Show,
    /// Let the schedules fire again
    #[command(after_help = "Example:\n  kanade freeze clear")]
    Clear,
}

pub(super) async fn run(command: FreezeCommand, Context { client, out }: &Context) -> Done {
    match command {
        FreezeCommand::Set { until, from, reason } => {
            let freeze = Freeze {
                reason,
                from,
                until,
                by: None,
            };
            let set = client.set_freeze(&freeze).await?;
            out.show(&Some(set), |freeze| told(freeze.as_ref(), out))
        }
        FreezeCommand::Show => {
            let freeze = client.freeze().await?;
            out.show(&freeze, |freeze| told(freeze.as_ref(), out))
        }
        FreezeCommand::Clear => {
            client.clear_freeze().await?;
            out.say("there is no freeze")
        }
    }
}

fn told(freeze: Option<&Freeze>, out: &Output) -> String {
    match freeze {
        None => "there is no freeze".to_owned(),
        Some(freeze) => out.fields(&[
            ("reason", Cell::from(&freeze.reason)),
            ("from", Cell::maybe(freeze.from)),
            ("until", Cell::from(freeze.until)),
            ("set by", Cell::maybe(freeze.by.as_ref())),
        ]),
    }
}

/// Show what the schedules would fire, without firing
///
/// Those that the server runs and that are enabled, as they stand now, with the freeze that is set; at most a thousand slots.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kanade simulate --to 24h\n  \
                        kanade simulate --from 2026-10-24T00:00:00Z --to 2026-10-26T00:00:00Z")]
pub(crate) struct Simulate {
    /// Slots after this moment: RFC 3339, or in how long [default: now]
    #[arg(long, value_name = "WHEN", value_parser = when::future)]
    from: Option<Timestamp>,
    /// Slots up to this moment: RFC 3339, or in how long
    #[arg(long, value_name = "WHEN", value_parser = when::future)]
    to: Timestamp,
}

pub(super) async fn simulate(simulate: Simulate, Context { client, out }: &Context) -> Done {
    let from = simulate.from.unwrap_or_else(when::now);
    let slots = client.upcoming(from, simulate.to).await?;
    if slots.is_empty() {
        out.note("nothing would fire");
    }
    schedule::ahead(&slots, out)
}
