//! The catalog in a data file.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition,
    Revision, StoreError,
};
use redb::ReadTransaction;

use crate::{
    document,
    engine::{Engine, Write},
    fault::Fault,
    feed::Feeds,
    task,
};

/// A [`Catalog`] in a data file. Get one from [`Database::catalog`](crate::Database::catalog).
pub struct RedbCatalog {
    engine: Arc<Engine>,
    feeds: Arc<Feeds>,
}

impl RedbCatalog {
    pub(crate) fn new(engine: Arc<Engine>, feeds: Arc<Feeds>) -> Self {
        Self { engine, feeds }
    }

    /// Makes the change that `decide` decides on, given the document as it stands and the revision of the change.
    async fn change(
        &self,
        bucket: Bucket,
        key: Key,
        decide: impl FnOnce(Option<Entry>, Revision, Key) -> Result<CatalogEvent, ErrorKind> + Send + 'static,
    ) -> Result<Revision, Fault> {
        let feeds = Arc::clone(&self.feeds);
        task::write(&self.engine, move |engine, writer| {
            let changed = engine.write(writer, |txn| {
                let current = document::get(txn, bucket, &key)?;
                let revision = Revision(document::newest(txn)?.0 + 1);
                let event = decide(current, revision, key).map_err(Fault::Refused)?;
                let change = event.clone();
                let write: Write = Box::new(move |txn| match &change {
                    CatalogEvent::Put(entry) => document::put(txn, bucket, entry),
                    CatalogEvent::Deleted(key) => document::delete(txn, bucket, key, revision),
                    CatalogEvent::Current => Ok(()),
                });
                Ok(((revision, event), Some(write)))
            });
            match changed {
                // Still in the turn of this write, so watchers hear of changes in the order of the commits.
                Ok((revision, event)) => {
                    feeds.publish(bucket, revision, event);
                    Ok(revision)
                }
                Err(fault) => {
                    if matches!(fault, Fault::Unknown(_)) {
                        feeds.cut(bucket);
                    }
                    Err(fault)
                }
            }
        })
        .await
    }
}

impl fmt::Debug for RedbCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedbCatalog({})", self.engine.name())
    }
}

#[async_trait]
impl CatalogReader for RedbCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let name = key.clone();
        task::read(&self.engine, move |txn| document::get(txn, bucket, &name))
            .await
            .map_err(|fault| fault.of(format!("read `{key}` in {bucket}")))
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        // Followed before it is read, so that no change is missed; what was read already is passed over.
        let changes = self.feeds.follow(bucket);
        let look = move |txn: &ReadTransaction| Ok((document::list(txn, bucket)?, document::newest(txn)?));
        let (standing, newest) = task::read(&self.engine, look)
            .await
            .map_err(|fault| fault.of(format!("watch {bucket}")))?;
        let standing = standing
            .into_iter()
            .map(CatalogEvent::Put)
            .chain([CatalogEvent::Current]);
        let changes = changes
            .filter_map(move |(revision, event)| future::ready((revision.0 > newest.0).then_some(event)));
        Ok(stream::iter(standing).chain(changes).boxed())
    }
}

#[async_trait]
impl Catalog for RedbCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        self.change(bucket, key.clone(), move |current, revision, key| {
            match (when, current) {
                (Precondition::Absent, Some(_)) => Err(ErrorKind::AlreadyExists),
                (Precondition::At(wanted), ref current)
                    if current.as_ref().is_none_or(|entry| entry.revision != wanted) =>
                {
                    Err(ErrorKind::Conflict)
                }
                _ => Ok(CatalogEvent::Put(Entry { key, value, revision })),
            }
        })
        .await
        .map_err(|fault| fault.of(format!("write `{key}` in {bucket}")))
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        self.change(bucket, key.clone(), move |current, _, key| {
            match (when, current) {
                (_, None) => Err(ErrorKind::NotFound),
                (Precondition::Absent, Some(_)) => Err(ErrorKind::Conflict),
                (Precondition::At(wanted), Some(entry)) if entry.revision != wanted => {
                    Err(ErrorKind::Conflict)
                }
                _ => Ok(CatalogEvent::Deleted(key)),
            }
        })
        .await
        .map(drop)
        .map_err(|fault| fault.of(format!("delete `{key}` in {bucket}")))
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        task::read(&self.engine, move |txn| document::list(txn, bucket))
            .await
            .map_err(|fault| fault.of(format!("list {bucket}")))
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        let name = key.clone();
        task::read(&self.engine, move |txn| document::history(txn, bucket, &name))
            .await
            .map_err(|fault| fault.of(format!("read the versions of `{key}` in {bucket}")))
    }
}
