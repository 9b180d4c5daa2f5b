//! What is said about a version, and how that is changed.

use async_nats::{
    HeaderMap,
    jetstream::{ErrorCode, object_store::ObjectInfo},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use kanade_model::Timestamp;
use kanade_ports::{ErrorKind, Release, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{RACES, STREAM, indeterminate, pieces::purge, raced, unavailable};
use crate::link::{Fault, Link};

const ROLLUP: &str = "Nats-Rollup";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// What is said about a version.
pub(crate) struct Said {
    pub(crate) sequence: u64,
    pub(crate) info: ObjectInfo,
    /// When it was said. Some clients do not write it down.
    at: Timestamp,
}

impl Said {
    /// What is said about a version, from the stream's leader, and the number of the message.
    pub(super) async fn of(link: &Link, subject: &str) -> Result<Option<Said>, Fault> {
        let path = format!("STREAM.MSG.GET.{STREAM}");
        match link
            .api::<Found>(&path, &json!({ "last_by_subj": subject }))
            .await
        {
            Ok(found) => Said::read(found.message).map(Some),
            Err(Fault::Api(error)) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What a message says that was read without the leader's help.
    pub(crate) fn heard(sequence: u64, at: Timestamp, text: &[u8]) -> Result<Self, Fault> {
        let info = serde_json::from_slice(text).map_err(|error| Fault::Client(error.into()))?;
        Ok(Self { sequence, info, at })
    }

    fn read(stored: Stored) -> Result<Self, Fault> {
        let unreadable = |error: async_nats::Error| Fault::Client(error);
        let text = STANDARD.decode(stored.data.unwrap_or_default());
        let text = text.map_err(|error| unreadable(error.into()))?;
        Ok(Self {
            sequence: stored.seq,
            info: serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?,
            at: stored.time.parse().map_err(|error| unreadable(Box::new(error)))?,
        })
    }

    /// The release that it tells of, if it is one: deletions are told too, and names may be any text.
    pub(crate) fn release(&self) -> Option<Release> {
        if self.info.deleted {
            return None;
        }
        Some(Release {
            version: self.info.name.parse().ok()?,
            size: self.info.size as u64,
            digest: self.info.digest.clone().unwrap_or_default(),
            modified: self.at,
        })
    }

    pub(crate) fn is_link(&self) -> bool {
        let options = self.info.options.as_ref();
        options.is_some_and(|options| options.link.is_some())
    }
}

/// A change of what is said about a version.
pub(super) struct Change {
    pub(super) subject: String,
    pub(super) doing: String,
    /// Whether there must be a release.
    pub(super) must_exist: bool,
}

impl Change {
    /// Says something else about a version than what is said now, under the name `nuid`, and removes the pieces of what
    /// it replaces.
    pub(super) async fn make(
        &self,
        link: &Link,
        nuid: &str,
        say: impl Fn(Option<&Said>) -> Value,
    ) -> Result<(), StoreError> {
        let doing = self.doing.as_str();
        let mut in_doubt: Option<(Fault, Option<Said>)> = None;
        for _ in 0..RACES {
            let said = match Said::of(link, &self.subject).await {
                Ok(said) => said,
                Err(fault) => {
                    return Err(match in_doubt {
                        Some((doubt, _)) => indeterminate(doing, doubt),
                        None => unavailable(doing, fault),
                    });
                }
            };
            if let Some((_, replaced)) = &in_doubt {
                if said.as_ref().is_some_and(|said| said.info.nuid == nuid) {
                    clear(link, replaced.as_ref()).await;
                    return Ok(());
                }
                // Whether it was made and then replaced cannot be told; it will not be made any more.
                if sequence(said.as_ref()) != sequence(replaced.as_ref()) {
                    break;
                }
            }
            if self.must_exist && said.as_ref().is_none_or(|said| said.info.deleted) {
                return Err(StoreError::new(ErrorKind::NotFound, doing));
            }
            let mut headers = HeaderMap::new();
            headers.insert(ROLLUP, "sub");
            headers.insert(EXPECTED, sequence(said.as_ref()).to_string().as_str());
            let text = say(said.as_ref()).to_string();
            let kept = link.keep(self.subject.clone(), headers, text.into());
            match kept.await {
                Ok(_) => {
                    clear(link, said.as_ref()).await;
                    return Ok(());
                }
                Err(Fault::Api(error)) if wrong_sequence(error.error_code()) => {}
                Err(fault) if fault.leaves_doubt() => in_doubt = Some((fault, said)),
                Err(fault) if in_doubt.is_some() => return Err(indeterminate(doing, fault)),
                Err(fault) => return Err(unavailable(doing, fault)),
            }
        }
        Err(match in_doubt {
            Some((doubt, _)) => indeterminate(doing, doubt),
            None => raced(doing),
        })
    }
}

/// Removes the pieces of what was said before.
async fn clear(link: &Link, replaced: Option<&Said>) {
    if let Some(replaced) = replaced
        && !replaced.info.deleted
    {
        purge(link, &replaced.info.nuid).await;
    }
}

/// A message as JetStream gives it.
#[derive(Deserialize)]
struct Found {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    data: Option<String>,
    time: String,
}

/// The number of what is said about a version; 0 where nothing is.
pub(super) fn sequence(said: Option<&Said>) -> u64 {
    said.map_or(0, |said| said.sequence)
}

fn wrong_sequence(code: ErrorCode) -> bool {
    code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE || code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
}
