//! Schedules as documents.

use kanade_model::{AuditAction, Caller, Invalid, Manifest, Schedule, ScheduleId, ScriptStatus};
use kanade_ports::{Precondition, Revision};
use serde_json::{Value, json};

use crate::{Audit, Documents, Error, Stored, documents::not_found, error::Result, jobs::References};

/// The schedules of the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Schedules {
    documents: Documents,
    audit: Audit,
    references: References,
}

impl Schedules {
    pub(crate) fn new(documents: Documents, audit: Audit, references: References) -> Self {
        Self {
            documents,
            audit,
            references,
        }
    }

    /// Every schedule by id, from memory.
    pub fn list(&self) -> Vec<Stored<Schedule>> {
        self.documents
            .list()
            .into_iter()
            .map(|(_, stored)| stored)
            .collect()
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: &ScheduleId) -> Result<Stored<Schedule>> {
        self.documents
            .read(&id.into())
            .await?
            .ok_or_else(|| not_found::<Schedule>(id))
    }

    /// Stores a schedule for a job that exists.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`].
    pub async fn put(&self, schedule: &Schedule, when: Precondition, caller: &Caller) -> Result<Revision> {
        schedule.check()?;
        let _held = self.references.lock().await;
        if self
            .documents
            .read::<Manifest>(&(&schedule.job_id).into())
            .await?
            .is_none()
        {
            return Err(Invalid::new(
                "job_id",
                schedule.job_id.as_str(),
                "the id of a job in the catalog",
            )
            .into());
        }
        let revision = self
            .documents
            .write(&(&schedule.id).into(), schedule, when)
            .await?;
        let payload =
            json!({ "job_id": schedule.job_id, "cron": schedule.cron, "enabled": schedule.enabled });
        self.audit
            .write(
                caller,
                AuditAction::ScheduleUpsert,
                schedule.id.to_string(),
                payload,
            )
            .await?;
        Ok(revision)
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Changed`].
    pub async fn delete(&self, id: &ScheduleId, when: Precondition, caller: &Caller) -> Result<()> {
        self.documents.delete::<Schedule>(&id.into(), when).await?;
        self.audit
            .write(caller, AuditAction::ScheduleDelete, id.to_string(), Value::Null)
            .await
    }

    /// Stops a schedule from firing; with `cascade` also forbids agents to start its job.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn disable(&self, id: &ScheduleId, cascade: bool, caller: &Caller) -> Result<Schedule> {
        let schedule = loop {
            let stored = self.get(id).await?;
            let disabled = Schedule {
                enabled: false,
                ..stored.document
            };
            match self
                .documents
                .write(&id.into(), &disabled, Precondition::At(stored.revision))
                .await
            {
                Ok(_) => break disabled,
                Err(Error::Changed { .. }) => {}
                Err(error) => return Err(error),
            }
        };
        if cascade {
            self.documents
                .write(
                    &(&schedule.job_id).into(),
                    &ScriptStatus::Revoked,
                    Precondition::Any,
                )
                .await?;
        }
        let payload = json!({ "job_id": schedule.job_id, "cascade": cascade });
        self.audit
            .write(caller, AuditAction::ScheduleDisable, id.to_string(), payload)
            .await?;
        Ok(schedule)
    }
}
