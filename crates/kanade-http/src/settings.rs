//! What an operator can tune about the HTTP side.

use std::{path::PathBuf, time::Duration};

use crate::{About, AgentToken, Auth};

/// How the API answers.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Who may call.
    pub auth: Auth,
    /// A request is given up after this, except those that wait for an agent. Its body must have arrived in half of
    /// that.
    pub request_timeout: Duration,
    /// The largest body, in bytes.
    pub body_limit: usize,
    /// The largest manifest or schedule, in bytes.
    pub document_limit: usize,
    /// The largest program that can be published, in bytes.
    pub upload_limit: u64,
    /// Publishing a program is given up after this.
    pub upload_timeout: Duration,
    /// Programs that are published at once; more are told to try again.
    pub max_uploads: usize,
    /// Where a program is written that is being published; the system's folder for temporary files where none is given.
    pub spool: Option<PathBuf>,
    /// Requests handled at once; more are told to try again.
    pub max_requests: usize,
    /// Requests that wait for an agent (run, ping, logs) at once; more are told to try again.
    pub max_waiting: usize,
    /// Event streams at once; more are told to try again.
    pub max_streams: usize,
    /// An event stream without an event for this long sends a comment.
    pub keep_alive: Duration,
    /// How agents on other machines are let in.
    pub gateway: GatewaySettings,
    /// What the server tells of itself.
    pub about: About,
}

/// Which agents are let in over WebSocket, and how much they may take.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Who may come as which agent. Where there are none, only agents on the server's machine are let in.
    pub tokens: Vec<AgentToken>,
    /// Agents that are connected at once; more are told to try again.
    pub max_agents: usize,
    /// Agents that download a program at once; more are told to try again.
    pub max_downloads: usize,
    /// A download counts no longer than this.
    pub download_timeout: Duration,
    /// An agent is asked this often whether it is there.
    pub ping_every: Duration,
    /// A connection is closed when nothing was heard on it for this long.
    pub idle_timeout: Duration,
    /// A connection is closed when it does not take a message within this time.
    pub write_timeout: Duration,
    /// Bytes of calls that are being worked on, of all agents together; beyond that agents are not read from. At least
    /// one call always fits.
    pub in_flight_bytes: usize,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            max_agents: 4096,
            max_downloads: 64,
            download_timeout: Duration::from_secs(15 * 60),
            ping_every: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(45),
            write_timeout: Duration::from_secs(20),
            in_flight_bytes: 64 << 20,
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            request_timeout: Duration::from_secs(30),
            body_limit: 2 << 20,
            document_limit: 512 << 10,
            upload_limit: 256 << 20,
            upload_timeout: Duration::from_secs(15 * 60),
            max_uploads: 4,
            spool: None,
            max_requests: 512,
            max_waiting: 256,
            max_streams: 256,
            keep_alive: Duration::from_secs(15),
            gateway: GatewaySettings::default(),
            about: About::default(),
        }
    }
}
