//! Releases as an agent reads them: message by message, by direct questions to the stream, so that it needs the right to
//! ask those and no other.

use std::{io, sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use kanade_model::{Timestamp, Version};
use kanade_ports::{ErrorKind, Program, Release, ReleaseReader, StoreError};
use serde_json::{Value, json};
use tokio::time;

use crate::{
    link::{Fault, Link},
    objects::{BUCKET, STREAM, Said, subject},
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the same piece is asked for: a busy server may seem not to be there, and a connection may be lost.
const TRIES: u32 = 5;
/// The pause before the second time; the others are longer.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct AgentReleases {
    link: Arc<Link>,
}

impl AgentReleases {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    async fn said(&self, version: &Version, doing: &str) -> Result<Option<Said>, StoreError> {
        let unavailable = |fault: Fault| StoreError::new(ErrorKind::Unavailable, doing).because(fault);
        let which = json!({ "last_by_subj": subject(version) });
        let stored = stored(&self.link, &which).await.map_err(unavailable)?;
        let said = stored.map(|stored| Said::heard(stored.sequence, stored.at, &stored.payload));
        said.transpose().map_err(unavailable)
    }
}

#[async_trait]
impl ReleaseReader for AgentReleases {
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError> {
        let said = self
            .said(version, &format!("look for release `{version}`"))
            .await?;
        Ok(said.as_ref().and_then(Said::release))
    }

    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError> {
        let doing = format!("read release `{version}`");
        let Some(said) = self.said(version, &doing).await? else {
            return Ok(None);
        };
        let Some(release) = said.release() else {
            return Ok(None);
        };
        if said.is_link() {
            let why = "it is a link to another object, which agents do not follow";
            return Err(StoreError::new(ErrorKind::Unsupported, doing).because(why));
        }
        let pieces = Pieces {
            link: Arc::clone(&self.link),
            subject: format!("$O.{BUCKET}.C.{}", said.info.nuid),
            next: 1,
            left: release.size,
        };
        Ok(Some((release, pieces.program())))
    }
}

/// The pieces of a program that have not been read.
struct Pieces {
    link: Arc<Link>,
    subject: String,
    /// The number from which on they are.
    next: u64,
    /// Their bytes.
    left: u64,
}

impl Pieces {
    fn program(self) -> Program {
        let pieces = stream::unfold(Some(self), |pieces| async move {
            let mut pieces = pieces?;
            match pieces.next().await {
                Ok(piece) => Some((Ok(piece?), Some(pieces))),
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let which = json!({ "seq": self.next, "next_by_subj": self.subject });
        let mut tries = 0;
        let piece = loop {
            tries += 1;
            match stored(&self.link, &which).await {
                Err(fault) if tries < TRIES => {
                    tracing::debug!(%fault, "a piece of a release does not come; it is asked for again");
                    time::sleep(PAUSE * tries).await;
                }
                answer => break answer.map_err(io::Error::other)?,
            }
        };
        let gone = || io::Error::other("it was replaced or deleted meanwhile");
        let piece = piece.ok_or_else(gone)?;
        self.next = piece.sequence + 1;
        self.left = self
            .left
            .checked_sub(piece.payload.len() as u64)
            .ok_or_else(|| io::Error::other("it is larger than it is said to be"))?;
        Ok(Some(piece.payload))
    }
}

/// A message of the stream.
struct Stored {
    sequence: u64,
    at: Timestamp,
    payload: Bytes,
}

/// Asks for one message.
async fn stored(link: &Link, which: &Value) -> Result<Option<Stored>, Fault> {
    let path = format!("$JS.API.DIRECT.GET.{STREAM}");
    let answer = link.ask(path, None, which.to_string().into(), ANSWER).await?;
    match answer.status {
        None | Some(StatusCode::OK) => read(answer).map(Some),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(StatusCode::NO_RESPONDERS) => Err(Fault::NoResponders),
        Some(status) => Err(Fault::Client(format!("it answered {status}").into())),
    }
}

fn read(answer: Message) -> Result<Stored, Fault> {
    let header = |name| header(answer.headers.as_ref(), name);
    let sequence = header("Nats-Sequence").and_then(|text| text.parse().ok());
    let at = header("Nats-Time-Stamp").and_then(|text| text.parse().ok());
    let (Some(sequence), Some(at)) = (sequence, at) else {
        return Err(Fault::Client("it answered without saying what this is".into()));
    };
    Ok(Stored {
        sequence,
        at,
        payload: answer.payload,
    })
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    Some(headers?.get(name)?.as_str())
}
