//! What a backend gives the suites: fresh places, and handles to them.

use std::{future::Future, sync::Arc};

use kanade_ports::{Bus, Catalog, ExecutionStore};

/// A place for one case's store. Implement the methods as `async fn`.
pub trait StoreFactory: Sized + Send + Sync + 'static {
    /// A new, empty place that no other case uses (a temporary folder, a database of its own). What it occupies is
    /// freed when the factory is dropped.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// Opens the place; every earlier handle to it has been dropped.
    fn open(&self) -> impl Future<Output = Arc<dyn ExecutionStore>> + Send;

    /// Closes `old`, the only handle there is, as a clean stop does, and opens the place again. Override it where
    /// closing is more than dropping.
    fn reopen(&self, old: Arc<dyn ExecutionStore>) -> impl Future<Output = Arc<dyn ExecutionStore>> + Send {
        drop(old);
        self.open()
    }

    /// Whether what was applied is there after [`reopen`](Self::reopen). Where it is not, the cases want an empty
    /// store instead: half is never right.
    fn survives_reopen(&self) -> bool;
}

/// A place for one case's catalog. Implement the methods as `async fn`.
pub trait CatalogFactory: Sized + Send + Sync + 'static {
    /// A new, empty place that no other case uses.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// Opens the place; every earlier handle to it has been dropped.
    fn open(&self) -> impl Future<Output = Arc<dyn Catalog>> + Send;

    /// Closes `old`, the only handle there is, as a clean stop does, and opens the place again.
    fn reopen(&self, old: Arc<dyn Catalog>) -> impl Future<Output = Arc<dyn Catalog>> + Send {
        drop(old);
        self.open()
    }

    /// Whether what was written is there after [`reopen`](Self::reopen). Where it is not, the cases want an empty
    /// catalog instead.
    fn survives_reopen(&self) -> bool;
}

/// A bus of one case's own. Implement the methods as `async fn`.
pub trait BusFactory: Sized + Send + Sync + 'static {
    /// A bus that no other case uses.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// A client of it; each call gives another one.
    fn bus(&self) -> impl Future<Output = Arc<dyn Bus>> + Send;

    /// Whether a durable message is kept while no consumer is open. Where it is not, the cases want `Unavailable`.
    fn keeps_without_consumer(&self) -> bool;

    /// The largest payload the bus carries, in bytes.
    fn max_payload(&self) -> usize {
        1 << 20
    }
}
