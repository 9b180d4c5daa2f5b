//! A subscription that outlives the connection: when its stream ends, it subscribes again.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kanade_model::Pattern;
use kanade_ports::{Clock, Message, PubSub, Subscription};

use crate::backoff::Backoff;

/// The messages of one pattern, for as long as somebody reads them.
pub(crate) struct Inbox {
    bus: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
    pattern: Pattern,
    subscription: Option<Subscription>,
    backoff: Backoff,
}

impl Inbox {
    /// Subscribes. A bus that cannot be used now is tried again while reading.
    pub(crate) async fn open(bus: Arc<dyn PubSub>, clock: Arc<dyn Clock>, pattern: Pattern) -> Self {
        let mut inbox = Self {
            bus,
            clock,
            pattern,
            subscription: None,
            backoff: Backoff::new(),
        };
        inbox.subscribe().await;
        inbox
    }

    /// The next message. Dropping the returned future loses nothing.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            match &mut self.subscription {
                Some(subscription) => match subscription.next().await {
                    Some(message) => {
                        self.backoff.reset();
                        return message;
                    }
                    None => {
                        tracing::warn!(pattern = %self.pattern, "the subscription has ended; subscribing again");
                        self.subscription = None;
                    }
                },
                None => {
                    self.clock.sleep(self.backoff.pause()).await;
                    self.subscribe().await;
                }
            }
        }
    }

    /// The same as a stream, which never ends.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Message> {
        stream::unfold(self, |mut inbox| async move {
            let message = inbox.next().await;
            Some((message, inbox))
        })
    }

    async fn subscribe(&mut self) {
        match self.bus.subscribe(&self.pattern).await {
            Ok(subscription) => self.subscription = Some(subscription),
            Err(error) => {
                tracing::warn!(pattern = %self.pattern, %error, "cannot subscribe; it will be tried again");
            }
        }
    }
}
