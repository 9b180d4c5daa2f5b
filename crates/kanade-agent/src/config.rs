//! What an agent is told when it is started.

use std::{path::PathBuf, time::Duration};

use kanade_model::PcId;

use crate::LogTail;

/// Who the agent is, where it keeps its things, and how much it takes on.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The name under which the server knows it.
    pub pc_id: PcId,
    /// The agent's own folder: its journal, and the scripts that are running. Made if it is missing.
    pub data_dir: PathBuf,
    /// The host's name, for heartbeats.
    pub hostname: Option<String>,
    /// The version of the program, for heartbeats.
    pub agent_version: String,
    /// Whether it fires the schedules that agents run.
    pub ticks: bool,
    /// What is answered to a request for the log.
    pub log: LogTail,
    /// How much it takes on.
    pub limits: AgentLimits,
}

impl AgentConfig {
    /// An agent with the host's name, the version of this library and the usual limits.
    pub fn new(pc_id: PcId, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            pc_id,
            data_dir: data_dir.into(),
            hostname: hostname::get().ok().and_then(|name| name.into_string().ok()),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ticks: true,
            log: LogTail::default(),
            limits: AgentLimits::default(),
        }
    }
}

/// How much an agent takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLimits {
    /// Scripts that run at the same time. With 0, what is accepted is started in a later life.
    pub at_once: usize,
    /// Runs in hand: running, queued, or waiting out their jitter. A Command beyond that is not accepted; the server
    /// sends it again.
    pub in_hand: usize,
    /// Bytes kept of each output of a script, half from its beginning and half from its end.
    pub output_bytes: usize,
    /// The largest result as it is sent; output is cut further when it would not fit.
    pub message_bytes: usize,
    /// How long what an earlier start had accepted and not begun waits for kills that came while nobody listened.
    pub settle_in: Duration,
    /// How long the first Command waits for a first look at the catalog.
    pub first_contact_within: Duration,
    /// How long a stop waits for the bus to take what is in the outbox. What it does not take is sent after the next
    /// start.
    pub flush_within: Duration,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            at_once: 16,
            in_hand: 10_000,
            output_bytes: 256 * 1024,
            // A message of 1 MiB, less what a transport may wrap around it.
            message_bytes: 1_000_000,
            settle_in: Duration::ZERO,
            first_contact_within: Duration::from_secs(5),
            flush_within: Duration::from_secs(3),
        }
    }
}
