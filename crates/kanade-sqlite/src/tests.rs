//! Tests that need to see inside.

mod disk;
mod plans;
pub(crate) mod recorder;
mod schema;
mod world;
mod writer;
