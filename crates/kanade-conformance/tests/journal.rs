//! The example backend of `docs/write-a-backend.md` against the suites: what a backend's own test looks like.

#[path = "../examples/journal/mod.rs"]
mod journal;

use std::sync::Arc;

use journal::{JournalCatalog, JournalStore};
use kanade_conformance::{CatalogFactory, StoreFactory, quick_folder};
use kanade_ports::{Catalog, ExecutionStore};
use tempfile::TempDir;

struct Folder(TempDir);

impl StoreFactory for Folder {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    async fn quick() -> Self {
        Self(tempfile::tempdir_in(quick_folder()).expect("a temporary folder"))
    }

    async fn open(&self) -> Arc<dyn ExecutionStore> {
        let path = self.0.path().join("store.jsonl");
        Arc::new(JournalStore::open(&path).expect("a journal of our own"))
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

impl CatalogFactory for Folder {
    async fn fresh() -> Self {
        <Self as StoreFactory>::fresh().await
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        let path = self.0.path().join("catalog.jsonl");
        Arc::new(JournalCatalog::open(&path).expect("a journal of our own"))
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

kanade_conformance::store_suite!(Folder);
kanade_conformance::catalog_suite!(Folder);
