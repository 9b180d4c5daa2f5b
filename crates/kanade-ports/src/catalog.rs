//! The catalog port: the documents operators edit, in buckets, with revisions.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_model::{GroupName, Invalid, JobId, PcId, ScheduleId};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// What everybody may do with a catalog, an agent too.
///
/// To be correct, a backend delivers to every watcher all entries first, then each change in the order of its commit.
#[async_trait]
pub trait CatalogReader: Send + Sync + 'static {
    /// The newest version of a document.
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Every document of a bucket as it stands, then [`CatalogEvent::Current`], then each change. The stream ends
    /// when events would be lost (a slow watcher, a lost connection): watch again then.
    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError>;
}

/// Keeps documents under keys, each with a revision and the newest five versions.
///
/// To be correct, a backend
/// - makes a write durable before it answers;
/// - decides a [`Precondition`] and writes in one step, so that of any number of racing writers that expect the
///   same state exactly one succeeds;
/// - gives a key that is deleted and written again a revision it never had before.
#[async_trait]
pub trait Catalog: CatalogReader {
    /// Writes a document.
    ///
    /// # Errors
    /// `AlreadyExists` for [`Precondition::Absent`] on a document that is there; `Conflict` for
    /// [`Precondition::At`] when the document has another revision or is gone.
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError>;

    /// Deletes a document; its history stays readable.
    ///
    /// # Errors
    /// `NotFound` when it is not there; `Conflict` for [`Precondition::At`] with another revision or
    /// [`Precondition::Absent`] on a document that is there.
    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError>;

    /// Every document of a bucket, in the order of the keys.
    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError>;

    /// The newest five versions of a document, newest first; empty when it never existed. A deletion is not a version.
    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError>;
}

/// What a watcher reads.
pub type CatalogStream = BoxStream<'static, CatalogEvent>;

/// One step of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogEvent {
    /// A document as it stands, or as it was just written.
    Put(Entry),
    /// A document was deleted.
    Deleted(Key),
    /// Everything that was there when the watch began has been delivered.
    Current,
}

/// A document and the revision it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its text.
    pub value: Bytes,
    /// The revision of this version.
    pub revision: Revision,
}

/// Names a version of a document. Only good for comparing: gaps are normal, order means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .map(Self)
            .map_err(|_| Invalid::new("revision", text, "a number that an ETag of this document had"))
    }
}

/// What must hold for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    Any,
    /// There is no such document.
    Absent,
    /// The document has this revision.
    At(Revision),
}

macro_rules! buckets {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A kind of document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Bucket { $($(#[$doc])* #[serde(rename = $name)] $variant,)+ }

        impl Bucket {
            /// Every bucket.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in every backend.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

buckets! {
    /// Job id → manifest.
    Jobs = "jobs",
    /// Schedule id → schedule.
    Schedules = "schedules",
    /// Job id → `ACTIVE` or `REVOKED`.
    ScriptStatus = "script_status",
    /// Job id → the version last fired.
    ScriptCurrent = "script_current",
    /// `global`, `groups.{name}`, `pcs.{pc_id}` → configuration scope.
    AgentConfig = "agent_config",
    /// Pc id → groups.
    AgentGroups = "agent_groups",
    /// `freeze` → the freeze of the schedules. Older servers do not have it.
    Freezes = "freezes",
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names a document in its bucket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// The scope that holds for every agent.
    pub fn global_config() -> Self {
        Self("global".into())
    }

    /// The freeze of the schedules.
    pub fn freeze() -> Self {
        Self("freeze".into())
    }

    /// The scope of one group.
    pub fn group_config(group: &GroupName) -> Self {
        Self(format!("groups.{group}").into())
    }

    /// The scope of one agent.
    pub fn pc_config(pc: &PcId) -> Self {
        Self(format!("pcs.{pc}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > 512 {
            return Err(Invalid::new("key", text, "1 to 512 bytes of text"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Key {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.as_ref().to_owned()
    }
}

macro_rules! key_from {
    ($($id:ty),+) => { $(impl From<&$id> for Key {
        fn from(id: &$id) -> Self {
            Self(id.as_str().into())
        }
    })+ };
}
key_from!(JobId, ScheduleId, PcId);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}
