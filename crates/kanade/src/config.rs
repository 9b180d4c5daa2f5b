//! The configuration: defaults ← TOML file ← `KANADE_` environment. A wrong value stops the start with one line that
//! names source, key and what is allowed.

mod load;
mod nats;

use std::{fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use kanade_http::{GatewaySettings, HttpSettings, TokenHash};
use kanade_model::{HumanDuration, PcId};
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use load::ConfigError;
pub(crate) use nats::Nats;

/// A deployment, as its operator describes it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Relative paths below are inside it.
    pub(crate) data_dir: PathBuf,
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) bus: Bus,
    pub(crate) nats: Nats,
    pub(crate) auth: Auth,
    pub(crate) gateway: Gateway,
    pub(crate) agent: Agent,
    pub(crate) execution: Execution,
    pub(crate) kill: Kill,
    pub(crate) retention: Retention,
    pub(crate) releases: Releases,
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "kanade-data".into(),
            server: Server::default(),
            store: Store::Sqlite { path: sqlite_path() },
            catalog: Catalog::Sqlite { path: sqlite_path() },
            bus: Bus::Embedded,
            nats: Nats::default(),
            auth: Auth::default(),
            gateway: Gateway::default(),
            agent: Agent::default(),
            execution: Execution::default(),
            kill: Kill::default(),
            retention: Retention::default(),
            releases: Releases::default(),
            log: Log::default(),
        }
    }
}

/// Where and how requests are taken.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) bind: SocketAddr,
    pub(crate) header_timeout: HumanDuration,
    pub(crate) request_timeout: HumanDuration,
    pub(crate) max_connections: usize,
    pub(crate) max_requests: usize,
    /// Without it, connections are not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsFiles>,
}

/// A certificate chain and its key, as PEM files. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: ([127, 0, 0, 1], 8080).into(),
            header_timeout: secs(10),
            request_timeout: secs(30),
            max_connections: 10_000,
            max_requests: 1_000,
            tls: None,
        }
    }
}

/// What records executions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Store {
    Sqlite {
        #[serde(default = "sqlite_path")]
        path: PathBuf,
    },
    Redb {
        #[serde(default = "redb_path")]
        path: PathBuf,
    },
    Memory,
}

/// What keeps documents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Catalog {
    Sqlite {
        #[serde(default = "sqlite_path")]
        path: PathBuf,
    },
    Redb {
        #[serde(default = "redb_path")]
        path: PathBuf,
    },
    Nats,
    Memory,
}

fn sqlite_path() -> PathBuf {
    "kanade.db".into()
}

fn redb_path() -> PathBuf {
    "kanade.redb".into()
}

/// What moves messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Bus {
    Embedded,
    Nats,
}

/// Who may use the API.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) mode: AuthMode,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwt_secret: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwt_secret_file: Option<PathBuf>,
    /// Who may connect as an agent from another machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) agent_tokens: Vec<AgentToken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthMode {
    #[default]
    None,
    Token,
    Jwt,
}

/// A static bearer token and the name of its holder.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

/// A token that agents show; only its hash is kept here.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentToken {
    pub(crate) name: String,
    pub(crate) hash: TokenHash,
    /// Only for agents whose id is like this (`*`, `?`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pc_ids: Option<String>,
}

/// The connections of agents on other machines.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gateway {
    pub(crate) max_agents: usize,
    pub(crate) ping_every: HumanDuration,
    pub(crate) idle_timeout: HumanDuration,
}

impl Default for Gateway {
    fn default() -> Self {
        let http = GatewaySettings::default();
        Self {
            max_agents: http.max_agents,
            ping_every: HumanDuration(http.ping_every),
            idle_timeout: HumanDuration(http.idle_timeout),
        }
    }
}

/// The agent of this machine: in the server process, or a process of its own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Agent {
    pub(crate) embedded: bool,
    /// The host's name when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<PcId>,
    /// The server that an agent of its own process connects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates that are trusted besides the system's, as a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Connect without encryption to a server on another machine.
    pub(crate) allow_plaintext: bool,
    /// Fire the schedules that agents run; where nothing is said, not on NATS, where it takes more rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedules: Option<bool>,
    pub(crate) max_runs: usize,
    /// Bytes of standard output, and of standard error, that a result keeps.
    pub(crate) output_limit: usize,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            embedded: false,
            id: None,
            server: None,
            token: None,
            token_file: None,
            ca: None,
            allow_plaintext: false,
            schedules: None,
            max_runs: 16,
            output_limit: 256 << 10,
        }
    }
}

/// How long things of an execution may take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Execution {
    pub(crate) command_ttl: HumanDuration,
    pub(crate) pending_ttl: HumanDuration,
    pub(crate) lost_grace: HumanDuration,
    pub(crate) resend_after: HumanDuration,
}

impl Default for Execution {
    fn default() -> Self {
        let core = kanade_core::Settings::default();
        Self {
            command_ttl: HumanDuration(core.command_ttl),
            pending_ttl: HumanDuration(core.pending_ttl),
            lost_grace: HumanDuration(core.lost_grace),
            resend_after: HumanDuration(core.resend_after),
        }
    }
}

/// How a kill is repeated.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Kill {
    pub(crate) repeat: HumanDuration,
    pub(crate) window: HumanDuration,
}

impl Default for Kill {
    fn default() -> Self {
        let core = kanade_core::Settings::default();
        Self {
            repeat: HumanDuration(core.kill_repeat),
            window: HumanDuration(core.kill_window),
        }
    }
}

/// How long what is over is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) executions: HumanDuration,
    /// So many executions of each job, whatever their age; all when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) executions_per_job: Option<NonZeroU32>,
    pub(crate) audit: HumanDuration,
    pub(crate) idempotency_keys: HumanDuration,
}

impl Default for Retention {
    fn default() -> Self {
        let core = kanade_core::Settings::default();
        Self {
            executions: HumanDuration(core.keep_executions),
            executions_per_job: core.keep_per_job,
            audit: HumanDuration(core.keep_audit),
            idempotency_keys: HumanDuration(core.keep_keys),
        }
    }
}

/// The programs that agents update themselves to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Releases {
    /// Bytes that a program may have.
    pub(crate) max_size: u64,
}

impl Default for Releases {
    fn default() -> Self {
        Self {
            max_size: HttpSettings::default().upload_limit,
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// What is logged, as `tracing` filters say it: `info`, `warn,kanade_core=debug`, …
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

fn secs(secs: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(secs))
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests;
