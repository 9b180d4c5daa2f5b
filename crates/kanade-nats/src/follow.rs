//! A stream as it is told by a push consumer of its own: the newest message of each subject, then what comes. Every
//! message is numbered, so a gap is noticed; what was told wrongly or not at all ends it.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{sync::watch, time};

use crate::{
    acks::Place,
    link::{Fault, Link},
};

/// How often the server says that there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long nothing at all may be heard.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a consumer is kept that nobody listens to.
const ABANDONED: Duration = Duration::from_secs(10);

const LAST_CONSUMER: &str = "Nats-Last-Consumer";
const STALLED: &str = "Nats-Consumer-Stalled";

/// Follows one stream.
pub(crate) struct Follow {
    link: Arc<Link>,
    stream: String,
    /// The consumer's name on the server.
    consumer: String,
    subscriber: Subscriber,
    lost: watch::Receiver<u64>,
    /// How many messages have come.
    heard: u64,
    /// How many stood when it was opened.
    standing: u64,
}

/// What comes.
#[expect(clippy::large_enum_variant, reason = "nearly all of what comes are messages")]
pub(crate) enum Told {
    Message(Message, Place),
    /// There is nothing more at the moment.
    Idle,
}

impl Follow {
    pub(crate) async fn open(link: Arc<Link>, stream: String, filter: &str) -> Result<Self, Fault> {
        link.ready().await?;
        let lost = link.losses();
        let inbox = link.client.new_inbox();
        let subscriber = link.client.subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| Fault::Client(error.into()))?;
        let body = json!({
            "stream_name": stream,
            "config": {
                "description": "kanade watches",
                "deliver_subject": inbox,
                "deliver_policy": "last_per_subject",
                "ack_policy": "none",
                "max_deliver": 1,
                "filter_subject": filter,
                "replay_policy": "instant",
                "flow_control": true,
                "idle_heartbeat": nanos(HEARTBEAT),
                "inactive_threshold": nanos(ABANDONED),
                "num_replicas": 1,
                "mem_storage": true,
            },
        });
        let info: Value = link.api(&format!("CONSUMER.CREATE.{stream}"), &body).await?;
        let standing = info["num_pending"].as_u64().unwrap_or(0);
        Ok(Self {
            link,
            stream,
            consumer: info["name"].as_str().unwrap_or_default().to_owned(),
            subscriber,
            lost,
            heard: 0,
            standing,
        })
    }

    /// How many messages stood when it was opened.
    pub(crate) fn standing(&self) -> u64 {
        self.standing
    }

    /// What comes next; `None` when something may have been missed.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        loop {
            let message = tokio::select! {
                biased;
                message = time::timeout(SILENCE, self.subscriber.next()) => message.ok()??,
                _ = self.lost.changed() => return None,
            };
            if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
                if self.controlled(&message).await? {
                    return Some(Told::Idle);
                }
                continue;
            }
            let place = Place::of(message.reply.as_deref()?)?;
            self.heard += 1;
            if place.consumer != self.heard {
                tracing::debug!(stream = self.stream, "a watch has missed something and ends");
                return None;
            }
            return Some(Told::Message(message, place));
        }
    }

    /// Flow control and heartbeats: whether it says that everything has been sent; `None` when that did not arrive.
    async fn controlled(&self, message: &Message) -> Option<bool> {
        let header = |name: &str| {
            let headers = message.headers.as_ref()?;
            Some(headers.get(name)?.as_str().to_owned())
        };
        let stalled = header(STALLED);
        if let Some(answer) = stalled
            .clone()
            .or_else(|| message.reply.as_ref().map(ToString::to_string))
        {
            // Says that we have read so far, so that it sends on.
            self.link.client.publish(answer, Bytes::new()).await.ok()?;
        }
        let Some(sent) = header(LAST_CONSUMER).and_then(|sent| sent.parse::<u64>().ok()) else {
            return Some(false);
        };
        match sent == self.heard {
            true => Some(stalled.is_none()),
            false => None,
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // The server would find out by itself, but lists come often.
        let path = format!("CONSUMER.DELETE.{}.{}", self.stream, self.consumer);
        let link = Arc::clone(&self.link);
        if link.is_up()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { link.api::<Value>(&path, &json!({})).await });
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
