//! Schedules as documents.

use kanade_model::{
    AuditAction, Caller, Invalid, Manifest, RunsOn, Schedule, ScheduleId, ScriptStatus, Timestamp, param,
};
use kanade_ports::{Precondition, Revision};
use serde_json::{Value, json};

use crate::{
    Audit, Documents, Error, Holds, Stored, documents::not_found, error::Result, hold::History,
    jobs::References,
};

/// The schedules of the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Schedules {
    documents: Documents,
    audit: Audit,
    references: References,
    history: History,
}

impl Schedules {
    pub(crate) fn new(documents: Documents, audit: Audit, references: References, history: History) -> Self {
        Self {
            documents,
            audit,
            references,
            history,
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

    /// What stands among the schedules and cannot be read: the key of each, and what is wrong with it.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let unreadable = self.documents.unreadable::<Schedule>().into_iter();
        unreadable
            .map(|(key, problem)| (key.as_str().to_owned(), problem))
            .collect()
    }

    /// When a schedule is due next; none when it does not fire by itself.
    pub fn next(&self, schedule: &Schedule) -> Option<Timestamp> {
        let fires = schedule.enabled && schedule.runs_on == RunsOn::Backend;
        fires
            .then(|| schedule.timing().ok()?.next_after(self.history.clock.now()))
            .flatten()
    }

    /// Which schedules are held, as things stand.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holds(&self) -> Result<Holds> {
        self.history.holds().await
    }

    /// Settles that nothing from before this store counts: what is held may fire, also where it has succeeded before.
    /// Once is enough; whether it is news.
    ///
    /// # Errors
    /// When the store takes no changes.
    pub async fn start_fresh(&self, caller: &Caller) -> Result<bool> {
        let entry = self
            .audit
            .entry(caller, AuditAction::StartFresh, None, Value::Null);
        self.history.begins(Some(entry)).await
    }

    /// To be called at the start, after [`start_fresh`](Self::start_fresh) if that was asked for: the schedules that
    /// are held.
    ///
    /// A catalog without a single job or schedule has no past, so it is settled that nothing from before counts:
    /// whatever is held from then on could only have been made here.
    ///
    /// # Errors
    /// When the store or the catalog cannot be read. What would be held then is held all the same.
    pub async fn look_back(&self) -> Result<Vec<ScheduleId>> {
        if !self.history.is_open().await? {
            return Ok(Vec::new());
        }
        let untouched =
            self.documents.has_none::<Schedule>().await? && self.documents.has_none::<Manifest>().await?;
        if untouched {
            self.history.begins(None).await?;
            return Ok(Vec::new());
        }
        let holds = self.holds().await?;
        let held = self.list().into_iter().map(|stored| stored.document);
        Ok(held
            .filter(|schedule| holds.on(schedule).is_some())
            .map(|schedule| schedule.id)
            .collect())
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
        if schedule.timing()?.next_after(self.history.clock.now()).is_none() {
            return Err(Invalid::new(
                "cron",
                &schedule.cron,
                "a time that comes is wanted; this one never does",
            )
            .into());
        }
        let _held = self.references.lock().await;
        let job = self
            .documents
            .read::<Manifest>(&(&schedule.job_id).into())
            .await?;
        if let Some(job) = job {
            param::check_scheduled(&job.document.params, &schedule.params)?;
        } else {
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
        let schedule = self.switch(id, false).await?;
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

    /// Lets a schedule fire again, from now on: what passed while it was disabled is not made up for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] when its document is not valid.
    pub async fn enable(&self, id: &ScheduleId, caller: &Caller) -> Result<Schedule> {
        self.get(id).await?.document.check()?;
        let schedule = self.switch(id, true).await?;
        let payload = json!({ "job_id": schedule.job_id });
        self.audit
            .write(caller, AuditAction::ScheduleEnable, id.to_string(), payload)
            .await?;
        Ok(schedule)
    }

    /// Enables or disables a schedule, whatever others change of it meanwhile.
    async fn switch(&self, id: &ScheduleId, enabled: bool) -> Result<Schedule> {
        loop {
            let stored = self.get(id).await?;
            if stored.document.enabled == enabled {
                return Ok(stored.document);
            }
            let switched = Schedule {
                enabled,
                ..stored.document
            };
            match self
                .documents
                .write(&id.into(), &switched, Precondition::At(stored.revision))
                .await
            {
                Ok(_) => return Ok(switched),
                Err(Error::Changed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
