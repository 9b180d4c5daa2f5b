//! Durable consumption without a disk: the sender waits until a consumer has acknowledged, so what is safely kept is
//! kept by the consumer. A backlog is one opening of a durable, from its first consumer to its last.
//!
//! Nobody is woken while a lock is held: waking may drop a future, and with it a consumer or a batch.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kanade_ports::{Batch, BusError, BusErrorKind, Consumer, Durable, Message};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::BusLimits;

/// One durable, open or not.
pub(super) struct Channel {
    durable: Durable,
    limits: BusLimits,
    open: Mutex<Option<Open>>,
}

struct Open {
    backlog: Arc<Backlog>,
    consumers: usize,
}

/// The messages that wait for the consumers of a durable.
pub(super) struct Backlog {
    durable: Durable,
    /// In bytes; a message holds its share until it is acknowledged.
    room: Arc<Semaphore>,
    capacity: usize,
    least: usize,
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Kept>,
    closed: bool,
}

/// A message, and what its sender waits for. Dropping it tells the sender that nobody keeps it.
struct Kept {
    message: Message,
    receipt: Receipt,
}

struct Receipt {
    acknowledged: oneshot::Sender<()>,
    /// Given back when the message leaves.
    _room: OwnedSemaphorePermit,
}

impl Channel {
    pub(super) fn new(durable: Durable, limits: BusLimits) -> Arc<Self> {
        Arc::new(Self {
            durable,
            limits,
            open: Mutex::new(None),
        })
    }

    /// The backlog, if a consumer is there to keep a message.
    pub(super) fn backlog(&self) -> Option<Arc<Backlog>> {
        self.open().as_ref().map(|open| Arc::clone(&open.backlog))
    }

    pub(super) fn consume(self: &Arc<Self>) -> Box<dyn Consumer> {
        let mut slot = self.open();
        let open = slot.get_or_insert_with(|| Open {
            backlog: Arc::new(Backlog::new(self.durable, &self.limits)),
            consumers: 0,
        });
        open.consumers += 1;
        Box::new(Reader {
            channel: Arc::clone(self),
            backlog: Arc::clone(&open.backlog),
        })
    }

    /// Ends the backlog, if there is one: its senders and consumers fail.
    pub(super) fn close(&self) {
        let open = self.open().take();
        if let Some(open) = open {
            open.backlog.close();
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backlog {
    fn new(durable: Durable, limits: &BusLimits) -> Self {
        Self {
            durable,
            room: Arc::new(Semaphore::new(limits.durable_bytes)),
            capacity: limits.durable_bytes,
            // So many bytes per message at the least also bound the number of messages.
            least: limits.durable_bytes.div_ceil(limits.durable_messages.max(1)),
            queue: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// Waits for room; first come, first served.
    pub(super) async fn room(&self, message: &Message) -> Result<OwnedSemaphorePermit, BusError> {
        let bytes = message.weight().max(self.least).min(self.capacity);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .acquire_many_owned(bytes)
            .await
            .map_err(|closed| self.unavailable(&message.subject.to_string()).because(closed))
    }

    /// Puts a message at the end. What is returned resolves when it was acknowledged.
    pub(super) fn put(
        &self,
        message: Message,
        room: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<()>, BusError> {
        let (acknowledged, wait) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(self.unavailable(message.subject.as_str()));
        }
        queue.messages.push_back(Kept {
            message,
            receipt: Receipt {
                acknowledged,
                _room: room,
            },
        });
        drop(queue);
        self.arrived.notify_one();
        Ok(wait)
    }

    /// The error of a sender whose message nobody keeps.
    pub(super) fn unavailable(&self, subject: &str) -> BusError {
        BusError::new(
            BusErrorKind::Unavailable,
            format!("keep a message to {subject} for {}", self.durable.name()),
        )
    }

    fn take(self: &Arc<Self>, max: usize) -> Result<Option<Held>, BusError> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(BusError::new(
                BusErrorKind::Unavailable,
                format!("consume {}", self.durable.name()),
            ));
        }
        let count = queue.messages.len().min(max.max(1));
        if count == 0 {
            return Ok(None);
        }
        let (messages, receipts) = queue
            .messages
            .drain(..count)
            .map(|kept| (kept.message, kept.receipt))
            .unzip();
        let more = !queue.messages.is_empty();
        drop(queue);
        if more {
            // Several messages may have come with one notice.
            self.arrived.notify_one();
        }
        Ok(Some(Held {
            backlog: Arc::clone(self),
            messages,
            receipts,
            more,
        }))
    }

    fn put_back(&self, messages: Vec<Message>, receipts: Vec<Receipt>) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        for (message, receipt) in messages.into_iter().zip(receipts).rev() {
            queue.messages.push_front(Kept { message, receipt });
        }
        drop(queue);
        self.arrived.notify_one();
    }

    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        // Their senders learn of it and send again once somebody listens: keeping them here too would only grow.
        let messages = mem::take(&mut queue.messages);
        drop(queue);
        drop(messages);
        self.room.close();
        self.arrived.notify_waiters();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    channel: Arc<Channel>,
    backlog: Arc<Backlog>,
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&mut self, max: usize) -> Result<Box<dyn Batch>, BusError> {
        loop {
            let mut arrived = std::pin::pin!(self.backlog.arrived.notified());
            // Listening before looking, or a close in between would go unheard.
            arrived.as_mut().enable();
            // Taken without a wait in between, so a caller that goes away takes nothing along.
            if let Some(batch) = self.backlog.take(max)? {
                return Ok(Box::new(batch));
            }
            arrived.await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut slot = self.channel.open();
        let ours = |open: &&mut Open| Arc::ptr_eq(&open.backlog, &self.backlog);
        let Some(open) = slot.as_mut().filter(ours) else {
            return;
        };
        open.consumers -= 1;
        if open.consumers == 0 {
            *slot = None;
            drop(slot);
            self.backlog.close();
        }
    }
}

/// Messages in a consumer's hands.
struct Held {
    backlog: Arc<Backlog>,
    messages: Vec<Message>,
    receipts: Vec<Receipt>,
    /// Whether others waited behind these.
    more: bool,
}

#[async_trait]
impl Batch for Held {
    fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn caught_up(&self) -> Option<Duration> {
        (!self.more).then_some(Duration::ZERO)
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), BusError> {
        for receipt in self.receipts.drain(..) {
            // Nobody waits where the sender went away, which is its right.
            let _ = receipt.acknowledged.send(());
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Acknowledged ones have no receipts left.
        if !self.receipts.is_empty() {
            self.backlog
                .put_back(mem::take(&mut self.messages), mem::take(&mut self.receipts));
        }
    }
}
