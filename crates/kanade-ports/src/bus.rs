//! The bus port: how messages travel between server and agents.

use std::{fmt, pin::Pin, task, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    Stream,
    stream::{self, BoxStream},
};
use kanade_model::{Pattern, Subject};
use serde::{Deserialize, Serialize};

/// What everybody on a bus can do, an agent too. Subjects are those of the wire contract on every bus.
///
/// To be correct, a bus
/// - delivers a published message to every subscription that exists by then, in the order of one publisher, unless
///   the subscriber is too slow (then it drops and counts) or its connection is lost meanwhile;
/// - answers [`publish_durable`](Self::publish_durable) only when the message survives a crash of the bus or was
///   acknowledged by every matching consumer;
/// - delivers a message of a [`Durable`] again until its batch is acknowledged.
#[async_trait]
pub trait PubSub: Send + Sync + 'static {
    /// Sends to whoever listens now; at most once. Never waits for a slow subscriber.
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError>;

    /// Sends and returns when the message is safely kept. `id` lets a broker drop a repetition.
    ///
    /// # Errors
    /// `Unavailable` when nobody can keep it now, `TimedOut` when it is not known whether it was kept: send it again.
    async fn publish_durable(&self, subject: &Subject, payload: Bytes, id: MessageId)
    -> Result<(), BusError>;

    /// Listens. Everything published after this returns is seen. Where there is a connection, a subscription outlives
    /// it: one that is made while there is none, or that the connection was lost under, stands again before anything
    /// else is sent on the next one.
    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError>;

    /// Answers a request: publishes to the [`Message::reply`] of what was received.
    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError>;

    /// What a broker has kept for this agent, Commands that came while it was away above all, to be read as often as it
    /// likes: what is not acknowledged comes again. Some of it may also come, or have come, by a subscription. None where
    /// the bus keeps nothing; the server then sends again what an agent has missed.
    ///
    /// # Errors
    /// `Unavailable` where there is no connection now. Where the broker does not keep anything for this agent yet, reading
    /// fails: try again.
    async fn backlog(&self) -> Result<Option<Box<dyn Consumer>>, BusError> {
        Ok(None)
    }

    /// Messages that were dropped because a subscriber was too slow, since the start.
    fn dropped(&self) -> u64;

    /// An item each time the connection has been made again after it was lost, when every subscription stands:
    /// whatever was published meanwhile has been missed. Several may be told as one. Nothing ever comes of a bus
    /// that has no connection to lose.
    fn reconnections(&self) -> BoxStream<'static, ()> {
        Box::pin(stream::pending())
    }
}

/// Moves messages: what a server can do on a bus.
#[async_trait]
pub trait Bus: PubSub {
    /// Sends and waits for one reply.
    ///
    /// # Errors
    /// `NoResponders` at once when nobody listens, `TimedOut` when nobody answered in time.
    async fn request(&self, subject: &Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError>;

    /// Opens a durable consumption. One reader at a time per server; several servers share the messages.
    async fn consume(&self, durable: Durable) -> Result<Box<dyn Consumer>, BusError>;

    /// Returns when everything published so far has left this process.
    async fn flush(&self) -> Result<(), BusError>;

    /// The durable consumptions that this bus has.
    fn durables(&self) -> &'static [Durable] {
        Durable::REPORTS
    }

    /// How often the connection has been lost since the start; 0 of a bus that has none to lose.
    fn outages(&self) -> u64 {
        0
    }
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was sent to.
    pub subject: Subject,
    /// What it says.
    pub payload: Bytes,
    /// Where an answer is expected, for requests.
    pub reply: Option<Subject>,
}

impl Message {
    /// About how many bytes of memory it holds while it waits in a queue.
    pub fn weight(&self) -> usize {
        const ENVELOPE: usize = 128;
        ENVELOPE + self.subject.as_str().len() + self.payload.len()
    }
}

/// Names a durable message, for brokers that drop repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId(pub String);

/// The durable consumptions of a server, by the name they have on a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durable {
    /// `results.>`
    Results,
    /// `events.>`
    Events,
    /// `audit.>`
    Audit,
}

impl Durable {
    /// Every durable consumption.
    pub const ALL: &'static [Self] = &[Self::Results, Self::Events, Self::Audit];
    /// What agents report: every bus has these.
    pub const REPORTS: &'static [Self] = &[Self::Results, Self::Events];

    /// The consumer's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Results => "backend_results_projector",
            Self::Events => "backend_events_projector",
            Self::Audit => "backend_audit_projector",
        }
    }

    /// What it consumes.
    pub fn pattern(self) -> Pattern {
        match self {
            Self::Results => "results.>",
            Self::Events => "events.>",
            Self::Audit => "audit.>",
        }
        .parse()
        .expect("a literal pattern")
    }
}

/// Reads a durable consumption in batches.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for messages and returns up to `max` of them. Dropping the returned future loses nothing.
    async fn next(&mut self, max: usize) -> Result<Box<dyn Batch>, BusError>;
}

/// Messages that are delivered again unless they are acknowledged.
#[async_trait]
pub trait Batch: Send + Sync {
    /// The messages, oldest first; at least one.
    fn messages(&self) -> &[Message];

    /// How long ago nothing else was waiting: what had been published by then is in this batch or in an earlier one. None
    /// when more waited behind it.
    fn caught_up(&self) -> Option<Duration>;

    /// Says that all of them are safely recorded. A batch dropped without this is delivered again.
    async fn acknowledge(self: Box<Self>) -> Result<(), BusError>;
}

/// A stream of messages; dropping it ends the subscription.
pub struct Subscription(BoxStream<'static, Message>);

impl Subscription {
    /// Wraps the stream of a backend.
    pub fn new(stream: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl Stream for Subscription {
    type Item = Message;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Option<Message>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusErrorKind {
    /// Nobody listens to this request.
    NoResponders,
    /// No answer in time; it is not known whether the message was kept.
    TimedOut,
    /// The bus cannot be used now, or nobody can keep the message.
    Unavailable,
    /// The message is larger than the bus carries.
    TooLarge,
    /// The bus does not let this client do this.
    Refused,
}

/// A failure of a [`Bus`].
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {}", match kind {
    BusErrorKind::NoResponders => "nobody listens",
    BusErrorKind::TimedOut => "no answer in time",
    BusErrorKind::Unavailable => "the bus is not available",
    BusErrorKind::TooLarge => "the message is too large",
    BusErrorKind::Refused => "not allowed",
})]
pub struct BusError {
    kind: BusErrorKind,
    operation: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BusError {
    /// A failure of `operation`, a phrase that says what was attempted (`publish to kill.e-1`).
    pub fn new(kind: BusErrorKind, operation: impl Into<String>) -> Self {
        Self {
            kind,
            operation: operation.into(),
            source: None,
        }
    }

    /// The same failure with what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> BusErrorKind {
        self.kind
    }
}
