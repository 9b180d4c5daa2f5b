//! Backends without a disk: the reference store, catalog and releases ([`MemoryStore`], [`MemoryCatalog`],
//! [`MemoryReleases`]), a clock and ids that a test commands ([`ManualClock`], [`SeededIds`]), and the bus of every
//! deployment without a broker ([`EmbeddedBus`]). What is held here does not survive a restart. [`simulation`] is a fleet to
//! go with it.

mod bus;
mod catalog;
mod clock;
mod ids;
mod releases;
pub mod simulation;
mod store;

pub use bus::{BusLimits, EmbeddedBus};
pub use catalog::MemoryCatalog;
pub use clock::ManualClock;
pub use ids::SeededIds;
pub use releases::MemoryReleases;
pub use store::MemoryStore;
