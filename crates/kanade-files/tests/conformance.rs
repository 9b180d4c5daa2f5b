//! Releases in files against the behaviour every backend must show.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use kanade_conformance::ReleasesFactory;
use kanade_files::FileReleases;
use kanade_ports::{Releases, SystemClock};
use tempfile::TempDir;

struct Folder(TempDir);

impl ReleasesFactory for Folder {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Releases> {
        let folder = self.0.path().join("releases");
        Arc::new(FileReleases::open(&folder, Arc::new(SystemClock)).unwrap())
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

kanade_conformance::releases_suite!(Folder);
