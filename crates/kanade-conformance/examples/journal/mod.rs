//! A small backend, complete and correct and in no hurry: everything is in memory, and each commit is one line of JSON
//! at the end of a file. `docs/write-a-backend.md` walks through it; `tests/journal.rs` runs the suites against it.

mod catalog;
mod file;
mod pages;
mod records;
mod store;

pub(crate) use catalog::JournalCatalog;
pub(crate) use store::JournalStore;
