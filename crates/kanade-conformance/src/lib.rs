//! The behaviour every kanade backend must show, as cases over the ports.
//!
//! A backend implements a factory for each port it offers ([`StoreFactory`], [`CatalogFactory`], [`BusFactory`],
//! [`ReleasesFactory`]), a transport between server and agents an [`AgentFactory`], and expands the suite in one of its integration tests,
//! which gives one test per case:
//!
//! ```ignore
//! kanade_conformance::store_suite!(MyStoreFactory);
//! kanade_conformance::catalog_suite!(MyCatalogFactory);
//! kanade_conformance::bus_suite!(MyBusFactory);
//! kanade_conformance::agent_suite!(MyAgentFactory);
//! kanade_conformance::releases_suite!(MyReleasesFactory);
//! ```
//!
//! The lists of names ([`STORE_CASES`], [`CATALOG_CASES`], [`BUS_CASES`], [`AGENT_CASES`], [`RELEASES_CASES`]) are what
//! the macros expand, so every backend runs the same number of cases. `docs/write-a-backend.md` walks through a backend that passes.

#![expect(
    clippy::unwrap_used,
    reason = "this crate is tests: what fails there fails the case"
)]

mod factory;
mod harness;
pub mod sample;
mod suite;

#[doc(hidden)]
pub mod agent;
#[doc(hidden)]
pub mod bus;
#[doc(hidden)]
pub mod catalog;
#[doc(hidden)]
pub mod releases;
#[doc(hidden)]
pub mod store;

pub use agent::AGENT_CASES;
pub use bus::BUS_CASES;
pub use catalog::CATALOG_CASES;
pub use factory::{
    AgentFactory, AgentSide, BusFactory, CatalogFactory, Cut, ReleasesFactory, StoreFactory, quick_folder,
};
pub use harness::{run_case, within};
pub use releases::RELEASES_CASES;
pub use store::STORE_CASES;
