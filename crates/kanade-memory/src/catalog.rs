//! The catalog in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition,
    Revision, StoreError,
};
use tokio::sync::broadcast;

/// How many versions of a document are kept.
const VERSIONS: usize = 5;
/// How many changes a watcher may be behind before its stream ends.
const BEHIND: usize = 1024;

/// A [`Catalog`] whose documents live as long as it does.
pub struct MemoryCatalog(Mutex<State>);

struct State {
    /// One sequence for all documents, so that no revision comes twice.
    last: u64,
    buckets: BTreeMap<Bucket, Documents>,
}

struct Documents {
    by_key: BTreeMap<Key, Document>,
    changes: broadcast::Sender<CatalogEvent>,
}

/// A deleted document keeps its versions.
#[derive(Default)]
struct Document {
    exists: bool,
    /// Newest first.
    versions: VecDeque<Entry>,
}

impl Document {
    fn current(&self) -> Option<&Entry> {
        self.versions.front().filter(|_| self.exists)
    }
}

impl MemoryCatalog {
    /// An empty catalog.
    pub fn new() -> Self {
        let documents = || Documents {
            by_key: BTreeMap::new(),
            changes: broadcast::channel(BEHIND).0,
        };
        Self(Mutex::new(State {
            last: 0,
            buckets: Bucket::ALL.iter().map(|bucket| (*bucket, documents())).collect(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn documents(&mut self, bucket: Bucket) -> &mut Documents {
        self.buckets
            .get_mut(&bucket)
            .expect("every bucket is there from the start")
    }
}

impl Default for MemoryCatalog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryCatalog")
    }
}

#[async_trait]
impl CatalogReader for MemoryCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut state = self.state();
        let document = state.documents(bucket).by_key.get(key);
        Ok(document.and_then(Document::current).cloned())
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        // Both under one lock: nothing can happen between what stands and what changes.
        let mut state = self.state();
        let documents = state.documents(bucket);
        let standing: Vec<_> = documents
            .by_key
            .values()
            .filter_map(Document::current)
            .cloned()
            .map(CatalogEvent::Put)
            .chain([CatalogEvent::Current])
            .collect();
        let changes = stream::unfold(documents.changes.subscribe(), |mut changes| async move {
            // An error says that changes were lost, so the stream ends.
            let change = changes.recv().await.ok()?;
            Some((change, changes))
        });
        Ok(stream::iter(standing).chain(changes).boxed())
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        let mut state = self.state();
        let revision = Revision(state.last + 1);
        let documents = state.documents(bucket);
        let current = documents.by_key.get(key).and_then(Document::current);
        let refused = match (when, current) {
            (Precondition::Absent, Some(_)) => Some(ErrorKind::AlreadyExists),
            (Precondition::At(wanted), current) if current.is_none_or(|entry| entry.revision != wanted) => {
                Some(ErrorKind::Conflict)
            }
            _ => None,
        };
        if let Some(kind) = refused {
            return Err(StoreError::new(kind, format!("write `{key}` in {bucket}")));
        }
        let entry = Entry {
            key: key.clone(),
            value,
            revision,
        };
        let document = documents.by_key.entry(key.clone()).or_default();
        document.exists = true;
        document.versions.push_front(entry.clone());
        document.versions.truncate(VERSIONS);
        // Fails when nobody watches, which is nobody's loss.
        let _ = documents.changes.send(CatalogEvent::Put(entry));
        state.last = revision.0;
        Ok(revision)
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        let mut state = self.state();
        let documents = state.documents(bucket);
        let document = documents.by_key.get_mut(key);
        let refused = match (when, document.as_deref().and_then(Document::current)) {
            (_, None) => Some(ErrorKind::NotFound),
            (Precondition::Absent, Some(_)) => Some(ErrorKind::Conflict),
            (Precondition::At(wanted), Some(entry)) if entry.revision != wanted => Some(ErrorKind::Conflict),
            _ => None,
        };
        if let Some(kind) = refused {
            return Err(StoreError::new(kind, format!("delete `{key}` in {bucket}")));
        }
        if let Some(document) = document {
            document.exists = false;
        }
        let _ = documents.changes.send(CatalogEvent::Deleted(key.clone()));
        Ok(())
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        let mut state = self.state();
        let documents = state.documents(bucket).by_key.values();
        Ok(documents.filter_map(Document::current).cloned().collect())
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        let mut state = self.state();
        let document = state.documents(bucket).by_key.get(key);
        Ok(document.map_or_else(Vec::new, |document| document.versions.iter().cloned().collect()))
    }
}
