//! The configuration: defaults ← TOML file ← `KANADE_` environment. A wrong value stops the start with one line that
//! names source, key and what is allowed.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use kanade_model::{HumanDuration, PcId};
use serde::{Deserialize, Serialize, Serializer};

const PREFIX: &str = "KANADE_";

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
    pub(crate) auth: Auth,
    pub(crate) agent: Agent,
    pub(crate) execution: Execution,
    pub(crate) kill: Kill,
    pub(crate) retention: Retention,
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
            auth: Auth::default(),
            agent: Agent::default(),
            execution: Execution::default(),
            kill: Kill::default(),
            retention: Retention::default(),
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
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: ([127, 0, 0, 1], 8080).into(),
            header_timeout: secs(10),
            request_timeout: secs(30),
            max_connections: 10_000,
            max_requests: 1_000,
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

/// The agent in the server process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Agent {
    pub(crate) embedded: bool,
    /// The host's name when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<PcId>,
    pub(crate) max_runs: usize,
    /// Bytes of standard output, and of standard error, that a result keeps.
    pub(crate) output_limit: usize,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            embedded: false,
            id: None,
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
    pub(crate) audit: HumanDuration,
    pub(crate) idempotency_keys: HumanDuration,
}

impl Default for Retention {
    fn default() -> Self {
        let core = kanade_core::Settings::default();
        Self {
            executions: HumanDuration(core.keep_executions),
            audit: HumanDuration(core.keep_audit),
            idempotency_keys: HumanDuration(core.keep_keys),
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

/// What is wrong with a configuration, in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl Config {
    /// Reads the configuration from `file` (none: defaults) and the environment, and checks it.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError(format!(
                    "{}: there is no such configuration file",
                    file.display()
                )));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // `KANADE_SERVER` and the like are the command line's own; a key of the configuration has a `__` in it.
        let ours = |key: &figment::value::UncasedStr| key.as_str().contains("__") || key == "data_dir";
        let figment = figment.merge(Env::prefixed(PREFIX).filter(ours).split("__"));
        let mut config: Self = figment.extract().map_err(|error| explain(&error))?;
        config.read_secrets()?;
        config.check()?;
        Ok(config)
    }

    /// `KANADE_AUTH__JWT_SECRET_FILE` and `token_file` name files that hold the secret.
    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        if let Some(file) = &self.auth.jwt_secret_file {
            self.auth.jwt_secret = Some(read_secret("auth.jwt_secret_file", file)?);
        }
        for (at, token) in self.auth.tokens.iter_mut().enumerate() {
            if let Some(file) = &token.token_file {
                token.token = Some(read_secret(&format!("auth.tokens[{at}].token_file"), file)?);
            }
        }
        Ok(())
    }

    /// Whether the values go together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, why: String| Err(ConfigError(format!("`{key}`: {why}")));
        match self.auth.mode {
            AuthMode::None if !self.server.bind.ip().is_loopback() => wrong(
                "auth.mode",
                format!(
                    "`none` is only allowed on loopback, and server.bind is {}; use `token` or `jwt`",
                    self.server.bind
                ),
            ),
            AuthMode::Token if self.auth.tokens.is_empty() => wrong(
                "auth.tokens",
                "mode `token` needs at least one `{ name, token }`".into(),
            ),
            AuthMode::Jwt if self.auth.jwt_secret.is_none() => wrong(
                "auth.jwt_secret",
                "mode `jwt` needs `jwt_secret` or `jwt_secret_file`".into(),
            ),
            _ => Ok(()),
        }?;
        for (at, token) in self.auth.tokens.iter().enumerate() {
            match &token.token {
                None => wrong(
                    &format!("auth.tokens[{at}]"),
                    "`token` or `token_file` is missing".into(),
                )?,
                Some(secret) if secret.expose().len() < SHORTEST_SECRET => {
                    wrong(
                        &format!("auth.tokens[{at}].token"),
                        format!("at least {SHORTEST_SECRET} characters are wanted"),
                    )?;
                }
                Some(_) => {}
            }
        }
        if let Some(secret) = &self.auth.jwt_secret
            && secret.expose().len() < SHORTEST_JWT_SECRET
        {
            wrong(
                "auth.jwt_secret",
                format!("at least {SHORTEST_JWT_SECRET} characters are wanted for HS256"),
            )?;
        }
        if let (Store::Sqlite { path: store }, Catalog::Redb { path: catalog })
        | (Store::Redb { path: store }, Catalog::Sqlite { path: catalog }) = (&self.store, &self.catalog)
            && store == catalog
        {
            wrong(
                "catalog.path",
                format!("{} is the store's file, of another kind", catalog.display()),
            )?;
        }
        for (key, is_zero) in [
            ("agent.max_runs", self.agent.max_runs == 0),
            ("server.max_connections", self.server.max_connections == 0),
            ("server.max_requests", self.server.max_requests == 0),
            ("server.header_timeout", self.server.header_timeout.0.is_zero()),
            ("server.request_timeout", self.server.request_timeout.0.is_zero()),
            ("kill.repeat", self.kill.repeat.0.is_zero()),
        ] {
            if is_zero {
                wrong(key, "more than zero is wanted".into())?;
            }
        }
        Ok(())
    }

    /// `path` inside the data directory, unless it is absolute.
    pub(crate) fn data_path(&self, path: &Path) -> PathBuf {
        self.data_dir.join(path)
    }

    /// The times of the core.
    pub(crate) fn core_settings(&self) -> kanade_core::Settings {
        kanade_core::Settings {
            command_ttl: self.execution.command_ttl.0,
            pending_ttl: self.execution.pending_ttl.0,
            lost_grace: self.execution.lost_grace.0,
            resend_after: self.execution.resend_after.0,
            kill_repeat: self.kill.repeat.0,
            kill_window: self.kill.window.0,
            keep_executions: self.retention.executions.0,
            keep_audit: self.retention.audit.0,
            keep_keys: self.retention.idempotency_keys.0,
            ..kanade_core::Settings::default()
        }
    }
}

const SHORTEST_SECRET: usize = 16;
const SHORTEST_JWT_SECRET: usize = 32;

fn read_secret(key: &str, file: &Path) -> Result<Secret, ConfigError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(ConfigError(format!(
            "`{key}`: cannot read {}: {error}",
            file.display()
        ))),
    }
}

fn explain(error: &figment::Error) -> ConfigError {
    let source = error.metadata.as_ref().map(|metadata| match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ => metadata.name.to_string(),
    });
    let source = source.map_or_else(String::new, |source| format!("{source}: "));
    let key = if error.path.is_empty() {
        String::new()
    } else {
        format!("`{}`: ", error.path.join("."))
    };
    // A TOML syntax error draws the line over several; its first and last say what is wrong where.
    let text = error.kind.to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let what = match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        (first, _) => first.unwrap_or("it cannot be read").to_owned(),
    };
    ConfigError(format!("{source}{key}{what}"))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
