//! Fires jobs by the clock: looks which slots have come, and settles each of them once.
//!
//! Any number of servers may do this on one store. A slot's record is what decides: it is written in the commit of the
//! firing, under an id that follows from schedule and slot, so whoever comes second finds it and does nothing. What a
//! server remembers only says where to look next.

mod ahead;
mod aim;
mod overlap;
mod slots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use kanade_model::{
    AuditAction, Caller, Cron, HumanDuration, PcId, RunsOn, Schedule, ScheduleId, SlotState, Timestamp,
};
use kanade_ports::{
    Bucket, CatalogEvent, Change, ChangeSet, Clock, Entry, ExecutionStore, Outcome, Precondition,
    ScheduleCursor, SlotRecord,
};
use serde_json::json;

use crate::{
    Audit, CatalogView, Committer, Documents, Error, Fires, Kills, Stored, documents::Document,
    error::Result, fire::SlotFiring, freeze::Freezes, hold::History,
};

use aim::{Aim, aim};
use overlap::Earlier;
use slots::{Come, IN_TIME, Lateness, look};

/// The clock may be set, and other servers may leave something behind: so often everything is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Slots that wait for an earlier firing are looked at this often.
const WAITING_AGAIN: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// Slots that wait are one a schedule at most.
const WAITING: usize = 10_000;
/// A schedule that does not fire any more: its cursor says so, that what passes meanwhile is not taken for missed.
const AT_REST: &str = "at rest";

/// Ticks the schedules of the catalog that the server runs. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pub(crate) documents: Documents,
    pub(crate) view: CatalogView,
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) committer: Committer,
    pub(crate) audit: Audit,
    pub(crate) fires: Fires,
    pub(crate) kills: Kills,
    pub(crate) freezes: Freezes,
    pub(crate) history: History,
}

/// A schedule that fires.
struct Ticking {
    schedule: Schedule,
    cron: Cron,
    timing: String,
    /// Nothing before this is its slot: it was made, changed or enabled then.
    begins: Timestamp,
    /// Every slot up to here is settled.
    looked: Timestamp,
    /// The first one after that.
    next: Option<Timestamp>,
}

/// What is to be done about a slot.
enum Verdict {
    /// It fires what the schedule says now, at these agents alone if that is said.
    Fire(Box<Schedule>, Option<BTreeSet<PcId>>),
    Skip(String),
    Wait,
    /// The schedule is not what it was: its document will be heard of.
    Stale,
}

impl Scheduler {
    /// Fires what is due, for ever.
    pub(crate) async fn run(self) {
        let mut ticking = BTreeMap::new();
        let mut last_look = self.clock.now();
        loop {
            let mut events = self.view.watch(Bucket::Schedules).await;
            let mut listed = Some(BTreeSet::new());
            // Ends when this falls too far behind the changes; then it reads all of them again.
            loop {
                let wake = self.round(&mut ticking, &mut last_look, listed.is_none()).await;
                let event = tokio::select! {
                    event = events.next() => event,
                    () = self.clock.sleep_until(wake), if listed.is_none() => continue,
                    () = self.clock.sleep(LOOK_AGAIN), if listed.is_none() => continue,
                };
                match event {
                    None => break,
                    Some(CatalogEvent::Current) => {
                        if let Some(listed) = listed.take() {
                            ticking.retain(|id, _| listed.contains(id));
                        }
                    }
                    Some(CatalogEvent::Put(entry)) => {
                        if let Ok(id) = entry.key.as_str().parse::<ScheduleId>() {
                            if let Some(listed) = &mut listed {
                                listed.insert(id.clone());
                            }
                            self.take_up(&mut ticking, &id, &entry).await;
                        }
                    }
                    Some(CatalogEvent::Deleted(key)) => {
                        if let Ok(id) = key.as_str().parse::<ScheduleId>() {
                            self.lay_down(&mut ticking, &id).await;
                        }
                    }
                }
            }
        }
    }

    /// Takes a schedule up as its document stands now.
    async fn take_up(&self, ticking: &mut BTreeMap<ScheduleId, Ticking>, id: &ScheduleId, entry: &Entry) {
        let schedule = match Schedule::decode(&entry.value) {
            Ok(schedule) => schedule,
            Err(error) => {
                tracing::warn!(schedule = %id, %error, "a schedule cannot be read and does not fire");
                return self.lay_down(ticking, id).await;
            }
        };
        let cron = match schedule.timing() {
            Ok(cron) if schedule.enabled && schedule.runs_on == RunsOn::Backend => cron,
            Ok(_) => return self.lay_down(ticking, id).await,
            Err(error) => {
                tracing::warn!(schedule = %id, %error, "a schedule is not valid and does not fire");
                return self.lay_down(ticking, id).await;
            }
        };
        let timing = timing(&schedule);
        let (begins, looked) = match ticking.get(id) {
            Some(known) if known.timing == timing => (known.begins, known.looked),
            _ => self.looked_through(id, &timing).await,
        };
        let next = cron.next_after(looked);
        let taken_up = Ticking {
            schedule,
            cron,
            timing,
            begins,
            looked,
            next,
        };
        ticking.insert(id.clone(), taken_up);
    }

    /// When a schedule begins, and how far it was looked at by whoever did last. If it was another one then, it begins now.
    async fn looked_through(&self, id: &ScheduleId, timing: &str) -> (Timestamp, Timestamp) {
        loop {
            let now = self.clock.now();
            let known = match self.store.cursor(id).await {
                Ok(known) => known,
                Err(error) => {
                    tracing::warn!(schedule = %id, error = %crate::chain(&error), "cannot read where a schedule stands");
                    self.clock.sleep(RETRY).await;
                    continue;
                }
            };
            match known {
                // Whose clock was ahead has looked at nothing of what comes now.
                Some(known) if known.timing == timing => {
                    let looked = if known.through > now {
                        now.minus(IN_TIME)
                    } else {
                        known.through
                    };
                    return (Timestamp::UNIX_EPOCH, looked);
                }
                _ => match self.note(id, timing, now).await {
                    Ok(()) => return (now, now),
                    Err(error) => {
                        tracing::warn!(schedule = %id, error = %error.report(), "cannot note where a schedule begins");
                        self.clock.sleep(RETRY).await;
                    }
                },
            }
        }
    }

    async fn note(&self, id: &ScheduleId, timing: &str, through: Timestamp) -> Result<()> {
        let cursor = cursor(id, timing, through);
        self.committer.commit(ChangeSet::of(cursor)).await?;
        Ok(())
    }

    async fn lay_down(&self, ticking: &mut BTreeMap<ScheduleId, Ticking>, id: &ScheduleId) {
        if ticking.remove(id).is_some()
            && let Err(error) = self.note(id, AT_REST, self.clock.now()).await
        {
            tracing::warn!(schedule = %id, error = %error.report(), "cannot note that a schedule rests");
        }
    }

    /// Settles what has come; says when to look again.
    async fn round(
        &self,
        ticking: &mut BTreeMap<ScheduleId, Ticking>,
        last_look: &mut Timestamp,
        all_are_known: bool,
    ) -> Timestamp {
        let mut wake = self.clock.now().plus(LOOK_AGAIN);
        if !all_are_known {
            return wake;
        }
        if ticking.values().any(|one| one.schedule.overlap.waits()) {
            match self.settle_waiting(ticking).await {
                Ok(false) => {}
                Ok(true) => wake = wake.min(self.clock.now().plus(WAITING_AGAIN)),
                Err(error) => {
                    tracing::warn!(error = %error.report(), "cannot look at the slots that wait");
                    wake = wake.min(self.clock.now().plus(RETRY));
                }
            }
        }
        self.notice_the_clock(ticking, last_look);
        for (id, one) in ticking.iter_mut() {
            let now = self.clock.now();
            if one.next.is_some_and(|next| next <= now)
                && let Err(error) = self.tick(one, now).await
            {
                tracing::warn!(schedule = %id, error = %error.report(), "cannot settle a slot; it will be tried again");
                wake = wake.min(now.plus(RETRY));
                continue;
            }
            if let Some(next) = one.next {
                wake = wake.min(next);
            }
        }
        wake
    }

    /// A clock that was put back brings slots again. Those that were settled stay settled, and those that were not, or were
    /// missed by a clock that was ahead, are still in time.
    fn notice_the_clock(&self, ticking: &mut BTreeMap<ScheduleId, Ticking>, last_look: &mut Timestamp) {
        let now = self.clock.now();
        if now < *last_look {
            for one in ticking.values_mut() {
                one.looked = one.looked.min(now.minus(IN_TIME).max(one.begins.min(now)));
                one.next = one.cron.next_after(one.looked);
            }
        }
        *last_look = now;
    }

    /// Settles the slots of one schedule that have come.
    async fn tick(&self, one: &mut Ticking, now: Timestamp) -> Result<()> {
        let HumanDuration(catch_up) = one.schedule.catch_up.unwrap_or_default();
        let look = look(&one.cron, one.looked, now, catch_up);
        for come in look.come {
            self.settle(one, come).await?;
            one.looked = come.slot;
            one.next = one.cron.next_after(one.looked);
        }
        if let Some(from) = look.passed_over_from {
            tracing::warn!(
                schedule = %one.schedule.id, %from, until = %look.through,
                "a schedule has missed more slots than are recorded one by one"
            );
            self.note(&one.schedule.id, &one.timing, look.through).await?;
        }
        one.looked = look.through;
        one.next = one.cron.next_after(one.looked);
        Ok(())
    }

    async fn settle(&self, one: &Ticking, come: Come) -> Result<()> {
        let id = &one.schedule.id;
        // One that somebody has missed whose clock was ahead can still be fired.
        let settled = self.store.slot(id, come.slot).await?;
        if settled.is_some_and(|slot| slot.state != SlotState::Missed) {
            return Ok(());
        }
        let then = vec![cursor(id, &one.timing, come.slot)];
        let record = |state, detail| SlotRecord {
            schedule_id: id.clone(),
            slot: come.slot,
            state,
            exec_id: None,
            detail,
            at: self.clock.now(),
            backfilled: false,
        };
        let commit = async |state, detail: String| {
            let set = ChangeSet {
                lead: Change::Slot(record(state, Some(detail))),
                then: then.clone(),
                key: None,
            };
            self.committer.commit(set).await.map(drop)
        };
        if come.lateness == Lateness::Missed {
            return Ok(commit(SlotState::Missed, "nobody looked at it in its time".into()).await?);
        }
        let late = (come.lateness == Lateness::CaughtUp).then(|| "made up for".to_owned());
        match self.verdict(one, come.slot).await? {
            Verdict::Stale => Ok(()),
            Verdict::Skip(why) => Ok(commit(SlotState::Skipped, why).await?),
            Verdict::Wait => {
                let mut then = then.clone();
                then.extend(self.displaced(id, come.slot).await?);
                let why = "an earlier firing of this schedule is not over".to_owned();
                let lead = Change::Slot(record(SlotState::Waiting, Some(why)));
                let set = ChangeSet {
                    lead,
                    then,
                    key: None,
                };
                self.committer.commit(set).await?;
                Ok(())
            }
            Verdict::Fire(schedule, only) => {
                let record = record(SlotState::Fired, late);
                let fired = self.fire(&schedule, record, only.as_ref(), then.clone()).await;
                match fired {
                    Err(error) if is_final(&error) => {
                        Ok(commit(SlotState::Skipped, error.to_string()).await?)
                    }
                    other => other.map(drop),
                }
            }
        }
    }

    async fn fire(
        &self,
        schedule: &Schedule,
        slot: SlotRecord,
        only: Option<&BTreeSet<PcId>>,
        then: Vec<Change>,
    ) -> Result<Outcome> {
        let plan = schedule.plan_for(slot.slot);
        let firing = SlotFiring {
            job: &schedule.job_id,
            plan: &plan,
            only,
            caller: &caller(&schedule.id),
            then,
            slot,
        };
        self.fires.slot(firing).await
    }

    /// What is to be done about a slot whose time it is.
    async fn verdict(&self, one: &Ticking, slot: Timestamp) -> Result<Verdict> {
        let id = &one.schedule.id;
        // What is known may lag behind: the catalog decides whether the schedule still says so.
        let Some(stored) = self.documents.read::<Schedule>(&id.into()).await? else {
            return Ok(Verdict::Stale);
        };
        let Stored { document, revision } = stored;
        if !document.enabled || timing(&document) != one.timing {
            return Ok(Verdict::Stale);
        }
        let now = self.clock.now();
        if let Some(freeze) = self.freezes.at(now).await? {
            return Ok(Verdict::Skip(format!(
                "frozen until {}: {}",
                freeze.until, freeze.reason
            )));
        }
        if let Some(held) = self.history.holds().await?.on(&document) {
            return Ok(Verdict::Skip(held.reason));
        }
        if document
            .plan_for(slot)
            .deadline_at
            .is_some_and(|deadline| deadline <= now)
        {
            return Ok(Verdict::Skip("its starting deadline has passed".into()));
        }
        match self.earlier(&document, slot).await? {
            Earlier::Over => {}
            Earlier::Skip => {
                return Ok(Verdict::Skip(
                    "an earlier firing of this schedule is not over".into(),
                ));
            }
            Earlier::Wait => return Ok(Verdict::Wait),
            Earlier::Kill(executions) => {
                for exec in executions {
                    self.kills.execution(&exec, &caller(id)).await?;
                }
            }
        }
        match aim(&document, now, &self.documents, &*self.store).await? {
            Aim::Whole => Ok(Verdict::Fire(Box::new(document), None)),
            Aim::Only(only) => Ok(Verdict::Fire(Box::new(document), Some(only))),
            Aim::Nobody { why, done } => {
                if done && document.auto_disable_when_done && document.cooldown.is_none() {
                    self.complete(document, revision).await?;
                }
                Ok(Verdict::Skip(why.to_owned()))
            }
        }
    }

    /// Disables a schedule that has nothing left to do, unless somebody has changed it meanwhile.
    async fn complete(&self, schedule: Schedule, revision: kanade_ports::Revision) -> Result<()> {
        let id = schedule.id.clone();
        let payload = json!({ "job_id": schedule.job_id });
        let disabled = Schedule {
            enabled: false,
            ..schedule
        };
        match self
            .documents
            .write(&(&id).into(), &disabled, Precondition::At(revision))
            .await
        {
            Ok(_) => {}
            Err(Error::Changed { .. } | Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.audit
            .write(
                &caller(&id),
                AuditAction::ScheduleCompleted,
                id.to_string(),
                payload,
            )
            .await
    }
}

/// Who fires a schedule's slots.
pub(crate) fn caller(schedule: &ScheduleId) -> Caller {
    Caller {
        actor: "scheduler".into(),
        sub: Some(format!("schedule:{schedule}")),
        source: None,
    }
}

/// When a schedule is due, in words that tell two timings apart.
fn timing(schedule: &Schedule) -> String {
    format!("{} {}", schedule.cron, schedule.timezone.unwrap_or_default())
}

fn cursor(id: &ScheduleId, timing: &str, through: Timestamp) -> Change {
    Change::ScheduleLooked(ScheduleCursor {
        schedule_id: id.clone(),
        timing: timing.to_owned(),
        through,
    })
}

/// Whether trying again comes to the same.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid(_) | Error::NotFound { .. } | Error::Revoked(_)
    )
}
