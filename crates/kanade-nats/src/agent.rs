//! An agent on NATS, with no more rights than an agent needs: it creates nothing and looks at nothing on the server but
//! what it reads. `docs/nats.md` names the rights.

mod bus;
mod documents;
mod releases;
mod tail;

use std::{
    fmt, future,
    sync::{Arc, Weak},
};

use kanade_model::PcId;
use kanade_ports::{CatalogReader, PubSub, ReleaseReader};

use crate::{
    ConnectError, NatsSettings,
    key::escaped,
    link::{Link, Signals},
};
use bus::AgentBus;
use documents::AgentCatalog;
use releases::AgentReleases;

/// The connection of one agent. Clones share it, and so do the ports it gives.
#[derive(Clone)]
pub struct NatsAgent {
    link: Arc<Link>,
    pc: PcId,
}

impl NatsAgent {
    /// Begins to connect and returns: the server need not be there yet. It is tried again for as long as this or one of
    /// its ports exists, also after a loss. `settings.replicas` counts for nothing here.
    ///
    /// Everything that is answered to this agent goes to subjects below `_INBOX_{pc}`, so that its rights can leave out
    /// what is answered to others. A dot in the id is `=2E` there, and every other byte that is no
    /// letter, digit, `-`, `_` or `/` is written in the same way.
    ///
    /// # Errors
    /// Where the address or the credentials cannot be read.
    pub async fn open(settings: NatsSettings, pc: PcId) -> Result<Self, ConnectError> {
        let signals = Signals::new();
        let heard = Arc::clone(&signals);
        let options = settings
            .options()
            .await?
            .custom_inbox_prefix(format!("_INBOX_{}", escaped(pc.as_str())))
            .retry_on_initial_connect()
            .event_callback(move |event| {
                heard.heard(&event);
                future::ready(())
            });
        let servers = settings.servers();
        let connecting = options.connect(settings.addresses()?).await;
        let client = connecting.map_err(|error| ConnectError::Unreachable {
            servers: servers.clone(),
            source: error.into(),
        })?;
        let link = Link::new(client, signals);
        tokio::spawn(tell_connection(Arc::downgrade(&link), servers));
        Ok(Self { link, pc })
    }

    /// Messages to it and from it.
    pub fn bus(&self) -> Arc<dyn PubSub> {
        Arc::new(AgentBus::new(Arc::clone(&self.link), self.pc.clone()))
    }

    /// The documents it reads: script status, pinned versions and configuration as they are, its own groups.
    pub fn catalog(&self) -> Arc<dyn CatalogReader> {
        Arc::new(AgentCatalog::new(Arc::clone(&self.link), self.pc.clone()))
    }

    /// The programs that it updates itself to.
    pub fn releases(&self) -> Arc<dyn ReleaseReader> {
        Arc::new(AgentReleases::new(Arc::clone(&self.link)))
    }

    /// Whether there is a connection at the moment, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.link.is_up()
    }

    /// Sends what has not left yet and closes the connection: subscriptions and watches end, and its ports can do
    /// nothing more.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

impl fmt::Debug for NatsAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAgent")
            .field("pc", &self.pc)
            .field("connected", &self.is_connected())
            .finish()
    }
}

/// Says once that there is a connection, and to what.
async fn tell_connection(link: Weak<Link>, servers: String) {
    while let Some(link) = link.upgrade() {
        if link.ready().await.is_err() {
            continue;
        }
        let version = link.client.server_info().version;
        tracing::info!(%servers, %version, "connected to NATS");
        if !link.client.is_server_compatible(2, 10, 0) {
            tracing::error!(%servers, %version, "this NATS is too old; kanade needs 2.10 or newer");
        }
        return;
    }
}
