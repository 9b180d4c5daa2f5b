//! A bucket as it is told by a push consumer of its own: what stands, then what changes. Every message is numbered, so
//! a gap is noticed; what was told wrongly or not at all ends the feed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use kanade_ports::{Bucket, CatalogEvent, Entry, Key, Revision};
use serde_json::{Value, json};
use tokio::{sync::watch, time};

use crate::{
    acks::Place,
    catalog::is_deletion,
    key,
    link::{Fault, Link},
    plan,
};

/// How often the server says that there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long nothing at all may be heard.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a consumer is kept that nobody listens to.
const ABANDONED: Duration = Duration::from_secs(10);
/// How long a replica may be behind what this server wrote itself.
const BEHIND: Duration = Duration::from_secs(1);

const LAST_CONSUMER: &str = "Nats-Last-Consumer";
const STALLED: &str = "Nats-Consumer-Stalled";

/// The feed of one bucket.
pub(crate) struct Feed {
    link: Arc<Link>,
    bucket: Bucket,
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
enum Step {
    Change {
        event: Option<CatalogEvent>,
        place: Place,
    },
    /// There is nothing more at the moment.
    Idle,
}

impl Feed {
    pub(crate) async fn open(link: Arc<Link>, bucket: Bucket) -> Result<Self, Fault> {
        link.ready().await?;
        let lost = link.losses();
        let inbox = link.client.new_inbox();
        let subscriber = link.client.subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| Fault::Client(error.into()))?;
        let stream = plan::stream_of_bucket(bucket);
        let body = json!({
            "stream_name": stream,
            "config": {
                "description": "kanade watches",
                "deliver_subject": inbox,
                "deliver_policy": "last_per_subject",
                "ack_policy": "none",
                "max_deliver": 1,
                "filter_subject": format!("$KV.{bucket}.>"),
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
            bucket,
            consumer: info["name"].as_str().unwrap_or_default().to_owned(),
            subscriber,
            lost,
            heard: 0,
            standing,
        })
    }

    /// Every document as it stands, with what changed while that was read; `None` when the feed broke. `written` is
    /// a revision that this server was given: a replica that has not heard of it yet is waited for.
    pub(crate) async fn standing(&mut self, written: u64) -> Option<BTreeMap<Key, Entry>> {
        let mut documents = BTreeMap::new();
        let mut current = self.standing == 0;
        let mut newest = 0;
        while !current {
            match self.step().await? {
                Step::Idle => current = true,
                Step::Change { event, place } => {
                    newest = place.stream;
                    apply(&mut documents, event);
                    current = place.pending == 0;
                }
            }
        }
        let catching_up = async {
            while newest < written {
                if let Step::Change { event, place } = self.step().await? {
                    newest = place.stream;
                    apply(&mut documents, event);
                }
            }
            Some(())
        };
        // In vain where that message was purged since.
        if let Ok(broken @ None) = time::timeout(BEHIND, catching_up).await {
            broken?;
        }
        Some(documents)
    }

    /// The next change; `None` when the feed broke.
    pub(crate) async fn next(&mut self) -> Option<CatalogEvent> {
        loop {
            if let Step::Change {
                event: Some(event), ..
            } = self.step().await?
            {
                return Some(event);
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        loop {
            let message = tokio::select! {
                biased;
                message = time::timeout(SILENCE, self.subscriber.next()) => message.ok()??,
                _ = self.lost.changed() => return None,
            };
            if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
                if self.controlled(&message).await? {
                    return Some(Step::Idle);
                }
                continue;
            }
            let place = Place::of(message.reply.as_deref()?)?;
            self.heard += 1;
            if place.consumer != self.heard {
                tracing::debug!(bucket = %self.bucket, "a watch has missed something and ends");
                return None;
            }
            let event = self.event(&message, place);
            return Some(Step::Change { event, place });
        }
    }

    /// Flow control and heartbeats: whether it says that everything has been sent; `None` when that did not arrive.
    async fn controlled(&self, message: &async_nats::Message) -> Option<bool> {
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

    fn event(&self, message: &async_nats::Message, place: Place) -> Option<CatalogEvent> {
        let stored = message
            .subject
            .strip_prefix("$KV.")?
            .strip_prefix(self.bucket.as_str())?
            .strip_prefix('.')?;
        let key = key::read(stored)?;
        let deleted = message.headers.as_ref().is_some_and(is_deletion);
        Some(if deleted {
            CatalogEvent::Deleted(key)
        } else {
            CatalogEvent::Put(Entry {
                key,
                value: message.payload.clone(),
                revision: Revision(place.stream),
            })
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The server would find out by itself, but lists come often.
        let path = format!(
            "CONSUMER.DELETE.{}.{}",
            plan::stream_of_bucket(self.bucket),
            self.consumer
        );
        let link = Arc::clone(&self.link);
        if link.is_up()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { link.api::<Value>(&path, &json!({})).await });
        }
    }
}

fn apply(documents: &mut BTreeMap<Key, Entry>, event: Option<CatalogEvent>) {
    match event {
        Some(CatalogEvent::Put(entry)) => drop(documents.insert(entry.key.clone(), entry)),
        Some(CatalogEvent::Deleted(key)) => drop(documents.remove(&key)),
        Some(CatalogEvent::Current) | None => {}
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
