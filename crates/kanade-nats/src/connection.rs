//! Connecting: settings in, both ports out.

use std::{fmt, future, io, path::PathBuf, sync::Arc};

use async_nats::ConnectErrorKind;
use kanade_ports::{Bus, Catalog, Releases, Resources, RetainedCommands};

use crate::{
    NatsSettings,
    bus::NatsBus,
    catalog::NatsCatalog,
    link::{Link, Signals},
    objects::NatsReleases,
    resources::NatsResources,
    retained::NatsRetained,
    setup,
};

/// A connection to NATS. Clones share it, and so do the ports it gives.
#[derive(Clone)]
pub struct Nats(Arc<Link>);

impl Nats {
    /// Connects, and creates what is missing on the server: streams, buckets, durable consumers. What exists is
    /// widened where it is too narrow and left alone otherwise. Once connected, a lost connection is made again for
    /// as long as this or one of its ports exists.
    ///
    /// # Errors
    /// Where the server cannot be reached, does not let us in, is too old (before 2.10) or has no JetStream, or where
    /// something on it is in the way.
    pub async fn connect(settings: NatsSettings) -> Result<Self, ConnectError> {
        let servers = settings.servers();
        let link = Self::dial(&settings).await?;
        let version = link.client.server_info().version;
        if !link.client.is_server_compatible(2, 10, 0) {
            return Err(ConnectError::TooOld { servers, version });
        }
        setup::prepare(&link, settings.replicas, &servers).await?;
        tracing::info!(%servers, %version, "connected to NATS");
        Ok(Self(link))
    }

    /// Connects, to whatever is there.
    pub(crate) async fn dial(settings: &NatsSettings) -> Result<Arc<Link>, ConnectError> {
        let signals = Signals::new();
        let heard = Arc::clone(&signals);
        let options = settings.options().await?.event_callback(move |event| {
            heard.heard(&event);
            future::ready(())
        });
        let servers = settings.servers();
        let connected = options.connect(settings.addresses()?).await;
        let client = connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Refused { servers }
            }
            _ => ConnectError::Unreachable {
                servers,
                source: error.into(),
            },
        })?;
        Ok(Link::new(client, signals))
    }

    /// The catalog in this server's buckets.
    pub fn catalog(&self) -> Arc<dyn Catalog> {
        Arc::new(NatsCatalog::new(Arc::clone(&self.0)))
    }

    /// The bus.
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(NatsBus::new(Arc::clone(&self.0)))
    }

    /// The releases of the agent, in this server's object store.
    pub fn releases(&self) -> Arc<dyn Releases> {
        Arc::new(NatsReleases::new(Arc::clone(&self.0)))
    }

    /// What the contract wants on this server.
    pub fn resources(&self) -> Arc<dyn Resources> {
        Arc::new(NatsResources::new(Arc::clone(&self.0)))
    }

    /// The Commands that lie here for agents that are away.
    pub fn retained(&self) -> Arc<dyn RetainedCommands> {
        Arc::new(NatsRetained::new(Arc::clone(&self.0)))
    }

    /// Whether there is a connection at the moment, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.0.is_up()
    }

    /// Sends what has not left yet and closes the connection: subscriptions and watches end, and its ports can do
    /// nothing more.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("connected", &self.is_connected())
            .finish()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be read.
    #[error("`{url}` is not the address of a NATS server: write nats://host:4222 or tls://host:4222")]
    Url {
        /// What was given, without secrets.
        url: String,
        /// What is wrong with it.
        source: async_nats::Error,
    },
    /// The credentials cannot be read.
    #[error("cannot read the NATS credentials in {}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers, or not as a NATS server does.
    #[error("cannot connect to NATS at {servers}")]
    Unreachable {
        /// Where.
        servers: String,
        /// Why not.
        source: async_nats::Error,
    },
    /// The server does not know us.
    #[error("NATS at {servers} refuses these credentials")]
    Refused {
        /// Where.
        servers: String,
    },
    /// The server is too old.
    #[error("NATS at {servers} is {version}; kanade needs 2.10 or newer")]
    TooOld {
        /// Where.
        servers: String,
        /// Its version.
        version: String,
    },
    /// There is no JetStream.
    #[error(
        "NATS at {servers} has no JetStream for this account: start it with `-js`, or enable it in its configuration"
    )]
    NoJetStream {
        /// Where.
        servers: String,
    },
    /// A stream, bucket or consumer is missing and cannot be made, or cannot be used.
    #[error("cannot {attempt} on NATS at {servers}")]
    Resource {
        /// Where.
        servers: String,
        /// What was attempted.
        attempt: String,
        /// Why it failed.
        source: async_nats::Error,
    },
}
