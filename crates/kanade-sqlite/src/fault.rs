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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::error::{DatabaseError, ErrorKind as Violation};

    use super::*;

    /// What SQLite says with an extended result code.
    #[derive(Debug)]
    struct Says(i32);

    impl fmt::Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "code {}", self.0)
        }
    }

    impl Error for Says {}

    impl DatabaseError for Says {
        fn message(&self) -> &'static str {
            "something"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.to_string().into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> Violation {
            Violation::Other
        }
    }

    #[test]
    fn a_result_code_says_what_a_caller_can_do() {
        use ErrorKind::{Corrupt, Indeterminate, Unavailable, Unsupported};
        const SNAPSHOT: i32 = 2 << 8;
        const FSYNC: i32 = 4 << 8;
        for (code, kind, in_commit) in [
            (BUSY, Unavailable, Unavailable),
            (BUSY | SNAPSHOT, Unavailable, Unavailable),
            (FULL, Unavailable, Unavailable),
            (READONLY, Unavailable, Unavailable),
            (10, Unavailable, Indeterminate),
            (10 | FSYNC, Unavailable, Indeterminate),
            (14, Unavailable, Indeterminate),
            (CORRUPT, Corrupt, Indeterminate),
            (NOT_A_DATABASE, Corrupt, Indeterminate),
            (TOO_BIG, Unsupported, Indeterminate),
            (CONSTRAINT, Unsupported, Indeterminate),
        ] {
            let error = || sqlx::Error::Database(Box::new(Says(code)));
            assert_eq!(Fault::from(error()).kind(), kind, "{code}");
            assert_eq!(Fault::of_commit(error()).kind(), in_commit, "{code} in a commit");
        }
        let crashed = Fault::of_commit(sqlx::Error::WorkerCrashed);
        assert_eq!(crashed.kind(), Indeterminate);
    }

    #[test]
    fn a_full_disk_is_called_that() {
        let fault = Fault::from(sqlx::Error::Database(Box::new(Says(FULL))));
        let error = fault.during("write job `backup`");
        assert_eq!(error.operation(), "write job `backup`");
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "the disk is full; free some space");
        assert_eq!(
            source.source().unwrap().to_string(),
            "SQLite says: something (code 13)"
        );
    }
}
