//! What a broker has kept while the agent was away: taken in once, acknowledged when it is in the journal.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_agent::Agent;
use kanade_model::{Command, Pattern, Subject};
use kanade_ports::{
    Batch, BusError, BusErrorKind, Consumer, Message, MessageId, PubSub, Subscription, SystemIds,
};
use tokio::sync::Notify;

use crate::world::{TestBus, World, command, exec_of, pc_id, until};

/// A bus whose broker keeps Commands.
struct KeepingBus {
    bus: Arc<TestBus>,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    messages: Mutex<VecDeque<Message>>,
    arrived: Notify,
    acknowledged: AtomicUsize,
    given: AtomicUsize,
    /// There is nothing for this agent yet.
    is_missing: AtomicBool,
    asked: AtomicUsize,
}

impl KeepingBus {
    fn of(world: &World) -> Arc<Self> {
        Arc::new(Self {
            bus: Arc::clone(&world.bus),
            kept: Arc::default(),
        })
    }

    fn keep(&self, command: &Command) {
        let message = Message {
            subject: Subject::commands_pc(&pc_id()),
            payload: serde_json::to_vec(command).unwrap().into(),
            reply: None,
        };
        self.kept.messages.lock().unwrap().push_back(message);
        self.kept.arrived.notify_one();
    }

    fn acknowledged(&self) -> usize {
        self.kept.acknowledged.load(Ordering::SeqCst)
    }

    async fn agent(self: &Arc<Self>, world: &World) -> Agent {
        let (catalog, clock) = (world.catalog.clone(), world.clock.clone());
        let started = Agent::start(world.config(), self.clone(), catalog, clock, Arc::new(SystemIds));
        started.await.unwrap()
    }
}

#[async_trait]
impl PubSub for KeepingBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.bus.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        self.bus.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        self.bus.subscribe(pattern).await
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        self.bus.reply(to, payload).await
    }

    async fn backlog(&self) -> Result<Option<Box<dyn Consumer>>, BusError> {
        Ok(Some(Box::new(Reader(Arc::clone(&self.kept)))))
    }

    fn dropped(&self) -> u64 {
        self.bus.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        self.bus.reconnections()
    }
}

struct Reader(Arc<Kept>);

#[async_trait]
impl Consumer for Reader {
    async fn next(&mut self, max: usize) -> Result<Box<dyn Batch>, BusError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.is_missing.load(Ordering::SeqCst) {
            return Err(BusError::new(BusErrorKind::Unavailable, "read what is not kept"));
        }
        loop {
            let messages: Vec<Message> = {
                let mut kept = self.0.messages.lock().unwrap();
                let count = kept.len().min(max);
                kept.drain(..count).collect()
            };
            if !messages.is_empty() {
                self.0.given.fetch_add(messages.len(), Ordering::SeqCst);
                return Ok(Box::new(Given {
                    kept: Arc::clone(&self.0),
                    messages,
                }));
            }
            self.0.arrived.notified().await;
        }
    }
}

struct Given {
    kept: Arc<Kept>,
    messages: Vec<Message>,
}

#[async_trait]
impl Batch for Given {
    fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn caught_up(&self) -> Option<Duration> {
        None
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), BusError> {
        let count = std::mem::take(&mut self.messages).len();
        self.kept.acknowledged.fetch_add(count, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut kept = self.kept.messages.lock().unwrap();
        for message in self.messages.drain(..).rev() {
            kept.push_front(message);
        }
        drop(kept);
        self.kept.arrived.notify_one();
    }
}

#[tokio::test]
async fn what_was_kept_is_run_once_and_acknowledged() {
    let world = World::new().await;
    let bus = KeepingBus::of(&world);
    let missed = world.here("echo run >> runs");
    bus.keep(&missed);
    let agent = bus.agent(&world).await;
    world.result(&missed).await;
    until(|| bus.acknowledged() == 1).await;

    // It also comes by the subscription, and from the broker again, in this life and the next.
    world.send(&missed).await;
    bus.keep(&missed);
    until(|| bus.acknowledged() == 2).await;
    agent.stop().await;
    bus.keep(&missed);
    let _agent = bus.agent(&world).await;
    until(|| bus.acknowledged() == 3).await;
    let other = world.here("true");
    world.run(&other).await;
    assert_eq!(std::fs::read_to_string(world.path("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn what_runs_already_is_acknowledged_and_what_is_no_command_too() {
    let world = World::new().await;
    let bus = KeepingBus::of(&world);
    let _agent = bus.agent(&world).await;
    let long = world.here("echo $$ > pid; sleep 600");
    world.send(&long).await;
    world.number_in("pid").await;
    bus.keep(&long);
    until(|| bus.acknowledged() == 1).await;
    bus.kept.messages.lock().unwrap().push_back(Message {
        subject: Subject::commands_all(),
        payload: "garbage".into(),
        reply: None,
    });
    bus.kept.arrived.notify_one();
    until(|| bus.acknowledged() == 2).await;
    world.kill(&exec_of(&long)).await;
    world.result(&long).await;
}

#[tokio::test]
async fn what_cannot_be_taken_in_now_is_acknowledged_when_it_can() {
    let world = World::new().await;
    let bus = KeepingBus::of(&world);
    let mut config = world.config();
    config.limits.in_hand = 1;
    let (catalog, clock) = (world.catalog.clone(), world.clock.clone());
    let agent = Agent::start(config, bus.clone(), catalog, clock, Arc::new(SystemIds));
    let _agent = agent.await.unwrap();
    let long = world.here("echo $$ > pid; sleep 600");
    world.send(&long).await;
    world.number_in("pid").await;
    let waiting = world.here("true");
    bus.keep(&waiting);
    until(|| bus.kept.given.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bus.acknowledged(), 0, "there is no room for it");
    world.kill(&exec_of(&long)).await;
    world.result(&waiting).await;
    until(|| bus.acknowledged() == 1).await;
}

#[tokio::test]
async fn an_agent_looks_again_until_something_is_kept_for_it() {
    let world = World::new().await;
    let bus = KeepingBus::of(&world);
    bus.kept.is_missing.store(true, Ordering::SeqCst);
    let _agent = bus.agent(&world).await;
    until(|| bus.kept.asked.load(Ordering::SeqCst) > 2).await;
    let missed = command("echo found");
    bus.keep(&missed);
    bus.kept.is_missing.store(false, Ordering::SeqCst);
    assert_eq!(world.result(&missed).await.stdout, "found\n");
}
