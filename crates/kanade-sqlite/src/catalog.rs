//! The catalog: documents in buckets. The number of a version is its revision.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future, stream};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition,
    Revision, StoreError,
};
use sqlx::SqliteConnection;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::{codec::Columns, database::Database, fault::Fault, statement::Statement};

/// How many versions of a document are kept.
const VERSIONS: i64 = 5;
/// How many changes a watcher may be behind before it has to begin anew.
const LAG: usize = 1024;

/// The [`Catalog`] in a [`Database`].
#[derive(Debug)]
pub struct SqliteCatalog {
    database: Database,
}

/// Tells watchers of changes, bucket by bucket. Only used in a writer's turn, so that changes are told in the order of
/// their commits.
#[derive(Debug)]
pub(crate) struct Feeds(Vec<broadcast::Sender<CatalogEvent>>);

impl Feeds {
    pub(crate) fn new() -> Self {
        Self(Bucket::ALL.iter().map(|_| broadcast::Sender::new(LAG)).collect())
    }

    fn of(&self, bucket: Bucket) -> &broadcast::Sender<CatalogEvent> {
        &self.0[bucket as usize]
    }

    pub(crate) fn tell(&self, bucket: Bucket, event: CatalogEvent) {
        // An error only says that nobody watches.
        drop(self.of(bucket).send(event));
    }
}

impl SqliteCatalog {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl CatalogReader for SqliteCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let read = async {
            Statement::new(
                "SELECT document_key, versions.revision, value \
                 FROM documents JOIN versions USING (bucket, document_key, revision) \
                 WHERE bucket = ?1 AND document_key = ?2",
            )
            .with(bucket.as_str())
            .with(key.as_str())
            .one(&mut *self.database.read().await?, entry)
            .await
        };
        read.await
            .map_err(|fault| fault.during(format!("read `{key}` in {bucket}")))
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        // Both in one turn between writers: nothing is missed, told twice, or out of order.
        let begun = self.database.between_writes(async |conn, feeds| {
            let changes = feeds.of(bucket).subscribe();
            Ok((list(conn, bucket).await?, changes))
        });
        let (entries, changes) = begun
            .await
            .map_err(|fault| fault.during(format!("watch {bucket}")))?;
        let now = entries
            .into_iter()
            .map(CatalogEvent::Put)
            .chain([CatalogEvent::Current]);
        // The first error says that changes were lost to a slow watcher.
        let then = BroadcastStream::new(changes)
            .take_while(|change| future::ready(change.is_ok()))
            .filter_map(|change| future::ready(change.ok()));
        Ok(stream::iter(now).chain(then).boxed())
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        let document = key.clone();
        let written = self.database.write(
            move |conn| put(conn, bucket, document, value, when).boxed(),
            move |entry, feeds| feeds.tell(bucket, CatalogEvent::Put(entry.clone())),
        );
        written
            .await
            .map(|entry| entry.revision)
            .map_err(|fault| fault.during(format!("write `{key}` in {bucket}")))
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        let document = key.clone();
        let told = CatalogEvent::Deleted(key.clone());
        let deleted = self.database.write(
            move |conn| async move { delete(conn, bucket, &document, when).await }.boxed(),
            move |(), feeds| feeds.tell(bucket, told),
        );
        deleted
            .await
            .map_err(|fault| fault.during(format!("delete `{key}` in {bucket}")))
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        let read = async { list(&mut *self.database.read().await?, bucket).await };
        read.await.map_err(|fault| fault.during(format!("list {bucket}")))
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        let read = async {
            Statement::new(
                "SELECT document_key, revision, value FROM versions \
                 WHERE bucket = ?1 AND document_key = ?2 ORDER BY revision DESC LIMIT ?3",
            )
            .with(bucket.as_str())
            .with(key.as_str())
            .with(VERSIONS)
            .map(&mut *self.database.read().await?, entry)
            .await
        };
        read.await
            .map_err(|fault| fault.during(format!("read the history of `{key}` in {bucket}")))
    }
}

async fn put(
    conn: &mut SqliteConnection,
    bucket: Bucket,
    key: Key,
    value: Bytes,
    when: Precondition,
) -> Result<Entry, Fault> {
    match (when, current(conn, bucket, &key).await?) {
        (Precondition::Absent, Some(_)) => return Err(Fault::of(ErrorKind::AlreadyExists)),
        (Precondition::At(expected), now) if now != Some(expected) => {
            return Err(Fault::of(ErrorKind::Conflict));
        }
        _ => {}
    }
    let revision = Statement::new(
        "INSERT INTO versions (bucket, document_key, value) VALUES (?1, ?2, ?3) RETURNING revision",
    )
    .with(bucket.as_str())
    .with(key.as_str())
    .with(&*value)
    .one(conn, revision)
    .await?
    .ok_or_else(|| Fault::new(ErrorKind::Corrupt, "a version was written without a number"))?;
    Statement::new(
        "INSERT INTO documents (bucket, document_key, revision) VALUES (?1, ?2, ?3) \
         ON CONFLICT (bucket, document_key) DO UPDATE SET revision = excluded.revision",
    )
    .with(bucket.as_str())
    .with(key.as_str())
    .with(revision.0.cast_signed())
    .execute(conn)
    .await?;
    Statement::new(
        "DELETE FROM versions WHERE bucket = ?1 AND document_key = ?2 AND revision <= \
         (SELECT revision FROM versions WHERE bucket = ?1 AND document_key = ?2 \
          ORDER BY revision DESC LIMIT 1 OFFSET ?3)",
    )
    .with(bucket.as_str())
    .with(key.as_str())
    .with(VERSIONS)
    .execute(conn)
    .await?;
    Ok(Entry { key, value, revision })
}

async fn delete(
    conn: &mut SqliteConnection,
    bucket: Bucket,
    key: &Key,
    when: Precondition,
) -> Result<(), Fault> {
    let Some(now) = current(conn, bucket, key).await? else {
        return Err(Fault::of(ErrorKind::NotFound));
    };
    match when {
        Precondition::Any => {}
        Precondition::At(expected) if expected == now => {}
        Precondition::At(_) | Precondition::Absent => return Err(Fault::of(ErrorKind::Conflict)),
    }
    Statement::new("DELETE FROM documents WHERE bucket = ?1 AND document_key = ?2")
        .with(bucket.as_str())
        .with(key.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// The revision of a document that is there.
async fn current(conn: &mut SqliteConnection, bucket: Bucket, key: &Key) -> Result<Option<Revision>, Fault> {
    Statement::new("SELECT revision FROM documents WHERE bucket = ?1 AND document_key = ?2")
        .with(bucket.as_str())
        .with(key.as_str())
        .one(conn, revision)
        .await
}

async fn list(conn: &mut SqliteConnection, bucket: Bucket) -> Result<Vec<Entry>, Fault> {
    Statement::new(
        "SELECT document_key, versions.revision, value \
         FROM documents JOIN versions USING (bucket, document_key, revision) \
         WHERE bucket = ?1 ORDER BY document_key",
    )
    .with(bucket.as_str())
    .map(conn, entry)
    .await
}

fn entry(columns: &mut Columns<'_>) -> Result<Entry, Fault> {
    Ok(Entry {
        key: columns.text()?,
        revision: revision(columns)?,
        value: columns.take::<Vec<u8>>()?.into(),
    })
}

fn revision(columns: &mut Columns<'_>) -> Result<Revision, Fault> {
    Ok(Revision(columns.take::<i64>()?.cast_unsigned()))
}
