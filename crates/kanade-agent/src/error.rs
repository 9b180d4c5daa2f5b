//! Why an agent cannot start.

use std::{io, path::PathBuf};

/// Why [`Agent::start`](crate::Agent::start) failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The agent's folder cannot be made or written to.
    #[error("cannot use `{}` as the folder of the agent; check that it is a folder this user may write to", path.display())]
    Folder {
        /// The folder, or what is in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent runs in the same folder.
    #[error("`{}` is in use: another agent runs with this folder; stop it or choose another folder", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// The journal was written by a newer version of this program.
    #[error(
        "`{}` was written by a newer version (format {found}, this version knows {known}); run that version",
        path.display()
    )]
    TooNew {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// The journal cannot be read or written.
    #[error(
        "cannot use the journal `{}`; check the disk, or move the file away: then unreported runs are forgotten",
        path.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
