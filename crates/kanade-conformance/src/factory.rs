//! What a backend gives the suites: fresh places, and handles to them.

use std::{fmt, future::Future, path::PathBuf, sync::Arc};

use kanade_model::PcId;
use kanade_ports::{Bus, Catalog, CatalogReader, ExecutionStore, PubSub, ReleaseReader, Releases};

/// Where to make temporary folders whose files are written without waiting for a disk: in memory, where the machine
/// offers that.
pub fn quick_folder() -> PathBuf {
    let in_memory = PathBuf::from("/dev/shm");
    if in_memory.is_dir() {
        in_memory
    } else {
        std::env::temp_dir()
    }
}

/// A place for one case's store. Implement the methods as `async fn`.
pub trait StoreFactory: Sized + Send + Sync + 'static {
    /// A new, empty place that no other case uses (a temporary folder, a database of its own). What it occupies is
    /// freed when the factory is dropped.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// The same, for a case that commits ten thousand times and does not ask what a crash leaves: override it where the
    /// place can be one that is quick, see [`quick_folder`].
    fn quick() -> impl Future<Output = Self> + Send {
        Self::fresh()
    }

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

/// A place for one case's releases. Implement the methods as `async fn`.
pub trait ReleasesFactory: Sized + Send + Sync + 'static {
    /// A new, empty place that no other case uses.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// Opens the place; every earlier handle to it has been dropped.
    fn open(&self) -> impl Future<Output = Arc<dyn Releases>> + Send;

    /// The same releases as an agent reads them. Override it where an agent has a way of its own.
    fn reader(&self, releases: &Arc<dyn Releases>) -> impl Future<Output = Arc<dyn ReleaseReader>> + Send {
        let reader: Arc<dyn ReleaseReader> = Arc::clone(releases) as _;
        std::future::ready(reader)
    }

    /// Closes `old`, the only handle there is, as a clean stop does, and opens the place again.
    fn reopen(&self, old: Arc<dyn Releases>) -> impl Future<Output = Arc<dyn Releases>> + Send {
        drop(old);
        self.open()
    }

    /// Whether what was stored is there after [`reopen`](Self::reopen). Where it is not, the cases want nothing to be
    /// there instead.
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

/// A server side and agents of it, with whatever lies between them. Implement the methods as `async fn`.
pub trait AgentFactory: Sized + Send + Sync + 'static {
    /// A server side that no other case uses.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// The server's bus. The case alone consumes its durables.
    fn bus(&self) -> impl Future<Output = Arc<dyn Bus>> + Send;

    /// The server's catalog, empty at first.
    fn catalog(&self) -> impl Future<Output = Arc<dyn Catalog>> + Send;

    /// An agent that has just started, and is connected. Of each name there is one at a time: the one before has been
    /// dropped.
    fn agent(&self, pc: &PcId) -> impl Future<Output = AgentSide> + Send;

    /// Takes the connection of the agent `pc` away; it gets none until the cut is mended. Nothing where an agent has no
    /// connection to lose.
    fn cut(&self, pc: &PcId) -> impl Future<Output = Option<Cut>> + Send;

    /// Whether an agent may only speak for itself, and only read what concerns it. Where it is trusted instead, the
    /// cases want that it can do more.
    fn guards(&self) -> bool;

    /// Whether a durable message is kept while no consumer is open. Where it is not, the cases want `Unavailable`.
    fn keeps_without_consumer(&self) -> bool;

    /// The largest payload that goes through, in bytes.
    fn max_payload(&self) -> usize {
        1 << 20
    }
}

/// What an agent sees of its server.
#[derive(Clone)]
pub struct AgentSide {
    /// Messages to it and from it.
    pub bus: Arc<dyn PubSub>,
    /// The documents it reads.
    pub catalog: Arc<dyn CatalogReader>,
}

/// A connection that was taken away, for as long as this is kept.
pub struct Cut(Box<dyn Send>);

impl Cut {
    /// A cut that is mended when `guard` is dropped.
    pub fn new(guard: impl Send + 'static) -> Self {
        Self(Box::new(guard))
    }

    /// From now on the agent can connect again.
    pub fn mend(self) {
        drop(self.0);
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}
