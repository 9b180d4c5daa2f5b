//! The calls of one agent: what is quick is done at once, so that it takes effect in the order it came; what waits is
//! begun in that order and goes on beside.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, poll, stream::FuturesUnordered, task::Poll};
use kanade_core::AgentPorts;
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Bucket, Key, Message, MessageId,
    frame::{Call, MAX_FRAME},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    answer::{Answer, Failure, Feed, Then},
    room::{Room, Share},
};

/// Calls of one agent that are worked on at once; it is not read from beyond that. More than the reports that an agent
/// keeps waiting at once: while those wait to be recorded, signs of life, answers and questions go on.
pub(super) const CALLS: usize = 64;
/// Subscriptions and watches of one agent.
pub(super) const FEEDS: usize = 64;

/// A call that waits for something.
pub(super) type Begun = BoxFuture<'static, Answer>;

/// Works on calls.
pub(super) struct Calls {
    ports: AgentPorts,
    share: Share,
    slots: Arc<Semaphore>,
    feeds: Arc<Semaphore>,
    begun: mpsc::Sender<Begun>,
    answers: mpsc::Sender<Answer>,
}

/// A call and what it has taken.
pub(super) struct Taken {
    /// Its id.
    pub(super) id: u64,
    /// What it says.
    pub(super) payload: Bytes,
    /// One of [`CALLS`].
    pub(super) slot: OwnedSemaphorePermit,
    /// For its payload, if that is long.
    pub(super) room: Option<Room>,
}

impl Taken {
    /// Gives the room back. Who holds some must not wait for more: others might do the same.
    fn emptied(self) -> Self {
        Self {
            payload: Bytes::new(),
            room: None,
            ..self
        }
    }
}

impl Calls {
    /// Works on calls with these ports. Both queues must hold [`CALLS`].
    pub(super) fn new(
        ports: AgentPorts,
        share: Share,
        begun: mpsc::Sender<Begun>,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        Self {
            ports,
            share,
            slots: Arc::new(Semaphore::new(CALLS)),
            feeds: Arc::new(Semaphore::new(FEEDS)),
            begun,
            answers,
        }
    }

    /// Waits until another call may be worked on.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.expect("never closed")
    }

    /// Waits for room for a payload.
    pub(super) async fn room(&self, bytes: usize) -> Room {
        self.share.take(bytes).await
    }

    /// Does a call, or begins it.
    pub(super) async fn take(&self, call: Call, taken: Taken) {
        match call {
            Call::Publish { subject } => {
                let done = self.ports.bus.publish(&subject, taken.payload).await;
                self.answer(Answer::outcome(taken.id, taken.slot, done));
            }
            Call::Reply { to } => {
                let request = Message {
                    subject: to.clone(),
                    payload: Bytes::new(),
                    reply: Some(to),
                };
                let done = self.ports.bus.reply(&request, taken.payload).await;
                self.answer(Answer::outcome(taken.id, taken.slot, done));
            }
            Call::Subscribe { pattern } => self.subscribe(&pattern, taken).await,
            Call::End { of } => {
                let mut answer = Answer::done(taken.id, taken.slot);
                answer.then = Then::Forget(of);
                self.answer(answer);
            }
            Call::PublishDurable { subject, message } => {
                self.publish_durable(subject, MessageId(message), taken).await;
            }
            Call::Get { bucket, key } => self.get(bucket, key, taken.emptied()).await,
            Call::Watch { bucket } => self.watch(bucket, taken.emptied()).await,
            Call::Unknown => {
                let failure = Failure::refused("this server does not know this call");
                self.answer(Answer::failed(taken.id, taken.slot, failure));
            }
        }
    }

    async fn subscribe(&self, pattern: &Pattern, taken: Taken) {
        let Some((taken, held)) = self.feed(taken) else {
            return;
        };
        let answer = match self.ports.bus.subscribe(pattern).await {
            Ok(messages) => {
                let feed = Feed::messages(taken.id, pattern, messages, held);
                Answer::following(taken.slot, feed)
            }
            Err(error) => Answer::failed(taken.id, taken.slot, error.into()),
        };
        self.answer(answer);
    }

    async fn publish_durable(&self, subject: Subject, message: MessageId, taken: Taken) {
        let room = match taken.room {
            Some(room) => room,
            None => self.room(taken.payload.len()).await,
        };
        let bus = Arc::clone(&self.ports.bus);
        self.begin(async move {
            let kept = bus.publish_durable(&subject, taken.payload, message).await;
            drop(room);
            Answer::outcome(taken.id, taken.slot, kept)
        })
        .await;
    }

    async fn get(&self, bucket: Bucket, key: Key, taken: Taken) {
        // How large the document is shows when it is there.
        let mut room = self.room(MAX_FRAME).await;
        let catalog = Arc::clone(&self.ports.catalog);
        self.begin(async move {
            match catalog.get(bucket, &key).await {
                Ok(entry) => {
                    let mut answer = Answer::found(taken.id, taken.slot, entry);
                    room.shrink(answer.told.1.len());
                    answer.room = Some(room);
                    answer
                }
                Err(error) => Answer::failed(taken.id, taken.slot, error.into()),
            }
        })
        .await;
    }

    async fn watch(&self, bucket: Bucket, taken: Taken) {
        let Some((taken, held)) = self.feed(taken) else {
            return;
        };
        let catalog = Arc::clone(&self.ports.catalog);
        self.begin(async move {
            match catalog.watch(bucket).await {
                Ok(events) => Answer::following(taken.slot, Feed::documents(taken.id, events, held)),
                Err(error) => Answer::failed(taken.id, taken.slot, error.into()),
            }
        })
        .await;
    }

    /// One of the subscriptions and watches that an agent may have.
    fn feed(&self, taken: Taken) -> Option<(Taken, OwnedSemaphorePermit)> {
        match Arc::clone(&self.feeds).try_acquire_owned() {
            Ok(held) => Some((taken, held)),
            Err(_) => {
                let detail = format!("an agent has at most {FEEDS} subscriptions and watches");
                self.answer(Answer::failed(taken.id, taken.slot, Failure::refused(detail)));
                None
            }
        }
    }

    /// Begins a call that may have to wait.
    async fn begin(&self, call: impl Future<Output = Answer> + Send + 'static) {
        let mut call = call.boxed();
        // It enters the bus when it is polled first, so that is done here: durable messages keep their order.
        match poll!(&mut call) {
            Poll::Ready(answer) => self.answer(answer),
            // Each holds a slot, and so does an answer until it is written: there is always a place.
            Poll::Pending => drop(self.begun.try_send(call)),
        }
    }

    fn answer(&self, answer: Answer) {
        drop(self.answers.try_send(answer));
    }
}

/// Works on calls that have begun.
pub(super) async fn pursue(mut begun: mpsc::Receiver<Begun>, answers: mpsc::Sender<Answer>) {
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(call) = begun.recv() => calls.push(call),
            Some(answer) = calls.next(), if !calls.is_empty() => drop(answers.try_send(answer)),
            else => return,
        }
    }
}
