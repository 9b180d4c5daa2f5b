//! The reference backends against the behaviour every backend must show.

use std::sync::Arc;

use kanade_conformance::{
    AgentFactory, AgentSide, BusFactory, CatalogFactory, Cut, ReleasesFactory, StoreFactory,
};
use kanade_memory::{EmbeddedBus, MemoryCatalog, MemoryReleases, MemoryStore};
use kanade_model::PcId;
use kanade_ports::{Bus, Catalog, ExecutionStore, Releases, SystemClock};

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

impl ReleasesFactory for Memory {
    async fn fresh() -> Self {
        Self
    }

    async fn open(&self) -> Arc<dyn Releases> {
        Arc::new(MemoryReleases::new(Arc::new(SystemClock)))
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

/// Agents in the process of their server: what they use is what the server uses.
struct InProcess {
    bus: EmbeddedBus,
    catalog: Arc<MemoryCatalog>,
}

impl AgentFactory for InProcess {
    async fn fresh() -> Self {
        Self {
            bus: EmbeddedBus::new(),
            catalog: Arc::default(),
        }
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.bus.clone())
    }

    async fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    async fn agent(&self, _pc: &PcId) -> AgentSide {
        AgentSide {
            bus: Arc::new(self.bus.clone()),
            catalog: self.catalog.clone(),
        }
    }

    async fn cut(&self, _pc: &PcId) -> Option<Cut> {
        None
    }

    fn guards(&self) -> bool {
        false
    }

    fn keeps_without_consumer(&self) -> bool {
        false
    }
}

kanade_conformance::store_suite!(Memory);
kanade_conformance::catalog_suite!(Memory);
kanade_conformance::bus_suite!(Embedded);
kanade_conformance::agent_suite!(InProcess);
kanade_conformance::releases_suite!(Memory);
