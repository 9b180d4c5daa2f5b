//! The Commands that lie in the stream EXEC for agents that are away.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use async_nats::{HeaderMap, jetstream::ErrorCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kanade_model::{PcId, Subject};
use kanade_ports::{
    BusError, BusErrorKind, MessageId, RetainedCommand, RetainedCommands, RetainedEvent, Sequence,
};
use serde_json::{Value, json};

use crate::{
    bus::failed,
    follow::{Follow, Told},
    link::{Fault, Link, MESSAGE_ID},
    replay::{self, Action},
    setup,
};

const STREAM: &str = "EXEC";
const COMMANDS: &str = "commands.>";
/// Agents of which it was said that another has their consumer; more are not told of.
const SAID: usize = 1000;

pub(crate) struct NatsRetained {
    link: Arc<Link>,
    said: Mutex<BTreeSet<PcId>>,
}

impl NatsRetained {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            said: Mutex::default(),
        }
    }

    async fn admitted(&self, pc: &PcId) -> Result<(), Fault> {
        let name = replay::name(pc.as_str());
        let info = format!("CONSUMER.INFO.{STREAM}.{name}");
        let there = setup::config(&self.link, &info, ErrorCode::CONSUMER_NOT_FOUND).await?;
        let (config, action) = match replay::action(pc, there.as_ref()) {
            Action::Leave => return Ok(()),
            Action::Taken(other) => {
                self.say_taken(pc, &name, &other);
                return Ok(());
            }
            // Not "create": the agent may do so at the same moment, and what it makes is wider.
            Action::Create(config) => (config, ""),
            Action::Narrow(config) => (config, "update"),
        };
        let body = json!({"stream_name": STREAM, "config": config, "action": action});
        let path = format!("CONSUMER.CREATE.{STREAM}.{name}");
        self.link.api::<Value>(&path, &body).await?;
        tracing::debug!(%pc, "the agent is given what is retained for it and nothing else");
        Ok(())
    }

    fn say_taken(&self, pc: &PcId, name: &str, other: &str) {
        let mut said = self.said.lock().expect("no panic while locked");
        if said.len() < SAID && said.insert(pc.clone()) {
            tracing::warn!(
                %pc,
                "the consumer {name} gives what is retained on {other} to its agent, and this agent has the same one: \
                 it gets what it has missed at its heartbeats only. Where the other agent is gone, \
                 `nats consumer rm {STREAM} {name}` frees it"
            );
        }
    }
}

#[async_trait]
impl RetainedCommands for NatsRetained {
    async fn keep(&self, subject: &Subject, command: Bytes, id: MessageId) -> Result<Sequence, BusError> {
        let doing = || format!("retain a command of {} bytes to {subject}", command.len());
        let name = id.0.parse::<async_nats::HeaderValue>();
        let name = name.map_err(|error| BusError::new(BusErrorKind::Refused, doing()).because(error))?;
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, name);
        let to = subject.as_str().to_owned();
        match self.link.keep(to, headers, command.clone()).await {
            Ok(ack) => Ok(Sequence(ack.sequence)),
            // The servers of the stream are away.
            Err(fault @ Fault::NoResponders) => {
                Err(BusError::new(BusErrorKind::Unavailable, doing()).because(fault))
            }
            Err(fault) => Err(failed(doing(), fault)),
        }
    }

    async fn remove(&self, subject: &Subject, sequence: Sequence) -> Result<(), BusError> {
        // A purge and not a deletion: where the stream keeps more than one message of a subject, the next older would be
        // given to agents; and a deletion overwrites the message on the disk and waits for that.
        let body = json!({"filter": subject.as_str(), "seq": sequence.0.saturating_add(1)});
        let purged = self
            .link
            .api::<Value>(&format!("STREAM.PURGE.{STREAM}"), &body)
            .await;
        match purged {
            Ok(_) => Ok(()),
            Err(fault) => Err(failed(format!("remove what is retained on {subject}"), fault)),
        }
    }

    async fn watch(&self) -> Result<BoxStream<'static, RetainedEvent>, BusError> {
        let follow = Follow::open(Arc::clone(&self.link), STREAM.into(), COMMANDS).await;
        let follow = follow.map_err(|fault| failed("watch what is retained".into(), fault))?;
        let watch = Watch {
            all_told: follow.standing() == 0,
            follow,
            current: false,
        };
        Ok(stream::unfold(
            watch,
            |mut watch| async move { Some((watch.next().await?, watch)) },
        )
        .boxed())
    }

    async fn admit(&self, pc: &PcId) -> Result<(), BusError> {
        let admitted = self.admitted(pc).await;
        admitted.map_err(|fault| failed(format!("see to what agent {pc} is given when it is back"), fault))
    }
}

impl fmt::Debug for NatsRetained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsRetained")
    }
}

struct Watch {
    follow: Follow,
    /// Everything that stood has been told, and whether that was told too.
    all_told: bool,
    current: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<RetainedEvent> {
        loop {
            if self.all_told && !self.current {
                self.current = true;
                return Some(RetainedEvent::Current);
            }
            match self.follow.next().await? {
                Told::Idle => self.all_told = true,
                Told::Message(message, place) => {
                    self.all_told |= place.pending == 0;
                    // What is no subject of ours can be no agent's.
                    if let Ok(subject) = message.subject.as_str().parse() {
                        return Some(RetainedEvent::Kept(RetainedCommand {
                            sequence: Sequence(place.stream),
                            subject,
                            payload: message.payload,
                        }));
                    }
                }
            }
        }
    }
}
