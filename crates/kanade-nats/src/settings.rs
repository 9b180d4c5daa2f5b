//! Where the server is and how one gets in. Nothing secret is ever shown.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};

use crate::ConnectError;

/// How often a connection is asked whether it still stands.
const PING: Duration = Duration::from_secs(20);
/// How long an attempt to connect to one address may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect again, before the jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How to connect to NATS.
#[derive(Clone)]
pub struct NatsSettings {
    /// The servers, any of which will do: `nats://host:4222`, `tls://…`.
    pub urls: Vec<String>,
    /// Who we are.
    pub auth: NatsAuth,
    /// Certificates, where the system's are not enough.
    pub tls: NatsTls,
    /// On how many servers what is created is kept: 1, or 3 in a cluster. What exists is never kept on fewer than before.
    pub replicas: usize,
    /// What the server's monitoring calls this client.
    pub name: String,
}

/// Who a client is.
#[derive(Clone, Default)]
pub enum NatsAuth {
    /// Nobody in particular, or who the URL says.
    #[default]
    None,
    /// Whoever knows this.
    Token(String),
    /// A user of the server's configuration.
    User {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A file with a JWT and its seed, as `nsc` makes it.
    Credentials(PathBuf),
    /// An nkey's seed (`SU…`).
    Nkey(String),
}

/// Certificates of a TLS connection. With a `tls://` URL and nothing of this, the system's authorities count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// A PEM file of authorities that count instead of the system's. Asks for TLS also where the URL does not.
    pub ca: Option<PathBuf>,
    /// PEM files of a certificate of ours and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".into()],
            auth: NatsAuth::None,
            tls: NatsTls::default(),
            replicas: 1,
            name: "kanade".into(),
        }
    }
}

impl NatsSettings {
    /// The servers as they may be shown: without users and passwords.
    pub(crate) fn servers(&self) -> String {
        let shown: Vec<String> = self.urls.iter().map(|url| without_secrets(url)).collect();
        shown.join(", ")
    }

    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        let addresses = self.urls.iter().map(|url| {
            url.parse::<ServerAddr>().map_err(|error| ConnectError::Url {
                url: without_secrets(url),
                source: error.into(),
            })
        });
        addresses.collect()
    }

    pub(crate) async fn options(&self) -> Result<ConnectOptions, ConnectError> {
        let options = ConnectOptions::new();
        let options = match &self.auth {
            NatsAuth::None => options,
            NatsAuth::Token(token) => options.token(token.clone()),
            NatsAuth::User { user, password } => options.user_and_password(user.clone(), password.clone()),
            NatsAuth::Nkey(seed) => options.nkey(seed.clone()),
            NatsAuth::Credentials(path) => {
                let read = options.credentials_file(path).await;
                read.map_err(|source| ConnectError::Credentials {
                    path: path.clone(),
                    source,
                })?
            }
        };
        let options = match &self.tls.ca {
            Some(path) => options.add_root_certificates(path.clone()).require_tls(true),
            None => options,
        };
        let options = match &self.tls.client {
            Some((certificate, key)) => options.add_client_certificate(certificate.clone(), key.clone()),
            None => options,
        };
        Ok(options
            .name(&self.name)
            .ping_interval(PING)
            .connection_timeout(CONNECT)
            .max_reconnects(None)
            .reconnect_delay_callback(pause))
    }
}

/// How long to wait before an attempt to connect: longer each time, and not at the same moment as everybody else.
fn pause(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
    let longest = Duration::from_millis(2_u64.saturating_pow(doublings)).min(LONGEST_PAUSE);
    longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("urls", &self.servers())
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("replicas", &self.replicas)
            .field("name", &self.name)
            .finish()
    }
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::User { user, .. } => write!(f, "User({user}, …)"),
            Self::Credentials(path) => write!(f, "Credentials({})", path.display()),
            Self::Nkey(_) => f.write_str("Nkey(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for auth in [
            NatsAuth::Token("hush".into()),
            NatsAuth::User {
                user: "kanade".into(),
                password: "hush".into(),
            },
            NatsAuth::Nkey("SUhush".into()),
        ] {
            let settings = NatsSettings {
                urls: vec!["nats://u:hush@a:4222".into(), "tls://hush@b".into(), "c:1".into()],
                auth,
                ..NatsSettings::default()
            };
            let shown = format!("{settings:?} {}", settings.servers());
            assert!(!shown.contains("hush"), "{shown}");
            assert!(shown.contains("nats://a:4222, tls://b, nats://c:1"), "{shown}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert_eq!(pause(1), Duration::ZERO, "the first attempt is at once");
        for attempt in 2..200 {
            assert!(pause(attempt) <= LONGEST_PAUSE, "attempt {attempt}");
        }
        assert!(pause(100) >= LONGEST_PAUSE / 2);
        assert!((0..50).any(|_| pause(100) != pause(100)), "with jitter");
    }
}
