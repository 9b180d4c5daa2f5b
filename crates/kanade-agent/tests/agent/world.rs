//! Everything around an agent: a bus with a server's consumers on it, a catalog, a clock, a folder.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kanade_agent::{Agent, AgentConfig};
use kanade_memory::{BusLimits, EmbeddedBus, ManualClock, MemoryCatalog};
use kanade_model::{
    Command, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, Pattern, PcId, RequestId, Subject,
};
use kanade_ports::{
    Bucket, Bus, BusError, BusErrorKind, Catalog, CatalogReader, CatalogStream, Clock, Durable, Entry,
    ErrorKind, Key, Message, MessageId, Precondition, PubSub, StoreError, Subscription, SystemClock,
    SystemIds,
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Nothing here takes longer, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) bus: Arc<TestBus>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) clock: Arc<dyn Clock>,
    heard: watch::Receiver<Vec<Message>>,
    _server: JoinSet<()>,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::build(Arc::new(SystemClock), BusLimits::default()).await
    }

    /// A world whose clock only moves when it is told to.
    pub(crate) async fn with_manual_clock() -> (Self, ManualClock) {
        let clock = ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap());
        (
            Self::build(Arc::new(clock.clone()), BusLimits::default()).await,
            clock,
        )
    }

    pub(crate) async fn with_bus_limits(limits: BusLimits) -> Self {
        Self::build(Arc::new(SystemClock), limits).await
    }

    async fn build(clock: Arc<dyn Clock>, limits: BusLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self::in_folder(folder.path(), clock, limits).await;
        world._folder = Some(folder);
        world
    }

    pub(crate) async fn in_folder(folder: &Path, clock: Arc<dyn Clock>, limits: BusLimits) -> Self {
        let bus = Arc::new(TestBus::new(EmbeddedBus::with_limits(limits)));
        let (hear, heard) = watch::channel(Vec::new());
        let mut server = JoinSet::new();
        for durable in Durable::ALL {
            let mut consumer = bus.inner.consume(*durable).await.unwrap();
            let hear = hear.clone();
            server.spawn(async move {
                while let Ok(batch) = consumer.next(100).await {
                    hear.send_modify(|heard: &mut Vec<Message>| heard.extend_from_slice(batch.messages()));
                    batch.acknowledge().await.unwrap();
                }
            });
        }
        Self {
            folder: folder.to_owned(),
            bus,
            catalog: Arc::new(MemoryCatalog::new()),
            clock,
            heard,
            _server: server,
            _folder: None,
        }
    }

    pub(crate) fn config(&self) -> AgentConfig {
        AgentConfig::new(pc_id(), self.folder.join("agent"))
    }

    pub(crate) async fn agent(&self) -> Agent {
        self.agent_with(self.config()).await
    }

    pub(crate) async fn agent_with(&self, config: AgentConfig) -> Agent {
        let (bus, catalog, clock) = (self.bus.clone(), self.catalog.clone(), self.clock.clone());
        Agent::start(config, bus, catalog, clock, Arc::new(SystemIds))
            .await
            .unwrap()
    }

    /// An agent that reaches no catalog.
    pub(crate) async fn agent_without_catalog(&self) -> Agent {
        let (bus, clock) = (self.bus.clone(), self.clock.clone());
        Agent::start(
            self.config(),
            bus,
            Arc::new(NoCatalog),
            clock,
            Arc::new(SystemIds),
        )
        .await
        .unwrap()
    }

    pub(crate) async fn send(&self, command: &Command) {
        let payload = serde_json::to_vec(command).unwrap().into();
        self.bus
            .inner
            .publish(&Subject::commands_pc(&pc_id()), payload)
            .await
            .unwrap();
    }

    pub(crate) async fn kill(&self, exec_id: &ExecId) {
        self.bus
            .inner
            .publish(&Subject::kill(exec_id), Bytes::new())
            .await
            .unwrap();
    }

    pub(crate) async fn set(&self, bucket: Bucket, key: &str, value: &str) {
        let key: Key = key.parse().unwrap();
        self.catalog
            .put(bucket, &key, value.to_owned().into(), Precondition::Any)
            .await
            .unwrap();
    }

    /// What the server has heard so far, of one kind.
    pub(crate) fn heard<T: DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        decoded(&self.heard.borrow(), prefix)
    }

    /// Waits until what the server has heard contains something.
    pub(crate) async fn hear<T: DeserializeOwned>(
        &self,
        prefix: &str,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> T {
        let mut heard = self.heard.clone();
        let mut found = None;
        let waiting = heard.wait_for(|messages| {
            found = decoded(messages, prefix).into_iter().find(&mut wanted);
            found.is_some()
        });
        tokio::time::timeout(DEADLINE, waiting)
            .await
            .unwrap_or_else(|_| panic!("nothing of the kind on {prefix}"))
            .unwrap();
        found.unwrap()
    }

    pub(crate) async fn result(&self, command: &Command) -> ExecResult {
        self.hear("results.", |result: &ExecResult| {
            result.request_id == command.request_id
        })
        .await
    }

    pub(crate) async fn started(&self, command: &Command) -> EventStarted {
        self.hear("events.started.", |event: &EventStarted| {
            event.request_id == command.request_id
        })
        .await
    }

    pub(crate) async fn skipped(&self, command: &Command) -> EventSkipped {
        self.hear("events.skipped.", |event: &EventSkipped| {
            event.request_id == command.request_id
        })
        .await
    }

    pub(crate) async fn kill_delivered(&self, exec_id: &ExecId) -> EventKill {
        self.hear("events.kill.", |event: &EventKill| event.exec_id == *exec_id)
            .await
    }

    /// Sends a Command and waits for its result.
    pub(crate) async fn run(&self, command: &Command) -> ExecResult {
        self.send(command).await;
        self.result(command).await
    }

    /// A Command whose script runs in the folder of this world.
    pub(crate) fn here(&self, script: &str) -> Command {
        with(script, |command| {
            command.cwd = Some(self.folder.display().to_string());
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Waits until a script has written a number into a file, and gives it.
    pub(crate) async fn number_in(&self, name: &str) -> i32 {
        let path = self.path(name);
        let read = || {
            std::fs::read_to_string(&path)
                .ok()?
                .strip_suffix('\n')?
                .trim()
                .parse()
                .ok()
        };
        until(|| read().is_some()).await;
        read().unwrap()
    }
}

pub(crate) fn pc_id() -> PcId {
    "pc-1".parse().unwrap()
}

/// A Command of an execution of its own.
pub(crate) fn command(script: &str) -> Command {
    let request = Uuid::now_v7();
    serde_json::from_value(serde_json::json!({
        "id": "job", "version": "1", "request_id": request, "exec_id": format!("exec-{request}"), "shell": "sh",
        "script": script, "timeout_secs": 60
    }))
    .unwrap()
}

pub(crate) fn with(script: &str, change: impl FnOnce(&mut Command)) -> Command {
    let mut command = command(script);
    change(&mut command);
    command
}

pub(crate) fn exec_of(command: &Command) -> ExecId {
    command.exec_id.clone().unwrap()
}

/// A Command that says the same under a request of its own.
pub(crate) fn again(command: &Command) -> Command {
    Command {
        request_id: RequestId(Uuid::now_v7()),
        ..command.clone()
    }
}

fn decoded<T: DeserializeOwned>(messages: &[Message], prefix: &str) -> Vec<T> {
    let of_kind = messages
        .iter()
        .filter(|message| message.subject.as_str().starts_with(prefix));
    of_kind
        .map(|message| serde_json::from_slice(&message.payload).unwrap())
        .collect()
}

/// Waits for a condition that nobody announces.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("the condition does not come true");
}

/// Whether a process is there and has not ended; one that waits to be reaped has ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A catalog that nobody reaches.
struct NoCatalog;

#[async_trait]
impl CatalogReader for NoCatalog {
    async fn get(&self, _: Bucket, _: &Key) -> Result<Option<Entry>, StoreError> {
        Err(StoreError::new(ErrorKind::Unavailable, "read a document"))
    }

    async fn watch(&self, _: Bucket) -> Result<CatalogStream, StoreError> {
        Err(StoreError::new(ErrorKind::Unavailable, "watch"))
    }
}

/// A bus that a test can take away.
pub(crate) struct TestBus {
    pub(crate) inner: EmbeddedBus,
    pub(crate) is_down: AtomicBool,
    /// Does not let the agent send events.
    pub(crate) refuses_events: AtomicBool,
    pub(crate) refused: AtomicUsize,
    connection: std::sync::Mutex<CancellationToken>,
    reconnections: watch::Sender<()>,
}

impl TestBus {
    fn new(inner: EmbeddedBus) -> Self {
        Self {
            inner,
            is_down: AtomicBool::new(false),
            refuses_events: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            connection: Default::default(),
            reconnections: watch::Sender::new(()),
        }
    }

    /// Tells that the connection stands again.
    pub(crate) fn reconnect(&self) {
        self.reconnections.send_replace(());
    }

    /// Ends every subscription, as a lost connection does.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.connection.lock().unwrap()).cancel();
    }

    fn check(&self) -> Result<(), BusError> {
        if self.is_down.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(BusError::new(BusErrorKind::Unavailable, "use a bus that is down"));
        }
        Ok(())
    }
}

#[async_trait]
impl PubSub for TestBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.check()?;
        self.inner.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        self.check()?;
        if self.refuses_events.load(Ordering::SeqCst) && subject.as_str().starts_with("events.") {
            return Err(BusError::new(BusErrorKind::Refused, "send an event"));
        }
        self.inner.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        self.check()?;
        let cut = self.connection.lock().unwrap().clone();
        let messages = self.inner.subscribe(pattern).await?;
        Ok(Subscription::new(messages.take_until(cut.cancelled_owned())))
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        self.inner.reply(to, payload).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        stream::unfold(self.reconnections.subscribe(), |mut made| async move {
            made.changed().await.ok().map(|()| ((), made))
        })
        .boxed()
    }
}
