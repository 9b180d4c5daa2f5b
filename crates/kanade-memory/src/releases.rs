//! Releases in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kanade_model::Version;
use kanade_ports::{Clock, ErrorKind, Measure, Program, Release, ReleaseReader, Releases, StoreError};

/// The reference for [`Releases`]. What it holds does not survive a restart.
pub struct MemoryReleases {
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<Version, (Release, Vec<Bytes>)>>,
}

impl MemoryReleases {
    /// None yet; `clock` dates them.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            kept: Mutex::default(),
        }
    }
}

#[async_trait]
impl ReleaseReader for MemoryReleases {
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError> {
        let kept = self.kept.lock().expect("no panic while locked");
        Ok(kept.get(version).map(|(release, _)| release.clone()))
    }

    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError> {
        let kept = self.kept.lock().expect("no panic while locked");
        Ok(kept.get(version).map(|(release, bytes)| {
            let program = stream::iter(bytes.clone()).map(Ok).boxed();
            (release.clone(), program)
        }))
    }
}

#[async_trait]
impl Releases for MemoryReleases {
    async fn list(&self) -> Result<Vec<Release>, StoreError> {
        let kept = self.kept.lock().expect("no panic while locked");
        Ok(kept.values().map(|(release, _)| release.clone()).collect())
    }

    async fn put(&self, version: &Version, mut program: Program) -> Result<Release, StoreError> {
        let (mut measure, mut bytes) = (Measure::default(), Vec::new());
        let broken = |error| {
            StoreError::new(ErrorKind::Unavailable, format!("store release `{version}`")).because(error)
        };
        while let Some(more) = program.try_next().await.map_err(broken)? {
            measure.take(&more);
            bytes.push(more);
        }
        let release = Release {
            version: version.clone(),
            size: measure.size(),
            digest: measure.digest(),
            modified: self.clock.now(),
        };
        let mut kept = self.kept.lock().expect("no panic while locked");
        kept.insert(version.clone(), (release.clone(), bytes));
        Ok(release)
    }

    async fn delete(&self, version: &Version) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().expect("no panic while locked");
        let gone = || StoreError::new(ErrorKind::NotFound, format!("delete release `{version}`"));
        kept.remove(version).map(drop).ok_or_else(gone)
    }
}
