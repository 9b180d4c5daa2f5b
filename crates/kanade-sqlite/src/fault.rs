//! What goes wrong inside, and which kind of [`StoreError`] it is outside.

use std::{error::Error, fmt};

use kanade_ports::{ErrorKind, StoreError};

type Source = Box<dyn Error + Send + Sync>;

/// A failure whose operation is not named yet.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ErrorKind,
    source: Option<Source>,
}

impl Fault {
    /// A failure for a reason in words, or with an error behind it.
    pub(crate) fn new(kind: ErrorKind, source: impl Into<Source>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// A failure that its kind says everything about.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// A failure with the words that a person needs and the error behind it.
    pub(crate) fn explained(kind: ErrorKind, words: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::new(kind, Explained(words.into(), source.into()))
    }

    /// A stored value that is not what was written there.
    pub(crate) fn unreadable(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::explained(ErrorKind::Corrupt, what, source)
    }

    /// The handle has been closed.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Unavailable, "the database has been closed")
    }

    /// What a failed COMMIT means. A full or busy disk refuses before the last page, which is the one that commits, is
    /// written. After anything else that page may lie in the log and count when the file is opened next.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        let certain = matches!(primary_code(&error), Some(BUSY | FULL | READONLY));
        let fault = Self::from(error);
        if certain {
            return fault;
        }
        Self {
            kind: ErrorKind::Indeterminate,
            ..fault
        }
    }

    /// A failure of the driver, not of SQLite.
    fn of_driver(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::PoolClosed => Self::closed(),
            Error::ColumnDecode { .. }
            | Error::Decode(_)
            | Error::ColumnNotFound(_)
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::RowNotFound => Self::new(ErrorKind::Corrupt, error),
            Error::Configuration(_) | Error::Encode(_) => Self::new(ErrorKind::Unsupported, error),
            _ => Self::new(ErrorKind::Unavailable, error),
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error for callers; `operation` is a phrase that says what was attempted on what.
    pub(crate) fn during(self, operation: impl Into<String>) -> StoreError {
        let error = StoreError::new(self.kind, operation);
        match self.source {
            Some(source) => error.because(source),
            None => error,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let Some(code) = primary_code(&error) else {
            return Self::of_driver(error);
        };
        let source = said(&error);
        match code {
            FULL => Self::explained(
                ErrorKind::Unavailable,
                "the disk is full; free some space",
                source,
            ),
            CORRUPT | NOT_A_DATABASE => Self::new(ErrorKind::Corrupt, source),
            TOO_BIG | CONSTRAINT | MISMATCH => Self::new(ErrorKind::Unsupported, source),
            // Everything else passes: a lock, a disk that does not answer, no memory.
            _ => Self::new(ErrorKind::Unavailable, source),
        }
    }
}

/// An error with the words that a person needs in front of it.
#[derive(Debug)]
struct Explained(String, Source);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.1)
    }
}

// https://www.sqlite.org/rescode.html
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOT_A_DATABASE: i32 = 26;

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// What SQLite says. The driver's own text says it twice.
fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => format!(
            "SQLite says: {} (code {})",
            error.message(),
            error.code().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}
