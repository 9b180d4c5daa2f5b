//! How to connect to NATS.

use std::path::{Path, PathBuf};

use kanade_nats::{NatsAuth, NatsSettings, NatsTls};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret};

/// Where the broker is and how one gets in. At most one way in; none where the URL or the server's certificate says
/// enough.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Nats {
    /// `nats://` or `tls://` and a host; several servers of a cluster with commas between them.
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// A file with a JWT and its seed, as `nsc` makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) creds: Option<PathBuf>,
    /// A seed (`SU…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nkey: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nkey_file: Option<PathBuf>,
    pub(crate) tls: Tls,
    /// On how many servers of a cluster what is created is kept.
    pub(crate) replicas: usize,
}

/// Certificates as PEM files. What is left out is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// Authorities that count instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// A certificate of ours, where the broker asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            token: None,
            token_file: None,
            user: None,
            password: None,
            password_file: None,
            creds: None,
            nkey: None,
            nkey_file: None,
            tls: Tls::default(),
            replicas: 1,
        }
    }
}

impl Nats {
    /// Reads the secrets that stand in files of their own.
    pub(super) fn read_secrets(
        &mut self,
        read: impl Fn(&str, &Path) -> Result<Secret, ConfigError>,
    ) -> Result<(), ConfigError> {
        for (key, file, secret) in [
            ("nats.token_file", &self.token_file, &mut self.token),
            ("nats.password_file", &self.password_file, &mut self.password),
            ("nats.nkey_file", &self.nkey_file, &mut self.nkey),
        ] {
            if let Some(file) = file {
                *secret = Some(read(key, file)?);
            }
        }
        Ok(())
    }

    /// What of it does not go together, with its key.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let ways = [
            ("token", self.token.is_some()),
            ("user", self.user.is_some()),
            ("creds", self.creds.is_some()),
            ("nkey", self.nkey.is_some()),
        ];
        let named: Vec<&str> = ways.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        if let [first, second, ..] = named[..] {
            return Err((
                "nats",
                format!("`{first}` and `{second}` are two ways in; one is wanted"),
            ));
        }
        if self.user.is_some() != self.password.is_some() {
            return Err(("nats.user", "`user` and `password` go together".into()));
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return Err(("nats.tls", "`cert` and `key` go together".into()));
        }
        if self.url.contains('@') {
            let how =
                "it is shown, so no name and no password in it; `user` and `password_file` are the place";
            return Err(("nats.url", how.into()));
        }
        if self.servers().next().is_none() {
            return Err(("nats.url", "nats://host:4222 is wanted".into()));
        }
        if !(1..=5).contains(&self.replicas) {
            return Err((
                "nats.replicas",
                "1 to 5 is wanted; 3 in a cluster of three".into(),
            ));
        }
        Ok(())
    }

    fn servers(&self) -> impl Iterator<Item = &str> {
        self.url
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
    }

    /// The same as the backend has it. `name` is what the broker's monitoring calls us.
    pub(crate) fn settings(&self, name: impl Into<String>) -> NatsSettings {
        NatsSettings {
            urls: self.servers().map(str::to_owned).collect(),
            auth: self.auth(),
            tls: NatsTls {
                ca: self.tls.ca.clone(),
                client: self.tls.cert.clone().zip(self.tls.key.clone()),
            },
            replicas: self.replicas,
            name: name.into(),
        }
    }

    fn auth(&self) -> NatsAuth {
        let told = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        if let Some(token) = told(&self.token) {
            NatsAuth::Token(token)
        } else if let (Some(user), Some(password)) = (self.user.clone(), told(&self.password)) {
            NatsAuth::User { user, password }
        } else if let Some(creds) = self.creds.clone() {
            NatsAuth::Credentials(creds)
        } else if let Some(seed) = told(&self.nkey) {
            NatsAuth::Nkey(seed)
        } else {
            NatsAuth::None
        }
    }
}
