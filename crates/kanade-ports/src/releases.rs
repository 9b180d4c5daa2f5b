//! Releases: the programs that agents update themselves to.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_model::{Timestamp, Version};

use crate::StoreError;

/// A program of an agent, by its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: Version,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in the way of NATS: `SHA-256=` and URL-safe base64 with padding.
    pub digest: String,
    /// When it was stored.
    pub modified: Timestamp,
}

/// Keeps releases.
///
/// To be correct, a backend shows a release only when all of it is stored, and never shows a mixture of two.
#[async_trait]
pub trait Releases: Send + Sync + 'static {
    /// Every release, by version.
    async fn list(&self) -> Result<Vec<Release>, StoreError>;

    /// Stores a program, replacing one of the same version. An error of `program` leaves what was there.
    async fn put(
        &self,
        version: &Version,
        program: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<Release, StoreError>;

    /// A program and its bytes. `None` when there is none of this version.
    async fn get(
        &self,
        version: &Version,
    ) -> Result<Option<(Release, BoxStream<'static, std::io::Result<Bytes>>)>, StoreError>;

    /// Removes one.
    ///
    /// # Errors
    /// `NotFound` when there is none of this version.
    async fn delete(&self, version: &Version) -> Result<(), StoreError>;
}
