//! `kanade inventory`: the facts that jobs collect, with the columns they ask for.

use clap::Subcommand;
use kanade_model::{DisplayField, JobId, PcId, Timestamp, api};
use serde_json::Value;

use super::{
    Context,
    failure::Done,
    output::{Output, Paging, ago},
    table::{Cell, Tone},
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum InventoryCommand {
    /// List the jobs that collect facts
    #[command(after_help = "Example:\n  kanade inventory list")]
    List(Paging),
    /// Show what a job found out about every agent
    #[command(after_help = "Example:\n  kanade inventory job hardware")]
    Job {
        /// The job
        job: JobId,
    },
    /// Show what all jobs found out about an agent
    #[command(after_help = "Example:\n  kanade inventory pc web-1")]
    Pc {
        /// The agent
        pc: PcId,
    },
}

pub(super) async fn run(command: InventoryCommand, context: &Context) -> Done {
    let Context { client, out } = context;
    match command {
        InventoryCommand::List(paging) => {
            out.list(client.inventory_jobs(), &paging, &HEADS, |job, _| job_row(job))
                .await
        }
        InventoryCommand::Job { job } => {
            let table = client.inventory_of_job(&job).await?;
            out.show(&table, |table| job_table(table, when::now(), out))
        }
        InventoryCommand::Pc { pc } => {
            let facts = client.inventory_of_pc(&pc).await?;
            if facts.is_empty() {
                out.note(&format!("no facts about {pc} are known"));
            }
            if facts.is_empty() && !out.is_json() {
                return Ok(());
            }
            out.show(&facts, |facts| {
                let now = when::now();
                facts
                    .iter()
                    .map(|facts| pc_section(facts, now, out))
                    .collect::<Vec<_>>()
                    .join("\n\n")
            })
        }
    }
}

const HEADS: [&str; 3] = ["JOB", "DESCRIPTION", "FACTS"];

fn job_row(job: &api::InventoryJob) -> Vec<Cell> {
    let fields: Vec<&str> = job.display.iter().map(|field| field.label.as_str()).collect();
    vec![
        (&job.manifest_id).into(),
        Cell::maybe(job.description.as_ref()),
        Cell::maybe((!fields.is_empty()).then(|| fields.join(", "))),
    ]
}

fn job_table(table: &api::InventoryTable, now: Timestamp, out: &Output) -> String {
    if table.rows.is_empty() {
        return format!("{} has found out nothing yet", table.manifest_id);
    }
    let upper: Vec<String> = table
        .display
        .iter()
        .map(|field| field.label.to_uppercase())
        .collect();
    let middle: Vec<&str> = if upper.is_empty() {
        vec!["FACTS"]
    } else {
        upper.iter().map(String::as_str).collect()
    };
    let heads: Vec<&str> = ["PC"].into_iter().chain(middle).chain(["COLLECTED"]).collect();
    let row = |row: &api::InventoryRow| {
        let mut cells = vec![Cell::from(&row.pc_id)];
        if table.display.is_empty() {
            cells.push(row.facts.to_string().into());
        } else {
            cells.extend(table.display.iter().map(|field| fact(&row.facts, field)));
        }
        cells.push(ago(row.collected_at, now));
        cells
    };
    out.table(&heads, table.rows.iter().map(row).collect())
}

fn pc_section(facts: &api::InventoryFacts, now: Timestamp, out: &Output) -> String {
    let head = format!("{} ({})", facts.job_id, when::relative(facts.collected_at, now));
    if facts.display.is_empty() {
        return format!("{head}\n  {}", facts.facts);
    }
    let labels: Vec<String> = facts
        .display
        .iter()
        .map(|field| format!("  {}", field.label))
        .collect();
    let lines: Vec<(&str, Cell)> = labels
        .iter()
        .zip(&facts.display)
        .map(|(label, field)| (label.as_str(), fact(&facts.facts, field)))
        .collect();
    format!("{head}\n{}", out.fields(&lines))
}

/// One fact as its job wants it shown. The field is a name, or names with dots between where facts are nested.
fn fact(facts: &Value, field: &DisplayField) -> Cell {
    let value = facts.get(&field.field).or_else(|| {
        field.field.split('.').try_fold(facts, |facts, name| match facts {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            _ => facts.get(name),
        })
    });
    match (value, field.kind.as_deref()) {
        (None | Some(Value::Null), _) => "-".into(),
        (Some(Value::Number(number)), Some("bytes")) => {
            Cell::from(number.as_f64().map_or_else(|| number.to_string(), bytes))
        }
        (Some(Value::Bool(yes)), _) => Cell::toned(
            if *yes { "yes" } else { "no" },
            if *yes { Tone::Good } else { Tone::Plain },
        ),
        (Some(Value::String(text)), _) => text.into(),
        (Some(value), _) => value.into(),
    }
}

/// A number of bytes in the unit that suits it.
fn bytes(count: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut count, mut unit) = (count, 0);
    while count.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        count /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{count:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use serde_json::json;

    fn field(name: &str, kind: Option<&str>) -> DisplayField {
        DisplayField {
            field: name.into(),
            label: name.into(),
            kind: kind.map(Into::into),
        }
    }

    #[test]
    fn facts_are_shown_as_their_job_wants() {
        let facts = json!({
            "host": "desk", "ram": 17_179_869_184_u64, "disk": {"free": 512, "parts": ["a", "b"]}, "a.b": 1,
            "tpm": true, "none": null, "list": [1, 2]
        });
        for (name, kind, shown) in [
            ("host", None, "desk"),
            ("ram", Some("bytes"), "16.0 GiB"),
            ("ram", None, "17179869184"),
            ("disk.free", Some("bytes"), "512 B"),
            ("disk.parts.1", None, "b"),
            ("a.b", None, "1"),
            ("tpm", None, "yes"),
            ("none", None, "-"),
            ("missing.too", None, "-"),
            ("list", None, "[1,2]"),
        ] {
            assert_eq!(fact(&facts, &field(name, kind)).text, shown, "{name}");
        }
    }

    #[test]
    fn a_table_of_facts_has_a_column_a_field() {
        let out = Output::new(Format::Table, false);
        let now = "2026-05-01T08:35:00Z".parse().unwrap();
        let mut table: api::InventoryTable = serde_json::from_value(json!({
            "manifest_id": "hw", "display": [{"field": "ram", "label": "Memory", "type": "bytes"}], "summary": null,
            "rows": [{"pc_id": "pc-1", "facts": {"ram": 2048}, "collected_at": "2026-05-01T08:30:00Z"}]
        }))
        .unwrap();
        assert_eq!(
            job_table(&table, now, &out),
            "PC    MEMORY   COLLECTED\npc-1  2.0 KiB  5m ago"
        );
        table.display.clear();
        assert_eq!(
            job_table(&table, now, &out),
            "PC    FACTS         COLLECTED\npc-1  {\"ram\":2048}  5m ago"
        );
        table.rows.clear();
        assert_eq!(job_table(&table, now, &out), "hw has found out nothing yet");
    }
}
