//! An agent's bus: the server's, and what is kept for the agent while it is away.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kanade_model::{Pattern, PcId, Subject};
use kanade_ports::{BusError, Consumer, Message, MessageId, PubSub, Subscription};

use crate::{
    bus::{NatsBus, failed},
    consumer::{DurableConsumer, Source},
    link::Link,
};

pub(super) struct AgentBus {
    bus: NatsBus,
    link: Arc<Link>,
    pc: PcId,
}

impl AgentBus {
    pub(super) fn new(link: Arc<Link>, pc: PcId) -> Self {
        Self {
            bus: NatsBus::new(Arc::clone(&link)),
            link,
            pc,
        }
    }
}

#[async_trait]
impl PubSub for AgentBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.bus.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        // The stream drops repetitions by this, and one agent's must not pass for another's.
        let id = MessageId(format!("{} {}", self.pc, id.0));
        self.bus.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        self.bus.subscribe(pattern).await
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        self.bus.reply(to, payload).await
    }

    async fn backlog(&self) -> Result<Option<Box<dyn Consumer>>, BusError> {
        // The server creates the consumer when it hears of this agent.
        let source = Source::backlog(&self.pc);
        let consumer = DurableConsumer::open(Arc::clone(&self.link), source).await;
        let consumer = consumer.map_err(|fault| failed("read what was kept".into(), fault))?;
        Ok(Some(Box::new(consumer)))
    }

    fn dropped(&self) -> u64 {
        self.bus.dropped()
    }

    fn reconnections(&self) -> BoxStream<'static, ()> {
        self.bus.reconnections()
    }
}
