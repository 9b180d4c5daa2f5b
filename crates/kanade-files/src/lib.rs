//! [`Releases`](kanade_ports::Releases) as files in a folder of their own, for deployments without a broker.
//!
//! A program lies in a file with a name that was never used before; a record beside it, which is put in place in one
//! step and last, says which version it is. So what no record names was never released, and is removed at the next
//! start. Also the key of secrets, in a file of its own.

mod folder;
mod key;
mod record;
mod releases;

pub use key::KeyFile;
pub use releases::FileReleases;
