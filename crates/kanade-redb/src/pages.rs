//! Pages of the long lists.

use kanade_model::{JobId, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, DeadLetterRecord, Execution, ExecutionQuery, Facts, MAX_LIMIT, Output,
    PAGE_BYTES, Page, PageBuilder, Position, Progress, Run, RunFilter, RunQuery, RunRecord, RunTally,
    SCAN_LIMIT, SlotQuery, SlotRecord, Success, TargetQuery, TargetRecord, TextFilter,
};
use redb::ReadTransaction;

use crate::{
    fault::Fault,
    key::Key,
    output::{self, OUTPUTS},
    record,
    table::{Found, List, Reading},
};

pub(crate) fn executions(txn: &ReadTransaction, query: &ExecutionQuery) -> Result<Page<Execution>, Fault> {
    let list = record::executions(query.job_id.as_ref(), query.status);
    let before = query
        .after
        .as_ref()
        .map(|after| list.name().number(after.at).last(&after.id));
    let executions = Reading::<Execution>::of(txn)?;
    let walk = executions.list_between(&list, None, before.as_ref())?.rev();
    page(
        query.limit,
        walk,
        |row| timed(row.initiated_at, &row.exec_id),
        all,
    )
}

pub(crate) fn targets(txn: &ReadTransaction, query: &TargetQuery) -> Result<Page<TargetRecord>, Fault> {
    let targets = Reading::<TargetRecord>::of(txn)?;
    let rows = record::targets_of(&query.exec_id);
    let after = query.after.as_ref().map(|after| rows.clone().last(&after.id));
    let walk = match query.state {
        None => targets.rows(&rows, after.as_ref(), None)?,
        Some(state) => {
            let list = record::targets_in(&query.exec_id, state);
            let after = after.map(|after| list.name().key(&after));
            targets.list_between(&list, after.as_ref(), None)?
        }
    };
    page(query.limit, walk, |row| named(&row.pc_id), all)
}

pub(crate) fn runs(txn: &ReadTransaction, query: &RunQuery) -> Result<Page<RunRecord>, Fault> {
    let list = narrowest(query);
    let since = query.since.map(|since| list.name().moment(since));
    let before = query
        .after
        .as_ref()
        .map(|after| list.name().number(after.at).uuid_text(&after.id));
    let runs = Reading::<Run>::of(txn)?;
    let outputs = txn.open_table(OUTPUTS)?;
    // Outputs are only read of runs that everything else speaks for.
    let by_run = RunQuery {
        stdout: None,
        stderr: None,
        ..query.clone()
    };
    let walk = runs.list_between(&list, since.as_ref(), before.as_ref())?.rev();
    let place = |run: &Run| timed(run.started_at, &run.result_id);
    page(query.limit, walk, place, |Found { row, bytes }| {
        let mut record = RunRecord {
            run: row,
            output: Output::default(),
        };
        if !by_run.matches(&record) {
            return Ok(None);
        }
        if query.reads_output() {
            record.output = output::read(&outputs, record.run.result_id)?;
            if !query.matches(&record) {
                return Ok(None);
            }
            if !query.with_output {
                record.output = Output::default();
            }
        }
        let bytes = bytes + record.output.stdout.len() + record.output.stderr.len();
        Ok(Some((record, bytes)))
    })
}

/// Counts entries of the lists; no run is read.
pub(crate) fn tally(
    txn: &ReadTransaction,
    since: Timestamp,
    until: Option<Timestamp>,
    at_most: usize,
) -> Result<RunTally, Fault> {
    let runs = Reading::<Run>::of(txn)?;
    let count = |outcome| -> Result<u64, Fault> {
        let list = record::runs_that(outcome);
        let since = list.name().moment(since);
        let until = until.map(|until| list.name().moment(until));
        let mut counted = 0;
        for entry in runs
            .list_between(&list, Some(&since), until.as_ref())?
            .entries()
            .take(at_most)
        {
            entry?;
            counted += 1;
        }
        Ok(counted)
    };
    let (succeeded, failed) = (count(RunFilter::Success)?, count(RunFilter::Failure)?);
    Ok(RunTally {
        ended: succeeded + failed,
        failed,
    })
}

pub(crate) fn slots(txn: &ReadTransaction, query: &SlotQuery) -> Result<Page<SlotRecord>, Fault> {
    let of_schedule = record::slots_of(&query.schedule_id);
    let before = query
        .after
        .as_ref()
        .map(|after| of_schedule.clone().number(after.at));
    let slots = Reading::<SlotRecord>::of(txn)?;
    let walk = slots.rows(&of_schedule, None, before.as_ref())?.rev();
    page(query.limit, walk, |row| numbered(row.slot.as_micros()), all)
}

pub(crate) fn successes(
    txn: &ReadTransaction,
    job: &JobId,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Success>, Fault> {
    let all_agents = record::successes_of(job);
    let after = after.map(|after| all_agents.clone().last(&after.id));
    let successes = Reading::<Success>::of(txn)?;
    let walk = successes.rows(&all_agents, after.as_ref(), None)?;
    page(limit, walk, |row| named(&row.pc_id), all)
}

/// The shortest list that holds every run a query can match.
fn narrowest(query: &RunQuery) -> List {
    let exact =
        |filter: &'_ Option<TextFilter>| filter.as_ref().and_then(TextFilter::exact).map(ToOwned::to_owned);
    if let Some(exec_id) = exact(&query.exec_id) {
        record::runs_of(&exec_id)
    } else if let Some(pc_id) = exact(&query.pc_id) {
        record::runs_on(&pc_id)
    } else if let Some(job_id) = exact(&query.job_id) {
        record::runs_of_job(&job_id)
    } else if let Some(outcome) = query.status {
        record::runs_that(outcome)
    } else {
        record::runs()
    }
}

pub(crate) fn agents(
    txn: &ReadTransaction,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Agent>, Fault> {
    let after = after.map(|after| Key::new().last(&after.id));
    let agents = Reading::<Agent>::of(txn)?;
    let walk = agents.rows(&Key::new(), after.as_ref(), None)?;
    page(limit, walk, |row| named(&row.pc_id), all)
}

pub(crate) fn facts(
    txn: &ReadTransaction,
    job: &JobId,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Facts>, Fault> {
    let list = record::facts_by(job);
    let after = after.map(|after| list.name().key(&record::facts_of(&after.id)).last(job.as_str()));
    let facts = Reading::<Facts>::of(txn)?;
    let walk = facts.list_between(&list, after.as_ref(), None)?;
    page(limit, walk, |row| named(&row.pc_id), all)
}

pub(crate) fn audit(txn: &ReadTransaction, query: &AuditQuery) -> Result<Page<AuditRecord>, Fault> {
    let audit = Reading::<AuditRecord>::of(txn)?;
    let before = query.after.as_ref().map(|after| Key::new().number(after.at));
    let walk = match &query.actor {
        None => audit.rows(&Key::new(), None, before.as_ref())?,
        Some(actor) => {
            let list = record::audit_by(actor);
            let before = before.map(|before| list.name().key(&before));
            audit.list_between(&list, None, before.as_ref())?
        }
    };
    page(
        query.limit,
        walk.rev(),
        |row| numbered(row.id),
        |found| Ok(query.matches(&found.row).then_some((found.row, found.bytes))),
    )
}

pub(crate) fn dead_letters(
    txn: &ReadTransaction,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<DeadLetterRecord>, Fault> {
    let before = after.map(|after| Key::new().number(after.at));
    let letters = Reading::<DeadLetterRecord>::of(txn)?;
    let walk = letters.rows(&Key::new(), None, before.as_ref())?.rev();
    page(limit, walk, |row| numbered(row.id), all)
}

/// A page of a walk. `look` gives what a row is on the page and its size, if it is wanted.
fn page<R, T>(
    limit: usize,
    walk: impl Iterator<Item = Result<Found<R>, Fault>>,
    place: impl Fn(&R) -> Position,
    mut look: impl FnMut(Found<R>) -> Result<Option<(T, usize)>, Fault>,
) -> Result<Page<T>, Fault> {
    let mut page = PageBuilder::new(limit.clamp(1, MAX_LIMIT), SCAN_LIMIT, PAGE_BYTES);
    for found in walk {
        let found = found?;
        let place = place(&found.row);
        let (item, bytes) = look(found)?.map_or((None, 0), |(item, bytes)| (Some(item), bytes));
        if page.offer(item, || place, bytes) == Progress::Full {
            return Ok(page.finish(false));
        }
    }
    Ok(page.finish(true))
}

#[expect(clippy::unnecessary_wraps, reason = "stands where a look may fail")]
fn all<R>(found: Found<R>) -> Result<Option<(R, usize)>, Fault> {
    Ok(Some((found.row, found.bytes)))
}

fn timed(at: Timestamp, id: &impl ToString) -> Position {
    Position {
        at: at.as_micros(),
        id: id.to_string(),
    }
}

fn named(id: &impl ToString) -> Position {
    Position {
        at: 0,
        id: id.to_string(),
    }
}

fn numbered(number: i64) -> Position {
    Position {
        at: number,
        id: String::new(),
    }
}
