//! The behaviour that every backend shows.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be prepared fails the test that wants it"
)]

use std::{path::PathBuf, sync::Arc};

use kanade_conformance::{CatalogFactory, StoreFactory, quick_folder};
use kanade_ports::{Catalog, ExecutionStore};
use kanade_sqlite::Database;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A database in a folder of its own, and the handle that is open.
struct Sqlite {
    folder: TempDir,
    open: Mutex<Option<Database>>,
}

impl Sqlite {
    fn new(folder: TempDir) -> Self {
        Self {
            folder,
            open: Mutex::new(None),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kanade.db")
    }

    /// Stops cleanly, if it is open, and starts.
    async fn start(&self) -> Database {
        let mut open = self.open.lock().await;
        if let Some(database) = open.take() {
            database.close().await.unwrap();
        }
        open.insert(Database::open(&self.path()).await.unwrap()).clone()
    }
}

impl StoreFactory for Sqlite {
    async fn fresh() -> Self {
        Self::new(tempfile::tempdir().unwrap())
    }

    async fn quick() -> Self {
        Self::new(tempfile::tempdir_in(quick_folder()).unwrap())
    }

    async fn open(&self) -> Arc<dyn ExecutionStore> {
        self.start().await.store()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

impl CatalogFactory for Sqlite {
    async fn fresh() -> Self {
        Self::new(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        self.start().await.catalog()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

kanade_conformance::store_suite!(Sqlite);
kanade_conformance::catalog_suite!(Sqlite);
