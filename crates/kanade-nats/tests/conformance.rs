//! NATS against the behaviour every backend must show.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kanade_conformance::{AgentFactory, AgentSide, BusFactory, CatalogFactory, Cut, ReleasesFactory};
use kanade_model::PcId;
use kanade_nats::{Nats, NatsAgent, NatsSettings};
use kanade_ports::{Bus, Catalog, ReleaseReader, Releases};
use support::{Proxy, Server};

struct Broker(Server);

impl Broker {
    async fn connection(&self) -> Nats {
        Nats::connect(self.0.settings()).await.unwrap()
    }
}

impl CatalogFactory for Broker {
    async fn fresh() -> Self {
        Self(Server::start().await)
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        self.connection().await.catalog()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

impl BusFactory for Broker {
    async fn fresh() -> Self {
        Self(Server::start().await)
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        self.connection().await.bus()
    }

    fn keeps_without_consumer(&self) -> bool {
        true
    }
}

impl ReleasesFactory for Broker {
    async fn fresh() -> Self {
        Self(Server::start().await)
    }

    async fn open(&self) -> Arc<dyn Releases> {
        self.connection().await.releases()
    }

    async fn reader(&self, _: &Arc<dyn Releases>) -> Arc<dyn ReleaseReader> {
        let agent = NatsAgent::open(self.0.settings(), "pc-1".parse().unwrap());
        agent.await.unwrap().releases()
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

/// A server of a fleet, and a line to it for each agent.
struct Fleet {
    broker: Broker,
    server: Nats,
    lines: Mutex<HashMap<PcId, Proxy>>,
}

impl AgentFactory for Fleet {
    async fn fresh() -> Self {
        let broker = Broker(Server::start().await);
        Self {
            server: broker.connection().await,
            broker,
            lines: Mutex::default(),
        }
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        self.server.bus()
    }

    async fn catalog(&self) -> Arc<dyn Catalog> {
        self.server.catalog()
    }

    async fn agent(&self, pc: &PcId) -> AgentSide {
        let line = Proxy::to(&self.broker.0.url()).await;
        let settings = NatsSettings {
            urls: vec![line.url()],
            ..self.broker.0.settings()
        };
        let nats = Nats::connect(settings).await.unwrap();
        self.lines.lock().unwrap().insert(pc.clone(), line);
        AgentSide {
            bus: nats.bus(),
            catalog: nats.catalog(),
        }
    }

    async fn cut(&self, pc: &PcId) -> Option<Cut> {
        let line = self.lines.lock().unwrap()[pc].clone();
        line.keep_cut().await;
        Some(Cut::new(Mending(line)))
    }

    fn guards(&self) -> bool {
        false
    }

    fn keeps_without_consumer(&self) -> bool {
        true
    }
}

struct Mending(Proxy);

impl Drop for Mending {
    fn drop(&mut self) {
        self.0.mend();
    }
}

kanade_conformance::catalog_suite!(Broker);
kanade_conformance::bus_suite!(Broker);
kanade_conformance::agent_suite!(Fleet);
kanade_conformance::releases_suite!(Broker);
