//! The bus inside one process: what every deployment without a broker runs on.

mod backlog;
mod routes;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Bus, BusError, BusErrorKind, Consumer, Durable, Inbox, Mailbox, Message, MessageId, PubSub, Put,
    Subscription, mailbox,
};
use uuid::Uuid;

use backlog::{Backlog, Channel};
use routes::Routes;

/// How much an [`EmbeddedBus`] holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusLimits {
    /// The largest payload of a message, in bytes.
    pub max_payload: usize,
    /// Messages that one subscriber may be behind before it misses some.
    pub subscriber_messages: usize,
    /// Their bytes.
    pub subscriber_bytes: usize,
    /// Messages of one durable that are not acknowledged yet; senders wait beyond that.
    pub durable_messages: usize,
    /// Their bytes.
    pub durable_bytes: usize,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            max_payload: 1 << 20,
            subscriber_messages: 1024,
            subscriber_bytes: 16 << 20,
            durable_messages: 4096,
            durable_bytes: 64 << 20,
        }
    }
}

/// A [`Bus`] without a broker. Clones are clients of the same bus; what it holds is bounded by [`BusLimits`].
///
/// A durable message is kept by its consumers: [`publish_durable`](PubSub::publish_durable) returns when the batch that
/// held it was acknowledged, waits while they are behind, and fails with `Unavailable` while a durable that covers
/// the subject has no consumer, or when its last one goes away. A caller that gives up waiting may have been heard
/// all the same. On a subject that no durable covers, a message counts as kept when a subscriber got it. A
/// [`MessageId`] is not looked at: consumers see every repetition.
#[derive(Clone)]
pub struct EmbeddedBus(Arc<Shared>);

struct Shared {
    limits: BusLimits,
    routes: RwLock<Routes<Arc<Mailbox<Message>>>>,
    channels: Vec<(Pattern, Arc<Channel>)>,
    next_id: AtomicU64,
    dropped: AtomicU64,
}

impl EmbeddedBus {
    /// A bus with the default limits.
    pub fn new() -> Self {
        Self::with_limits(BusLimits::default())
    }

    /// A bus with other limits.
    pub fn with_limits(limits: BusLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            routes: RwLock::new(Routes::new()),
            channels: Durable::ALL
                .iter()
                .map(|durable| (durable.pattern(), Channel::new(*durable, limits)))
                .collect(),
            next_id: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }))
    }

    fn message(
        &self,
        subject: &Subject,
        payload: Bytes,
        reply: Option<Subject>,
    ) -> Result<Message, BusError> {
        if payload.len() > self.0.limits.max_payload {
            let operation = format!(
                "publish {} bytes to {subject} (at most {})",
                payload.len(),
                self.0.limits.max_payload
            );
            return Err(BusError::new(BusErrorKind::TooLarge, operation));
        }
        Ok(Message {
            subject: subject.clone(),
            payload,
            reply,
        })
    }

    fn listen(&self, pattern: &Pattern) -> Listening {
        let limits = &self.0.limits;
        let (mailbox, inbox) = mailbox(limits.subscriber_messages, limits.subscriber_bytes);
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.add(pattern, id, Arc::new(mailbox));
        Listening {
            inbox,
            bus: Arc::downgrade(&self.0),
            pattern: pattern.clone(),
            id,
        }
    }
}

impl Shared {
    fn deliver(&self, message: &Message) -> Delivery {
        let weight = message.weight();
        let mut mailboxes = Vec::new();
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            routes.matching(&message.subject, |mailbox| mailboxes.push(Arc::clone(mailbox)));
        }
        // Unlocked, because putting a message in wakes its reader, and waking may drop a subscription.
        let mut delivery = Delivery::default();
        for mailbox in mailboxes {
            match mailbox.put(message.clone(), weight) {
                Put::Queued => delivery.queued += 1,
                Put::Dropped => delivery.dropped += 1,
                Put::Gone => {}
            }
        }
        self.dropped.fetch_add(delivery.dropped, Ordering::Relaxed);
        delivery
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for (_, channel) in &self.channels {
            channel.close();
        }
    }
}

/// At how many subscribers a message was queued and dropped.
#[derive(Debug, Clone, Copy, Default)]
struct Delivery {
    queued: u64,
    dropped: u64,
}

#[async_trait]
impl PubSub for EmbeddedBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.0.deliver(&self.message(subject, payload, None)?);
        Ok(())
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        _id: MessageId,
    ) -> Result<(), BusError> {
        let message = self.message(subject, payload, None)?;
        let unavailable = || {
            let operation = format!("keep a message to {subject}, which nobody consumes");
            BusError::new(BusErrorKind::Unavailable, operation)
        };
        let backlogs: Vec<Arc<Backlog>> = self
            .0
            .channels
            .iter()
            .filter(|(pattern, _)| pattern.matches(subject))
            .map(|(_, channel)| channel.backlog().ok_or_else(unavailable))
            .collect::<Result<_, _>>()?;
        if backlogs.is_empty() {
            return match self.0.deliver(&message).queued {
                0 => Err(unavailable()),
                _ => Ok(()),
            };
        }
        let mut places = Vec::with_capacity(backlogs.len());
        for backlog in backlogs {
            let room = backlog.room(&message).await?;
            places.push((backlog, room));
        }
        // No waiting from here until it stands everywhere: a caller that goes away leaves it whole or not at all.
        let mut receipts = Vec::with_capacity(places.len());
        for (backlog, room) in places {
            receipts.push((backlog.put(message.clone(), room)?, backlog));
        }
        self.0.deliver(&message);
        for (receipt, backlog) in receipts {
            receipt
                .await
                .map_err(|closed| backlog.unavailable(subject.as_str()).because(closed))?;
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        Ok(Subscription::new(self.listen(pattern)))
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        let Some(inbox) = &to.reply else {
            let operation = format!("answer a message to {} that asked for no answer", to.subject);
            return Err(BusError::new(BusErrorKind::Refused, operation));
        };
        self.publish(inbox, payload).await
    }

    fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn request(&self, subject: &Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let failed = |kind| BusError::new(kind, format!("ask {subject}"));
        let inbox: Subject = format!("_INBOX.{}", Uuid::new_v4().simple())
            .parse()
            .expect("made of subject tokens");
        let message = self.message(subject, payload, Some(inbox.clone()))?;
        let mut replies = self.listen(&inbox.into());
        let delivery = self.0.deliver(&message);
        if delivery.queued + delivery.dropped == 0 {
            return Err(failed(BusErrorKind::NoResponders));
        }
        match tokio::time::timeout(timeout, replies.next()).await {
            Ok(Some(reply)) => Ok(reply.payload),
            Ok(None) => Err(failed(BusErrorKind::Unavailable)),
            Err(late) => Err(failed(BusErrorKind::TimedOut).because(late)),
        }
    }

    async fn consume(&self, durable: Durable) -> Result<Box<dyn Consumer>, BusError> {
        let index = Durable::ALL.iter().position(|known| *known == durable);
        let (_, channel) = &self.0.channels[index.expect("every durable has a channel")];
        Ok(channel.consume())
    }

    async fn flush(&self) -> Result<(), BusError> {
        // A publish is in every mailbox before it returns.
        Ok(())
    }
}

impl Default for EmbeddedBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EmbeddedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus")
            .field("limits", &self.0.limits)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// A subscription; it ends when it is dropped, or with the bus.
struct Listening {
    inbox: Inbox<Message>,
    bus: Weak<Shared>,
    pattern: Pattern,
    id: u64,
}

impl Stream for Listening {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.inbox.poll_next_unpin(context)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            let mut routes = bus.routes.write().unwrap_or_else(PoisonError::into_inner);
            routes.remove(&self.pattern, self.id);
        }
    }
}
