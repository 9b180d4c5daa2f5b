//! `kanade import`.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kanade_model::Caller;

use super::{
    failure::{Done, Failure},
    output::Output,
    table::{Cell, Tone},
};
use crate::{
    config::Config,
    import::{Order, Report, Watcher, import},
};

/// Take over the records of a kanade 0.30 server
///
/// Reads executions, results, agents, facts and the audit trail from its database into the store of this deployment. Both
/// servers must be stopped. The old file is not changed. Nothing is sent to any agent because of it. What is in the store
/// already stays as it is, so the command can be repeated. Schedules of mode once_per_pc and once_per_target are held
/// until it has ended without refused rows.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade import --from-0.30 backend.db --config fleet.toml --dry-run\n  \
                  kanade import --from-0.30 backend.db --config fleet.toml"
)]
pub(crate) struct Import {
    /// The database of the old server
    #[arg(long = "from-0.30", value_name = "FILE")]
    from: PathBuf,
    /// The configuration of the server that takes over; defaults without it
    #[arg(long, value_name = "FILE", env = "KANADE_CONFIG")]
    config: Option<PathBuf>,
    /// Only read, and tell what can be taken over
    #[arg(long)]
    dry_run: bool,
    /// Take the history for complete although rows were refused: where only they tell of a success, a job runs again
    #[arg(long, conflicts_with = "dry_run")]
    accept_refused: bool,
}

pub(super) async fn run(command: Import, out: &Output) -> Done {
    let failed = |error: &anyhow::Error| Failure::Failed(format!("{error:#}"));
    let config =
        Config::load(command.config.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
    let order = Order {
        from: command.from,
        dry_run: command.dry_run,
        accept_refused: command.accept_refused,
        caller: Caller {
            source: Some("cli".into()),
            ..Caller::operator()
        },
    };
    let bar = Bar::new(out);
    let imported = tokio::select! {
        imported = import(&config, &order, &bar) => imported,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            bar.0.finish_and_clear();
            return Err(Failure::Interrupted(
                "interrupted; what was taken over stays, and the same command goes on from there".into(),
            ));
        }
    };
    bar.0.finish_and_clear();
    let report = imported.map_err(|error| failed(&error))?;
    out.show(&report, |report| shown(report, out))?;
    let good = if order.dry_run {
        report.refused() == 0
    } else {
        report.complete
    };
    if good { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// The progress on stderr; nothing where stderr is not a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(out: &Output) -> Self {
        let bar = if out.has_colors_stderr() {
            "{bar:30.cyan/blue}"
        } else {
            "{bar:30}"
        };
        let template = format!("{{msg:18}} {bar} {{human_pos}}/{{human_len}}  {{per_sec}}  {{eta}}");
        let style = ProgressStyle::with_template(&template).expect("the template is one of ours");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(style.progress_chars("=> "));
        Self(bar)
    }
}

impl Watcher for Bar {
    fn begins(&self, table: &'static str, rows: u64) {
        self.0.reset();
        self.0.set_message(table);
        self.0.set_length(rows);
    }

    fn goes_on(&self, rows: u64) {
        self.0.inc(rows);
    }
}

const HEADS: [&str; 4] = ["TABLE", "TAKEN", "THERE BEFORE", "REFUSED"];
const HEADS_OF_DRY_RUN: [&str; 3] = ["TABLE", "READABLE", "REFUSED"];

fn shown(report: &Report, out: &Output) -> String {
    let heads: &[&str] = if report.dry_run { &HEADS_OF_DRY_RUN } else { &HEADS };
    let mut parts = vec![out.table(heads, rows(report))];
    parts.extend(remarks(report));
    parts.join("\n")
}

fn rows(report: &Report) -> Vec<Vec<Cell>> {
    let row = |table: &crate::import::Table| {
        let name = Cell::from(table.table);
        if !table.found {
            return vec![name, Cell::toned("not there", Tone::Odd)];
        }
        let mut row = vec![name, table.taken.into()];
        if !report.dry_run {
            row.push(table.known.into());
        }
        let tone = if table.refused == 0 {
            Tone::Plain
        } else {
            Tone::Bad
        };
        row.push(Cell::toned(table.refused.to_string(), tone));
        row
    };
    report.tables.iter().map(row).collect()
}

/// What is to be said about it besides the numbers.
fn remarks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for table in &report.tables {
        for refusal in &table.refusals {
            let text = format!("refused: {} {}: {}", table.table, refusal.key, refusal.reason);
            lines.push(super::table::one_line(text));
        }
        let more = table.refused - table.refusals.len() as u64;
        if more > 0 {
            lines.push(format!("refused: {more} more of {}", table.table));
        }
    }
    if report.past_retention > 0 {
        lines.push(format!(
            "{} runs are older than `retention.executions` of this configuration: the server will remove them, and \
             jobs that have succeeded by them only count as not done; set it higher before the first start",
            report.past_retention
        ));
    }
    lines.push(
        match (report.dry_run, report.complete, report.refused()) {
            _ if !report.has_runs() => {
                "it holds no results, so nothing can be known from it and schedules stay held; if the old server never \
                 ran anything, start with `kanade serve --start-fresh`"
            }
            (true, _, 0) => "nothing was written; everything can be taken over",
            (true, ..) => "nothing was written; the refused rows would be left out",
            (false, true, _) => "the history is here: no schedule is held for it any more",
            (false, false, _) => {
                "rows were refused, so the history counts as incomplete and schedules stay held; if it is complete \
                 enough, run the same command with --accept-refused"
            }
        }
        .to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{Refusal, Table};

    fn report(dry_run: bool, refused: u64) -> Report {
        let table = |table, found, refused: u64| Table {
            table,
            found,
            taken: 3,
            known: 1,
            refused,
            refusals: (0..refused.min(2))
                .map(|number| Refusal {
                    key: format!("r-{number}\n"),
                    reason: "exit_code: it is missing".into(),
                })
                .collect(),
        };
        Report {
            dry_run,
            tables: vec![
                table("executions", true, 0),
                table("execution_results", true, refused),
                table("agents", false, 0),
            ],
            past_retention: 0,
            complete: !dry_run && refused == 0,
        }
    }

    #[test]
    fn a_table_that_is_not_there_and_rows_that_are_refused_are_said() {
        let out = Output::new(super::super::Format::Table, false);
        let text = shown(&report(false, 3), &out);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TABLE              TAKEN      THERE BEFORE  REFUSED");
        assert_eq!(lines[2], "execution_results  3          1             3");
        assert_eq!(lines[3], "agents             not there");
        assert_eq!(
            lines[4],
            "refused: execution_results r-0 : exit_code: it is missing"
        );
        assert_eq!(lines[6], "refused: 1 more of execution_results");
        assert!(lines[7].contains("stay held") && lines[7].contains("--accept-refused"));
        assert_eq!(lines.len(), 8, "{text}");
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_written() {
        let out = Output::new(super::super::Format::Table, false);
        let text = shown(&report(true, 0), &out);
        assert!(
            text.starts_with("TABLE              READABLE   REFUSED\nexecutions         3          0\n"),
            "{text}"
        );
        assert!(
            text.ends_with("nothing was written; everything can be taken over"),
            "{text}"
        );
    }

    #[test]
    fn what_would_soon_be_removed_is_said() {
        let report = Report {
            past_retention: 12,
            ..report(false, 0)
        };
        let lines = remarks(&report);
        assert!(lines[0].starts_with("12 runs are older than `retention.executions`"));
        assert!(lines[1].contains("no schedule is held"));
    }
}
