//! What can go wrong inside, and how it shows outside.

use std::{error::Error, fmt};

use kanade_ports::{ErrorKind, StoreError};

/// A failure in the middle of an operation.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The engine or the disk failed.
    Engine(redb::Error),
    /// It is not known whether the commit was made.
    Unknown(redb::Error),
    /// Something stored cannot be read back.
    Damaged(String),
    /// The operation may not be done as things stand.
    Refused(ErrorKind),
    /// The database was closed, or the program is about to end.
    Closed,
    /// The engine ran into something it takes for impossible.
    Panicked {
        /// Whether it may have been in the middle of a commit.
        writing: bool,
    },
}

impl Fault {
    /// Whether the handle is of no use any more, while the file may well be.
    pub(crate) fn breaks_handle(&self) -> bool {
        matches!(
            self,
            Self::Engine(
                redb::Error::Io(_)
                    | redb::Error::Backend(_)
                    | redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
                    | redb::Error::LockPoisoned(_)
            )
        )
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_) | Self::Panicked { writing: true } => ErrorKind::Indeterminate,
            Self::Damaged(_) | Self::Panicked { writing: false } => ErrorKind::Corrupt,
            Self::Refused(kind) => *kind,
            Self::Closed => ErrorKind::Unavailable,
            Self::Engine(error) => match error {
                redb::Error::Corrupted(_)
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TypeDefinitionChanged { .. }
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::UpgradeRequired(_) => ErrorKind::Corrupt,
                redb::Error::ValueTooLarge(_) => ErrorKind::Unsupported,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// The failure of `operation` as callers see it.
    pub(crate) fn of(self, operation: impl Into<String>) -> StoreError {
        let error = StoreError::new(self.kind(), operation);
        match self {
            Self::Refused(_) => error,
            fault => error.because(fault),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(redb::Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                f.write_str("the disk is full; make room on it")
            }
            Self::Engine(_) => f.write_str("the data file failed"),
            Self::Unknown(_) => {
                f.write_str("the data file failed during the commit, and cannot be opened again")
            }
            Self::Damaged(what) => write!(f, "{what} cannot be read back"),
            Self::Refused(kind) => write!(f, "refused: {kind:?}"),
            Self::Closed => f.write_str("the data file is closed"),
            Self::Panicked { .. } => f.write_str("the data file confuses the engine; it may be damaged"),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Engine(error) | Self::Unknown(error) => Some(error),
            Self::Damaged(_) | Self::Refused(_) | Self::Closed | Self::Panicked { .. } => None,
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),+) => { $(impl From<$error> for Fault {
        fn from(error: $error) -> Self {
            Self::Engine(error.into())
        }
    })+ };
}
fault_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CompactionError,
    redb::DatabaseError,
    std::io::Error
);
