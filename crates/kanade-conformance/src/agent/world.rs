//! The world of an agent's case: a server, agents of it, and what they say to each other in few words.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_model::{
    EventKill, EventSkipped, EventStarted, ExecId, ExecResult, Heartbeat, JobId, PcId, RequestId, ResultId,
    SkipReason, Subject, Timestamp,
};
use kanade_ports::{
    Bucket, Bus, BusErrorKind, Catalog, CatalogReader, CatalogStream, Key, Message, MessageId, Precondition,
    PubSub, Subscription,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    AgentFactory, AgentSide, Cut,
    bus::wire::{self, SOON, kind, next, pattern, text},
    within,
};

/// A server of a case's own.
pub(crate) struct World<F> {
    pub(crate) factory: F,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) catalog: Arc<dyn Catalog>,
}

impl<F: AgentFactory> World<F> {
    pub(crate) async fn new() -> Self {
        let factory = F::fresh().await;
        Self {
            bus: factory.bus().await,
            catalog: factory.catalog().await,
            factory,
        }
    }

    /// A connected agent.
    pub(crate) async fn agent(&self, pc: &str) -> Agent {
        let pc: PcId = pc.parse().expect("a valid name");
        let AgentSide { bus, catalog } = self.factory.agent(&pc).await;
        Agent { pc, bus, catalog }
    }

    /// Takes an agent's connection away, where it has one.
    pub(crate) async fn cut(&self, agent: &Agent) -> Option<Cut> {
        self.factory.cut(&agent.pc).await
    }

    /// The server says something to whoever listens.
    pub(crate) async fn say(&self, to: &str, text: &str) {
        wire::publish(&*self.bus, to, text).await;
    }

    /// The server listens.
    pub(crate) async fn listen(&self, to: &str) -> Subscription {
        wire::listen(&*self.bus, to).await
    }

    /// The server asks an agent.
    pub(crate) async fn ask(&self, to: &Subject, text: &str, wait: Duration) -> Result<Bytes, BusErrorKind> {
        kind(self.bus.request(to, wire::payload(text), wait).await)
    }

    /// Returns when nobody listens to `to` any more, which may take a while to get around.
    pub(crate) async fn until_nobody_listens(&self, to: &Subject) {
        let asking = async {
            while self.ask(to, "anybody?", Duration::from_millis(50)).await != Err(BusErrorKind::NoResponders)
            {
            }
        };
        within(SOON, "everybody to be gone", asking).await;
    }

    pub(crate) async fn put(&self, bucket: Bucket, key: &Key, value: impl Into<Bytes>) {
        let value = value.into();
        self.catalog
            .put(bucket, key, value, Precondition::Any)
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, bucket: Bucket, key: &Key) {
        self.catalog.delete(bucket, key, Precondition::Any).await.unwrap();
    }

    /// What holds where an agent has no connection to lose: none is ever made again, and messages go both ways.
    pub(crate) async fn is_never_cut(&self, agent: &Agent) {
        let mut reconnections = agent.bus.reconnections();
        let mut commands = agent.listen("commands.all").await;
        let mut heard = self.listen("heartbeat.>").await;
        self.say("commands.all", "still there").await;
        assert_eq!(text(&next(&mut commands).await), "still there");
        agent.beat(1).await;
        assert_eq!(next(&mut heard).await, agent.heartbeat(1));
        assert_eq!(
            reconnections.next().now_or_never(),
            None,
            "a connection that is not there is not made again"
        );
    }
}

/// An agent, in the hand of the case.
pub(crate) struct Agent {
    pub(crate) pc: PcId,
    pub(crate) bus: Arc<dyn PubSub>,
    pub(crate) catalog: Arc<dyn CatalogReader>,
}

impl Agent {
    /// Where its Commands come.
    pub(crate) fn commands_subject(&self) -> Subject {
        Subject::commands_pc(&self.pc)
    }

    /// Listens to its Commands.
    pub(crate) async fn commands(&self) -> Subscription {
        self.listen(self.commands_subject().as_str()).await
    }

    /// Listens to the questions for its log.
    pub(crate) async fn questions(&self) -> Subscription {
        self.listen(Subject::logs_fetch(&self.pc).as_str()).await
    }

    pub(crate) async fn listen(&self, to: &str) -> Subscription {
        let wanted = pattern(to);
        let subscribing = self.bus.subscribe(&wanted);
        within(SOON, "a subscription", subscribing).await.unwrap()
    }

    /// Publishes a message; what kind of failure it is, if it is one.
    pub(crate) async fn publish(&self, message: &Message) -> Result<(), BusErrorKind> {
        let publishing = self.bus.publish(&message.subject, message.payload.clone());
        kind(within(SOON, "the end of a publish", publishing).await)
    }

    /// Shows life.
    pub(crate) async fn beat(&self, number: i64) {
        assert_eq!(self.publish(&self.heartbeat(number)).await, Ok(()), "a heartbeat");
    }

    /// Sends a report in a task of its own.
    pub(crate) fn send(&self, report: &Message) -> JoinHandle<Result<(), BusErrorKind>> {
        let (bus, report) = (Arc::clone(&self.bus), report.clone());
        tokio::spawn(async move { send(&*bus, &report).await })
    }

    /// Sends a report as an outbox does, in a task of its own: again and again until it is kept. Says how often it took.
    pub(crate) fn send_until_kept(&self, report: &Message) -> JoinHandle<usize> {
        let (bus, report) = (Arc::clone(&self.bus), report.clone());
        tokio::spawn(async move {
            let mut attempts = 1;
            while let Err(kind) = send(&*bus, &report).await {
                assert!(
                    passes(kind),
                    "an outbox can only wait out what passes, not {kind:?}"
                );
                attempts += 1;
                tokio::task::yield_now().await;
            }
            attempts
        })
    }

    pub(crate) async fn watch(&self, bucket: Bucket) -> CatalogStream {
        let watching = self.catalog.watch(bucket);
        within(SOON, "the beginning of a watch", watching).await.unwrap()
    }

    /// The value of a document, if it is there.
    pub(crate) async fn get(&self, bucket: Bucket, key: &Key) -> Option<Bytes> {
        let asking = self.catalog.get(bucket, key);
        let found = within(SOON, "a document", asking).await.unwrap();
        found.map(|entry| entry.value)
    }

    /// A sign of life; the number makes it another moment.
    pub(crate) fn heartbeat(&self, number: i64) -> Message {
        let heartbeat = Heartbeat {
            pc_id: self.pc.clone(),
            at: Timestamp::from_micros(number),
            agent_version: "1.2.3".into(),
            hostname: Some("ホスト".into()),
            os_family: None,
        };
        said(Subject::heartbeat(&self.pc), serde_json::to_vec(&heartbeat))
    }

    /// The result of run `number`.
    pub(crate) fn result(&self, number: u32) -> Message {
        self.result_with(number, format!("{number} ü\n\0"))
    }

    pub(crate) fn result_with(&self, number: u32, stdout: String) -> Message {
        let request_id = RequestId(id(number));
        let result = ExecResult {
            result_id: Some(ResultId::derived(request_id, &self.pc)),
            request_id,
            exec_id: Some(exec(number)),
            pc_id: self.pc.clone(),
            exit_code: 0,
            stdout,
            stderr: String::new(),
            started_at: Timestamp::from_micros(number.into()),
            finished_at: Timestamp::from_micros(number.into()),
            manifest_id: Some(job()),
            ended: None,
        };
        said(Subject::result(request_id), serde_json::to_vec(&result))
    }

    /// The start of run `number`.
    pub(crate) fn started(&self, number: u32) -> Message {
        let event = EventStarted {
            result_id: ResultId::derived(RequestId(id(number)), &self.pc),
            request_id: RequestId(id(number)),
            exec_id: exec(number),
            pc_id: self.pc.clone(),
            started_at: Timestamp::from_micros(number.into()),
            manifest_id: job(),
            version: "1.0.0".parse().unwrap(),
        };
        said(
            Subject::started(&event.exec_id, &self.pc),
            serde_json::to_vec(&event),
        )
    }

    /// Run `number` was not started.
    pub(crate) fn skipped(&self, number: u32) -> Message {
        let event = EventSkipped {
            request_id: RequestId(id(number)),
            exec_id: exec(number),
            pc_id: self.pc.clone(),
            at: Timestamp::from_micros(number.into()),
            manifest_id: job(),
            version: "1.0.0".parse().unwrap(),
            reason: SkipReason::Revoked,
            detail: "取消".into(),
        };
        said(
            Subject::skipped(&event.exec_id, &self.pc),
            serde_json::to_vec(&event),
        )
    }

    /// The kill of execution `number` has come.
    pub(crate) fn killed(&self, number: u32) -> Message {
        let event = EventKill {
            exec_id: exec(number),
            pc_id: self.pc.clone(),
            at: Timestamp::from_micros(number.into()),
        };
        said(
            Subject::kill_delivered(&event.exec_id, &self.pc),
            serde_json::to_vec(&event),
        )
    }
}

async fn send(bus: &dyn PubSub, report: &Message) -> Result<(), BusErrorKind> {
    // The same id for a repetition and no other message.
    let said = [report.subject.as_str().as_bytes(), &report.payload].concat();
    let id = MessageId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &said).to_string());
    let sending = bus.publish_durable(&report.subject, report.payload.clone(), id);
    kind(sending.await)
}

/// Whether it makes sense to try again.
pub(crate) fn passes(kind: BusErrorKind) -> bool {
    matches!(kind, BusErrorKind::Unavailable | BusErrorKind::TimedOut)
}

/// A message that asks for no answer.
fn said(subject: Subject, body: serde_json::Result<Vec<u8>>) -> Message {
    Message {
        subject,
        payload: body.expect("it has string keys only").into(),
        reply: None,
    }
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

pub(crate) fn exec(number: u32) -> ExecId {
    id(number).into()
}

pub(crate) fn job() -> JobId {
    "backup".parse().expect("a valid id")
}
