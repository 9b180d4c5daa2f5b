//! Agents on the other side of a WebSocket against the behaviour every agent must see: the link, the gateway, and what
//! the core lets an agent do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_client::{AgentLink, LinkSettings, LinkState, LinkTiming};
use kanade_conformance::{AgentFactory, AgentSide, Cut, ReleasesFactory, within};
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_http::{AcceptLimits, HttpSettings};
use kanade_memory::{EmbeddedBus, MemoryCatalog, MemoryReleases, MemoryStore};
use kanade_model::{Pattern, PcId, Subject};
use kanade_ports::{
    Bus, BusError, Catalog, Consumer, Durable, Message, MessageId, PubSub, ReleaseReader, Releases,
    Subscription, SystemClock, SystemIds,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const SOON: Duration = Duration::from_secs(60);

/// A whole server, and agents that reach it through a socket.
struct OverWebSocket {
    bus: EmbeddedBus,
    catalog: Arc<MemoryCatalog>,
    releases: Arc<MemoryReleases>,
    server: SocketAddr,
    ways: Mutex<HashMap<PcId, Arc<Way>>>,
    _running: Running,
}

impl OverWebSocket {
    async fn start() -> Self {
        let releases = Arc::new(MemoryReleases::new(Arc::new(SystemClock)));
        let (bus, catalog) = (EmbeddedBus::new(), Arc::new(MemoryCatalog::new()));
        let ports = Ports {
            store: Arc::new(MemoryStore::new()),
            catalog: catalog.clone(),
            bus: Arc::new(Unconsumed(bus.clone())),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            abilities: Abilities {
                releases: Some(releases.clone()),
                ..Abilities::default()
            },
        };
        let (services, running) = Services::start(ports, Settings::default()).await;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let router = kanade_http::router(services, HttpSettings::default());
        let serving = kanade_http::serve(listener, router, AcceptLimits::default(), None, pending());
        tokio::spawn(async move { serving.await.unwrap() });
        Self {
            bus,
            catalog,
            releases,
            server,
            ways: Mutex::default(),
            _running: running,
        }
    }

    /// How to come as an agent: with the same key each time, as it is the same agent that comes again.
    fn settings(server: SocketAddr, pc: &PcId) -> LinkSettings {
        let key = format!("the-one-and-only-key-of-{pc}");
        LinkSettings::new(format!("http://{server}"), pc.clone(), key)
    }
}

impl AgentFactory for OverWebSocket {
    async fn fresh() -> Self {
        Self::start().await
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.bus.clone())
    }

    async fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    async fn agent(&self, pc: &PcId) -> AgentSide {
        let way = Way::to(self.server).await;
        let mut settings = Self::settings(way.address, pc);
        self.ways.lock().unwrap().insert(pc.clone(), way);
        settings.timing = LinkTiming {
            patience: Duration::from_secs(2),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            pause_when_replaced: Duration::from_millis(20),
            ..LinkTiming::default()
        };
        let link = AgentLink::open(settings).unwrap();
        let mut state = link.state();
        let connected = state.wait_for(|state| *state == LinkState::Connected);
        within(SOON, "a connection", connected).await.unwrap();
        AgentSide {
            bus: Arc::new(link.clone()),
            catalog: Arc::new(link),
        }
    }

    async fn cut(&self, pc: &PcId) -> Option<Cut> {
        let way = self.ways.lock().unwrap().get(pc).cloned();
        let way = way.expect("an agent that has come");
        Some(Cut::new(Closed::close(way).await))
    }

    fn guards(&self) -> bool {
        true
    }

    fn keeps_without_consumer(&self) -> bool {
        false
    }
}

/// Operators use the releases themselves; agents reach them through the server.
impl ReleasesFactory for OverWebSocket {
    async fn fresh() -> Self {
        Self::start().await
    }

    async fn open(&self) -> Arc<dyn Releases> {
        self.releases.clone()
    }

    async fn reader(&self, _: &Arc<dyn Releases>) -> Arc<dyn ReleaseReader> {
        let settings = Self::settings(self.server, &"pc-1".parse().unwrap());
        Arc::new(AgentLink::open(settings).unwrap())
    }

    fn survives_reopen(&self) -> bool {
        true
    }
}

/// The way from one agent to the server, which can be closed.
struct Way {
    address: SocketAddr,
    /// The connections on it; nothing while it is closed.
    open: Mutex<Option<Vec<JoinHandle<()>>>>,
}

impl Way {
    async fn to(server: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let way = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            open: Mutex::new(Some(Vec::new())),
        });
        let accepting = Arc::clone(&way);
        tokio::spawn(async move {
            loop {
                let (agent, _) = listener.accept().await.unwrap();
                if let Some(connections) = &mut *accepting.open.lock().unwrap() {
                    connections.push(tokio::spawn(carry(agent, server)));
                }
            }
        });
        way
    }
}

async fn carry(mut agent: TcpStream, server: SocketAddr) {
    let mut server = TcpStream::connect(server).await.unwrap();
    for stream in [&agent, &server] {
        stream.set_nodelay(true).unwrap();
    }
    // However it ends, both sides find out.
    let _ = copy_bidirectional(&mut agent, &mut server).await;
}

/// A way that is closed for as long as this is kept.
struct Closed(Arc<Way>);

impl Closed {
    async fn close(way: Arc<Way>) -> Self {
        let connections = way.open.lock().unwrap().take();
        for connection in connections.expect("one cut at a time") {
            connection.abort();
            let _ = connection.await;
        }
        Self(way)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap() = Some(Vec::new());
    }
}

/// The bus of a server whose projectors get nothing to do: the case consumes in their place.
struct Unconsumed(EmbeddedBus);

#[async_trait]
impl PubSub for Unconsumed {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.0.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        self.0.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        self.0.subscribe(pattern).await
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        self.0.reply(to, payload).await
    }

    fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        self.0.reconnections()
    }
}

#[async_trait]
impl Bus for Unconsumed {
    async fn request(&self, subject: &Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.0.request(subject, payload, timeout).await
    }

    async fn consume(&self, _durable: Durable) -> Result<Box<dyn Consumer>, BusError> {
        pending().await
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.0.flush().await
    }
}

kanade_conformance::agent_suite!(OverWebSocket);
kanade_conformance::releases_suite!(OverWebSocket);
