//! The behaviour every backend must show, on a data file.

#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::sync::{Arc, Mutex};

use kanade_conformance::{CatalogFactory, StoreFactory, quick_folder};
use kanade_ports::{Catalog, ExecutionStore};
use kanade_redb::Database;
use tempfile::TempDir;

/// A data file in a folder of its own.
struct Place {
    folder: TempDir,
    open: Mutex<Option<Database>>,
}

impl Place {
    fn new(folder: TempDir) -> Self {
        Self {
            folder,
            open: Mutex::default(),
        }
    }

    fn database(&self) -> Database {
        Database::open(&self.folder.path().join("kanade.redb")).unwrap()
    }

    fn store(&self) -> Arc<dyn ExecutionStore> {
        let database = self.database();
        let store = database.store();
        *self.open.lock().unwrap() = Some(database);
        store
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        let database = self.database();
        let catalog = database.catalog();
        *self.open.lock().unwrap() = Some(database);
        catalog
    }

    /// A clean stop.
    async fn close(&self) {
        let database = self.open.lock().unwrap().take();
        database.unwrap().close().await.unwrap();
    }
}

impl StoreFactory for Place {
    async fn fresh() -> Self {
        Self::new(tempfile::tempdir().unwrap())
    }

    async fn quick() -> Self {
        Self::new(tempfile::tempdir_in(quick_folder()).unwrap())
    }

    async fn open(&self) -> Arc<dyn ExecutionStore> {
        self.store()
    }

    async fn reopen(&self, old: Arc<dyn ExecutionStore>) -> Arc<dyn ExecutionStore> {
        self.close().await;
        drop(old);
        self.store()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

impl CatalogFactory for Place {
    async fn fresh() -> Self {
        Self::new(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        self.catalog()
    }

    async fn reopen(&self, old: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        self.close().await;
        drop(old);
        self.catalog()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

kanade_conformance::store_suite!(Place);
kanade_conformance::catalog_suite!(Place);
