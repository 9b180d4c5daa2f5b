//! [`ExecutionStore`](kanade_ports::ExecutionStore) and [`Catalog`](kanade_ports::Catalog) in one SQLite file.
//!
//! [`Database::open`] gives the one handle of a file; [`SqliteStore`] and [`SqliteCatalog`] share it. There is one
//! writer, whose transactions run in tasks of their own, and a pool of connections that can only read.
//!
//! [`LegacyFile`] reads what a kanade 0.30 server has left.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of `Columns` stands for one lifetime, the closure around it for all"
)]

mod catalog;
mod codec;
mod database;
mod fault;
mod file;
mod legacy;
mod load;
mod migrations;
mod query;
mod record;
mod statement;
mod store;
mod write;

#[cfg(test)]
mod tests;

pub use catalog::SqliteCatalog;
pub use database::Database;
pub use legacy::{LegacyFile, LegacyRecord, LegacyRefusal, LegacyTable};
pub use store::SqliteStore;
