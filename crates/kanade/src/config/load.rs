//! Reads the configuration and says what is wrong with it.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};

use super::{AuthMode, Bus, Catalog, Config, Secret, Store};

const PREFIX: &str = "KANADE_";

/// What is wrong with a configuration, in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(super) String);

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
        if let Some(file) = &self.agent.token_file {
            self.agent.token = Some(read_secret("agent.token_file", file)?);
        }
        self.nats.read_secrets(read_secret)
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
        for (at, token) in self.auth.agent_tokens.iter().enumerate() {
            if token
                .pc_ids
                .as_deref()
                .is_some_and(|pattern| pattern.trim().is_empty())
            {
                wrong(
                    &format!("auth.agent_tokens[{at}].pc_ids"),
                    "it fits no agent; leave it out, or write a pattern such as `web-*`".into(),
                )?;
            }
        }
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
        if self.bus == Bus::Nats && self.catalog != Catalog::Nats {
            wrong(
                "catalog.kind",
                "agents on NATS read the catalog there; with `bus.kind = \"nats\"`, `nats` is wanted".into(),
            )?;
        }
        self.nats.check().or_else(|(key, why)| wrong(key, why))?;
        for (key, is_zero) in [
            ("agent.max_runs", self.agent.max_runs == 0),
            ("gateway.max_agents", self.gateway.max_agents == 0),
            ("gateway.ping_every", self.gateway.ping_every.0.is_zero()),
            ("server.max_connections", self.server.max_connections == 0),
            ("server.max_requests", self.server.max_requests == 0),
            ("server.header_timeout", self.server.header_timeout.0.is_zero()),
            ("server.request_timeout", self.server.request_timeout.0.is_zero()),
            ("kill.repeat", self.kill.repeat.0.is_zero()),
            ("releases.max_size", self.releases.max_size == 0),
        ] {
            if is_zero {
                wrong(key, "more than zero is wanted".into())?;
            }
        }
        if self.gateway.idle_timeout.0 <= self.gateway.ping_every.0 {
            wrong(
                "gateway.idle_timeout",
                "more than `gateway.ping_every` is wanted, or every agent would seem to be away".into(),
            )?;
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
            keep_per_job: self.retention.executions_per_job,
            keep_audit: self.retention.audit.0,
            keep_keys: self.retention.idempotency_keys.0,
            history_required: self.catalog == Catalog::Nats,
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
