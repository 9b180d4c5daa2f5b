//! Releases: the programs that agents update themselves to.

use std::io;

use async_trait::async_trait;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_model::{Timestamp, Version};
use sha2::{Digest, Sha256};

use crate::StoreError;

/// The way of writing a digest that readers of NATS object stores know.
const SHA256: &str = "SHA-256=";

/// The bytes of a program as they come. After an error nothing more comes.
pub type Program = BoxStream<'static, io::Result<Bytes>>;

/// A program of an agent, by its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: Version,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in the way of NATS: `SHA-256=` and URL-safe base64 with padding. Empty where whoever stored it gave
    /// none.
    pub digest: String,
    /// When it was stored.
    pub modified: Timestamp,
}

/// The part of [`Releases`] that an agent has.
#[async_trait]
pub trait ReleaseReader: Send + Sync + 'static {
    /// One release.
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError>;

    /// A program and its bytes. `None` when there is none of this version. Whoever reads them compares their digest with
    /// the release's.
    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError>;
}

/// Keeps releases.
///
/// To be correct, a backend
/// - shows a release only when all of it is stored durably, also after a crash in the middle;
/// - never gives a mixture of two programs: who reads one that is replaced or deleted meanwhile gets all of it or an
///   error;
/// - keeps `put` whole when its caller goes away in the middle: what was there, or all of the new one.
#[async_trait]
pub trait Releases: ReleaseReader {
    /// Every release, in the order of the versions' text.
    async fn list(&self) -> Result<Vec<Release>, StoreError>;

    /// Stores a program, replacing one of the same version.
    ///
    /// # Errors
    /// `Unavailable` when `program` breaks off or cannot be written: what was there stays. `Indeterminate` when it is not known.
    /// `Unsupported` for a version whose text cannot be stored; whatever [`Version::check`] accepts can be.
    async fn put(&self, version: &Version, program: Program) -> Result<Release, StoreError>;

    /// Removes one.
    ///
    /// # Errors
    /// `NotFound` when there is none of this version.
    async fn delete(&self, version: &Version) -> Result<(), StoreError>;
}

impl Release {
    /// The digest as `Repr-Digest` (RFC 9530) has it: `sha-256=:…:`. `None` where it is not known.
    pub fn repr_digest(&self) -> Option<String> {
        let hash = URL_SAFE.decode(self.digest.strip_prefix(SHA256)?).ok()?;
        Some(format!("sha-256=:{}:", STANDARD.encode(hash)))
    }

    /// The digest that [`repr_digest`](Self::repr_digest) has written.
    pub fn digest_of(repr_digest: &str) -> Option<String> {
        let hash = repr_digest.strip_prefix("sha-256=:")?.strip_suffix(':')?;
        let hash = STANDARD.decode(hash).ok()?;
        Some(format!("{SHA256}{}", URL_SAFE.encode(hash)))
    }
}

/// The size and the digest of a program, reckoned as it passes.
#[derive(Debug, Clone, Default)]
pub struct Measure {
    hash: Sha256,
    size: u64,
}

impl Measure {
    /// Takes in the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// How many bytes have passed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of what has passed, as [`Release::digest`] has it.
    pub fn digest(self) -> String {
        format!("{SHA256}{}", URL_SAFE.encode(self.hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_its_readers_know_it() {
        let mut measure = Measure::default();
        measure.take(b"a");
        measure.take(b"bc");
        assert_eq!(measure.size(), 3);
        // The example of FIPS 180-2, appendix B.1.
        let digest = measure.digest();
        assert_eq!(digest, "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=");
        let mut release = Release {
            version: "1".parse().unwrap(),
            size: 3,
            digest,
            modified: Timestamp::UNIX_EPOCH,
        };
        let header = release.repr_digest();
        assert_eq!(
            header.as_deref(),
            Some("sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:")
        );
        assert_eq!(
            header.as_deref().and_then(Release::digest_of),
            Some(release.digest.clone())
        );
        assert_eq!(Release::digest_of("md5=:AAAA:"), None);
        for unknown in ["", "SHA-256=?", "MD5=AAAA"] {
            release.digest = unknown.into();
            assert_eq!(release.repr_digest(), None, "{unknown:?}");
        }
    }
}
