//! Questions about runs. Heads are walked in the order of the list; outputs are read one by one, and only those that a
//! filter looks at or that end up on the page.

use futures::{TryStreamExt, stream::BoxStream};
use kanade_model::{ResultId, Timestamp};
use kanade_ports::{
    Output, Page, PageBuilder, Position, Progress, Run, RunFilter, RunQuery, RunRecord, RunTally, TextFilter,
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteRow};

use super::{RECORD, before, id, page};
use crate::{
    codec::{Columns, Record, id_list},
    fault::Fault,
    statement::{Statement, select},
};

/// Heads that are read at once while a filter is looking for its runs.
const CHUNK: usize = 256;

pub(crate) async fn run(conn: &mut SqliteConnection, id: &ResultId) -> Result<Option<RunRecord>, Fault> {
    Statement::new(format!(
        "SELECT {}, stdout, stderr FROM runs LEFT JOIN outputs USING (result_id) WHERE result_id = ?1",
        Run::COLUMNS.join(", ")
    ))
    .with_id(id.0)
    .one(conn, |columns| {
        Ok(RunRecord {
            run: Run::decode(columns)?,
            output: output(columns)?,
        })
    })
    .await
}

pub(crate) async fn overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Run>, Fault> {
    Statement::select::<Run>("WHERE check_at <= ?1 ORDER BY check_at, result_id LIMIT ?2")
        .with_time(now)
        .with_limit(limit)
        .all(conn)
        .await
}

/// Counts entries of the index. No row is read: nothing of one is asked for, so SQLite puts off looking for it.
pub(crate) async fn tally(
    conn: &mut SqliteConnection,
    since: Timestamp,
    until: Option<Timestamp>,
    at_most: usize,
) -> Result<RunTally, Fault> {
    let counted = |outcome| {
        format!(
            "(SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_newest \
             WHERE outcome = '{}' AND started_at >= ?1 AND started_at < ?2 LIMIT ?3))",
            outcome_text(outcome)
        )
    };
    let (succeeded, failed) = (counted(RunFilter::Success), counted(RunFilter::Failure));
    let tally = Statement::new(format!("SELECT {succeeded}, {failed}"))
        .with_time(since)
        .with(until.map_or(i64::MAX, Timestamp::as_micros))
        .with_limit(at_most)
        .one(conn, |columns| {
            let (succeeded, failed) = (columns.take::<u64>()?, columns.take()?);
            Ok(RunTally {
                ended: succeeded + failed,
                failed,
            })
        });
    Ok(tally.await?.unwrap_or_default())
}

pub(crate) async fn list(conn: &mut SqliteConnection, query: &RunQuery) -> Result<Page<RunRecord>, Fault> {
    if query.reads_output() {
        // One transaction, so that heads and outputs are of the same moment.
        walk(&mut *conn.begin().await?, query).await
    } else {
        walk(conn, query).await
    }
}

async fn walk(conn: &mut SqliteConnection, query: &RunQuery) -> Result<Page<RunRecord>, Fault> {
    let heads = Heads::of(query);
    let by_head = RunQuery {
        stdout: None,
        stderr: None,
        ..query.clone()
    };
    let mut page = page(query.limit);
    let mut after = query.after.clone();
    loop {
        let wanted = if heads.decides { page.wanted() } else { CHUNK };
        let runs = heads.read(conn, query, after.as_ref(), wanted).await?;
        let exhausted = runs.len() < wanted;
        after = runs.last().map(place);
        let records = runs.into_iter().map(|run| RunRecord {
            run,
            output: Output::default(),
        });
        let progress = if query.reads_output() {
            let records: Vec<_> = records.map(|record| (by_head.matches(&record), record)).collect();
            offer_with_outputs(conn, &mut page, records, query).await?
        } else {
            offer(&mut page, records, query)
        };
        if exhausted || progress == Progress::Full {
            return Ok(page.finish(progress == Progress::More));
        }
    }
}

fn offer(
    page: &mut PageBuilder<RunRecord>,
    records: impl Iterator<Item = RunRecord>,
    query: &RunQuery,
) -> Progress {
    for record in records {
        let at = place(&record.run);
        let item = query.matches(&record).then_some(record);
        if page.offer(item, || at, RECORD) == Progress::Full {
            return Progress::Full;
        }
    }
    Progress::More
}

/// Offers records with their outputs, which are read for those whose heads match.
async fn offer_with_outputs(
    conn: &mut SqliteConnection,
    page: &mut PageBuilder<RunRecord>,
    records: Vec<(bool, RunRecord)>,
    query: &RunQuery,
) -> Result<Progress, Fault> {
    let matching = records.iter().filter(|(matches, _)| *matches);
    let mut outputs = Outputs::of(conn, matching.map(|(_, record)| record.run.result_id));
    for (matches, mut record) in records {
        let at = place(&record.run);
        let mut item = None;
        let mut bytes = 0;
        if matches {
            record.output = outputs.next(record.run.result_id).await?;
            if query.matches(&record) {
                if !query.with_output {
                    record.output = Output::default();
                }
                bytes = RECORD + record.output.stdout.len() + record.output.stderr.len();
                item = Some(record);
            }
        }
        if page.offer(item, || at, bytes) == Progress::Full {
            return Ok(Progress::Full);
        }
    }
    Ok(Progress::More)
}

/// The list to walk: ranges of an index, in the order of the list.
struct Heads<'q> {
    /// The index of each range and what narrows it, beside time; `?1` is the value. Named, because the planner has
    /// nothing to go by and would take a shorter index for as good.
    ranges: Vec<(&'static str, String)>,
    value: Option<&'q str>,
    /// Whether every row of the list is wanted.
    decides: bool,
}

impl<'q> Heads<'q> {
    fn of(query: &'q RunQuery) -> Self {
        let exact = |filter: &'q Option<TextFilter>| filter.as_ref().and_then(TextFilter::exact);
        let (execution, agent, job) = (exact(&query.exec_id), exact(&query.pc_id), exact(&query.job_id));
        let value = execution.or(agent).or(job);
        let (ranges, narrows) = if execution.is_some() {
            (
                by_outcome("runs_of_execution", Some("exec_id"), value, query.status),
                true,
            )
        } else if agent.is_some() {
            let (index, rest, narrows) = match query.status {
                None => ("runs_on_agent", "", true),
                Some(RunFilter::Failure) => ("runs_failed_on_agent", "outcome = 'failure' AND", true),
                // Most runs of most agents succeed; few of them run, but those are the newest.
                Some(RunFilter::Success | RunFilter::Running) => ("runs_on_agent", "", false),
            };
            (vec![(index, format!("pc_id = ?1 AND {rest}"))], narrows)
        } else if job.is_some() {
            (
                by_outcome("runs_of_job", Some("job_id"), value, query.status),
                true,
            )
        } else {
            (by_outcome("runs_newest", None, None, query.status), true)
        };
        let filters = [&query.exec_id, &query.pc_id, &query.job_id];
        let others = filters.iter().filter(|filter| filter.is_some()).count() > usize::from(value.is_some());
        Self {
            ranges,
            value,
            decides: narrows && !others && query.stdout.is_none() && query.stderr.is_none(),
        }
    }

    /// The next runs after a place. SQLite merges the ranges as it walks them.
    async fn read(
        &self,
        conn: &mut SqliteConnection,
        query: &RunQuery,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<Run>, Fault> {
        let ranges: Vec<_> = self
            .ranges
            .iter()
            .map(|(index, narrowed)| {
                select::<Run>(&format!(
                    "INDEXED BY {index} \
                     WHERE {narrowed} started_at >= ?2 AND (started_at, result_id) < (?3, ?4)"
                ))
            })
            .collect();
        let (at, text) = before(after);
        Statement::new(format!(
            "{} ORDER BY started_at DESC, result_id DESC LIMIT ?5",
            ranges.join(" UNION ALL ")
        ))
        .with(self.value)
        .with(query.since.map_or(i64::MIN, Timestamp::as_micros))
        .with(at)
        .with_id(id(text))
        .with_limit(limit)
        .all(conn)
        .await
    }
}

/// One range per outcome that is asked for, of an index that has the outcome before the time.
fn by_outcome(
    index: &'static str,
    column: Option<&str>,
    value: Option<&str>,
    status: Option<RunFilter>,
) -> Vec<(&'static str, String)> {
    let narrowed = match (column, value) {
        (None, _) => String::new(),
        // A missing id matches as the empty text, which no id is.
        (Some(column), Some("")) => format!("{column} IS NULL AND"),
        (Some(column), _) => format!("{column} = ?1 AND"),
    };
    let outcomes = match status {
        None => vec![RunFilter::Running, RunFilter::Success, RunFilter::Failure],
        Some(status) => vec![status],
    };
    outcomes
        .into_iter()
        .map(|outcome| {
            (
                index,
                format!("{narrowed} outcome = '{}' AND", outcome_text(outcome)),
            )
        })
        .collect()
}

/// The text in the column `outcome`, which the schema derives from the state.
fn outcome_text(outcome: RunFilter) -> &'static str {
    match outcome {
        RunFilter::Running => "running",
        RunFilter::Success => "success",
        RunFilter::Failure => "failure",
    }
}

/// Outputs in the order in which they were asked for, one in memory at a time.
struct Outputs<'c>(BoxStream<'c, Result<SqliteRow, Fault>>);

impl<'c> Outputs<'c> {
    fn of(conn: &'c mut SqliteConnection, runs: impl Iterator<Item = ResultId>) -> Self {
        let rows = Statement::new(
            "SELECT unhex(wanted.value), stdout, stderr \
             FROM json_each(?1) AS wanted LEFT JOIN outputs ON result_id = unhex(wanted.value)",
        )
        .with(id_list(runs.map(|id| id.0)))
        .rows(conn);
        Self(rows)
    }

    async fn next(&mut self, run: ResultId) -> Result<Output, Fault> {
        let row = self.0.try_next().await?;
        let found = row.map(|row| {
            let columns = &mut Columns::of(&row);
            Ok::<_, Fault>((columns.id()?, output(columns)?))
        });
        match found.transpose()? {
            Some((id, output)) if id == run.0 => Ok(output),
            _ => Err(Fault::unreadable(
                format!("the output of run `{run}`"),
                "it came out of turn",
            )),
        }
    }
}

/// The output of a run; one that has not finished has none.
fn output(columns: &mut Columns<'_>) -> Result<Output, Fault> {
    Ok(Output {
        stdout: columns.take::<Option<String>>()?.unwrap_or_default(),
        stderr: columns.take::<Option<String>>()?.unwrap_or_default(),
    })
}

fn place(run: &Run) -> Position {
    Position {
        at: run.started_at.as_micros(),
        id: run.result_id.to_string(),
    }
}

#[cfg(test)]
pub(crate) fn outcome_of(state: kanade_model::RunState) -> &'static str {
    let filter = [RunFilter::Running, RunFilter::Success, RunFilter::Failure]
        .into_iter()
        .find(|filter| filter.states().contains(&state));
    outcome_text(filter.unwrap())
}
