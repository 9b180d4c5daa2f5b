//! Jobs and whether agents may start them.

use std::{collections::BTreeMap, sync::Arc};

use kanade_model::{AuditAction, Caller, Invalid, JobId, Manifest, Schedule, ScriptStatus};
use kanade_ports::{ExecutionStore, Key, LiveCount, Precondition, Revision};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Audit, Documents, Error, Stored,
    agents::AD_HOC,
    documents::not_found,
    error::{Result, chain},
    retained::Retained,
};

/// The jobs of the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    documents: Documents,
    store: Arc<dyn ExecutionStore>,
    audit: Audit,
    references: References,
    retained: Option<Retained>,
}

/// Held while a reference from a schedule to a job is made or checked, so that neither misses the other.
pub(crate) type References = Arc<Mutex<()>>;

/// A job in a list.
#[derive(Debug, Clone)]
pub struct ListedJob {
    /// The manifest.
    pub manifest: Stored<Manifest>,
    /// What is under way.
    pub live: LiveCount,
    /// Whether agents may start it.
    pub status: ScriptStatus,
}

impl Jobs {
    pub(crate) fn new(
        documents: Documents,
        store: Arc<dyn ExecutionStore>,
        audit: Audit,
        references: References,
        retained: Option<Retained>,
    ) -> Self {
        Self {
            documents,
            store,
            audit,
            references,
            retained,
        }
    }

    /// Every job by id, with what is live. If that cannot be counted: zeros, and a warning in the log.
    pub async fn list(&self) -> Vec<ListedJob> {
        let live = self.store.live_counts().await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "cannot count what is live; the job list shows zeros");
            BTreeMap::new()
        });
        let statuses = self.statuses();
        let listed = |(_, manifest): (Key, Stored<Manifest>)| {
            let id = &manifest.document.id;
            ListedJob {
                live: live.get(id).copied().unwrap_or_default(),
                status: statuses.get(id).copied().unwrap_or(ScriptStatus::Active),
                manifest,
            }
        };
        self.documents
            .list::<Manifest>()
            .into_iter()
            .map(listed)
            .collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: &JobId) -> Result<ListedJob> {
        let manifest = self
            .documents
            .read(&id.into())
            .await?
            .ok_or_else(|| not_found::<Manifest>(id))?;
        let live = self
            .store
            .live_counts()
            .await?
            .get(id)
            .copied()
            .unwrap_or_default();
        Ok(ListedJob {
            manifest,
            live,
            status: self.status(id).await?,
        })
    }

    /// The newest versions of a job, newest first; also of one that was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it never existed.
    pub async fn history(&self, id: &JobId) -> Result<Vec<Stored<Manifest>>> {
        let versions = self.documents.history(&id.into()).await?;
        if versions.is_empty() {
            Err(not_found::<Manifest>(id))
        } else {
            Ok(versions)
        }
    }

    /// Stores a job. One that is revoked stays revoked.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`].
    pub async fn put(&self, manifest: &Manifest, when: Precondition, caller: &Caller) -> Result<Revision> {
        manifest.check()?;
        if manifest.id.as_str() == AD_HOC {
            return Err(Invalid::new(
                "id",
                AD_HOC,
                "another id; this one is that of scripts that `kanade run` runs",
            )
            .into());
        }
        let revision = self
            .documents
            .write(&(&manifest.id).into(), manifest, when)
            .await?;
        let payload = json!({ "version": manifest.version, "revision": revision.to_string() });
        self.audit
            .write(caller, AuditAction::JobUpsert, manifest.id.to_string(), payload)
            .await?;
        Ok(revision)
    }

    /// Deletes a job that no schedule refers to. Revokes it first, so that no agent starts what is on its way.
    ///
    /// # Errors
    /// [`Error::Referenced`], [`Error::NotFound`], [`Error::Changed`], [`Error::DeleteFailedPostRevoke`].
    pub async fn delete(&self, id: &JobId, when: Precondition, caller: &Caller) -> Result<()> {
        let _held = self.references.lock().await;
        let key = Key::from(id);
        let stored = self
            .documents
            .read::<Manifest>(&key)
            .await?
            .ok_or_else(|| not_found::<Manifest>(id))?;
        if let Precondition::At(revision) = when
            && revision != stored.revision
        {
            return Err(Error::Changed {
                what: "job",
                id: id.to_string(),
            });
        }
        for (_, schedule) in self.documents.read_all::<Schedule>().await? {
            if schedule.document.job_id == *id {
                return Err(Error::Referenced {
                    job: id.clone(),
                    schedule: schedule.document.id,
                });
            }
        }
        let status = self.status(id).await?;
        self.documents
            .write(&key, &ScriptStatus::Revoked, Precondition::Any)
            .await?;
        match self.documents.delete::<Manifest>(&key, when).await {
            Ok(()) => {}
            Err(Error::Store(source)) => {
                let payload = json!({ "error": chain(&source) });
                self.audit
                    .write(
                        caller,
                        AuditAction::JobDeleteFailedPostRevoke,
                        id.to_string(),
                        payload,
                    )
                    .await?;
                return Err(Error::DeleteFailedPostRevoke {
                    job: id.clone(),
                    source,
                });
            }
            Err(error) => {
                // Somebody else was faster and theirs stands: it must not be revoked by a deletion that was not made.
                self.documents.write(&key, &status, Precondition::Any).await?;
                return Err(error);
            }
        }
        self.audit
            .write(caller, AuditAction::JobDelete, id.to_string(), Value::Null)
            .await?;
        self.withdraw(id).await;
        Ok(())
    }

    /// The status of every job that has one, from memory.
    pub fn statuses(&self) -> BTreeMap<JobId, ScriptStatus> {
        self.documents
            .list::<ScriptStatus>()
            .into_iter()
            .filter_map(|(key, stored)| Some((key.as_str().parse().ok()?, stored.document)))
            .collect()
    }

    /// Whether agents may start a job, as the catalog itself says.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn status(&self, id: &JobId) -> Result<ScriptStatus> {
        let stored = self.documents.read::<ScriptStatus>(&id.into()).await?;
        Ok(stored.map_or(ScriptStatus::Active, |stored| stored.document))
    }

    /// Forbids (or allows again) agents to start a job, known or not.
    ///
    /// # Errors
    /// When the catalog or the store takes no changes.
    pub async fn set_status(&self, id: &JobId, status: ScriptStatus, caller: &Caller) -> Result<()> {
        self.documents
            .write(&id.into(), &status, Precondition::Any)
            .await?;
        let action = match status {
            ScriptStatus::Active => AuditAction::ScriptUnrevoke,
            ScriptStatus::Revoked => AuditAction::ScriptRevoke,
        };
        self.audit
            .write(caller, action, id.to_string(), Value::Null)
            .await?;
        if status == ScriptStatus::Revoked {
            self.withdraw(id).await;
        }
        Ok(())
    }

    /// Removes what a broker retains of a job that is revoked. What is left is removed later, and agents do not start it.
    async fn withdraw(&self, id: &JobId) {
        if let Some(retained) = &self.retained
            && let Err(error) = retained.withdraw_job(id).await
        {
            tracing::warn!(job = %id, error = %chain(&error), "a revoked job leaves something retained for now");
        }
    }
}
