//! The catalog in KV buckets: a document is a subject, a version a message, a revision its number in the stream.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::{HeaderMap, jetstream::ErrorCode};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition,
    Revision, StoreError,
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    feed::Feed,
    key,
    link::{Fault, Link, MESSAGE_ID},
    plan,
};

/// How many versions of a document are told. A deletion takes the place of one until newer versions push it out.
const VERSIONS: usize = 5;
/// How often a write is tried again that somebody else came before.
const RACES: usize = 32;

const OPERATION: &str = "KV-Operation";
const MARKER: &str = "Nats-Marker-Reason";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

pub(crate) struct NatsCatalog {
    link: Arc<Link>,
    /// The newest revision that this server was given, per bucket.
    written: BTreeMap<Bucket, AtomicU64>,
}

impl NatsCatalog {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let written = Bucket::ALL.iter().map(|bucket| (*bucket, AtomicU64::new(0)));
        Self {
            link,
            written: written.collect(),
        }
    }

    /// The newest message of a document, from the stream's leader: a replica might not know it yet.
    async fn newest(&self, bucket: Bucket, key: &Key) -> Result<Option<Version>, Fault> {
        self.version(bucket, json!({"last_by_subj": subject(bucket, key)}))
            .await
    }

    async fn version(&self, bucket: Bucket, which: serde_json::Value) -> Result<Option<Version>, Fault> {
        let path = format!("STREAM.MSG.GET.{}", plan::stream_of_bucket(bucket));
        match self.link.api::<Found>(&path, &which).await {
            Ok(found) => Version::read(found.message).map(Some),
            Err(Fault::Api(error)) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Everything that is kept of a document, deletions too, oldest first.
    async fn versions(&self, bucket: Bucket, key: &Key) -> Result<Vec<Version>, Fault> {
        let subject = subject(bucket, key);
        let mut versions = Vec::new();
        let mut from = 1;
        while let Some(version) = self
            .version(bucket, json!({"seq": from, "next_by_subj": subject}))
            .await?
        {
            from = version.sequence + 1;
            versions.push(version);
        }
        Ok(versions)
    }

    /// Writes a version if the newest message of the document has this number (0: there is none). A lost answer is
    /// asked for again: the name of the write tells whether it was made.
    async fn write(
        &self,
        bucket: Bucket,
        key: &Key,
        write: Write,
        doing: &str,
    ) -> Result<Written, StoreError> {
        let id = Uuid::new_v4().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, id.as_str());
        if let Some(expected) = write.expected {
            headers.insert(EXPECTED, expected.to_string().as_str());
        }
        if write.value.is_none() {
            headers.insert(OPERATION, "DEL");
        }
        let value = write.value.unwrap_or_default();
        let mut in_doubt = None;
        for _ in 0..2 {
            let kept = self
                .link
                .keep(subject(bucket, key), headers.clone(), value.clone())
                .await;
            match kept {
                Ok(ack) => return Ok(self.made(bucket, ack.sequence)),
                Err(Fault::Api(error)) if wrong_sequence(error.error_code()) => {
                    let Some(doubt) = in_doubt else {
                        return Ok(Written::Refused);
                    };
                    // It may have been our own first attempt that came before.
                    let versions = self.versions(bucket, key).await;
                    let versions = versions.map_err(|_| indeterminate(doing, doubt))?;
                    let ours = versions
                        .iter()
                        .find(|version| version.message_id.as_deref() == Some(&id));
                    return Ok(ours.map_or(Written::Refused, |ours| self.made(bucket, ours.sequence)));
                }
                Err(fault) if fault.leaves_doubt() => in_doubt = Some(fault),
                Err(fault) => {
                    return Err(match in_doubt {
                        Some(doubt) => indeterminate(doing, doubt),
                        None => unchanged(doing, fault),
                    });
                }
            }
        }
        Err(indeterminate(doing, in_doubt.unwrap_or(Fault::TimedOut)))
    }

    fn made(&self, bucket: Bucket, sequence: u64) -> Written {
        if let Some(written) = self.written.get(&bucket) {
            written.fetch_max(sequence, Ordering::Relaxed);
        }
        Written::At(Revision(sequence))
    }

    async fn standing(
        &self,
        bucket: Bucket,
        doing: &str,
    ) -> Result<(Feed, BTreeMap<Key, Entry>), StoreError> {
        let feed = Feed::open(Arc::clone(&self.link), bucket).await;
        let mut feed = feed.map_err(|fault| unchanged(doing, fault))?;
        let written = self
            .written
            .get(&bucket)
            .map_or(0, |written| written.load(Ordering::Relaxed));
        let documents = feed.standing(written).await;
        let documents = documents.ok_or_else(|| unchanged(doing, Fault::Lost))?;
        Ok((feed, documents))
    }
}

/// What to write: a value or a deletion, and what must be the newest message before it.
struct Write {
    value: Option<Bytes>,
    expected: Option<u64>,
}

enum Written {
    At(Revision),
    /// Another message is the newest.
    Refused,
}

#[async_trait]
impl CatalogReader for NatsCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let newest = self.newest(bucket, key).await;
        let newest = newest.map_err(|fault| unchanged(&format!("read `{key}` in {bucket}"), fault))?;
        Ok(newest.and_then(|version| version.entry(key)))
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        let (feed, documents) = self.standing(bucket, &format!("watch {bucket}")).await?;
        let standing = documents
            .into_values()
            .map(CatalogEvent::Put)
            .chain([CatalogEvent::Current]);
        let changes = stream::unfold(feed, |mut feed| async move {
            let change = feed.next().await?;
            Some((change, feed))
        });
        Ok(stream::iter(standing).chain(changes).boxed())
    }
}

#[async_trait]
impl Catalog for NatsCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        let doing = format!("write `{key}` in {bucket}");
        for _ in 0..RACES {
            // A deletion is a message too, so its number does not say that the document is there.
            let expected = match when {
                Precondition::Any => None,
                _ => {
                    let newest = self
                        .newest(bucket, key)
                        .await
                        .map_err(|fault| unchanged(&doing, fault))?;
                    match (when, newest) {
                        (Precondition::At(wanted), Some(version))
                            if !version.deletion && version.sequence == wanted.0 =>
                        {
                            Some(version.sequence)
                        }
                        (Precondition::At(_), _) => return Err(StoreError::new(ErrorKind::Conflict, doing)),
                        (_, Some(version)) if !version.deletion => {
                            return Err(StoreError::new(ErrorKind::AlreadyExists, doing));
                        }
                        (_, newest) => Some(newest.map_or(0, |version| version.sequence)),
                    }
                }
            };
            let write = Write {
                value: Some(value.clone()),
                expected,
            };
            if let Written::At(revision) = self.write(bucket, key, write, &doing).await? {
                return Ok(revision);
            }
        }
        Err(raced(doing))
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        let doing = format!("delete `{key}` in {bucket}");
        for _ in 0..RACES {
            let newest = self
                .newest(bucket, key)
                .await
                .map_err(|fault| unchanged(&doing, fault))?;
            let Some(version) = newest.filter(|version| !version.deletion) else {
                return Err(StoreError::new(ErrorKind::NotFound, doing));
            };
            let refused = match when {
                Precondition::Any => false,
                Precondition::Absent => true,
                Precondition::At(wanted) => wanted.0 != version.sequence,
            };
            if refused {
                return Err(StoreError::new(ErrorKind::Conflict, doing));
            }
            let write = Write {
                value: None,
                expected: Some(version.sequence),
            };
            if let Written::At(_) = self.write(bucket, key, write, &doing).await? {
                return Ok(());
            }
        }
        Err(raced(doing))
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        let (_, documents) = self.standing(bucket, &format!("list {bucket}")).await?;
        Ok(documents.into_values().collect())
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        let versions = self.versions(bucket, key).await;
        let versions = versions
            .map_err(|fault| unchanged(&format!("read the history of `{key}` in {bucket}"), fault))?;
        let newest_first = versions
            .into_iter()
            .rev()
            .filter_map(|version| version.entry(key));
        Ok(newest_first.take(VERSIONS).collect())
    }
}

impl fmt::Debug for NatsCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsCatalog")
    }
}

/// One message of a document.
struct Version {
    sequence: u64,
    deletion: bool,
    message_id: Option<String>,
    value: Bytes,
}

impl Version {
    fn read(stored: Stored) -> Result<Self, Fault> {
        let bytes = |text: Option<String>| {
            STANDARD
                .decode(text.unwrap_or_default())
                .map_err(|error| Fault::Client(error.into()))
        };
        let headers = String::from_utf8_lossy(&bytes(stored.hdrs)?).into_owned();
        let header = |wanted: &str| {
            let mut fields = headers.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = fields.find(|(name, _)| *name == wanted)?;
            Some(value.trim().to_owned())
        };
        Ok(Self {
            sequence: stored.seq,
            deletion: deletes(header(OPERATION).as_deref(), header(MARKER).as_deref()),
            message_id: header(MESSAGE_ID),
            value: bytes(stored.data)?.into(),
        })
    }

    fn entry(self, key: &Key) -> Option<Entry> {
        (!self.deletion).then(|| Entry {
            key: key.clone(),
            value: self.value,
            revision: Revision(self.sequence),
        })
    }
}

/// A message as JetStream gives it by number.
#[derive(Deserialize)]
struct Found {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    data: Option<String>,
    hdrs: Option<String>,
}

/// Whether a message with these headers says that the document is gone.
pub(crate) fn is_deletion(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    deletes(header(OPERATION), header(MARKER))
}

fn deletes(operation: Option<&str>, marker: Option<&str>) -> bool {
    matches!(operation, Some("DEL" | "PURGE")) || marker.is_some()
}

/// Where the versions of a document are.
pub(crate) fn subject(bucket: Bucket, key: &Key) -> String {
    format!("$KV.{bucket}.{}", key::stored(key))
}

fn wrong_sequence(code: ErrorCode) -> bool {
    code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE || code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
}

/// Nothing was changed, or there was nothing to change.
fn unchanged(doing: &str, fault: Fault) -> StoreError {
    let kind = match &fault {
        Fault::TooLarge => ErrorKind::Unsupported,
        Fault::Api(error) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Unavailable,
    };
    StoreError::new(kind, doing).because(fault)
}

fn indeterminate(doing: &str, fault: Fault) -> StoreError {
    StoreError::new(ErrorKind::Indeterminate, doing).because(fault)
}

fn raced(doing: String) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, doing).because("others write the same document all the time")
}
