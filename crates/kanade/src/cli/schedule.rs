//! `kanade schedule`.

use std::cell::RefCell;

use clap::Subcommand;
use kanade_client::Precondition;
use kanade_model::{Mode, Schedule, ScheduleId, SlotState, Target, Timestamp, api};

use super::{
    Context,
    apply::{self, Apply},
    diff::yaml,
    failure::Done,
    output::{Output, Paging, ago},
    table::{Cell, Tone},
    when,
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
    /// Fire a schedule's job now, at its whole target
    ///
    /// Also when it is disabled or frozen. It is not a slot: the schedule goes on as if this had not been.
    #[command(after_help = "Example:\n  kanade schedule trigger nightly")]
    Trigger {
        /// The schedule
        schedule: ScheduleId,
    },
    /// Show when a schedule is due next
    #[command(after_help = "Example:\n  kanade schedule preview nightly --count 20")]
    Preview {
        /// The schedule
        schedule: ScheduleId,
        /// So many slots
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Show what became of a schedule's slots, newest first
    #[command(after_help = "Example:\n  kanade schedule slots nightly")]
    Slots {
        /// The schedule, also one that was deleted
        schedule: ScheduleId,
        #[command(flatten)]
        paging: Paging,
    },
    /// Fire the slots of a time that has passed and did not fire
    ///
    /// No slot fires twice, however often this is asked for. At most a hundred slots at once.
    #[command(after_help = "Examples:\n  kanade schedule backfill nightly --from 3d\n  \
                            kanade schedule backfill nightly --from 2026-05-01T00:00:00Z --until 2026-05-02T00:00:00Z")]
    Backfill {
        /// The schedule
        schedule: ScheduleId,
        /// The first moment: RFC 3339, or how long ago
        #[arg(long, value_name = "WHEN", value_parser = when::past)]
        from: Timestamp,
        /// The last moment: RFC 3339, or how long ago [default: now]
        #[arg(long, value_name = "WHEN", value_parser = when::past)]
        until: Option<Timestamp>,
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
        ScheduleCommand::Enable { schedule } => {
            client.enable_schedule(&schedule).await?;
            out.say(&format!("schedule {schedule} enabled"))
        }
        ScheduleCommand::Trigger { schedule } => {
            let fired = client.trigger_schedule(&schedule).await?;
            out.show(&fired, |fired| {
                let (exec, agents) = (&fired.exec_id, fired.target_count);
                format!("execution {exec} of job {} at {agents} agents", fired.job_id)
            })
        }
        ScheduleCommand::Preview { schedule, count } => {
            let slots = client.preview_schedule(&schedule, count).await?;
            ahead(&slots, out)
        }
        ScheduleCommand::Slots { schedule, paging } => {
            let slots = client.slots(&schedule);
            out.list(slots, &paging, &SLOT_HEADS, slot_row).await
        }
        ScheduleCommand::Backfill {
            schedule,
            from,
            until,
        } => {
            let until = until.unwrap_or_else(when::now);
            let slots = client
                .backfill_schedule(&schedule, &api::Backfill { from, until })
                .await?;
            out.show(&slots, |slots| {
                let rows = slots.iter().map(|slot| slot_row(slot, when::now())).collect();
                out.table(&SLOT_HEADS, rows)
            })
        }
        ScheduleCommand::Delete { schedule } => {
            client.delete_schedule(&schedule, &Precondition::Any).await?;
            out.say(&format!("schedule {schedule} deleted"))
        }
    }
}

async fn list(paging: &Paging, Context { client, out }: &Context) -> Done {
    let held = RefCell::new(None);
    let problems = RefCell::new(Vec::new());
    let listed = out.list(client.schedules(), paging, &HEADS, |listed, now| match listed {
        api::ScheduleListed::Schedule(schedule) => {
            if let Some(why) = &schedule.held {
                held.borrow_mut().get_or_insert_with(|| why.reason.clone());
            }
            if let Some(problem) = &schedule.problem {
                problems
                    .borrow_mut()
                    .push(format!("{}: {problem}", schedule.schedule.id));
            }
            row(schedule, now)
        }
        api::ScheduleListed::Unreadable(unreadable) => {
            problems
                .borrow_mut()
                .push(format!("{}: {}", unreadable.id, unreadable.problem));
            let mut row = vec![Cell::from(&unreadable.id)];
            row.resize_with(HEADS.len() - 1, || Cell::from("-"));
            row.push(Cell::toned("not valid", Tone::Bad));
            row
        }
    });
    listed.await?;
    if let Some(reason) = held.into_inner() {
        out.note(&format!("held: {reason}"));
    }
    for problem in problems.into_inner() {
        out.note(&format!("not valid: {problem}"));
    }
    Ok(())
}

/// Shows slots that are to come.
pub(super) fn ahead(slots: &Vec<api::SlotAhead>, out: &Output) -> Done {
    out.show(slots, |slots| {
        let rows = slots.iter().map(|slot| {
            let frozen = slot.frozen.as_ref().map(|reason| format!("frozen: {reason}"));
            vec![
                slot.slot.into(),
                Cell::from(&slot.local),
                Cell::from(&slot.schedule_id),
                Cell::from(&slot.job_id),
                Cell::toned(frozen.unwrap_or_default(), Tone::Odd),
            ]
        });
        out.table(&["SLOT", "LOCAL TIME", "SCHEDULE", "JOB", ""], rows.collect())
    })
}

const SLOT_HEADS: [&str; 5] = ["SLOT", "STATE", "EXECUTION", "SETTLED", "WHY"];

fn slot_row(slot: &api::Slot, now: Timestamp) -> Vec<Cell> {
    let tone = match slot.state {
        SlotState::Fired => Tone::Good,
        SlotState::Waiting | SlotState::Skipped => Tone::Odd,
        SlotState::Missed => Tone::Bad,
    };
    vec![
        slot.slot.into(),
        Cell::toned(slot.state.to_string(), tone),
        Cell::maybe(slot.exec_id.as_ref()),
        ago(slot.settled_at, now),
        Cell::from(slot.detail.as_deref().unwrap_or_default()),
    ]
}

const HEADS: [&str; 7] = ["SCHEDULE", "CRON", "JOB", "TARGET", "MODE", "NEXT", "STATE"];

fn row(shown: &api::ScheduleShown, now: Timestamp) -> Vec<Cell> {
    let api::ScheduleShown {
        schedule,
        held,
        next,
        problem,
    } = shown;
    let mode = match schedule.mode {
        Mode::EveryTick => "every_tick",
        Mode::OncePerPc => "once_per_pc",
        Mode::OncePerTarget => "once_per_target",
    };
    let state = match held {
        _ if problem.is_some() => ("not valid", Tone::Bad),
        _ if !schedule.enabled => ("disabled", Tone::Odd),
        Some(_) => ("held", Tone::Bad),
        None => ("enabled", Tone::Good),
    };
    vec![
        (&schedule.id).into(),
        match schedule.timezone {
            Some(zone) => Cell::from(format!("{} {zone}", schedule.cron)),
            None => Cell::from(&schedule.cron),
        },
        (&schedule.job_id).into(),
        target(&schedule.target).into(),
        mode.into(),
        next.map_or_else(|| Cell::from("-"), |next| ago(next, now)),
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
            let row = row(&schedule, when::now());
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            assert_eq!(
                texts,
                [
                    "nightly",
                    "0 0 2 * * *",
                    "backup",
                    text,
                    "once_per_pc",
                    "-",
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
            assert_eq!(
                row(&schedule, when::now()).last(),
                Some(&Cell::toned(state, tone))
            );
        }
    }
}
