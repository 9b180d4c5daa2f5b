//! Jobs, and whether agents may start them.

use std::collections::BTreeMap;

use kanade_model::{JobId, Manifest, ScriptStatus, api};
use reqwest::{
    Method,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
};
use serde::de::DeserializeOwned;

use crate::{
    Client, Error, Items,
    request::{Answer, Call},
};

/// Names the version of a document that was read, to be handed back with a change (an entity tag, RFC 9110).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// A document and the version it is of; the version is missing where the server does not tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The document.
    pub document: T,
    /// Its version.
    pub tag: Option<Tag>,
}

/// When a change is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// In any case.
    #[default]
    Any,
    /// When there is no such document.
    Absent,
    /// When the document is still the version that was read.
    Unchanged(Tag),
}

impl From<Option<Tag>> for Precondition {
    fn from(tag: Option<Tag>) -> Self {
        tag.map_or(Self::Any, Self::Unchanged)
    }
}

impl Call {
    pub(crate) fn when(self, when: &Precondition) -> Self {
        match when {
            Precondition::Any => self,
            Precondition::Absent => self.header(IF_NONE_MATCH.as_str(), "*"),
            Precondition::Unchanged(Tag(tag)) => self.header(IF_MATCH.as_str(), tag),
        }
    }

    pub(crate) async fn read_tagged<T: DeserializeOwned>(self) -> Result<Tagged<T>, Error> {
        let answer = self.send().await?;
        let tag = tag(&answer);
        Ok(Tagged {
            document: answer.json().await?,
            tag,
        })
    }
}

fn tag(answer: &Answer) -> Option<Tag> {
    answer.header(&ETAG).map(|tag| Tag(tag.to_owned()))
}

/// Jobs.
impl Client {
    /// Every job by id, with what is live.
    pub fn jobs(&self) -> Items<api::Job> {
        self.list(&["api", "jobs"], Vec::new())
    }

    /// One job.
    ///
    /// # Errors
    /// Not found, and what every request may meet: see [`Error`].
    pub async fn job(&self, id: &JobId) -> Result<Tagged<api::Job>, Error> {
        self.call(Method::GET, &["api", "jobs", id.as_str()])?
            .read_tagged()
            .await
    }

    /// The newest versions of a job, newest first; also of one that was deleted.
    ///
    /// # Errors
    /// Not found when it never existed.
    pub async fn job_history(&self, id: &JobId) -> Result<Vec<api::JobVersion>, Error> {
        self.call(Method::GET, &["api", "jobs", id.as_str(), "history"])?
            .read()
            .await
    }

    /// Stores a job.
    ///
    /// # Errors
    /// Invalid manifests, a precondition that does not hold.
    pub async fn put_job(&self, manifest: &Manifest, when: &Precondition) -> Result<api::JobStored, Error> {
        self.call(Method::POST, &["api", "jobs"])?
            .when(when)
            .json(manifest)
            .read()
            .await
    }

    /// Deletes a job that no schedule refers to; agents may not start it any more.
    ///
    /// # Errors
    /// A conflict that names the schedule, not found, a precondition that does not hold.
    pub async fn delete_job(&self, id: &JobId, when: &Precondition) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "jobs", id.as_str()])?
            .when(when)
            .done()
            .await
    }

    /// Kills everything of a job that is pending or running.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn kill_job(&self, id: &JobId) -> Result<(), Error> {
        self.call(Method::POST, &["api", "jobs", id.as_str(), "kill"])?
            .done()
            .await
    }

    /// Which jobs agents may start, as far as somebody has said so.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn script_statuses(&self) -> Result<BTreeMap<JobId, ScriptStatus>, Error> {
        self.call(Method::GET, &["api", "scripts", "status"])?
            .read()
            .await
    }

    /// Forbids agents to start a job.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn revoke(&self, id: &JobId) -> Result<(), Error> {
        self.call(Method::POST, &["api", "scripts", id.as_str(), "revoke"])?
            .done()
            .await
    }

    /// Allows agents to start a job again.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn unrevoke(&self, id: &JobId) -> Result<(), Error> {
        self.call(Method::POST, &["api", "scripts", id.as_str(), "unrevoke"])?
            .done()
            .await
    }
}
