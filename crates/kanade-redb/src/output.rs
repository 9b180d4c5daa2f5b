//! What runs printed, in a table of its own that is read only where an output is asked for.
//!
//! A long text is kept in pieces: the engine gives each value a page of the next power of two, so that one piece of
//! 300 KiB would take 512 KiB in the file, and its page would be one allocation in memory.

use std::ops::RangeInclusive;

use kanade_model::ResultId;
use kanade_ports::Output;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::{
    fault::Fault,
    key::Key,
    table::{Definition, Readable},
};

pub(crate) const OUTPUTS: Definition = TableDefinition::new("outputs");

/// A page of 32 KiB with its own header and the key beside the piece.
const PIECE: usize = (32 << 10) - 128;
const STDOUT: u8 = 0;
const STDERR: u8 = 1;

/// The outputs, open for writing.
pub(crate) struct Outputs<'t>(Table<'t, &'static [u8], &'static [u8]>);

impl<'t> Outputs<'t> {
    pub(crate) fn of(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self(txn.open_table(OUTPUTS)?))
    }

    /// Writes an output in place of the one that is there.
    pub(crate) fn put(&mut self, id: ResultId, output: &Output) -> Result<(), Fault> {
        self.remove(id)?;
        for (stream, text) in [(STDOUT, &output.stdout), (STDERR, &output.stderr)] {
            for (number, piece) in (0..).zip(text.as_bytes().chunks(PIECE)) {
                self.0.insert(key(id, stream, number).bytes(), piece)?;
            }
        }
        Ok(())
    }

    /// Removes an output; says how many pieces it had.
    pub(crate) fn remove(&mut self, id: ResultId) -> Result<u64, Fault> {
        let pieces = self
            .0
            .range::<&[u8]>(bounds(&span(id)))?
            .map(|entry| Ok(entry?.0.value().to_vec()))
            .collect::<Result<Vec<_>, Fault>>()?;
        for piece in &pieces {
            self.0.remove(piece.as_slice())?;
        }
        Ok(pieces.len() as u64)
    }
}

/// The output of a run; an empty one when it has none.
pub(crate) fn read(table: &impl Readable, id: ResultId) -> Result<Output, Fault> {
    let mut streams = [Vec::new(), Vec::new()];
    for entry in table.range::<&[u8]>(bounds(&span(id)))? {
        let (key, piece) = entry?;
        let stream = key.value().get(id.0.as_bytes().len()).copied().map(usize::from);
        let text = stream.and_then(|stream| streams.get_mut(stream));
        text.ok_or_else(|| damaged(id))?.extend_from_slice(piece.value());
    }
    let [stdout, stderr] = streams.map(String::from_utf8);
    Ok(Output {
        stdout: stdout.map_err(|_| damaged(id))?,
        stderr: stderr.map_err(|_| damaged(id))?,
    })
}

fn key(id: ResultId, stream: u8, number: i64) -> Key {
    Key::new().uuid(id.0).byte(stream).number(number)
}

fn span(id: ResultId) -> RangeInclusive<Key> {
    key(id, STDOUT, 0)..=key(id, STDERR, i64::MAX)
}

fn bounds(span: &RangeInclusive<Key>) -> RangeInclusive<&[u8]> {
    span.start().bytes()..=span.end().bytes()
}

fn damaged(id: ResultId) -> Fault {
    Fault::Damaged(format!("the output of run {id}"))
}
