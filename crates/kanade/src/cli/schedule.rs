//! `kanade schedule`.

use std::cell::RefCell;

use clap::Subcommand;
use kanade_client::Precondition;
use kanade_model::{Mode, Schedule, ScheduleId, Target, api};

use super::{
    Context,
    apply::{self, Apply},
    diff::yaml,
    failure::Done,
    output::Paging,
    table::{Cell, Tone},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Register schedules, or change them
    ///
    /// All documents are checked before the first is sent. The job of a schedule must exist.
    #[command(after_help = "Examples:\n  kanade schedule apply -f nightly.yaml\n  \
                            kanade schedule apply -f schedules/ --dry-run")]
    Apply(Apply),
    /// List schedules
    #[command(after_help = "Example:\n  kanade schedule list --all")]
    List(Paging),
    /// Show a schedule as the document that registers it
    #[command(after_help = "Example:\n  kanade schedule show nightly > nightly.yaml")]
    Show {
        /// The schedule
        schedule: ScheduleId,
    },
    /// Stop a schedule from firing
    #[command(
        after_help = "Examples:\n  kanade schedule disable nightly\n  kanade schedule disable nightly --cascade"
    )]
    Disable {
        /// The schedule
        schedule: ScheduleId,
        /// Also revoke its job: agents do not start what is on its way
        #[arg(long)]
        cascade: bool,
    },
    /// Let a schedule fire again
    #[command(after_help = "Example:\n  kanade schedule enable nightly")]
    Enable {
        /// The schedule
        schedule: ScheduleId,
    },
    /// Delete a schedule
    #[command(after_help = "Example:\n  kanade schedule delete nightly")]
    Delete {
        /// The schedule
        schedule: ScheduleId,
    },
}

pub(super) async fn run(command: ScheduleCommand, context: &Context) -> Done {
    let Context { client, out } = context;
    match command {
        ScheduleCommand::Apply(apply) => apply::run::<Schedule>(&apply, context).await,
        ScheduleCommand::List(paging) => list(&paging, context).await,
        ScheduleCommand::Show { schedule } => {
            let schedule = client.schedule(&schedule).await?.document;
            out.show(&schedule, |schedule| yaml(schedule).trim_end().to_owned())
        }
        ScheduleCommand::Disable { schedule, cascade } => {
            client.disable_schedule(&schedule, cascade).await?;
            let job = if cascade { " and its job revoked" } else { "" };
            out.say(&format!("schedule {schedule} disabled{job}"))
        }
        ScheduleCommand::Enable { schedule } => enable(&schedule, context).await,
        ScheduleCommand::Delete { schedule } => {
            client.delete_schedule(&schedule, &Precondition::Any).await?;
            out.say(&format!("schedule {schedule} deleted"))
        }
    }
}

async fn list(paging: &Paging, Context { client, out }: &Context) -> Done {
    let held = RefCell::new(None);
    let listed = out.list(client.schedules(), paging, &HEADS, |schedule, _| {
        if let Some(why) = &schedule.held {
            held.borrow_mut().get_or_insert_with(|| why.reason.clone());
        }
        row(schedule)
    });
    listed.await?;
    if let Some(reason) = held.into_inner() {
        out.note(&format!("held: {reason}"));
    }
    Ok(())
}

async fn enable(id: &ScheduleId, context: &Context) -> Done {
    let read = context.client.schedule(id).await?;
    if read.document.enabled {
        return context.out.say(&format!("schedule {id} is enabled already"));
    }
    let enabled = Schedule {
        enabled: true,
        ..read.document
    };
    context.client.put_schedule(&enabled, &read.tag.into()).await?;
    context.out.say(&format!("schedule {id} enabled"))
}

const HEADS: [&str; 6] = ["SCHEDULE", "CRON (UTC)", "JOB", "TARGET", "MODE", "STATE"];

fn row(api::ScheduleShown { schedule, held }: &api::ScheduleShown) -> Vec<Cell> {
    let mode = match schedule.mode {
        Mode::EveryTick => "every_tick",
        Mode::OncePerPc => "once_per_pc",
        Mode::OncePerTarget => "once_per_target",
    };
    let state = match held {
        _ if !schedule.enabled => ("disabled", Tone::Odd),
        Some(_) => ("held", Tone::Bad),
        None => ("enabled", Tone::Good),
    };
    vec![
        (&schedule.id).into(),
        (&schedule.cron).into(),
        (&schedule.job_id).into(),
        target(&schedule.target).into(),
        mode.into(),
        Cell::toned(state.0, state.1),
    ]
}

/// At whom something is aimed, in a few words.
fn target(target: &Target) -> String {
    /// The most names of a kind that are shown.
    const NAMED: usize = 3;
    fn names(what: &str, all: &[impl ToString]) -> Option<String> {
        let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
        let more = all.len().saturating_sub(NAMED);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        (!all.is_empty()).then(|| format!("{what} {}{more}", named.join(", ")))
    }
    let parts = [
        target.all.then(|| "all".to_owned()),
        names("group", &target.groups),
        names("pc", &target.pcs),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "-".into()
    } else {
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schedule_is_listed_with_its_target_in_words() {
        for (targets, text) in [
            (json!({"all": true}), "all"),
            (
                json!({"groups": ["lab"], "pcs": ["a", "b"]}),
                "group lab; pc a, b",
            ),
            (json!({"pcs": ["a", "b", "c", "d", "e"]}), "pc a, b, c and 2 more"),
            (json!({}), "-"),
        ] {
            let schedule: api::ScheduleShown = serde_json::from_value(json!({
                "id": "nightly", "cron": "0 0 2 * * *", "job_id": "backup", "target": targets, "mode": "once_per_pc",
                "enabled": false
            }))
            .unwrap();
            let row = row(&schedule);
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            assert_eq!(
                texts,
                [
                    "nightly",
                    "0 0 2 * * *",
                    "backup",
                    text,
                    "once_per_pc",
                    "disabled"
                ]
            );
            assert_eq!(row.len(), HEADS.len());
        }
    }

    #[test]
    fn a_schedule_is_enabled_disabled_or_held() {
        for (enabled, held, state, tone) in [
            (true, json!(null), "enabled", Tone::Good),
            (true, json!({"reason": "x"}), "held", Tone::Bad),
            (false, json!({"reason": "x"}), "disabled", Tone::Odd),
            (false, json!(null), "disabled", Tone::Odd),
        ] {
            let schedule = serde_json::from_value(json!({
                "id": "nightly", "cron": "0 0 2 * * *", "job_id": "backup", "enabled": enabled, "held": held
            }))
            .unwrap();
            assert_eq!(row(&schedule).last(), Some(&Cell::toned(state, tone)));
        }
    }
}
