//! The file's own records: the version of its format, and the counters that are never set back.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::fault::Fault;

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("kanade");

/// The format this program reads and writes.
pub(crate) const FORMAT: u64 = 1;

/// A number the file keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    /// The version of the format.
    Format,
    /// Counts commits, so that the outcome of one that failed can be looked up.
    Commits,
    /// The newest revision in the catalog.
    Revision,
    /// The number of the newest audit entry.
    Audit,
    /// The number of the newest dead letter.
    DeadLetters,
    /// Entries that were removed since the file was last compacted.
    Removed,
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Commits => "commits",
            Self::Revision => "revision",
            Self::Audit => "audit",
            Self::DeadLetters => "dead_letters",
            Self::Removed => "removed",
        }
    }
}

/// Reads a counter; 0 when it was never set.
pub(crate) fn read(txn: &ReadTransaction, counter: Counter) -> Result<u64, Fault> {
    value(&txn.open_table(META)?, counter)
}

/// The version of a file's format; none in a file that is not ours.
pub(crate) fn format(txn: &ReadTransaction) -> Result<Option<u64>, Fault> {
    match txn.open_table(META) {
        Ok(table) => Ok(Some(value(&table, Counter::Format)?)),
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn value(table: &ReadOnlyTable<&'static str, u64>, counter: Counter) -> Result<u64, Fault> {
    Ok(ReadableTable::get(table, counter.name())?.map_or(0, |value| value.value()))
}

/// Sets a counter.
pub(crate) fn write(txn: &WriteTransaction, counter: Counter, value: u64) -> Result<(), Fault> {
    txn.open_table(META)?.insert(counter.name(), value)?;
    Ok(())
}

/// Adds to a counter and gives its new value.
pub(crate) fn advance(txn: &WriteTransaction, counter: Counter, by: u64) -> Result<u64, Fault> {
    let mut table = txn.open_table(META)?;
    let value = table.get(counter.name())?.map_or(0, |value| value.value()) + by;
    table.insert(counter.name(), value)?;
    Ok(value)
}
