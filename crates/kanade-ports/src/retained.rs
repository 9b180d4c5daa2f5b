//! Commands that a broker retains: the newest of each subject, for agents that are away.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_model::{PcId, Subject};

use crate::{BusError, MessageId};

/// Where a broker keeps a message, as it counts them. Compare it, never count on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// A Command that a broker retains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedCommand {
    /// Where it is kept.
    pub sequence: Sequence,
    /// Where it was sent to.
    pub subject: Subject,
    /// What it says.
    pub payload: Bytes,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetainedEvent {
    /// This is retained. It replaces what was retained on its subject before.
    Kept(RetainedCommand),
    /// Everything that was retained when the watch began has been told.
    Current,
}

/// The Commands that a broker retains for agents that are away. Only a bus with such a broker has this.
#[async_trait]
pub trait RetainedCommands: Send + Sync + 'static {
    /// Publishes a Command to whoever listens and returns when the broker also retains it. `id` lets the broker drop a
    /// repetition, which it then retains no second time, also where the first has been removed meanwhile.
    ///
    /// # Errors
    /// As [`publish_durable`](crate::PubSub::publish_durable).
    async fn keep(&self, subject: &Subject, command: Bytes, id: MessageId) -> Result<Sequence, BusError>;

    /// Removes what is retained there on this subject, with whatever older is left of the subject. Never anything newer.
    /// Fine when it is gone.
    async fn remove(&self, subject: &Subject, sequence: Sequence) -> Result<(), BusError>;

    /// Everything that is retained, then [`RetainedEvent::Current`], then what comes, whoever publishes it. The stream
    /// ends when something may have been missed.
    async fn watch(&self) -> Result<BoxStream<'static, RetainedEvent>, BusError>;

    /// Sees that an agent, when it is back, is given what is retained for it and nothing that is meant for others.
    async fn admit(&self, pc: &PcId) -> Result<(), BusError>;
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
