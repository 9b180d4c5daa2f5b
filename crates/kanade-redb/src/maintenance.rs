//! Keeping the file up to date and small.

use redb::{ReadTransaction, ReadableTableMetadata, TableHandle};

use kanade_ports::{Run, Success};

use crate::{
    batch,
    engine::{Engine, Write},
    fault::Fault,
    meta::{self, Counter},
    output::OUTPUTS,
    record,
    table::{Definition, Record},
};

/// Makes the tables that a file of an earlier program does not have yet. An earlier program passes over them.
pub(crate) fn complete(engine: &Engine) -> Result<(), Fault> {
    engine.write(&engine.writer_now(), |txn| {
        let there: Vec<String> = txn.list_tables()?.map(|table| table.name().to_owned()).collect();
        let missing: Vec<_> = record::tables()
            .into_iter()
            .flat_map(|(rows, lists)| [Some(rows), lists])
            .flatten()
            .filter(|table| !there.iter().any(|name| name == table.name()))
            .collect();
        let runs_are_there = there.iter().any(|name| name == Run::ROWS.name());
        let is_missing = |table: Definition| missing.iter().any(|one| one.name() == table.name());
        let knows_no_successes = runs_are_there && is_missing(Success::ROWS);
        let make = (!missing.is_empty()).then(|| -> Write {
            Box::new(move |txn| {
                for table in missing {
                    txn.open_table(table)?;
                }
                if knows_no_successes {
                    batch::note_successes(txn)?;
                }
                Ok(())
            })
        });
        Ok(((), make))
    })
}

/// Compacts the file when most of it is free. Finding that out takes reading all of it, so it is only asked after more
/// was removed than is left.
pub(crate) fn at_start(engine: &Engine) -> Result<(), Fault> {
    let writer = engine.writer_now();
    let (removed, left) = engine.read(|txn| Ok((meta::read(txn, Counter::Removed)?, entries(txn)?)))?;
    if removed > left && engine.is_mostly_free(&writer)? {
        tracing::info!(
            file = engine.name(),
            "most of the data file is free: compacting it"
        );
        if let Err(fault) = engine.compact(&writer) {
            let error: &dyn std::error::Error = &fault;
            tracing::warn!(
                file = engine.name(),
                error,
                "the data file could not be compacted"
            );
        }
    }
    Ok(())
}

fn entries(txn: &ReadTransaction) -> Result<u64, Fault> {
    let mut entries = txn.open_table(OUTPUTS)?.len()?;
    for (rows, _) in record::tables() {
        entries += txn.open_table(rows)?.len()?;
    }
    Ok(entries)
}
