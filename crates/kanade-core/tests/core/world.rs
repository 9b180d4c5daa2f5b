//! The world of a test: a running core, what it stands on, and what agents see of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_memory::{EmbeddedBus, ManualClock, MemoryCatalog, MemoryStore, SeededIds};
use kanade_model::{
    Caller, Command, EventStarted, ExecId, ExecResult, FanoutPlan, Heartbeat, HumanDuration, JobId, Manifest,
    PcId, ResultId, Rollout, ScheduleId, Strategy, Subject, Target, TargetState, Timestamp, Wave, api,
};
use kanade_ports as ports;
use kanade_ports::{
    Bucket, Catalog, CatalogReader, CatalogStream, ChangeSet, Clock, Entry, ErrorKind, Execution,
    ExecutionStore, Key, MessageId, Outcome, Precondition, PubSub, Revision, StoreError, Subscription,
};
use serde_json::json;
use uuid::Uuid;

use crate::{broker::Broker, params::Keeper};

/// No condition takes longer than this.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) services: Services,
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) catalog: Arc<FaultyCatalog>,
    pub(crate) bus: Arc<EmbeddedBus>,
    /// Every Command since the start.
    pub(crate) commands: Subscription,
    /// Retains Commands, where the deployment does.
    pub(crate) broker: Option<Arc<Broker>>,
    keeper: Arc<Keeper>,
    settings: Settings,
    running: Running,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::new("2026-05-01T08:00:00Z".parse().unwrap());
        Self::start(
            clock,
            Settings::default(),
            Arc::default(),
            Arc::default(),
            None,
            Arc::default(),
            1,
        )
        .await
    }

    /// A world in which `pc-1` has said that it runs `backup`.
    pub(crate) async fn with_a_run() -> (Self, api::Fired, Command) {
        let mut world = Self::new().await;
        world.job("backup").await;
        let fired = world.fire("backup", &["pc-1"]).await;
        let command = next_command(&mut world.commands).await;
        world.started(&command, "pc-1").await;
        (world, fired, command)
    }

    pub(crate) async fn with_settings(settings: Settings) -> Self {
        let clock = ManualClock::new("2026-05-01T08:00:00Z".parse().unwrap());
        Self::start(
            clock,
            settings,
            Arc::default(),
            Arc::default(),
            None,
            Arc::default(),
            1,
        )
        .await
    }

    /// A world in which a broker retains Commands.
    pub(crate) async fn with_broker() -> Self {
        let clock = ManualClock::new("2026-05-01T08:00:00Z".parse().unwrap());
        Self::start(
            clock,
            Settings::default(),
            Arc::default(),
            Arc::default(),
            Some(Arc::default()),
            Arc::default(),
            1,
        )
        .await
    }

    async fn start(
        clock: ManualClock,
        settings: Settings,
        store: Arc<FaultyStore>,
        catalog: Arc<FaultyCatalog>,
        broker: Option<Arc<Broker>>,
        keeper: Arc<Keeper>,
        seed: u64,
    ) -> Self {
        let bus = Arc::new(EmbeddedBus::new());
        let commands = bus.subscribe(&"commands.>".parse().unwrap()).await.unwrap();
        let ports = Ports {
            store: store.clone(),
            catalog: catalog.clone(),
            bus: bus.clone(),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(SeededIds::new(seed)),
            abilities: Abilities {
                retained: broker.clone().map(|broker| broker.on(&bus)),
                secrets: Some(keeper.clone()),
                ..Abilities::default()
            },
        };
        let (services, running) = Services::start(ports, settings.clone()).await;
        let world = Self {
            services,
            clock,
            store,
            catalog,
            bus,
            commands,
            broker,
            keeper,
            settings,
            running,
        };
        world
            .until("the listeners stand", async || world.bus_has_listeners().await)
            .await;
        world
    }

    /// Stops the core and starts it again on the same store and catalog, with a new bus.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|| ()).await
    }

    /// As [`restart`](Self::restart); `meanwhile` happens while no core runs.
    pub(crate) async fn restart_after(self, meanwhile: impl FnOnce()) -> Self {
        let Self {
            services,
            clock,
            store,
            catalog,
            broker,
            keeper,
            settings,
            running,
            ..
        } = self;
        drop(services);
        running.stop(DEADLINE).await;
        meanwhile();
        Self::start(clock, settings, store, catalog, broker, keeper, 2).await
    }

    async fn bus_has_listeners(&self) -> bool {
        // A durable publish is kept once the projectors are there; a heartbeat shows once presence is.
        let probe = heartbeat("probe", self.clock.now());
        self.bus
            .publish(&Subject::heartbeat(&probe.pc_id), encode(&probe))
            .await
            .unwrap();
        let letter: Subject = "events.probe".parse().unwrap();
        let kept = self
            .bus
            .publish_durable(&letter, Bytes::new(), MessageId("probe".into()))
            .now_or_never();
        let refused = matches!(kept, Some(Err(_)));
        !refused && self.store.agent(&probe.pc_id).await.unwrap().is_some()
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waited)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    /// Lets time pass, a step at a time, until something holds.
    pub(crate) async fn advance_until(&self, step: Duration, what: &str, holds: impl AsyncFn() -> bool) {
        let advanced = async {
            while !holds().await {
                self.clock.advance(step);
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, advanced)
            .await
            .unwrap_or_else(|_| panic!("advanced in vain until {what}"));
    }

    pub(crate) async fn job(&self, id: &str) -> Manifest {
        let manifest = manifest(id, "1.0.0");
        self.services
            .jobs
            .put(&manifest, Precondition::Any, &operator())
            .await
            .unwrap();
        manifest
    }

    pub(crate) async fn fire(&self, job: &str, pcs: &[&str]) -> api::Fired {
        self.services
            .fires
            .fire(&id(job), &at(pcs), &operator(), None)
            .await
            .unwrap()
    }

    /// Fires at pc-1 now and at pc-2 after a while.
    pub(crate) async fn fire_in_two_waves(&self, job: &str, later: Duration) -> api::Fired {
        for (pc, group) in [("pc-1", "first"), ("pc-2", "second")] {
            let joined = self.services.agents.join(&id(pc), &id(group), &operator()).await;
            joined.unwrap();
        }
        let wave = |group, delay| Wave {
            group: id(group),
            delay: HumanDuration(delay),
            proceed_if: None,
        };
        let waves = vec![wave("first", Duration::ZERO), wave("second", later)];
        let rollout = Some(Rollout {
            strategy: Strategy::Wave,
            waves,
        });
        let plan = FanoutPlan {
            rollout,
            ..FanoutPlan::default()
        };
        self.services
            .fires
            .fire(&id(job), &plan, &operator(), None)
            .await
            .unwrap()
    }

    pub(crate) async fn execution(&self, exec: &ExecId) -> Execution {
        self.store
            .execution(exec)
            .await
            .unwrap()
            .expect("the execution is there")
    }

    pub(crate) async fn target_state(&self, exec: &ExecId, pc: &str) -> Option<TargetState> {
        self.store
            .target(exec, &id(pc))
            .await
            .unwrap()
            .map(|target| target.state)
    }

    pub(crate) async fn listen(&self, pattern: &str) -> Subscription {
        self.bus.subscribe(&pattern.parse().unwrap()).await.unwrap()
    }

    pub(crate) async fn heartbeat(&self, pc: &str) {
        let heartbeat = heartbeat(pc, self.clock.now());
        self.bus
            .publish(&Subject::heartbeat(&heartbeat.pc_id), encode(&heartbeat))
            .await
            .unwrap();
    }

    /// An agent that is known from now on.
    pub(crate) async fn agent(&self, pc: &str) {
        self.heartbeat(pc).await;
        self.until("the agent is known", async || {
            self.store.agent(&id(pc)).await.unwrap().is_some()
        })
        .await;
    }

    pub(crate) async fn started(&self, command: &Command, pc: &str) -> ResultId {
        let result_id = ResultId(Uuid::new_v5(&command.request_id.0, pc.as_bytes()));
        let event = EventStarted {
            result_id,
            request_id: command.request_id,
            exec_id: command.exec_id.clone().unwrap(),
            pc_id: id(pc),
            started_at: self.clock.now(),
            manifest_id: command.id.clone(),
            version: command.version.clone(),
        };
        self.durable(&Subject::started(&event.exec_id, &event.pc_id), encode(&event))
            .await;
        result_id
    }

    pub(crate) async fn finished(
        &self,
        command: &Command,
        pc: &str,
        exit_code: i32,
        stdout: &str,
        stderr: &str,
    ) {
        let result = result(command, pc, self.clock.now(), exit_code, stdout, stderr);
        self.durable(&Subject::result(command.request_id), encode(&result))
            .await;
    }

    pub(crate) async fn durable(&self, subject: &Subject, payload: Bytes) {
        let id = MessageId(Uuid::new_v4().to_string());
        self.bus.publish_durable(subject, payload, id).await.unwrap();
    }

    pub(crate) async fn audit_actions(&self) -> Vec<String> {
        let query = kanade_ports::AuditQuery {
            limit: 1000,
            ..Default::default()
        };
        let page = self.store.audit(&query).await.unwrap();
        page.items
            .into_iter()
            .rev()
            .map(|record| record.event.action)
            .collect()
    }
}

/// What has come to a subscription by now.
pub(crate) fn come(subscription: &mut Subscription) -> Vec<kanade_ports::Message> {
    std::iter::from_fn(|| subscription.next().now_or_never().flatten()).collect()
}

pub(crate) async fn next_command(commands: &mut Subscription) -> Command {
    let message = tokio::time::timeout(DEADLINE, commands.next())
        .await
        .expect("a command comes")
        .unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

/// Lets seconds pass, one by one.
pub(crate) async fn pass(world: &World, seconds: u32) {
    for _ in 0..seconds {
        world.clock.advance(Duration::from_secs(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

/// Advances until a Command comes.
pub(crate) async fn next_after_a_while(world: &mut World) -> Command {
    let mut found = None;
    for _ in 0..100_000 {
        if let Some(message) = come(&mut world.commands).pop() {
            found = Some(serde_json::from_slice(&message.payload).unwrap());
            break;
        }
        pass(world, 1).await;
    }
    found.expect("a command comes")
}

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn operator() -> Caller {
    Caller::operator()
}

pub(crate) fn at(pcs: &[&str]) -> FanoutPlan {
    let pcs: Vec<PcId> = pcs.iter().map(|pc| id(pc)).collect();
    FanoutPlan {
        target: Target {
            pcs,
            ..Target::default()
        },
        ..FanoutPlan::default()
    }
}

pub(crate) fn manifest(job: &str, version: &str) -> Manifest {
    serde_json::from_value(json!({
        "id": job, "version": version, "execute": {"shell": "sh", "script": "true", "timeout": "60s"}
    }))
    .unwrap()
}

pub(crate) fn result(
    command: &Command,
    pc: &str,
    now: Timestamp,
    exit_code: i32,
    stdout: &str,
    stderr: &str,
) -> ExecResult {
    ExecResult {
        result_id: Some(ResultId(Uuid::new_v5(&command.request_id.0, pc.as_bytes()))),
        request_id: command.request_id,
        exec_id: command.exec_id.clone(),
        pc_id: id(pc),
        exit_code,
        stdout: stdout.into(),
        stderr: stderr.into(),
        started_at: now,
        finished_at: now,
        manifest_id: Some(command.id.clone()),
        ended: None,
    }
}

fn heartbeat(pc: &str, at: Timestamp) -> Heartbeat {
    Heartbeat {
        pc_id: id(pc),
        at,
        agent_version: "1.0.0".into(),
        hostname: None,
        os_family: None,
    }
}

pub(crate) fn encode(message: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap().into()
}

/// A memory store that takes no changes when told so, rejects jobs named `poison`, and counts its commits.
#[derive(Default)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    pub(crate) full: AtomicBool,
    /// Sends cannot be recorded as sent.
    pub(crate) forgets_sent: AtomicBool,
    pub(crate) commits: AtomicUsize,
    /// Commits take some milliseconds, fewer than this.
    pub(crate) slow: AtomicUsize,
    /// Commits with a result of this agent fail, after they have taken their time.
    pub(crate) refuses: std::sync::Mutex<Option<PcId>>,
}

impl FaultyStore {
    fn check(&self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::new(ErrorKind::Unavailable, "write to a full disk"));
        }
        let is_sent = |set: &ChangeSet| matches!(set.lead, ports::Change::Sent { .. });
        if self.forgets_sent.load(Ordering::SeqCst) && sets.iter().any(is_sent) {
            return Err(StoreError::new(ErrorKind::Unavailable, "record what was sent"));
        }
        let poison: JobId = id("poison");
        let is_poison =
            |set: &ChangeSet| matches!(&set.lead, ports::Change::Fire(new) if new.order.job_id == poison);
        if sets.iter().any(is_poison) {
            return Err(StoreError::new(ErrorKind::Corrupt, "write poison"));
        }
        Ok(())
    }
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl ExecutionStore for FaultyStore {
            async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
                self.check(sets)?;
                let count = self.commits.fetch_add(1, Ordering::SeqCst);
                if let Some(pause) = (count * 7).checked_rem(self.slow.load(Ordering::SeqCst)) {
                    tokio::time::sleep(Duration::from_millis(pause as u64)).await;
                }
                let refused = self.refuses.lock().unwrap().clone();
                let is_refused = |set: &ChangeSet| match &set.lead {
                    ports::Change::RunFinished(result) => refused.as_ref() == Some(&result.pc_id),
                    _ => false,
                };
                if sets.iter().any(is_refused) {
                    return Err(StoreError::new(ErrorKind::Unavailable, "record a result"));
                }
                self.inner.apply(sets).await
            }
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                self.inner.$name($($arg),*).await
            })+
        }
    };
}

delegate! {
    execution(id: &ExecId) -> Option<Execution>;
    executions(query: &ports::ExecutionQuery) -> ports::Page<Execution>;
    order(id: &ExecId) -> Option<ports::Order>;
    in_flight(job: &JobId) -> Vec<ExecId>;
    live_counts() -> std::collections::BTreeMap<JobId, ports::LiveCount>;
    open_kills(limit: usize) -> Vec<Execution>;
    to_steer(after: Option<&ports::Position>, limit: usize) -> Vec<Execution>;
    stale(due_before: Timestamp, limit: usize) -> Vec<ExecId>;
    target(exec: &ExecId, pc: &PcId) -> Option<ports::TargetRecord>;
    targets(query: &ports::TargetQuery) -> ports::Page<ports::TargetRecord>;
    unfinished(pc: &PcId, due_before: Timestamp, limit: usize) -> Vec<ports::TargetRecord>;
    open_on(pc: &PcId, after: Option<&ports::Position>, limit: usize) -> Vec<ports::TargetRecord>;
    unanswered_kills(pc: &PcId, since: Timestamp, limit: usize) -> Vec<ExecId>;
    overdue_targets(now: Timestamp, limit: usize) -> Vec<ports::TargetRecord>;
    due_sends(after: Option<&ports::Position>, limit: usize) -> Vec<ports::Send>;
    sends(exec: &ExecId) -> Vec<ports::Send>;
    run(id: &ResultId) -> Option<ports::RunRecord>;
    runs(query: &ports::RunQuery) -> ports::Page<ports::RunRecord>;
    overdue_runs(now: Timestamp, limit: usize) -> Vec<ports::Run>;
    agent(pc: &PcId) -> Option<ports::Agent>;
    agents(after: Option<&ports::Position>, limit: usize) -> ports::Page<ports::Agent>;
    facts_of(pc: &PcId) -> Vec<ports::Facts>;
    facts_by(job: &JobId, after: Option<&ports::Position>, limit: usize) -> ports::Page<ports::Facts>;
    audit(query: &ports::AuditQuery) -> ports::Page<ports::AuditRecord>;
    dead_letters(after: Option<&ports::Position>, limit: usize) -> ports::Page<ports::DeadLetterRecord>;
    key(key: &str) -> Option<ports::KeyRecord>;
    mark(name: &str) -> Option<Timestamp>;
    slot(schedule: &ScheduleId, slot: Timestamp) -> Option<ports::SlotRecord>;
    slots(query: &ports::SlotQuery) -> ports::Page<ports::SlotRecord>;
    waiting_slots(limit: usize) -> Vec<ports::SlotRecord>;
    cursor(schedule: &ScheduleId) -> Option<ports::ScheduleCursor>;
    successes(job: &JobId, after: Option<&ports::Position>, limit: usize) -> ports::Page<ports::Success>;
    prunable(cut: &ports::RetentionCut, limit: usize) -> ports::Forget;
}

/// A memory catalog whose deletions of jobs fail when told so, and whose watches end when told so.
#[derive(Default)]
pub(crate) struct FaultyCatalog {
    inner: MemoryCatalog,
    pub(crate) keep_jobs: AtomicBool,
    pub(crate) cut: tokio::sync::watch::Sender<u64>,
}

#[async_trait]
impl CatalogReader for FaultyCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(bucket, key).await
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        let mut cut = self.cut.subscribe();
        let ended = async move { drop(cut.changed().await) };
        Ok(self
            .inner
            .watch(bucket)
            .await?
            .take_until(Box::pin(ended))
            .boxed())
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        self.inner.put(bucket, key, value, when).await
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        if bucket == Bucket::Jobs && self.keep_jobs.load(Ordering::SeqCst) {
            return Err(StoreError::new(ErrorKind::Unavailable, "delete a job"));
        }
        self.inner.delete(bucket, key, when).await
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(bucket).await
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        self.inner.history(bucket, key).await
    }
}
