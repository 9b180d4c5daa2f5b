//! What is old enough to be removed.

use kanade_ports::{AuditRecord, DeadLetterRecord, Execution, Forget, RetentionCut, Run, SlotRecord};
use redb::ReadTransaction;

use crate::{
    fault::Fault,
    record::{self, KeptKey},
    table::Reading,
};

/// Up to `limit` records that are older than `cut`, executions after their runs.
pub(crate) fn prunable(txn: &ReadTransaction, cut: &RetentionCut, limit: usize) -> Result<Forget, Fault> {
    let mut forget = Forget::default();
    let executions = Reading::<Execution>::of(txn)?;
    let runs = Reading::<Run>::of(txn)?;

    let (list, end) = record::before(record::finished(), cut.executions);
    for found in executions.list_between(&list, None, Some(&end))? {
        let exec_id = found?.row.exec_id;
        let left = limit - forget.len();
        if left == 0 {
            return Ok(forget);
        }
        let before = forget.runs.len();
        for found in runs.list(&record::runs_of(exec_id.as_str()))?.take(left) {
            forget.runs.push(found?.row.result_id);
        }
        if forget.runs.len() == before {
            forget.executions.push(exec_id);
        }
    }

    // Runs without an execution of ours; all others were found above, or belong to one that is kept.
    let (list, end) = record::before(record::ended_runs(), cut.executions);
    for found in runs.list_between(&list, None, Some(&end))? {
        if forget.len() == limit {
            return Ok(forget);
        }
        let run = found?.row;
        let is_kept = match &run.exec_id {
            Some(exec_id) => executions.contains(&record::execution(exec_id))?,
            None => false,
        };
        if !is_kept {
            forget.runs.push(run.result_id);
        }
    }

    let (list, end) = record::before(record::old_audit(), cut.audit);
    let audit = Reading::<AuditRecord>::of(txn)?;
    for found in audit
        .list_between(&list, None, Some(&end))?
        .take(limit - forget.len())
    {
        forget.audit.push(found?.row.id);
    }

    let (list, end) = record::before(record::old_letters(), cut.audit);
    let letters = Reading::<DeadLetterRecord>::of(txn)?;
    for found in letters
        .list_between(&list, None, Some(&end))?
        .take(limit - forget.len())
    {
        forget.dead_letters.push(found?.row.id);
    }

    let (list, end) = record::before(record::old_keys(), cut.keys);
    let keys = Reading::<KeptKey>::of(txn)?;
    for found in keys
        .list_between(&list, None, Some(&end))?
        .take(limit - forget.len())
    {
        forget.keys.push(found?.row.key);
    }

    let (list, end) = record::before(record::old_slots(), cut.slots);
    let slots = Reading::<SlotRecord>::of(txn)?;
    for found in slots
        .list_between(&list, None, Some(&end))?
        .take(limit - forget.len())
    {
        let slot = found?.row;
        forget.slots.push((slot.schedule_id, slot.slot));
    }
    Ok(forget)
}
