//! The world of a bus case: sending, listening and consuming in few words.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Batch, Bus, BusError, BusErrorKind, Consumer, Durable, Message, MessageId, PubSub, Subscription,
};
use tokio::task::JoinHandle;

use crate::within;

/// By then, whatever must come has come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) fn subject(text: &str) -> Subject {
    text.parse().expect("a valid subject")
}

pub(crate) fn pattern(text: &str) -> Pattern {
    text.parse().expect("a valid pattern")
}

pub(crate) fn payload(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).expect("these cases send text")
}

pub(crate) fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(text).collect()
}

pub(crate) fn kind<T>(result: Result<T, BusError>) -> Result<T, BusErrorKind> {
    result.map_err(|error| error.kind())
}

pub(crate) async fn listen(bus: &dyn PubSub, to: &str) -> Subscription {
    bus.subscribe(&pattern(to)).await.unwrap()
}

pub(crate) async fn publish(bus: &dyn PubSub, to: &str, text: &str) {
    bus.publish(&subject(to), payload(text)).await.unwrap();
}

/// The next message of a subscription, which must come.
pub(crate) async fn next(subscription: &mut Subscription) -> Message {
    within(SOON, "a message", subscription.next())
        .await
        .expect("the subscription goes on")
}

/// The texts of a subscription up to `last`.
pub(crate) async fn up_to(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        heard.push(text(&next(subscription).await));
        if heard.last().is_some_and(|text| text == last) {
            return heard;
        }
    }
}

pub(crate) async fn consume(bus: &dyn Bus, durable: Durable) -> Box<dyn Consumer> {
    bus.consume(durable).await.unwrap()
}

/// The next batch of a consumer, which must come.
pub(crate) async fn batch(consumer: &mut Box<dyn Consumer>, max: usize) -> Box<dyn Batch> {
    let batch = within(SOON, "a batch", consumer.next(max)).await.unwrap();
    let count = batch.messages().len();
    assert!(
        (1..=max).contains(&count),
        "a batch holds 1 to {max} messages, not {count}"
    );
    batch
}

/// Reads and acknowledges until `count` messages have come.
pub(crate) async fn acknowledge(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Message> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let batch = batch(consumer, count - heard.len()).await;
        heard.extend_from_slice(batch.messages());
        within(SOON, "an acknowledgement", batch.acknowledge())
            .await
            .unwrap();
    }
    heard
}

/// Sends a durable message in a task of its own; `text` also names it.
pub(crate) fn send(bus: &Arc<dyn Bus>, to: &str, text: &str) -> JoinHandle<Result<(), BusErrorKind>> {
    let (bus, to, text) = (Arc::clone(bus), subject(to), text.to_owned());
    tokio::spawn(async move { kind(bus.publish_durable(&to, payload(&text), MessageId(text)).await) })
}

/// Sends a durable message as an outbox does: again and again until it is kept.
pub(crate) fn send_until_kept(bus: &Arc<dyn Bus>, to: &str, text: &str) -> JoinHandle<()> {
    let (bus, to, text) = (Arc::clone(bus), subject(to), text.to_owned());
    tokio::spawn(async move {
        loop {
            match kind(
                bus.publish_durable(&to, payload(&text), MessageId(text.clone()))
                    .await,
            ) {
                Ok(()) => return,
                Err(kind) => assert!(
                    matches!(kind, BusErrorKind::Unavailable | BusErrorKind::TimedOut),
                    "an outbox can only wait out what passes, not {kind:?}"
                ),
            }
            tokio::task::yield_now().await;
        }
    })
}

/// What became of a send, which must come to an end.
pub(crate) async fn outcome<T>(sending: JoinHandle<T>) -> T {
    within(SOON, "the end of a send", sending).await.unwrap()
}
