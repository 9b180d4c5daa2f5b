//! What an operator can tune about the core.

use std::{num::NonZeroU32, time::Duration};

/// Times and limits of the core; the defaults are those of the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A target that has not started this long after its send was due is expired.
    pub command_ttl: Duration,
    /// An execution of which nothing has started this long after its last send was due is labelled expired.
    pub pending_ttl: Duration,
    /// A run is lost when its jitter, its timeout and this have passed since its start was heard of.
    pub lost_grace: Duration,
    /// A kill is repeated this often …
    pub kill_repeat: Duration,
    /// … for this long, and then settled.
    pub kill_window: Duration,
    /// How often executions that wait at a gate or for room are looked at.
    pub steer_every: Duration,
    /// A target that has been waiting this long is sent its Command again when its agent shows life.
    pub resend_after: Duration,
    /// How often upkeep looks for what is overdue.
    pub upkeep_every: Duration,
    /// Finished executions and ad-hoc runs are kept this long.
    pub keep_executions: Duration,
    /// So many executions of each job are kept, the newest; none means all.
    pub keep_per_job: Option<NonZeroU32>,
    /// Audit entries and dead letters are kept this long.
    pub keep_audit: Duration,
    /// Idempotency keys are remembered this long.
    pub keep_keys: Duration,
    /// The catalog is shared with other servers, so it may hold schedules whose past this server's store does not know:
    /// those that ask it are held until it is settled.
    pub history_required: bool,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            command_ttl: 7 * DAY,
            pending_ttl: Duration::from_secs(3600),
            lost_grace: Duration::from_secs(60),
            kill_repeat: Duration::from_secs(2),
            kill_window: Duration::from_secs(30),
            steer_every: Duration::from_secs(1),
            resend_after: Duration::from_secs(15),
            upkeep_every: Duration::from_secs(5),
            keep_executions: 90 * DAY,
            keep_per_job: None,
            keep_audit: 365 * DAY,
            keep_keys: DAY,
            history_required: false,
        }
    }
}
