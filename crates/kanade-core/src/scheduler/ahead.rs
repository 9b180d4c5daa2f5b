//! What operators ask of schedules beyond their documents: what comes, what came, and firing out of turn.

use std::{cmp::Reverse, collections::BinaryHeap};

use kanade_model::{
    AuditAction, Caller, Cron, Freeze, Invalid, RunsOn, Schedule, ScheduleId, SlotState, Timestamp, api,
};
use kanade_ports::{Outcome, Page, SlotQuery, SlotRecord};
use serde_json::json;

use super::{Aim, Scheduler, aim, is_final};
use crate::{Error, Stored, documents::not_found, error::Result, shape::slot as shown};

/// The most slots that are fired by one request.
const BACKFILL: usize = 100;

impl Scheduler {
    /// The next `count` slots of a schedule after now, whether it is enabled or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] when its document is not valid.
    pub async fn preview(&self, id: &ScheduleId, count: usize) -> Result<Vec<api::SlotAhead>> {
        let schedule = self.schedule(id).await?;
        let (cron, freeze) = (schedule.timing()?, self.freezes.get().await?);
        let first = cron.next_after(self.clock.now());
        let slots = std::iter::successors(first, |slot| cron.next_after(*slot));
        Ok(slots
            .take(count)
            .map(|slot| ahead(&schedule, slot, freeze.as_ref()))
            .collect())
    }

    /// What the schedules of the server would fire after `from` and up to `until`, by time and id, `count` slots at most. They
    /// are read from memory; those that cannot be read, or are disabled, fire nothing.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn upcoming(
        &self,
        from: Timestamp,
        until: Timestamp,
        count: usize,
    ) -> Result<Vec<api::SlotAhead>> {
        let freeze = self.freezes.get().await?;
        let schedules: Vec<(Schedule, Cron)> = self
            .documents
            .list::<Schedule>()
            .into_iter()
            .map(|(_, stored)| stored.document)
            .filter(|schedule| schedule.enabled && schedule.runs_on == RunsOn::Backend)
            .filter_map(|schedule| schedule.timing().ok().map(|cron| (schedule, cron)))
            .collect();
        // The next slot of each; the earliest of them is taken out and makes way for the one after it.
        let mut next: BinaryHeap<Reverse<(Timestamp, usize)>> = schedules
            .iter()
            .enumerate()
            .filter_map(|(at, (_, cron))| Some(Reverse((cron.next_after(from)?, at))))
            .collect();
        let mut slots = Vec::new();
        while let Some(Reverse((slot, at))) = next.pop() {
            if slot > until || slots.len() == count {
                break;
            }
            let (schedule, cron) = &schedules[at];
            slots.push(ahead(schedule, slot, freeze.as_ref()));
            next.extend(cron.next_after(slot).map(|slot| Reverse((slot, at))));
        }
        Ok(slots)
    }

    /// The time it is for the schedules.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What became of the slots of a schedule, newest first, also of one that is gone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>> {
        Ok(self.store.slots(query).await?)
    }

    /// Fires a schedule's job now, at its whole target, whatever its mode and whether it is enabled or frozen. That is not a
    /// slot: it counts for nothing that the schedule does.
    ///
    /// # Errors
    /// [`Error::NotFound`], and as [`Fires::firing`](crate::Fires::firing).
    pub async fn trigger(&self, id: &ScheduleId, caller: &Caller) -> Result<api::Fired> {
        let schedule = self.schedule(id).await?;
        let plan = schedule.plan();
        let fired = self.fires.fire(&schedule.job_id, &plan, caller, None).await?;
        let payload = json!({ "job_id": schedule.job_id, "exec_id": fired.exec_id });
        self.audit
            .write(caller, AuditAction::ScheduleTrigger, id.to_string(), payload)
            .await?;
        Ok(fired)
    }

    /// Fires the slots of a time that did not fire, the oldest first, and says what became of each. One that has fired
    /// stays as it is. The schedule's mode holds, its overlap does not; a freeze does not stop it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for a time that is not over or holds more than a hundred slots.
    pub async fn backfill(
        &self,
        id: &ScheduleId,
        from: Timestamp,
        until: Timestamp,
        caller: &Caller,
    ) -> Result<Vec<api::Slot>> {
        let schedule = self.schedule(id).await?;
        if until > self.clock.now() || until < from {
            let wanted = "a moment that has passed is wanted, not before `from`";
            return Err(Invalid::new("until", until.to_string(), wanted).into());
        }
        // Its begin belongs to it: slots are whole seconds.
        let begin = from.minus(std::time::Duration::from_micros(1));
        let slots: Vec<Timestamp> = schedule
            .timing()?
            .between(begin, until)
            .take(BACKFILL + 1)
            .collect();
        if slots.len() > BACKFILL {
            let wanted = "a time with a hundred slots at most is wanted; fire it in parts";
            return Err(Invalid::new("until", until.to_string(), wanted).into());
        }
        let payload = json!({ "job_id": schedule.job_id, "from": from, "until": until });
        self.audit
            .write(caller, AuditAction::ScheduleBackfill, id.to_string(), payload)
            .await?;
        let mut settled = Vec::new();
        for slot in slots {
            settled.push(self.backfill_one(&schedule, slot).await?);
        }
        Ok(settled)
    }

    async fn backfill_one(&self, schedule: &Schedule, slot: Timestamp) -> Result<api::Slot> {
        let id = &schedule.id;
        let known = self.store.slot(id, slot).await?;
        if let Some(fired) = known.filter(|known| known.state == SlotState::Fired) {
            return Ok(shown(fired));
        }
        let record = |state, detail: Option<String>| SlotRecord {
            schedule_id: id.clone(),
            slot,
            state,
            exec_id: None,
            detail,
            at: self.clock.now(),
            backfilled: true,
        };
        let now = self.clock.now();
        let only = match aim(schedule, now, &self.documents, &*self.store).await? {
            Aim::Whole => None,
            Aim::Only(only) => Some(only),
            Aim::Nobody { why, .. } => return Ok(shown(record(SlotState::Skipped, Some(why.to_owned())))),
        };
        // Its starting deadline is over for sure, so only what the plan itself says holds.
        let late = Schedule {
            starting_deadline: None,
            ..schedule.clone()
        };
        let firing = record(SlotState::Fired, Some("fired afterwards by an operator".into()));
        match self.fire(&late, firing, only.as_ref(), Vec::new()).await {
            Ok(Outcome::Applied | Outcome::Duplicate) => {
                let settled = self.store.slot(id, slot).await?;
                settled.map(shown).ok_or_else(|| not_found::<Schedule>(id))
            }
            Ok(Outcome::Unknown | Outcome::Superseded) => Err(not_found::<Schedule>(id)),
            Err(error) if is_final(&error) => Ok(shown(record(SlotState::Skipped, Some(error.to_string())))),
            Err(error) => Err(error),
        }
    }

    async fn schedule(&self, id: &ScheduleId) -> Result<Schedule, Error> {
        let stored: Option<Stored<Schedule>> = self.documents.read(&id.into()).await?;
        Ok(stored.ok_or_else(|| not_found::<Schedule>(id))?.document)
    }
}

fn ahead(schedule: &Schedule, slot: Timestamp, freeze: Option<&Freeze>) -> api::SlotAhead {
    let zone = schedule.timezone.unwrap_or_default();
    let local = slot.to_chrono().with_timezone(&zone.to_chrono());
    api::SlotAhead {
        schedule_id: schedule.id.clone(),
        job_id: schedule.job_id.clone(),
        slot,
        local: local.to_rfc3339(),
        frozen: freeze
            .filter(|freeze| freeze.covers(slot))
            .map(|freeze| freeze.reason.clone()),
    }
}
