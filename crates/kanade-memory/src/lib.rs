//! Backends without a disk: the reference store and catalog ([`MemoryStore`], [`MemoryCatalog`]), a clock and ids
//! that a test commands ([`ManualClock`], [`SeededIds`]), and the bus of every deployment without a broker
//! ([`EmbeddedBus`]). What stores and catalogs hold here does not survive a restart.

mod bus;
mod catalog;
mod clock;
mod ids;
mod store;

pub use bus::{BusLimits, EmbeddedBus};
pub use catalog::MemoryCatalog;
pub use clock::ManualClock;
pub use ids::SeededIds;
pub use store::MemoryStore;
