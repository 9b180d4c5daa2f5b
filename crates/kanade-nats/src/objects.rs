//! Releases in the object store bucket `agent_releases`, in the form that every NATS client reads and writes
//! (ADR-20 of NATS): the pieces of a program are messages on `$O.agent_releases.C.{nuid}`, and one message on
//! `$O.agent_releases.M.{base64url(version)}` says which pieces a version is.
//!
//! Reading is the driver's. Writing is not: the driver's forgets the pieces of a program that breaks off, and those of
//! all but one of several writers; here what is said of a version is only changed from what it was known to be.

mod pieces;
mod said;

use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream::{self, object_store::Object};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE};
use futures::{StreamExt, TryStreamExt, stream};
use kanade_model::Version;
use kanade_ports::{Clock, ErrorKind, Program, Release, ReleaseReader, Releases, StoreError, SystemClock};
use serde_json::{Value, json};
use tokio::time;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

pub(crate) use self::said::Said;
use self::{
    pieces::{PIECE, Pieces, Reading},
    said::Change,
};
use crate::link::{Fault, Link};

pub(crate) const BUCKET: &str = "agent_releases";
pub(crate) const STREAM: &str = "OBJ_agent_releases";
/// How many questions about releases are asked at once.
const AT_ONCE: usize = 16;
/// How often something is tried that somebody else came before.
const RACES: usize = 32;
/// How often a replica is asked again that does not know yet what the leader knows.
const LOOKS: usize = 20;
/// The pause between two of those.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct NatsReleases {
    link: Arc<Link>,
    context: jetstream::Context,
}

impl NatsReleases {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let context = jetstream::new(link.client.clone());
        Self { link, context }
    }

    /// The subjects on which something is said about a version.
    async fn subjects(&self) -> Result<Vec<String>, Fault> {
        let mut subjects = Vec::new();
        loop {
            let filter = format!("$O.{BUCKET}.M.>");
            let body = json!({ "subjects_filter": filter, "offset": subjects.len() });
            let info: Value = self.link.api(&format!("STREAM.INFO.{STREAM}"), &body).await?;
            let page = info["state"]["subjects"].as_object();
            let page = page.into_iter().flatten().map(|(subject, _)| subject.clone());
            let before = subjects.len();
            subjects.extend(page);
            let total = info["total"].as_u64().unwrap_or(0);
            if subjects.len() == before || subjects.len() as u64 >= total {
                return Ok(subjects);
            }
        }
    }

    fn reading(&self, said: &Said, object: Object) -> Program {
        let reading = Reading {
            link: Arc::clone(&self.link),
            subject: subject_of(&said.info.name),
            sequence: said.sequence,
            pieces: ReaderStream::with_capacity(object, PIECE).boxed(),
        };
        reading.program()
    }

    /// The pieces of a program by the reader of the driver, which checks the digest at the end.
    async fn pieces(&self, said: &Said, doing: &str) -> Result<Program, StoreError> {
        let driver = |error: async_nats::Error| unavailable(doing, Fault::Client(error));
        let bucket = self.context.get_object_store(BUCKET).await;
        let bucket = bucket.map_err(|error| driver(error.into()))?;
        let mut trouble = None;
        for _ in 0..LOOKS {
            match bucket.get(&said.info.name).await {
                // A link leads to an object of another name.
                Ok(object) if object.info.nuid == said.info.nuid || said.is_link() => {
                    return Ok(self.reading(said, object));
                }
                Ok(_) => trouble = None,
                Err(error) => trouble = Some(error),
            }
            time::sleep(PAUSE).await;
        }
        Err(match trouble {
            Some(error) => driver(error.into()),
            None => raced(doing),
        })
    }
}

impl fmt::Debug for NatsReleases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsReleases")
    }
}

#[async_trait]
impl ReleaseReader for NatsReleases {
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError> {
        let said = Said::of(&self.link, &subject(version)).await;
        let said = said.map_err(|fault| unavailable(&format!("look for release `{version}`"), fault))?;
        Ok(said.as_ref().and_then(Said::release))
    }

    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError> {
        let doing = format!("read release `{version}`");
        for _ in 0..RACES {
            let said = Said::of(&self.link, &subject(version)).await;
            let said = said.map_err(|fault| unavailable(&doing, fault))?;
            let Some((said, release)) = said.and_then(|said| said.release().map(|release| (said, release)))
            else {
                return Ok(None);
            };
            match self.pieces(&said, &doing).await {
                Ok(program) => return Ok(Some((release, program))),
                Err(error) => {
                    // Perhaps it was replaced or deleted meanwhile.
                    let now = Said::of(&self.link, &subject(version)).await;
                    let now = now.map_err(|fault| unavailable(&doing, fault))?;
                    if now.is_some_and(|now| now.sequence == said.sequence) {
                        return Err(error);
                    }
                }
            }
        }
        Err(raced(&doing))
    }
}

#[async_trait]
impl Releases for NatsReleases {
    async fn list(&self) -> Result<Vec<Release>, StoreError> {
        let failed = |fault| unavailable("list releases", fault);
        let subjects = self.subjects().await.map_err(failed)?;
        let said = stream::iter(subjects)
            .map(|subject| async move { Said::of(&self.link, &subject).await })
            .buffer_unordered(AT_ONCE);
        let said: Vec<Option<Said>> = said.try_collect().await.map_err(failed)?;
        let mut releases: Vec<Release> = said.iter().flatten().filter_map(Said::release).collect();
        releases.sort_by(|one, other| one.version.cmp(&other.version));
        Ok(releases)
    }

    async fn put(&self, version: &Version, program: Program) -> Result<Release, StoreError> {
        let doing = format!("store release `{version}`");
        let (pieces, measure, count) = Pieces::write(&self.link, program, &doing).await?;
        let release = Release {
            version: version.clone(),
            size: measure.size(),
            digest: measure.digest(),
            modified: SystemClock.now(),
        };
        let say = json!({
            "name": version,
            "description": null,
            "metadata": {},
            "headers": null,
            "options": { "link": null, "max_chunk_size": PIECE },
            "bucket": BUCKET,
            "nuid": pieces.nuid,
            "size": release.size,
            "chunks": count,
            "mtime": release.modified,
            "digest": release.digest,
        });
        let change = Change {
            subject: subject(version),
            doing,
            must_exist: false,
        };
        let link = Arc::clone(&self.link);
        // To its end, whether or not somebody still waits: from here on the pieces may be those of a release.
        let changed = tokio::spawn(async move {
            let nuid = pieces.keep();
            let changed = change.make(&link, &nuid, |_| say.clone()).await;
            // Where that is not known, they may be those of the version.
            if let Err(error) = &changed
                && error.kind() != ErrorKind::Indeterminate
            {
                pieces::purge(&link, &nuid).await;
            }
            changed
        });
        finished(changed.await)?;
        Ok(release)
    }

    async fn delete(&self, version: &Version) -> Result<(), StoreError> {
        let change = Change {
            subject: subject(version),
            doing: format!("delete release `{version}`"),
            must_exist: true,
        };
        let link = Arc::clone(&self.link);
        let name = version.clone();
        let changed = tokio::spawn(async move {
            let nuid = unique();
            let gone = |said: Option<&Said>| {
                json!({
                    "name": name,
                    "description": said.and_then(|said| said.info.description.clone()),
                    "metadata": {},
                    "headers": null,
                    "bucket": BUCKET,
                    "nuid": nuid,
                    "size": 0,
                    "chunks": 0,
                    "mtime": SystemClock.now(),
                    "deleted": true,
                })
            };
            change.make(&link, &nuid, gone).await
        });
        finished(changed.await)
    }
}

pub(crate) fn subject(version: &Version) -> String {
    subject_of(version.as_str())
}

fn subject_of(name: &str) -> String {
    format!("$O.{BUCKET}.M.{}", URL_SAFE.encode(name))
}

fn unique() -> String {
    Uuid::new_v4().simple().to_string()
}

fn finished(done: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), StoreError> {
    done.unwrap_or_else(|ended| {
        Err(StoreError::new(ErrorKind::Indeterminate, "change a release").because(ended))
    })
}

fn unavailable(doing: &str, fault: Fault) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, doing).because(fault)
}

fn indeterminate(doing: &str, fault: Fault) -> StoreError {
    StoreError::new(ErrorKind::Indeterminate, doing).because(fault)
}

fn raced(doing: &str) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, doing).because("others change the same release all the time")
}
