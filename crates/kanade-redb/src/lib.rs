//! The store and the catalog of a small deployment, in one file, by [redb](https://docs.rs/redb): no server, no C
//! library. [`Database`] is an open data file; it gives a [`RedbStore`] and a [`RedbCatalog`] that share it.
//!
//! A commit is durable when it is answered. A failing or full disk makes writes `Unavailable` while reads go on as
//! far as the disk lets them; once it works again, so do writes, without a restart.

mod batch;
mod catalog;
mod database;
mod device;
mod document;
mod engine;
mod fault;
mod feed;
mod file;
mod key;
mod maintenance;
mod meta;
mod output;
mod pages;
mod prune;
mod record;
mod store;
mod table;
mod task;
#[cfg(test)]
mod tests;

pub use catalog::RedbCatalog;
pub use database::Database;
pub use store::RedbStore;
