//! Documents and their versions in tables: what the catalog reads and writes inside a transaction.

use bytes::Bytes;
use kanade_ports::{Bucket, Entry, Key as Name, Revision};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    fault::Fault,
    key::{Key, Parts},
    meta::{self, Counter},
    table::Definition,
};

/// Bucket and key → revision and text.
pub(crate) const DOCUMENTS: Definition = TableDefinition::new("documents");
/// Bucket, key and revision → text. Survives a deletion of the document.
pub(crate) const VERSIONS: Definition = TableDefinition::new("versions");

/// How many versions of a document are kept.
const KEPT: usize = 5;

/// The newest version of a document.
pub(crate) fn get(txn: &ReadTransaction, bucket: Bucket, name: &Name) -> Result<Option<Entry>, Fault> {
    let table = txn.open_table(DOCUMENTS)?;
    let value = table.get_owned(document(bucket, name).bytes())?;
    value
        .map(|value| entry(bucket, name.clone(), value.value()))
        .transpose()
}

/// Every document of a bucket, by key.
pub(crate) fn list(txn: &ReadTransaction, bucket: Bucket) -> Result<Vec<Entry>, Fault> {
    let table = txn.open_table(DOCUMENTS)?;
    let prefix = Key::new().text(bucket.as_str());
    let end = prefix.successor().expect("a text ends with zeroes");
    ReadableTable::range::<&[u8]>(&table, prefix.bytes()..end.bytes())?
        .map(|found| {
            let (key, value) = found?;
            let text = key.value().get(prefix.bytes().len()..);
            let name = text.and_then(|text| Parts(text).last()?.parse().ok());
            entry(bucket, name.ok_or_else(|| damaged(bucket, "key"))?, value.value())
        })
        .collect()
}

/// The newest versions of a document, newest first.
pub(crate) fn history(txn: &ReadTransaction, bucket: Bucket, name: &Name) -> Result<Vec<Entry>, Fault> {
    let table = txn.open_table(VERSIONS)?;
    let prefix = versions(bucket, name);
    let end = prefix.successor().expect("a text ends with zeroes");
    ReadableTable::range::<&[u8]>(&table, prefix.bytes()..end.bytes())?
        .rev()
        .take(KEPT)
        .map(|found| {
            let (key, value) = found?;
            let number = key.value().get(prefix.bytes().len()..);
            let revision = number.and_then(|number| Parts(number).number());
            Ok(Entry {
                key: name.clone(),
                value: Bytes::copy_from_slice(value.value()),
                revision: Revision(
                    revision
                        .ok_or_else(|| damaged(bucket, name.as_str()))?
                        .cast_unsigned(),
                ),
            })
        })
        .collect()
}

/// The newest revision of any document: every change so far is at or below it.
pub(crate) fn newest(txn: &ReadTransaction) -> Result<Revision, Fault> {
    meta::read(txn, Counter::Revision).map(Revision)
}

/// Writes a new version, at the revision after [`newest`].
pub(crate) fn put(txn: &WriteTransaction, bucket: Bucket, entry: &Entry) -> Result<(), Fault> {
    meta::write(txn, Counter::Revision, entry.revision.0)?;
    let revision = Key::new().number(entry.revision.0.cast_signed());
    let value = [revision.bytes(), &entry.value].concat();
    txn.open_table(DOCUMENTS)?
        .insert(document(bucket, &entry.key).bytes(), value.as_slice())?;
    let mut table = txn.open_table(VERSIONS)?;
    let prefix = versions(bucket, &entry.key);
    table.insert(prefix.clone().key(&revision).bytes(), &*entry.value)?;
    let end = prefix.successor().expect("a text ends with zeroes");
    let old = table
        .range::<&[u8]>(prefix.bytes()..end.bytes())?
        .rev()
        .skip(KEPT)
        .map(|found| Ok(found?.0.value().to_vec()))
        .collect::<Result<Vec<_>, Fault>>()?;
    for key in old {
        table.remove(key.as_slice())?;
    }
    Ok(())
}

/// Deletes a document; the deletion counts as a change at `revision`.
pub(crate) fn delete(
    txn: &WriteTransaction,
    bucket: Bucket,
    name: &Name,
    revision: Revision,
) -> Result<(), Fault> {
    meta::write(txn, Counter::Revision, revision.0)?;
    txn.open_table(DOCUMENTS)?
        .remove(document(bucket, name).bytes())?;
    Ok(())
}

fn document(bucket: Bucket, name: &Name) -> Key {
    Key::new().text(bucket.as_str()).last(name.as_str())
}

fn versions(bucket: Bucket, name: &Name) -> Key {
    Key::new().text(bucket.as_str()).text(name.as_str())
}

fn entry(bucket: Bucket, key: Name, value: &[u8]) -> Result<Entry, Fault> {
    let mut parts = Parts(value);
    match parts.number() {
        Some(revision) => Ok(Entry {
            value: Bytes::copy_from_slice(parts.rest()),
            revision: Revision(revision.cast_unsigned()),
            key,
        }),
        None => Err(damaged(bucket, key.as_str())),
    }
}

fn damaged(bucket: Bucket, name: &str) -> Fault {
    Fault::Damaged(format!("document `{name}` in {bucket}"))
}
