//! The error of the store and the catalog: branch on the kind, report through the source.

use std::{error::Error, fmt};

/// What kind of failure it is; callers branch on this and on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing to change does not exist.
    NotFound,
    /// The thing to create exists.
    AlreadyExists,
    /// The thing has another revision than the caller expected.
    Conflict,
    /// The backend cannot be used now; nothing was changed, trying again later makes sense.
    Unavailable,
    /// It is not known whether the change was made: a timed-out write, a lost acknowledgement.
    Indeterminate,
    /// What is stored cannot be understood.
    Corrupt,
    /// The backend cannot do this at all.
    Unsupported,
}

/// A failure of an [`ExecutionStore`](crate::ExecutionStore) or a [`Catalog`](crate::Catalog).
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    operation: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of `operation`, a phrase that says what was attempted on what (``write job `backup` ``).
    pub fn new(kind: ErrorKind, operation: impl Into<String>) -> Self {
        Self {
            kind,
            operation: operation.into(),
            source: None,
        }
    }

    /// The same failure with what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure for one more of the callers it concerns.
    pub fn shared(this: &std::sync::Arc<Self>) -> Self {
        Self::new(this.kind, this.operation.clone()).because(std::sync::Arc::clone(this))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was attempted.
    pub fn operation(&self) -> &str {
        &self.operation
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.kind {
            ErrorKind::NotFound => "not found",
            ErrorKind::AlreadyExists => "it exists already",
            ErrorKind::Conflict => "it was changed by somebody else",
            ErrorKind::Unavailable => "the storage is not available",
            ErrorKind::Indeterminate => "the storage did not say whether it was done",
            ErrorKind::Corrupt => "what is stored there cannot be read",
            ErrorKind::Unsupported => "the storage cannot do this",
        };
        write!(f, "{}: {outcome}", self.operation)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
