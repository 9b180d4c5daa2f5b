//! Records and the ordered lists they stand in: one table of rows, and one table that holds every list of that kind.
//!
//! A list's entry is the list's name, what it is sorted by, and the key of the row; it has no value. So a list costs
//! its page and no more, and an update touches only the lists that a row leaves or enters.

use std::{marker::PhantomData, ops::Bound};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};

use crate::{fault::Fault, key::Key};

/// Bytes to bytes: what the bytes are is decided by [`Record`].
pub(crate) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// A table for reading, of a transaction of either kind.
pub(crate) trait Readable: ReadableTable<&'static [u8], &'static [u8]> {}
impl<T: ReadableTable<&'static [u8], &'static [u8]>> Readable for T {}

/// Something that is kept as a row.
pub(crate) trait Record: Sized {
    /// What it is called in messages.
    const NAME: &'static str;
    /// Where its rows are.
    const ROWS: Definition;
    /// Where the lists are; none for what only stands in the order of its keys.
    const LISTS: Option<Definition>;

    fn key(&self) -> Key;
    /// The lists it stands in, as their entries without the row's key. Two records never share a key.
    fn places(&self) -> Vec<Key>;
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error>;
    fn decode(key: &[u8], value: &[u8]) -> Option<Self>;
}

/// Rows and lists, open in a transaction.
pub(crate) struct Collection<R, T> {
    rows: T,
    lists: Option<T>,
    kind: PhantomData<R>,
}

/// A collection for reading.
pub(crate) type Reading<R> = Collection<R, ReadOnlyTable<&'static [u8], &'static [u8]>>;
/// A collection for reading and writing.
pub(crate) type Writing<'t, R> = Collection<R, Table<'t, &'static [u8], &'static [u8]>>;

impl<R: Record> Reading<R> {
    pub(crate) fn of(txn: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            rows: txn.open_table(R::ROWS)?,
            lists: R::LISTS.map(|lists| txn.open_table(lists)).transpose()?,
            kind: PhantomData,
        })
    }
}

impl<'t, R: Record> Writing<'t, R> {
    pub(crate) fn of(txn: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            rows: txn.open_table(R::ROWS)?,
            lists: R::LISTS.map(|lists| txn.open_table(lists)).transpose()?,
            kind: PhantomData,
        })
    }

    /// Writes a row. `before` is how it stood, where that is at hand.
    pub(crate) fn put(&mut self, before: Option<&R>, now: &R) -> Result<(), Fault> {
        let key = now.key();
        let value = now.encode().map_err(|_| damaged::<R>(key.bytes()))?;
        let replaced = match (self.rows.insert(key.bytes(), value.as_slice())?, before) {
            (Some(old), None) => Some(decode::<R>(key.bytes(), old.value())?),
            _ => None,
        };
        let left = replaced.as_ref().or(before).map_or_else(Vec::new, R::places);
        let entered = now.places();
        self.relist(&key, &left, &entered)
    }

    /// Removes a row and gives it back.
    pub(crate) fn remove(&mut self, key: &Key) -> Result<Option<R>, Fault> {
        let old = match self.rows.remove(key.bytes())? {
            Some(old) => decode::<R>(key.bytes(), old.value())?,
            None => return Ok(None),
        };
        self.relist(key, &old.places(), &[])?;
        Ok(Some(old))
    }

    fn relist(&mut self, key: &Key, left: &[Key], entered: &[Key]) -> Result<(), Fault> {
        let Some(lists) = &mut self.lists else {
            return Ok(());
        };
        for place in left.iter().filter(|place| !entered.contains(place)) {
            lists.remove(place.clone().key(key).bytes())?;
        }
        for place in entered.iter().filter(|place| !left.contains(place)) {
            lists.insert(place.clone().key(key).bytes(), [].as_slice())?;
        }
        Ok(())
    }
}

impl<R: Record, T: Readable> Collection<R, T> {
    pub(crate) fn get(&self, key: &Key) -> Result<Option<R>, Fault> {
        self.rows
            .get(key.bytes())?
            .map(|value| decode::<R>(key.bytes(), value.value()))
            .transpose()
    }

    pub(crate) fn contains(&self, key: &Key) -> Result<bool, Fault> {
        Ok(self.rows.get(key.bytes())?.is_some())
    }

    /// The rows whose keys start with `prefix`, between two places, without what stands at them.
    pub(crate) fn rows(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        before: Option<&Key>,
    ) -> Result<Walk<'_, R, T>, Fault> {
        self.walk(&self.rows, prefix, 0, (after, before))
    }

    /// The rows that stand in a list.
    pub(crate) fn list(&self, list: &List) -> Result<Walk<'_, R, T>, Fault> {
        self.list_between(list, None, None)
    }

    /// The rows that stand in a list between two places, without what stands at them.
    pub(crate) fn list_between(
        &self,
        list: &List,
        after: Option<&Key>,
        before: Option<&Key>,
    ) -> Result<Walk<'_, R, T>, Fault> {
        let lists = self
            .lists
            .as_ref()
            .expect("only kinds with lists are asked for one");
        self.walk(
            lists,
            &list.name,
            list.name.bytes().len() + list.sort,
            (after, before),
        )
    }

    fn walk<'a>(
        &'a self,
        table: &'a T,
        prefix: &Key,
        key_from: usize,
        (after, before): (Option<&Key>, Option<&Key>),
    ) -> Result<Walk<'a, R, T>, Fault> {
        let end = prefix.successor();
        let from = after.map_or(Bound::Included(prefix.bytes()), |after| {
            Bound::Excluded(after.bytes())
        });
        let to = before
            .or(end.as_ref())
            .map_or(Bound::Unbounded, |to| Bound::Excluded(to.bytes()));
        Ok(Walk {
            rows: &self.rows,
            entries: table.range::<&[u8]>((from, to))?,
            key_from,
            kind: PhantomData,
        })
    }
}

/// A list: its name, which its entries start with, and how many bytes of a moment or a number stand between that and
/// the row's key.
#[derive(Debug, Clone)]
pub(crate) struct List {
    name: Key,
    sort: usize,
}

impl List {
    /// A list in the order of the rows' keys.
    pub(crate) fn by_key(name: Key) -> Self {
        Self { name, sort: 0 }
    }

    /// A list in the order of a moment and, among equals, of the rows' keys.
    pub(crate) fn by_moment(name: Key) -> Self {
        Self {
            name,
            sort: size_of::<i64>(),
        }
    }

    /// A list in the order of a byte and, among equals, of the rows' keys.
    pub(crate) fn by_byte(name: Key) -> Self {
        Self {
            name,
            sort: size_of::<u8>(),
        }
    }

    /// The name, to write a place with.
    pub(crate) fn name(&self) -> Key {
        self.name.clone()
    }
}

/// A row and the bytes it takes in the file.
pub(crate) struct Found<R> {
    pub(crate) row: R,
    pub(crate) bytes: usize,
}

/// A walk through rows, from either end.
pub(crate) struct Walk<'a, R, T> {
    rows: &'a T,
    entries: redb::Range<'a, &'static [u8], &'static [u8]>,
    /// Where the row's key starts in an entry; 0 when the entries are the rows.
    key_from: usize,
    kind: PhantomData<R>,
}

type Guard<'a> = redb::AccessGuard<'a, &'static [u8]>;

impl<'a, R: Record, T: Readable> Walk<'a, R, T> {
    /// The entries themselves, without reading the rows of a list.
    pub(crate) fn entries(self) -> impl Iterator<Item = Result<Vec<u8>, Fault>> + use<'a, R, T> {
        self.entries.map(|entry| Ok(entry?.0.value().to_vec()))
    }

    /// The keys of the rows, without reading the rows of a list.
    pub(crate) fn keys(self) -> impl Iterator<Item = Result<Key, Fault>> + use<'a, R, T> {
        let key_from = self.key_from;
        self.entries()
            .map(move |entry| Ok(Key::read(entry?.split_off(key_from))))
    }

    fn found(&self, entry: Result<(Guard<'_>, Guard<'_>), StorageError>) -> Result<Found<R>, Fault> {
        let (key, value) = entry?;
        if self.key_from == 0 {
            return found(key.value(), value.value());
        }
        let key = key.value().get(self.key_from..).unwrap_or_default();
        match self.rows.get(key)? {
            Some(value) => found(key, value.value()),
            None => Err(damaged::<R>(key)),
        }
    }
}

impl<R: Record, T: Readable> Iterator for Walk<'_, R, T> {
    type Item = Result<Found<R>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(self.found(entry))
    }
}

impl<R: Record, T: Readable> DoubleEndedIterator for Walk<'_, R, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next_back()?;
        Some(self.found(entry))
    }
}

fn found<R: Record>(key: &[u8], value: &[u8]) -> Result<Found<R>, Fault> {
    Ok(Found {
        row: decode(key, value)?,
        bytes: value.len(),
    })
}

fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R, Fault> {
    R::decode(key, value).ok_or_else(|| damaged::<R>(key))
}

fn damaged<R: Record>(key: &[u8]) -> Fault {
    Fault::Damaged(format!("{} `{}`", R::NAME, key.escape_ascii()))
}
