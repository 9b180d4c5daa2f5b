//! A batch of change-sets: reads what it needs, lets the working set apply it, writes what changed.

use std::collections::BTreeMap;

use kanade_model::{ExecId, JobId, PcId, ResultId, RunState, Timestamp};
use kanade_ports::{
    AuditRecord, ChangeSet, DeadLetterRecord, Execution, Forget, Needs, Outcome, Row, Rows, Run, Send,
    SlotRecord, Success, TargetRecord, WorkingSet,
};
use redb::{ReadTransaction, WriteTransaction};

use crate::{
    fault::Fault,
    key::Key,
    meta::{self, Counter},
    output::Outputs,
    record::{self, KeptKey, Mark, Ordered},
    table::{Reading, Record, Writing},
};

/// A batch that was worked out and is to be written.
pub(crate) struct Batch {
    pub(crate) outcomes: Vec<Outcome>,
    set: WorkingSet,
}

impl Batch {
    /// Works out what `sets` do to what is stored.
    pub(crate) fn work_out(txn: &ReadTransaction, sets: &[ChangeSet]) -> Result<Self, Fault> {
        let mut set = load(txn, &Needs::of(sets))?;
        let outcomes = set.apply(sets);
        Ok(Self { outcomes, set })
    }

    /// Whether there is anything to write.
    pub(crate) fn changes_something(&self) -> bool {
        let set = &self.set;
        !(set.orders.is_empty()
            && set.outputs.is_empty()
            && set.audit.is_empty()
            && set.dead_letters.is_empty()
            && set.successes.is_empty()
            && set.forget.is_empty())
            || set.executions.changed().next().is_some()
            || set.targets.changed().next().is_some()
            || set.sends.changed().next().is_some()
            || set.runs.changed().next().is_some()
            || set.agents.changed().next().is_some()
            || set.facts.changed().next().is_some()
            || set.keys.changed().next().is_some()
            || set.marks.changed().next().is_some()
            || set.slots.changed().next().is_some()
            || set.cursors.changed().next().is_some()
    }

    /// Writes it.
    pub(crate) fn write(self, txn: &WriteTransaction) -> Result<(), Fault> {
        let set = self.set;
        if !set.forget.is_empty() {
            forget(txn, &set.forget)?;
        }
        write_rows(txn, &set.executions)?;
        write_rows(txn, &set.targets)?;
        write_rows(txn, &set.sends)?;
        write_rows(txn, &set.runs)?;
        write_rows(txn, &set.agents)?;
        write_rows(txn, &set.facts)?;
        write_rows(txn, &set.slots)?;
        write_rows(txn, &set.cursors)?;
        write_successes(txn, set.successes)?;
        write_new(
            txn,
            set.keys.changed().map(|row| KeptKey {
                key: row.key.clone(),
                record: row.now.clone(),
            }),
        )?;
        write_new(
            txn,
            set.marks.changed().map(|row| Mark {
                name: row.key.clone(),
                at: *row.now,
            }),
        )?;
        write_new(
            txn,
            set.orders
                .into_iter()
                .map(|(exec_id, order)| Ordered { exec_id, order }),
        )?;
        if !set.outputs.is_empty() {
            let mut outputs = Outputs::of(txn)?;
            for (id, output) in &set.outputs {
                outputs.put(*id, output)?;
            }
        }
        let numbered = |counter, count: usize| -> Result<_, Fault> {
            let last = meta::advance(txn, counter, count as u64)?;
            let first = last - count as u64 + 1;
            Ok((first..=last).map(u64::cast_signed))
        };
        if !set.audit.is_empty() {
            let ids = numbered(Counter::Audit, set.audit.len())?;
            write_new(
                txn,
                ids.zip(set.audit).map(|(id, event)| AuditRecord { id, event }),
            )?;
        }
        if !set.dead_letters.is_empty() {
            let ids = numbered(Counter::DeadLetters, set.dead_letters.len())?;
            let letters = ids.zip(set.dead_letters);
            write_new(txn, letters.map(|(id, letter)| DeadLetterRecord { id, letter }))?;
        }
        Ok(())
    }
}

fn load(txn: &ReadTransaction, needs: &Needs) -> Result<WorkingSet, Fault> {
    let mut set = WorkingSet::default();
    load_rows(txn, &mut set.executions, &needs.executions, record::execution)?;
    load_rows(txn, &mut set.targets, &needs.targets, |(exec_id, pc_id)| {
        record::target(exec_id, pc_id)
    })?;
    load_rows(txn, &mut set.sends, &needs.sends, |id| record::send(*id))?;
    load_rows(txn, &mut set.runs, &needs.runs, |id| record::run(*id))?;
    if !needs.runs_of.is_empty() {
        let runs = Reading::<Run>::of(txn)?;
        for exec_id in &needs.runs_of {
            for found in runs.list(&record::runs_of(exec_id.as_str()))? {
                let row = found?.row;
                set.runs.load(row.result_id, row);
            }
        }
    }
    load_rows(txn, &mut set.agents, &needs.agents, record::agent)?;
    load_rows(txn, &mut set.facts, &needs.facts, |(pc_id, job_id)| {
        record::facts(pc_id, job_id)
    })?;
    if !needs.whole.is_empty() {
        let (targets, sends) = (Reading::<TargetRecord>::of(txn)?, Reading::<Send>::of(txn)?);
        for exec_id in &needs.whole {
            for found in targets.rows(&record::targets_of(exec_id), None, None)? {
                let row = found?.row;
                set.targets.load((exec_id.clone(), row.pc_id.clone()), row);
            }
            for found in sends.list(&record::sends_of(exec_id))? {
                let row = found?.row;
                set.sends.load(row.send_id, row);
            }
        }
    }
    if !needs.keys.is_empty() {
        let keys = Reading::<KeptKey>::of(txn)?;
        for key in &needs.keys {
            if let Some(kept) = keys.get(&record::kept_key(key))? {
                set.keys.load(kept.key, kept.record);
            }
        }
    }
    if !needs.marks.is_empty() {
        let marks = Reading::<Mark>::of(txn)?;
        for name in &needs.marks {
            if let Some(mark) = marks.get(&record::mark(name))? {
                set.marks.load(mark.name, mark.at);
            }
        }
    }
    load_rows(txn, &mut set.slots, &needs.slots, |(schedule, slot)| {
        record::slot(schedule, *slot)
    })?;
    if !needs.audit.is_empty() {
        let audit = Reading::<AuditRecord>::of(txn)?;
        for id in &needs.audit {
            if let Some(entry) = audit.list(&record::audit_of_event(*id))?.keys().next() {
                entry?;
                set.audit_ids.insert(*id);
            }
        }
    }
    Ok(set)
}

fn load_rows<'n, K: Ord + Clone + 'n, R: Record + Clone + PartialEq>(
    txn: &ReadTransaction,
    rows: &mut Rows<K, R>,
    needed: impl IntoIterator<Item = &'n K>,
    key: impl Fn(&K) -> Key,
) -> Result<(), Fault> {
    let mut needed = needed.into_iter().peekable();
    if needed.peek().is_none() {
        return Ok(());
    }
    let collection = Reading::<R>::of(txn)?;
    for id in needed {
        if let Some(row) = collection.get(&key(id))? {
            rows.load(id.clone(), row);
        }
    }
    Ok(())
}

fn write_rows<K: Ord + Clone, R: Record + Clone + PartialEq>(
    txn: &WriteTransaction,
    rows: &Rows<K, R>,
) -> Result<(), Fault> {
    let mut changed = rows.changed().peekable();
    if changed.peek().is_none() {
        return Ok(());
    }
    let mut collection = Writing::<R>::of(txn)?;
    for Row { before, now, .. } in changed {
        collection.put(before, now)?;
    }
    Ok(())
}

/// Notes the successes of every run that is there: an earlier program did not.
pub(crate) fn note_successes(txn: &WriteTransaction) -> Result<(), Fault> {
    let mut successes = BTreeMap::new();
    let runs = Writing::<Run>::of(txn)?;
    for found in runs.rows(&Key::new(), None, None)? {
        let run = found?.row;
        if let (RunState::Succeeded, Some(job_id)) = (run.state, run.job_id) {
            let at = run.finished_at.unwrap_or(run.started_at);
            let newest = successes.entry((job_id, run.pc_id)).or_insert(at);
            *newest = at.max(*newest);
        }
    }
    write_successes(txn, successes)
}

/// Keeps the newest success of each job on each agent.
fn write_successes(
    txn: &WriteTransaction,
    successes: BTreeMap<(JobId, PcId), Timestamp>,
) -> Result<(), Fault> {
    if successes.is_empty() {
        return Ok(());
    }
    let mut collection = Writing::<Success>::of(txn)?;
    for ((job_id, pc_id), at) in successes {
        let now = Success { job_id, pc_id, at };
        let before = collection.get(&now.key())?;
        if before.as_ref().is_none_or(|before| before.at < now.at) {
            collection.put(before.as_ref(), &now)?;
        }
    }
    Ok(())
}

fn write_new<R: Record>(txn: &WriteTransaction, rows: impl Iterator<Item = R>) -> Result<(), Fault> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut collection = Writing::<R>::of(txn)?;
    for row in rows {
        collection.put(None, &row)?;
    }
    Ok(())
}

fn forget(txn: &WriteTransaction, forget: &Forget) -> Result<(), Fault> {
    let mut removed = 0;
    if !forget.executions.is_empty() || !forget.runs.is_empty() {
        let mut runs = Runs::of(txn)?;
        for id in &forget.runs {
            removed += runs.remove(*id)?;
        }
        if !forget.executions.is_empty() {
            removed += forget_executions(txn, &forget.executions, &mut runs)?;
        }
    }
    removed += remove_all::<AuditRecord>(txn, forget.audit.iter().map(|id| Key::new().number(*id)))?;
    let letters = forget.dead_letters.iter().map(|id| Key::new().number(*id));
    removed += remove_all::<DeadLetterRecord>(txn, letters)?;
    removed += remove_all::<KeptKey>(txn, forget.keys.iter().map(|key| record::kept_key(key)))?;
    let slots = forget
        .slots
        .iter()
        .map(|(schedule, slot)| record::slot(schedule, *slot));
    removed += remove_all::<SlotRecord>(txn, slots)?;
    meta::advance(txn, Counter::Removed, removed)?;
    Ok(())
}

fn forget_executions(
    txn: &WriteTransaction,
    executions: &[ExecId],
    runs: &mut Runs<'_>,
) -> Result<u64, Fault> {
    let mut removed = remove_all::<Execution>(txn, executions.iter().map(record::execution))?;
    removed += remove_all::<Ordered>(txn, executions.iter().map(record::execution))?;
    let mut targets = Writing::<TargetRecord>::of(txn)?;
    let mut sends = Writing::<Send>::of(txn)?;
    for exec_id in executions {
        let keys = targets.rows(&record::targets_of(exec_id), None, None)?.keys();
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            removed += u64::from(targets.remove(&key)?.is_some());
        }
        let keys = sends.list(&record::sends_of(exec_id))?.keys();
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            removed += u64::from(sends.remove(&key)?.is_some());
        }
        for id in runs.of_execution(exec_id)? {
            removed += runs.remove(id)?;
        }
    }
    Ok(removed)
}

fn remove_all<R: Record>(txn: &WriteTransaction, keys: impl Iterator<Item = Key>) -> Result<u64, Fault> {
    let mut keys = keys.peekable();
    let mut removed = 0;
    if keys.peek().is_some() {
        let mut collection = Writing::<R>::of(txn)?;
        for key in keys {
            removed += u64::from(collection.remove(&key)?.is_some());
        }
    }
    Ok(removed)
}

/// Runs with their outputs.
struct Runs<'t> {
    rows: Writing<'t, Run>,
    outputs: Outputs<'t>,
}

impl<'t> Runs<'t> {
    fn of(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            rows: Writing::of(txn)?,
            outputs: Outputs::of(txn)?,
        })
    }

    fn of_execution(&self, exec_id: &ExecId) -> Result<Vec<ResultId>, Fault> {
        self.rows
            .list(&record::runs_of(exec_id.as_str()))?
            .map(|found| Ok(found?.row.result_id))
            .collect()
    }

    /// Removes a run; says how many entries it had.
    fn remove(&mut self, id: ResultId) -> Result<u64, Fault> {
        let row = self.rows.remove(&record::run(id))?;
        Ok(u64::from(row.is_some()) + self.outputs.remove(id)?)
    }
}
