//! Typed documents over the catalog: one wrapper for every bucket.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use kanade_model::{AgentGroups, ConfigScope, Freeze, Manifest, Schedule, ScriptStatus, Version};
use kanade_ports::{Bucket, Catalog, Clock, Entry, ErrorKind, Key, Precondition, Revision, StoreError};

use crate::{Error, error::Result, view::CatalogView};

/// A kind of document: where it is kept and how it is written.
pub trait Document: Sized {
    /// Its bucket.
    const BUCKET: Bucket;
    /// Its name in errors.
    const WHAT: &'static str;

    /// Reads the stored text.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn decode(text: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>>;
    /// The text to store.
    fn encode(&self) -> Bytes;
}

macro_rules! json_document {
    ($($type:ty: $bucket:ident, $what:literal;)+) => { $(
        impl Document for $type {
            const BUCKET: Bucket = Bucket::$bucket;
            const WHAT: &'static str = $what;

            fn decode(text: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok(serde_json::from_slice(text)?)
            }

            fn encode(&self) -> Bytes {
                serde_json::to_vec(self).expect("a document has string keys only").into()
            }
        }
    )+ };
}

json_document! {
    Manifest: Jobs, "job";
    Schedule: Schedules, "schedule";
    ConfigScope: AgentConfig, "configuration";
    AgentGroups: AgentGroups, "groups of agent";
    Freeze: Freezes, "freeze";
}

macro_rules! text_document {
    ($($type:ty: $bucket:ident, $what:literal;)+) => { $(
        impl Document for $type {
            const BUCKET: Bucket = Bucket::$bucket;
            const WHAT: &'static str = $what;

            fn decode(text: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok(std::str::from_utf8(text)?.parse()?)
            }

            fn encode(&self) -> Bytes {
                Bytes::copy_from_slice(self.as_str().as_bytes())
            }
        }
    )+ };
}

text_document! {
    ScriptStatus: ScriptStatus, "script status of job";
    Version: ScriptCurrent, "pinned version of job";
}

/// A document and the revision it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<D> {
    /// The document.
    pub document: D,
    /// Its revision.
    pub revision: Revision,
}

/// The documents of the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    catalog: Arc<dyn Catalog>,
    view: CatalogView,
    clock: Arc<dyn Clock>,
}

impl Documents {
    /// Documents in `catalog`, as `view` shows them.
    pub fn new(catalog: Arc<dyn Catalog>, view: CatalogView, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, view, clock }
    }

    /// A document as the catalog itself has it: for decisions.
    ///
    /// # Errors
    /// `Corrupt` when the stored text cannot be read.
    pub async fn read<D: Document>(&self, key: &Key) -> Result<Option<Stored<D>>> {
        match self.catalog.get(D::BUCKET, key).await? {
            Some(entry) => Ok(Some(decode(&entry)?)),
            None => Ok(None),
        }
    }

    /// A document from memory; asks the catalog on a miss.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn peek<D: Document>(&self, key: &Key) -> Result<Option<Stored<D>>> {
        match self.view.get(D::BUCKET, key) {
            Some(entry) => Ok(Some(decode(&entry)?)),
            None => self.read(key).await,
        }
    }

    /// Every document of a kind from memory, in the order of the keys. One that cannot be read is left out and logged.
    pub fn list<D: Document>(&self) -> Vec<(Key, Stored<D>)> {
        readable(self.view.list(D::BUCKET))
    }

    /// The documents of a kind, from memory, that cannot be read, each with what is wrong with it.
    pub fn unreadable<D: Document>(&self) -> Vec<(Key, String)> {
        let entries = self.view.list(D::BUCKET).into_iter();
        entries
            .filter_map(|entry| match D::decode(&entry.value) {
                Ok(_) => None,
                Err(error) => Some((entry.key, error.to_string())),
            })
            .collect()
    }

    /// Every document of a kind as the catalog itself has it: for decisions. One that cannot be read is left out
    /// and logged.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn read_all<D: Document>(&self) -> Result<Vec<(Key, Stored<D>)>> {
        Ok(readable(self.catalog.list(D::BUCKET).await?))
    }

    /// Whether the catalog holds no document of a kind, not even one that cannot be read: for decisions.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn has_none<D: Document>(&self) -> Result<bool> {
        Ok(self.catalog.list(D::BUCKET).await?.is_empty())
    }

    /// The newest versions of a document, newest first. One that cannot be read is left out and logged.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn history<D: Document>(&self, key: &Key) -> Result<Vec<Stored<D>>> {
        let versions = self.catalog.history(D::BUCKET, key).await?;
        Ok(readable(versions).into_iter().map(|(_, stored)| stored).collect())
    }

    /// Writes a document; returns when it shows in [`list`](Self::list).
    ///
    /// # Errors
    /// [`Error::Changed`] when the precondition does not hold.
    pub async fn write<D: Document>(&self, key: &Key, document: &D, when: Precondition) -> Result<Revision> {
        let revision = match self.catalog.put(D::BUCKET, key, document.encode(), when).await {
            Ok(revision) => revision,
            Err(error) => return Err(changed::<D>(error, key)),
        };
        self.view.wait_written(&*self.clock, D::BUCKET, revision).await;
        Ok(revision)
    }

    /// Deletes a document; returns when it no longer shows.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there, [`Error::Changed`] when the precondition does not hold.
    pub async fn delete<D: Document>(&self, key: &Key, when: Precondition) -> Result<()> {
        let before = self.view.get(D::BUCKET, key);
        self.catalog
            .delete(D::BUCKET, key, when)
            .await
            .map_err(|error| changed::<D>(error, key))?;
        if let Some(before) = before {
            self.view.wait_deleted(&*self.clock, D::BUCKET, &before).await;
        }
        Ok(())
    }

    /// Reads, changes and writes a document, again if somebody else changes it meanwhile.
    ///
    /// # Errors
    /// [`Error::Changed`] when others keep changing it.
    pub async fn update<D: Document + Default + PartialEq + Clone>(
        &self,
        key: &Key,
        change: impl Fn(D) -> D,
    ) -> Result<D> {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let stored = self.read::<D>(key).await?;
            let (before, when) = match stored {
                Some(stored) => (Some(stored.document), Precondition::At(stored.revision)),
                None => (None, Precondition::Absent),
            };
            let after = change(before.clone().unwrap_or_default());
            if before.as_ref() == Some(&after) {
                return Ok(after);
            }
            match self.write(key, &after, when).await {
                Ok(_) => return Ok(after),
                Err(Error::Changed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Changed {
            what: D::WHAT,
            id: key.to_string(),
        })
    }
}

/// The error for a document that is not there.
pub(crate) fn not_found<D: Document>(id: impl Display) -> Error {
    Error::NotFound {
        what: D::WHAT,
        id: id.to_string(),
    }
}

fn decode<D: Document>(entry: &Entry) -> Result<Stored<D>, StoreError> {
    match D::decode(&entry.value) {
        Ok(document) => Ok(Stored {
            document,
            revision: entry.revision,
        }),
        Err(error) => {
            let operation = format!("read {} `{}`", D::WHAT, entry.key);
            Err(StoreError::new(ErrorKind::Corrupt, operation).because(error))
        }
    }
}

fn readable<D: Document>(entries: Vec<Entry>) -> Vec<(Key, Stored<D>)> {
    entries
        .into_iter()
        .filter_map(|entry| match decode(&entry) {
            Ok(stored) => Some((entry.key, stored)),
            Err(error) => {
                tracing::warn!(error = %crate::error::chain(&error), "left out of a list");
                None
            }
        })
        .collect()
}

fn changed<D: Document>(error: StoreError, key: &Key) -> Error {
    match error.kind() {
        ErrorKind::Conflict | ErrorKind::AlreadyExists => Error::Changed {
            what: D::WHAT,
            id: key.to_string(),
        },
        ErrorKind::NotFound => Error::NotFound {
            what: D::WHAT,
            id: key.to_string(),
        },
        _ => error.into(),
    }
}
