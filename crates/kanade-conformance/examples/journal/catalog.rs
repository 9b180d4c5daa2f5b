//! The catalog: documents with revisions, versions and watchers.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition,
    Revision, StoreError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::file::Journal;

const VERSIONS: usize = 5;

pub(crate) struct JournalCatalog(Arc<Mutex<Inner>>);

struct Inner {
    documents: BTreeMap<(Bucket, Key), Document>,
    /// The number of the last commit, which is the revision of what it wrote: no two are alike, not even by chance.
    last: u64,
    journal: Journal,
    changes: BTreeMap<Bucket, broadcast::Sender<CatalogEvent>>,
}

#[derive(Default)]
struct Document {
    /// Newest first; they stay when the document is deleted.
    versions: Vec<Entry>,
    deleted: bool,
}

impl Document {
    fn current(&self) -> Option<&Entry> {
        self.versions.first().filter(|_| !self.deleted)
    }
}

/// One commit; no value stands for a deletion.
#[derive(Serialize, Deserialize)]
struct Commit {
    bucket: String,
    key: String,
    value: Option<Bytes>,
}

impl JournalCatalog {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut documents = BTreeMap::new();
        let mut last = 0;
        let journal = Journal::open(path, |commit: Commit| {
            last += 1;
            let bucket = Bucket::ALL.iter().find(|bucket| bucket.as_str() == commit.bucket);
            // A bucket or key of another version of this program is left where it is.
            if let (Some(bucket), Ok(key)) = (bucket, commit.key.parse()) {
                redo(&mut documents, *bucket, &key, commit.value, last);
            }
        })?;
        let changes = Bucket::ALL
            .iter()
            .map(|bucket| (*bucket, broadcast::channel(1024).0))
            .collect();
        Ok(Self(Arc::new(Mutex::new(Inner {
            documents,
            last,
            journal,
            changes,
        }))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes or deletes, if `when` allows it.
    async fn change(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Option<Bytes>,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let operation = format!(
            "{} `{key}` in {bucket}",
            if value.is_some() { "write" } else { "delete" }
        );
        let doing = operation.clone();
        let change = move || {
            // Held from the comparison to the write: of two writers that expect the same, one comes second.
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.change(bucket, &key, value, when, &doing)
        };
        tokio::task::spawn_blocking(change)
            .await
            .unwrap_or_else(|died| Err(StoreError::new(ErrorKind::Indeterminate, operation).because(died)))
    }
}

impl Inner {
    fn change(
        &mut self,
        bucket: Bucket,
        key: &Key,
        value: Option<Bytes>,
        when: Precondition,
        operation: &str,
    ) -> Result<Revision, StoreError> {
        let current = self
            .documents
            .get(&(bucket, key.clone()))
            .and_then(Document::current);
        let refused = match (when, current) {
            (_, None) if value.is_none() => Some(ErrorKind::NotFound),
            (Precondition::Absent, Some(_)) if value.is_none() => Some(ErrorKind::Conflict),
            (Precondition::Absent, Some(_)) => Some(ErrorKind::AlreadyExists),
            (Precondition::At(_), None) => Some(ErrorKind::Conflict),
            (Precondition::At(wanted), Some(entry)) if entry.revision != wanted => Some(ErrorKind::Conflict),
            _ => None,
        };
        if let Some(kind) = refused {
            return Err(StoreError::new(kind, operation));
        }
        let commit = Commit {
            bucket: bucket.as_str().to_owned(),
            key: key.to_string(),
            value: value.clone(),
        };
        self.journal.append(&commit, operation)?;
        self.last += 1;
        let event = redo(&mut self.documents, bucket, key, value, self.last);
        // Fails when nobody watches, which is nobody's loss.
        let _ = self.changes[&bucket].send(event);
        Ok(Revision(self.last))
    }
}

fn redo(
    documents: &mut BTreeMap<(Bucket, Key), Document>,
    bucket: Bucket,
    key: &Key,
    value: Option<Bytes>,
    number: u64,
) -> CatalogEvent {
    let document = documents.entry((bucket, key.clone())).or_default();
    document.deleted = value.is_none();
    let Some(value) = value else {
        return CatalogEvent::Deleted(key.clone());
    };
    let entry = Entry {
        key: key.clone(),
        value,
        revision: Revision(number),
    };
    document.versions.insert(0, entry.clone());
    document.versions.truncate(VERSIONS);
    CatalogEvent::Put(entry)
}

#[async_trait]
impl CatalogReader for JournalCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let inner = self.inner();
        Ok(inner
            .documents
            .get(&(bucket, key.clone()))
            .and_then(Document::current)
            .cloned())
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        // Both under one lock: nothing can happen between what stands and what changes.
        let inner = self.inner();
        let of_bucket = inner.documents.iter().filter(|((of, _), _)| *of == bucket);
        let standing: Vec<_> = of_bucket
            .filter_map(|(_, document)| document.current().cloned().map(CatalogEvent::Put))
            .chain([CatalogEvent::Current])
            .collect();
        let changes = stream::unfold(inner.changes[&bucket].subscribe(), |mut changes| async move {
            // An error says that changes were lost, so the stream ends.
            let change = changes.recv().await.ok()?;
            Some((change, changes))
        });
        Ok(stream::iter(standing).chain(changes).boxed())
    }
}

#[async_trait]
impl Catalog for JournalCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        self.change(bucket, key, Some(value), when).await
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        self.change(bucket, key, None, when).await.map(drop)
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner();
        let of_bucket = inner.documents.iter().filter(|((of, _), _)| *of == bucket);
        Ok(of_bucket
            .filter_map(|(_, document)| document.current())
            .cloned()
            .collect())
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner();
        let document = inner.documents.get(&(bucket, key.clone()));
        Ok(document.map_or_else(Vec::new, |document| document.versions.clone()))
    }
}
