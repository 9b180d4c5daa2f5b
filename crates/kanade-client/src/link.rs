//! An agent's bus and catalog over one WebSocket connection to the gateway of a server, made again whenever it breaks.
//!
//! One task holds the connection (`task`, `connection`). Whoever calls puts a frame into the queue of the [`line::Line`],
//! which stands for one connection, and waits for the answer; what outlives a connection is in [`shared::Shared`].

mod broken;
mod connection;
mod dial;
mod line;
mod pauses;
mod ports;
mod releases;
mod shared;
mod task;
mod traffic;

use std::{fmt, sync::Arc, time::Duration};

use kanade_model::PcId;
use tokio::{sync::watch, task::JoinHandle};

use crate::Error;
use dial::Dialer;
use releases::Downloads;
use shared::Shared;

/// How long [`AgentLink::close`] waits for its task, which bounds what it does in there by itself.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Where an agent connects to, and as whom.
#[derive(Clone)]
pub struct LinkSettings {
    /// The server: `https://host[:port]` or `wss://…`, or `http` or `ws` on the same machine. A path in front of
    /// `/api` is kept.
    pub server: String,
    /// Who connects.
    pub pc_id: PcId,
    /// A random text of this agent's own, by which the server knows it again.
    pub key: String,
    /// The bearer token, where the server asks for one.
    pub token: Option<String>,
    /// Certificates in PEM that are trusted besides those of the system.
    pub ca: Option<Vec<u8>>,
    /// Whether key, token and messages may go unencrypted to another machine.
    pub allow_plaintext: bool,
    /// How long things may take.
    pub timing: LinkTiming,
}

impl LinkSettings {
    /// Settings without a token, that trust what the system trusts.
    pub fn new(server: impl Into<String>, pc_id: PcId, key: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            pc_id,
            key: key.into(),
            token: None,
            ca: None,
            allow_plaintext: false,
            timing: LinkTiming::default(),
        }
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// [`Error::Address`] when there can be no server at the address; [`Error::Argument`] when the key or the token
    /// cannot be sent, when they would go unencrypted to another machine, or when `ca` cannot be used;
    /// [`Error::Transport`] when the system's certificates cannot be read and no others are given.
    pub fn check(&self) -> Result<(), Error> {
        Dialer::new(self).map(drop)
    }
}

impl fmt::Debug for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSettings")
            .field("server", &self.server)
            .field("pc_id", &self.pc_id)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTiming {
    /// An attempt to connect until the server has agreed, and after that the answers to the subscriptions; 10 s by
    /// default.
    pub connect: Duration,
    /// Between two pings to the server; 15 s by default.
    pub ping_every: Duration,
    /// A connection on which for so long nothing is heard, or nothing can be sent, is dropped; 45 s by default.
    /// Only one that lasted longer counts as a success, after which pauses begin small again.
    pub idle_timeout: Duration,
    /// What waits for a connection waits at most so long; 10 s by default.
    pub patience: Duration,
    /// The pause before the second attempt, which doubles from attempt to attempt; 250 ms by default.
    pub first_pause: Duration,
    /// The longest pause, also after a refusal that an attempt will hardly change; 30 s by default.
    pub longest_pause: Duration,
    /// The pause, at least, after another process has taken the place of this one; 30 s by default.
    pub pause_when_replaced: Duration,
}

impl Default for LinkTiming {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            ping_every: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(45),
            patience: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            pause_when_replaced: Duration::from_secs(30),
        }
    }
}

/// How it stands with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There is none; it is being made, or tried again after a pause.
    Connecting {
        /// How many attempts in a row have failed since there was one.
        failures: u32,
        /// Why there is none, in a sentence; nothing before the first attempt has ended.
        error: Option<String>,
    },
    /// It stands, with every subscription.
    Connected,
    /// [`AgentLink::close`] was called; there will be none.
    Closed,
}

/// The [`PubSub`](kanade_ports::PubSub) and the [`CatalogReader`](kanade_ports::CatalogReader) of an agent on another
/// machine than its server. Clones share the connection; it ends with the last of them. It is a
/// [`ReleaseReader`](kanade_ports::ReleaseReader) too: programs are downloaded beside the connection.
///
/// - While there is no connection, `publish` and `reply` fail with `Unavailable` at once; `publish_durable`, `get` and
///   `watch` wait for one for as long as [`LinkTiming::patience`]; `subscribe` succeeds.
/// - When a connection is lost, calls on it fail with `Unavailable`, a durable publish with `TimedOut`; watches end.
///   Subscriptions stand again on the next connection, in the order in which they were made, before anything else is
///   sent on it. One that the server does not take again ends.
/// - A subscriber may be 1,024 messages or 16 MiB behind before it misses some, which [`dropped`] counts; a watch that
///   is 200,000 events or 32 MiB behind ends. At most 64 frames and 4 MiB wait to be sent, and
///   24 durable messages to be kept; callers wait beyond that.
///
/// [`dropped`]: kanade_ports::PubSub::dropped
#[derive(Clone)]
pub struct AgentLink(Arc<Held>);

struct Held {
    shared: Arc<Shared>,
    downloads: Downloads,
    task: JoinHandle<()>,
}

impl AgentLink {
    /// Begins to connect in the background; never gives up.
    ///
    /// # Errors
    /// Those of [`LinkSettings::check`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "who opens a link has no more use for its secrets"
    )]
    pub fn open(settings: LinkSettings) -> Result<Self, Error> {
        let dialer = Dialer::new(&settings)?;
        let downloads = dialer.downloads();
        let shared = Arc::new(Shared::new(settings.timing));
        let task = tokio::spawn(task::run(Arc::clone(&shared), dialer));
        Ok(Self(Arc::new(Held {
            shared,
            downloads,
            task,
        })))
    }

    /// How it stands with the connection, now and as it changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.0.shared.state()
    }

    /// How many calls wait for their answer.
    pub fn calls_in_flight(&self) -> usize {
        self.0.shared.line().map_or(0, |line| line.calls_in_flight())
    }

    /// Ends the connection with a closing handshake, for which the server has a second. After that, everything fails
    /// with `Unavailable`, and subscriptions and watches have ended.
    pub async fn close(&self) {
        self.0.shared.stop();
        let mut state = self.state();
        let closed = state.wait_for(|state| *state == LinkState::Closed);
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            self.0.task.abort();
            self.0.shared.end();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end();
    }
}

impl fmt::Debug for AgentLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentLink").field(&*self.state().borrow()).finish()
    }
}

/// All that is known of a call whose line is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the server was lost")]
struct Lost;
