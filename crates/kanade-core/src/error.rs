//! What a service answers when it cannot do what was asked.

use std::error::Error as _;

use kanade_model::{ExecId, Invalid, JobId, ScheduleId, Version};
use kanade_ports::{BusError, StoreError};

/// Why a request was not done. Each kind has its own HTTP status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value in the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The thing does not exist.
    #[error("{what} `{id}` does not exist")]
    NotFound {
        /// `job`, `execution`, …
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A schedule still refers to the job.
    #[error("job `{job}` is referenced by schedule `{schedule}`; remove the schedule first")]
    Referenced {
        /// The job.
        job: JobId,
        /// The schedule.
        schedule: ScheduleId,
    },
    /// Agents are to update themselves to the release.
    #[error("release `{version}` cannot be {attempt}: agents update to it, as {scope} says; {advice}")]
    Targeted {
        /// The release.
        version: Version,
        /// `deleted`, …
        attempt: &'static str,
        /// Where that is said.
        scope: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// The job may not be started.
    #[error("job `{0}` is revoked; `kanade unrevoke {0}` lets it run again")]
    Revoked(JobId),
    /// The job was revoked, as a deletion starts, and then could not be deleted.
    #[error(
        "job `{job}` could not be deleted and is now revoked: agents do not start it; delete it again, or \
         `kanade unrevoke {job}` lets it run again"
    )]
    DeleteFailedPostRevoke {
        /// The job.
        job: JobId,
        /// Why.
        source: StoreError,
    },
    /// The document was changed by somebody else since the caller read it.
    #[error("{what} `{id}` was changed since you read it; read it again and repeat your change")]
    Changed {
        /// `job`, `schedule`, …
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// An execution is not where it would have to be for what is asked.
    #[error("execution `{exec}` cannot be {attempt}: it is {standing}")]
    Standing {
        /// The execution.
        exec: ExecId,
        /// `paused`, …
        attempt: &'static str,
        /// Where it stands.
        standing: &'static str,
    },
    /// An idempotency key came with a request that is not the one it came with before.
    #[error("idempotency key `{0}` was used for a different request; use a new key")]
    KeyReused(String),
    /// An agent did not answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// Nobody listens to what was asked.
    #[error("{0}")]
    NobodyListens(String),
    /// The store or the catalog failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The answer of a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error and what caused it, in one line for a log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl Error {
    /// The error and what caused it, in one line for a log.
    pub fn report(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {}", chain(source)),
            None => self.to_string(),
        }
    }
}
