//! A durable consumption. What was pulled is held here until it is acknowledged on the server: a batch that is dropped
//! is given again from here, in its place, and goes back to the server when the consumer is closed.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{StatusCode, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use kanade_model::PcId;
use kanade_ports::{Batch, BusError, BusErrorKind, Consumer, Durable, Message};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::{
    acks::Place,
    bus::{failed, received},
    link::{Fault, Link},
    plan, replay,
};

/// How many messages are asked for at a time, and their bytes. No more are asked for while as many bytes wait here.
const MOST: (usize, usize) = (1000, 16 << 20);
/// The most bytes that are given at a time.
const GIVEN: usize = 4 << 20;
/// How often the server is told that messages in hand are being worked on; well below its patience.
const IN_WORK: Duration = Duration::from_secs(plan::ACK_WAIT.as_secs() / 3);
/// The pause after a refused request for messages.
const REFUSED: Duration = Duration::from_millis(200);
/// How long an acknowledgement may take.
const CONFIRM: Duration = Duration::from_secs(10);
/// How long a consumer that is given up waits for what is still on its way.
const LEAVING: Duration = Duration::from_secs(5);

const ACK: &[u8] = b"+ACK";
const NAK: &[u8] = b"-NAK";
const WORKING: &[u8] = b"+WPI";
const NEVER: &[u8] = b"+TERM";

/// What is read, and how it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    stream: &'static str,
    /// The consumer's name.
    name: String,
    /// How long the server keeps a request for messages.
    pull: Duration,
    /// How often it says that the request still stands.
    heartbeat: Duration,
    /// How many refusals in a row are a failure.
    refusals: u32,
    /// How many messages are kept ready beyond what is read.
    ahead: usize,
}

impl Source {
    /// A server's: one of few, each of which has much to tell.
    pub(crate) fn durable(durable: Durable) -> Self {
        Self {
            stream: plan::stream_of(durable),
            name: durable.name().to_owned(),
            pull: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            refusals: 10,
            ahead: MOST.0,
        }
    }

    /// An agent's: one of thousands, which has hardly ever anything to tell and may not be there.
    pub(crate) fn backlog(pc: &PcId) -> Self {
        Self {
            stream: "EXEC",
            name: replay::name(pc.as_str()),
            pull: Duration::from_secs(300),
            heartbeat: Duration::from_secs(30),
            refusals: 1,
            ahead: 0,
        }
    }

    /// After which silence it is asked again.
    fn silence(&self) -> Duration {
        2 * self.heartbeat + Duration::from_secs(1)
    }
}

pub(crate) struct DurableConsumer(Arc<Hold>);

impl DurableConsumer {
    pub(crate) async fn open(link: Arc<Link>, source: Source) -> Result<Self, Fault> {
        link.ready().await?;
        let inbox = link.client.new_inbox();
        let subscriber = link.client.subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| Fault::Client(error.into()))?;
        let hold = Arc::new(Hold {
            source,
            held: Mutex::new(Held {
                open: true,
                ..Held::default()
            }),
            to_do: Notify::new(),
            arrived: Notify::new(),
            link,
        });
        let keeper = Keeper {
            lost: hold.link.losses(),
            restored: hold.link.restorations(),
            hold: Arc::clone(&hold),
            subscriber,
            inbox,
            outstanding: 0,
            heard: Instant::now(),
            refusals: 0,
        };
        tokio::spawn(keeper.run());
        Ok(Self(hold))
    }
}

#[async_trait]
impl Consumer for DurableConsumer {
    async fn next(&mut self, max: usize) -> Result<Box<dyn Batch>, BusError> {
        loop {
            if let Some(batch) = self.0.take(max)? {
                return Ok(Box::new(batch));
            }
            self.0.arrived.notified().await;
        }
    }
}

impl Drop for DurableConsumer {
    fn drop(&mut self) {
        self.0.held().open = false;
        self.0.to_do.notify_one();
    }
}

/// What a consumer and its batches share with the task that speaks with the server.
struct Hold {
    link: Arc<Link>,
    source: Source,
    held: Mutex<Held>,
    /// Wakes the task: somebody wants messages, gave some back or has closed.
    to_do: Notify,
    /// Wakes the reader.
    arrived: Notify,
}

/// By their numbers in the stream, so that what comes again takes its place.
#[derive(Default)]
struct Held {
    open: bool,
    /// To be given, oldest first.
    ready: BTreeMap<u64, Delivery>,
    /// Their bytes.
    ready_bytes: usize,
    /// Where those that were given are acknowledged.
    in_hand: BTreeMap<u64, String>,
    /// How many more a reader would take.
    wanted: usize,
    failure: Option<BusError>,
    /// The connection was closed for good: nothing comes any more.
    ended: bool,
}

struct Delivery {
    message: Message,
    ack: String,
    arrived: Instant,
    /// Whether the server had no more when it sent this.
    is_last: bool,
}

impl Held {
    fn keep(&mut self, number: u64, delivery: Delivery) {
        self.ready_bytes += delivery.message.weight();
        if let Some(before) = self.ready.insert(number, delivery) {
            self.ready_bytes -= before.message.weight();
        }
    }

    fn pop(&mut self) -> Option<(u64, Delivery)> {
        let (number, delivery) = self.ready.pop_first()?;
        self.ready_bytes -= delivery.message.weight();
        Some((number, delivery))
    }
}

impl Hold {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `max` messages, if there are any. In either case more are asked for.
    fn take(self: &Arc<Self>, max: usize) -> Result<Option<InHand>, BusError> {
        let mut held = self.held();
        if let Some(failure) = held.failure.take() {
            return Err(failure);
        }
        if held.ended {
            return Err(failed(format!("read {}", self.source.name), Fault::Offline));
        }
        let (mut taken, mut bytes, mut caught_up) = (Vec::new(), 0, None);
        while taken.len() < max.max(1)
            && bytes < GIVEN
            && let Some((number, delivery)) = held.pop()
        {
            held.in_hand.insert(number, delivery.ack);
            bytes += delivery.message.weight();
            if delivery.is_last {
                caught_up = Some(delivery.arrived);
            }
            taken.push((number, delivery.message));
        }
        let wanted = (max + self.source.ahead).saturating_sub(taken.len() + held.ready.len());
        held.wanted = held.wanted.max(wanted).min(MOST.0);
        drop(held);
        self.to_do.notify_one();
        let (numbers, messages): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        Ok((!messages.is_empty()).then(|| InHand {
            hold: Arc::clone(self),
            numbers,
            messages,
            caught_up,
        }))
    }

    async fn tell(&self, to: String, what: &'static [u8]) -> Result<(), Fault> {
        Ok(self.link.client.publish(to, Bytes::from_static(what)).await?)
    }
}

/// Messages that were given.
struct InHand {
    hold: Arc<Hold>,
    /// Their numbers; empty once they were acknowledged.
    numbers: Vec<u64>,
    messages: Vec<Message>,
    /// When the newest came behind which there was nothing.
    caught_up: Option<Instant>,
}

#[async_trait]
impl Batch for InHand {
    fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn caught_up(&self) -> Option<Duration> {
        self.caught_up.map(|then| then.elapsed())
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), BusError> {
        let numbers = mem::take(&mut self.numbers);
        let mut acks: Vec<String> = {
            let mut held = self.hold.held();
            numbers
                .iter()
                .filter_map(|number| held.in_hand.remove(number))
                .collect()
        };
        // The task ends with the last message in hand.
        self.hold.to_do.notify_one();
        let Some(last) = acks.pop() else { return Ok(()) };
        let hold = &self.hold;
        let confirmed = async {
            for ack in acks {
                hold.tell(ack, ACK).await?;
            }
            // The server takes them in order, so its answer to the last one confirms all.
            hold.link.ask(last, None, Bytes::from_static(ACK), CONFIRM).await
        };
        let confirmed = confirmed.await;
        confirmed.map(drop).map_err(|fault| {
            let doing = format!(
                "acknowledge {} messages of {}",
                self.messages.len(),
                hold.source.name
            );
            failed(doing, fault)
        })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let numbers = mem::take(&mut self.numbers);
        if numbers.is_empty() {
            return;
        }
        let mut held = self.hold.held();
        for (number, message) in numbers.into_iter().zip(mem::take(&mut self.messages)) {
            if let Some(ack) = held.in_hand.remove(&number) {
                // When it is given again, others may have come long since.
                let delivery = Delivery {
                    message,
                    ack,
                    arrived: Instant::now(),
                    is_last: false,
                };
                held.keep(number, delivery);
            }
        }
        drop(held);
        self.hold.arrived.notify_one();
        self.hold.to_do.notify_one();
    }
}

/// The task that speaks with the server for one consumer.
struct Keeper {
    hold: Arc<Hold>,
    subscriber: Subscriber,
    inbox: String,
    /// How many messages the server may still send for the last request.
    outstanding: usize,
    /// When the server was last heard of.
    heard: Instant,
    refusals: u32,
    lost: watch::Receiver<u64>,
    restored: watch::Receiver<u64>,
}

impl Keeper {
    async fn run(mut self) {
        let mut in_work = time::interval_at(Instant::now() + IN_WORK, IN_WORK);
        loop {
            if !self.hold.held().open {
                return self.leave().await;
            }
            self.pull().await;
            let silence = self.heard + self.hold.source.silence();
            tokio::select! {
                message = self.subscriber.next() => match message {
                    Some(message) => self.heard(message).await,
                    None => return self.end(),
                },
                () = self.hold.to_do.notified() => {}
                _ = in_work.tick() => self.extend().await,
                () = time::sleep_until(silence), if self.outstanding > 0 => self.outstanding = 0,
                // What was asked for is forgotten with the connection.
                _ = self.lost.changed() => self.outstanding = 0,
                _ = self.restored.changed() => self.outstanding = 0,
            }
        }
    }

    /// Asks for messages, if somebody wants some and none are on their way.
    async fn pull(&mut self) {
        let wanted = {
            let held = self.hold.held();
            if held.ready_bytes < MOST.1 { held.wanted } else { 0 }
        };
        if self.outstanding > 0 || wanted == 0 || !self.hold.link.is_up() {
            return;
        }
        let source = &self.hold.source;
        let request = json!({
            "batch": wanted,
            // One message may be as large as the server lets it.
            "max_bytes": MOST.1.max(2 * self.hold.link.client.max_payload()),
            "expires": nanos(source.pull),
            "idle_heartbeat": nanos(source.heartbeat),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", source.stream, source.name);
        let client = &self.hold.link.client;
        let asked = client
            .publish_with_reply(subject, self.inbox.clone(), request.to_string().into())
            .await;
        if asked.is_ok() {
            self.outstanding = wanted;
            self.heard = Instant::now();
        }
    }

    async fn heard(&mut self, message: async_nats::Message) {
        self.heard = Instant::now();
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            // The request came to its end.
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => self.outstanding = 0,
            Some(status) if status != StatusCode::OK => self.refused(&message).await,
            _ => {
                self.refusals = 0;
                self.outstanding = self.outstanding.saturating_sub(1);
                self.arrived(message).await;
            }
        }
    }

    async fn refused(&mut self, message: &async_nats::Message) {
        self.outstanding = 0;
        // "Message Size Exceeds MaxBytes" and "Batch Completed" also end a request that was served.
        self.refusals += 1;
        let reason = message.description.clone().unwrap_or_default();
        tracing::debug!(consumer = self.hold.source.name, %reason, "a request for messages ended");
        if self.refusals >= self.hold.source.refusals {
            self.refusals = 0;
            self.fail(Fault::Client(
                format!("the server refuses requests for messages: {reason}").into(),
            ));
        }
        if self.refusals > 1 {
            time::sleep(REFUSED).await;
        }
    }

    async fn arrived(&mut self, message: async_nats::Message) {
        let ack = message
            .reply
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let Some(place) = Place::of(&ack) else {
            return;
        };
        let subject = message.subject.clone();
        let Some(mut message) = received(message) else {
            tracing::warn!(%subject, "a message on a subject that kanade cannot name is passed over");
            let _ = self.hold.tell(ack, NEVER).await;
            return;
        };
        message.reply = None;
        let mut held = self.hold.held();
        held.wanted = held.wanted.saturating_sub(1);
        if let Some(known) = held.in_hand.get_mut(&place.stream) {
            // It took too long and was delivered again: what is in hand is not given twice.
            *known = ack;
            return;
        }
        let delivery = Delivery {
            message,
            ack,
            arrived: self.heard,
            is_last: place.pending == 0,
        };
        held.keep(place.stream, delivery);
        drop(held);
        self.hold.arrived.notify_one();
    }

    /// Tells the server that what is held is not forgotten.
    async fn extend(&self) {
        let acks: Vec<String> = {
            let held = self.hold.held();
            let ready = held.ready.values().map(|delivery| &delivery.ack);
            ready.chain(held.in_hand.values()).cloned().collect()
        };
        if !self.hold.link.is_up() {
            return;
        }
        for ack in acks {
            if self.hold.tell(ack, WORKING).await.is_err() {
                return;
            }
        }
    }

    /// Gives back what nobody took, then what comes back from batches, until the last of those is gone.
    async fn leave(mut self) {
        // What is on its way still arrives here; the server would otherwise wait for its acknowledgement.
        if self.outstanding > 0 && self.hold.link.is_up() && self.subscriber.drain().await.is_ok() {
            let rest = async {
                while let Some(message) = self.subscriber.next().await {
                    if message.status.is_none_or(|status| status == StatusCode::OK) {
                        self.arrived(message).await;
                    }
                }
            };
            let _ = time::timeout(LEAVING, rest).await;
        }
        let mut in_work = time::interval_at(Instant::now() + IN_WORK, IN_WORK);
        loop {
            let (back, ended) = {
                let mut held = self.hold.held();
                held.ready_bytes = 0;
                (mem::take(&mut held.ready), held.in_hand.is_empty())
            };
            for delivery in back.into_values() {
                let _ = self.hold.tell(delivery.ack, NAK).await;
            }
            if ended {
                return;
            }
            tokio::select! {
                () = self.hold.to_do.notified() => {}
                _ = in_work.tick() => self.extend().await,
            }
        }
    }

    fn end(&self) {
        self.hold.held().ended = true;
        self.hold.arrived.notify_one();
    }

    fn fail(&self, fault: Fault) {
        let doing = format!("read {}", self.hold.source.name);
        let mut held = self.hold.held();
        held.failure = Some(BusError::new(BusErrorKind::Unavailable, doing).because(fault));
        // Asked for again when somebody wants it again.
        held.wanted = 0;
        drop(held);
        self.hold.arrived.notify_one();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
