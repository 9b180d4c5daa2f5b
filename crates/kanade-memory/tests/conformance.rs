//! The reference backends against the behaviour every backend must show.

use std::sync::Arc;

use kanade_conformance::{BusFactory, CatalogFactory, StoreFactory};
use kanade_memory::{EmbeddedBus, MemoryCatalog, MemoryStore};
use kanade_ports::{Bus, Catalog, ExecutionStore};

/// What is opened is always new: memory does not survive a restart.
struct Memory;

impl StoreFactory for Memory {
    async fn fresh() -> Self {
        Self
    }

    async fn open(&self) -> Arc<dyn ExecutionStore> {
        Arc::new(MemoryStore::new())
    }

    fn survives_reopen(&self) -> bool {
        false
    }
}

impl CatalogFactory for Memory {
    async fn fresh() -> Self {
        Self
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(MemoryCatalog::new())
    }

    fn survives_reopen(&self) -> bool {
        false
    }
}

struct Embedded(EmbeddedBus);

impl BusFactory for Embedded {
    async fn fresh() -> Self {
        Self(EmbeddedBus::new())
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.0.clone())
    }

    fn keeps_without_consumer(&self) -> bool {
        false
    }
}

kanade_conformance::store_suite!(Memory);
kanade_conformance::catalog_suite!(Memory);
kanade_conformance::bus_suite!(Embedded);
