//! The ports on a link.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Bucket, BusError, BusErrorKind, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Inbox, Key,
    Message, MessageId, PubSub, StoreError, Subscription,
    frame::{Call, FrameError},
    mailbox,
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    AgentLink, Lost,
    line::{Answer, Asked, Ear, Line, Request},
    shared::{Begun, Shared},
};

/// How far a subscriber may be behind, in messages and in bytes.
const MESSAGES: usize = 1024;
const MESSAGE_BYTES: usize = 16 << 20;
/// How far a watch may be behind. It begins with every document of a bucket, and there may be one for each agent.
const EVENTS: usize = 200_000;
const EVENT_BYTES: usize = 32 << 20;

#[async_trait]
impl PubSub for AgentLink {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        let operation = || format!("publish to {subject}");
        let call = Call::Publish {
            subject: subject.clone(),
        };
        self.call_now(call, &payload, operation).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        let operation = || format!("publish durably to {subject}");
        let call = Call::PublishDurable {
            subject: subject.clone(),
            message: id.0,
        };
        let request = self.request(call, &payload, operation)?;
        let asked = self.ask(request, None, Turn::Waits).await;
        let (asked, _turn) = asked.map_err(|error| unavailable(error, operation()))?;
        let answer = asked.answer().await;
        let answer =
            answer.map_err(|Lost| BusError::new(BusErrorKind::TimedOut, operation()).because(Lost))?;
        done(answer, operation)
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        let operation = || format!("subscribe to {pattern}");
        let shared = &self.0.shared;
        let call = Call::Subscribe {
            pattern: pattern.clone(),
        };
        Request::fits_always(&call).map_err(|error| too_large(error, operation()))?;
        let (mailbox, inbox) = mailbox(MESSAGES, MESSAGE_BYTES);
        let mailbox = Arc::new(mailbox);
        let listening = Listening {
            shared: Arc::downgrade(shared),
            key: shared.ids.next(),
        };
        let key = listening.key;
        let begun = loop {
            let line = shared.line();
            let on = match &line {
                None => None,
                Some(line) => {
                    let request = self.request(call.clone(), b"", operation)?;
                    let Ok(room) = line.room(&request).await else {
                        continue;
                    };
                    Some((line, request, room))
                }
            };
            match shared.subscribe(key, pattern, &mailbox, on) {
                Begun::Lost => {}
                begun => break begun,
            }
        };
        // From here on the link alone decides when the stream ends.
        drop(mailbox);
        let subscription = Subscription::new(Listened {
            inbox,
            _listening: listening,
        });
        match begun {
            Begun::Asked(asked) => match asked.answer().await {
                Ok(answer) => done(answer, operation).map(|()| subscription),
                Err(Lost) => Ok(subscription),
            },
            Begun::Closed => Err(unavailable(Lost, operation())),
            Begun::Kept | Begun::Lost => Ok(subscription),
        }
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        let operation = || format!("answer a message to {}", to.subject);
        let Some(inbox) = &to.reply else {
            return Err(BusError::new(BusErrorKind::Refused, operation()).because("it asked for no answer"));
        };
        self.call_now(Call::Reply { to: inbox.clone() }, &payload, operation)
            .await
    }

    fn dropped(&self) -> u64 {
        self.0.shared.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        let times = self.0.shared.reconnections();
        stream::unfold(times, |mut times| async move {
            times.changed().await.ok()?;
            Some(((), times))
        })
        .boxed()
    }
}

#[async_trait]
impl CatalogReader for AgentLink {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        let operation = || format!("read `{key}` in {bucket}");
        let call = Call::Get {
            bucket,
            key: key.clone(),
        };
        match self.consult(call, None, operation).await? {
            (Answer::Found { revision, value }, _) => Ok(revision.map(|revision| Entry {
                key: key.clone(),
                value,
                revision,
            })),
            _ => {
                let strange = "the server has answered something else";
                Err(StoreError::new(ErrorKind::Unavailable, operation()).because(strange))
            }
        }
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        let operation = || format!("watch {bucket}");
        let (mailbox, inbox) = mailbox(EVENTS, EVENT_BYTES);
        let ear = Ear::Events {
            bucket,
            mailbox: Arc::new(mailbox),
        };
        let (_, watching) = self.consult(Call::Watch { bucket }, Some(ear), operation).await?;
        Ok(Watched {
            inbox,
            _watching: watching,
        }
        .boxed())
    }
}

impl AgentLink {
    /// A call that is made on the connection there is, or not at all.
    async fn call_now(
        &self,
        call: Call,
        payload: &[u8],
        operation: impl Fn() -> String,
    ) -> Result<(), BusError> {
        let request = self.request(call, payload, &operation)?;
        let line = self
            .0
            .shared
            .line()
            .ok_or_else(|| unavailable(Lost, operation()))?;
        let answer = line.call(request).await;
        done(answer.map_err(|Lost| unavailable(Lost, operation()))?, operation)
    }

    /// A call to the catalog, when there is a connection. With an ear, what comes back keeps it.
    async fn consult(
        &self,
        call: Call,
        ear: Option<Ear>,
        operation: impl Fn() -> String,
    ) -> Result<(Answer, Watching), StoreError> {
        let lost = |error: Lost| StoreError::new(ErrorKind::Unavailable, operation()).because(error);
        let request = Request::new(&self.0.shared.ids, call, b"")
            .map_err(|error| StoreError::new(ErrorKind::Unsupported, operation()).because(error))?;
        let id = request.id;
        let (asked, _) = self.ask(request, ear, Turn::Any).await.map_err(lost)?;
        let watching = Watching {
            line: Arc::clone(asked.line()),
            id,
        };
        match asked.answer().await.map_err(lost)? {
            Answer::Failed { kind, detail } => {
                let kind = match kind {
                    BusErrorKind::Refused | BusErrorKind::TooLarge => ErrorKind::Unsupported,
                    BusErrorKind::NoResponders | BusErrorKind::TimedOut | BusErrorKind::Unavailable => {
                        ErrorKind::Unavailable
                    }
                };
                Err(StoreError::new(kind, operation()).because(detail))
            }
            answer => Ok((answer, watching)),
        }
    }

    /// Makes a call as soon as there is a connection; [`Lost`] when there is none in time. What comes with it is the
    /// turn of a call that had to wait for one.
    async fn ask(
        &self,
        request: Request,
        ear: Option<Ear>,
        turn: Turn,
    ) -> Result<(Asked, Option<OwnedSemaphorePermit>), Lost> {
        let shared = &self.0.shared;
        let deadline = Instant::now() + shared.timing.patience;
        loop {
            let line = shared.line_until(deadline).await.ok_or(Lost)?;
            let turn = match turn {
                Turn::Any => None,
                Turn::Waits => match line.turn().await {
                    Ok(turn) => Some(turn),
                    Err(Lost) => continue,
                },
            };
            let Ok(room) = line.room(&request).await else {
                continue;
            };
            // Nothing of it was sent if that fails.
            if let Ok(asked) = line.ask(request.clone(), Some(room), ear.clone()) {
                return Ok((asked, turn));
            }
        }
    }

    fn request(
        &self,
        call: Call,
        payload: &[u8],
        operation: impl Fn() -> String,
    ) -> Result<Request, BusError> {
        Request::new(&self.0.shared.ids, call, payload).map_err(|error| too_large(error, operation()))
    }
}

/// When a call may be made.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// At any time.
    Any,
    /// When few enough others wait for their answers.
    Waits,
}

/// Ends a subscription when it is dropped.
struct Listening {
    shared: Weak<Shared>,
    key: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.unsubscribe(self.key);
        }
    }
}

/// The messages of a subscription.
struct Listened {
    inbox: Inbox<Message>,
    _listening: Listening,
}

impl Stream for Listened {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.inbox.poll_next_unpin(context)
    }
}

/// Ends a watch when it is dropped.
struct Watching {
    line: Arc<Line>,
    id: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.line.hush(self.id);
    }
}

/// The events of a watch.
struct Watched {
    inbox: Inbox<CatalogEvent>,
    _watching: Watching,
}

impl Stream for Watched {
    type Item = CatalogEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CatalogEvent>> {
        self.inbox.poll_next_unpin(context)
    }
}

fn done(answer: Answer, operation: impl Fn() -> String) -> Result<(), BusError> {
    match answer {
        Answer::Done | Answer::Found { .. } => Ok(()),
        Answer::Failed { kind, detail } => Err(BusError::new(kind, operation()).because(detail)),
    }
}

fn unavailable(error: Lost, operation: String) -> BusError {
    BusError::new(BusErrorKind::Unavailable, operation).because(error)
}

fn too_large(error: FrameError, operation: String) -> BusError {
    BusError::new(BusErrorKind::TooLarge, operation).because(error)
}
