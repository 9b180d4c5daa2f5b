//! The bus: core NATS for what is heard now, JetStream for what must be kept.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_nats::{HeaderMap, Subscriber, jetstream::ErrorCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Bus, BusError, BusErrorKind, Consumer, Durable, Inbox, Mailbox, Message, MessageId, PubSub, Put,
    Subscription, mailbox,
};
use tokio::{sync::oneshot, time};

use crate::{
    consumer::{DurableConsumer, Source},
    link::{ECHO, Fault, Link, MESSAGE_ID},
    plan, setup,
};

/// How many messages a subscriber may be behind before it misses some, and their bytes.
const BEHIND: (usize, usize) = (8192, 32 << 20);
/// How long a message may wait to be handed to a connection that is not written to.
const STUCK: Duration = Duration::from_secs(10);
/// The header in which JetStream names the stream that a message was read from.
const STORED: &str = "Nats-Stream";

pub(crate) struct NatsBus(Arc<Link>);

impl NatsBus {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    async fn send(&self, subject: &Subject, payload: Bytes) -> Result<(), Fault> {
        // The driver would keep it for the next connection, when nobody may want it any more.
        if !self.0.is_up() {
            return Err(Fault::Offline);
        }
        let publish = self.0.client.publish(subject.as_str().to_owned(), payload);
        time::timeout(STUCK, publish)
            .await
            .map_err(|_| Fault::TimedOut)??;
        Ok(())
    }
}

#[async_trait]
impl PubSub for NatsBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        let bytes = payload.len();
        let sent = self.send(subject, payload).await;
        sent.map_err(|fault| failed(format!("publish {bytes} bytes to {subject}"), fault))
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        let doing = || format!("keep a message of {} bytes to {subject}", payload.len());
        let mut headers = HeaderMap::new();
        let name = id.0.parse::<async_nats::HeaderValue>();
        let name = name.map_err(|error| BusError::new(BusErrorKind::Refused, doing()).because(error))?;
        headers.insert(MESSAGE_ID, name);
        let to = subject.as_str().to_owned();
        let kept = if plan::is_kept(subject) {
            self.0.keep(to, headers, payload.clone()).await.map(drop)
        } else {
            // No stream has it: it counts as kept when somebody got it.
            self.0.tell(to, headers, payload.clone()).await
        };
        kept.map_err(|fault| match fault {
            // Nobody listens, or the servers of the stream are away.
            Fault::NoResponders => BusError::new(BusErrorKind::Unavailable, doing()).because(fault),
            fault => failed(doing(), fault),
        })
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        let doing = || format!("subscribe to {pattern}");
        let subscriber = self.0.client.subscribe(pattern.as_str().to_owned()).await;
        let subscriber = subscriber.map_err(|error| failed(doing(), Fault::Client(error.into())))?;
        let subscription = listening(Arc::clone(&self.0), subscriber, pattern.clone());
        match self.0.is_up() {
            // It is made before anything else on the next connection.
            false => Ok(Subscription::new(subscription)),
            true => match self.0.settled().await {
                Ok(()) | Err(Fault::Lost | Fault::Offline) => Ok(Subscription::new(subscription)),
                Err(fault) => Err(failed(doing(), fault)),
            },
        }
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        let Some(inbox) = &to.reply else {
            let operation = format!("answer a message to {} that asked for no answer", to.subject);
            return Err(BusError::new(BusErrorKind::Refused, operation));
        };
        self.publish(inbox, payload).await
    }

    fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        let restored = stream::unfold(self.0.restorations(), |mut restorations| async move {
            restorations.changed().await.ok()?;
            Some(((), restorations))
        });
        restored.boxed()
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn request(&self, subject: &Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let answer = self.0.question(subject.as_str(), payload, timeout).await;
        let answer = answer.map_err(|fault| failed(format!("ask {subject}"), fault))?;
        Ok(answer.payload)
    }

    async fn consume(&self, durable: Durable) -> Result<Box<dyn Consumer>, BusError> {
        let doing = || format!("consume {}", durable.name());
        let there = setup::durable(&self.0, durable).await;
        there.map_err(|failure| failed(format!("{} ({})", doing(), failure.attempt), failure.fault))?;
        let consumer = DurableConsumer::open(Arc::clone(&self.0), Source::durable(durable)).await;
        Ok(Box::new(consumer.map_err(|fault| failed(doing(), fault))?))
    }

    async fn flush(&self) -> Result<(), BusError> {
        let settled = self.0.settled().await;
        settled.map_err(|fault| failed("flush".into(), fault))
    }

    fn durables(&self) -> &'static [Durable] {
        Durable::ALL
    }

    fn outages(&self) -> u64 {
        self.0.outages()
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsBus")
    }
}

/// What a fault means on the bus.
pub(crate) fn failed(doing: String, fault: Fault) -> BusError {
    let kind = match &fault {
        Fault::Offline | Fault::Client(_) => BusErrorKind::Unavailable,
        Fault::Lost | Fault::TimedOut => BusErrorKind::TimedOut,
        Fault::NoResponders => BusErrorKind::NoResponders,
        Fault::TooLarge => BusErrorKind::TooLarge,
        Fault::Api(error) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            BusErrorKind::TooLarge
        }
        Fault::Api(_) => BusErrorKind::Unavailable,
    };
    BusError::new(kind, doing).because(fault)
}

/// A message as the port has it; `None` for subjects that are not even ours.
pub(crate) fn received(message: async_nats::Message) -> Option<Message> {
    let named = message
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get(MESSAGE_ID).is_some());
    Some(Message {
        subject: message.subject.as_str().parse().ok()?,
        payload: message.payload,
        // What was published for a stream is answered by the stream.
        reply: message
            .reply
            .filter(|_| !named)
            .and_then(|reply| reply.as_str().parse().ok()),
    })
}

/// Whether a message is an answer of JetStream or a copy of what it stores, which nobody has said to this subject.
fn is_of_jetstream(message: &async_nats::Message) -> bool {
    let stored = |headers: &HeaderMap| headers.get(STORED).is_some();
    message.status.is_some() || message.headers.as_ref().is_some_and(stored)
}

/// A subscription. The driver's own queue is bounded in number only, so a task empties it into one that is bounded
/// in bytes as well.
struct Listening {
    inbox: Inbox<Message>,
    link: Arc<Link>,
    /// Dropped to end the task.
    stop: Option<oneshot::Sender<()>>,
}

fn listening(link: Arc<Link>, subscriber: Subscriber, pattern: Pattern) -> Listening {
    let (mailbox, inbox) = mailbox(BEHIND.0, BEHIND.1);
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(deliver(Arc::clone(&link), subscriber, pattern, mailbox, stopped));
    Listening {
        inbox,
        link,
        stop: Some(stop),
    }
}

async fn deliver(
    link: Arc<Link>,
    mut subscriber: Subscriber,
    pattern: Pattern,
    mailbox: Mailbox<Message>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let message = tokio::select! {
            biased;
            _ = &mut stopped => break,
            message = subscriber.next() => message,
        };
        let Some(message) = message else {
            // The connection was closed for good. Whoever gave the subscription up has counted itself.
            drop(mailbox);
            let _ = stopped.await;
            link.leaving(false);
            return;
        };
        if message.subject.ends_with(ECHO) {
            continue;
        }
        // Whoever may ask JetStream for anything may have it answer to any subject.
        if is_of_jetstream(&message) {
            continue;
        }
        let Some(message) = received(message).filter(|message| pattern.matches(&message.subject)) else {
            continue;
        };
        let weight = message.weight();
        if mailbox.put(message, weight) == Put::Dropped {
            link.count_dropped();
        }
    }
    let _ = subscriber.unsubscribe().await;
    link.leaving(false);
}

impl Stream for Listening {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.inbox.poll_next_unpin(context)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Counted here, so that a flush that begins now waits for it.
        self.link.leaving(true);
        self.stop.take();
    }
}
