//! What an operator can tune about the HTTP side.

use std::time::Duration;

use crate::Auth;

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
    /// Requests handled at once; more are told to try again.
    pub max_requests: usize,
    /// Requests that wait for an agent (run, ping, logs) at once; more are told to try again.
    pub max_waiting: usize,
    /// Event streams at once; more are told to try again.
    pub max_streams: usize,
    /// An event stream without an event for this long sends a comment.
    pub keep_alive: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            request_timeout: Duration::from_secs(30),
            body_limit: 2 << 20,
            document_limit: 512 << 10,
            max_requests: 512,
            max_waiting: 256,
            max_streams: 256,
            keep_alive: Duration::from_secs(15),
        }
    }
}
