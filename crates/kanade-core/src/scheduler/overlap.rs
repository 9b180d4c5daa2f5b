//! What a slot does while an earlier firing of its schedule is not over.

use std::collections::{BTreeMap, BTreeSet};

use kanade_model::{ExecId, Overlap, Schedule, ScheduleId, SlotState, TargetState, Timestamp};
use kanade_ports::{Change, ChangeSet, Execution, MAX_LIMIT, SlotQuery, SlotRecord};

use super::{Aim, Scheduler, Ticking, WAITING, aim, is_final};
use crate::error::Result;

/// Earlier firings of a schedule that are looked for among this many of its slots.
const SLOTS: usize = 10_000;

/// What an earlier firing means for a slot.
pub(super) enum Earlier {
    /// Nothing.
    Over,
    /// It is skipped.
    Skip,
    /// It waits.
    Wait,
    /// It kills these first.
    Kill(Vec<ExecId>),
}

impl Scheduler {
    /// What the firings before `slot` mean for it.
    pub(super) async fn earlier(&self, schedule: &Schedule, slot: Timestamp) -> Result<Earlier> {
        if schedule.overlap == Overlap::Allow {
            return Ok(Earlier::Over);
        }
        let under_way = self.under_way(schedule, slot).await?;
        Ok(match schedule.overlap {
            _ if under_way.is_empty() => Earlier::Over,
            Overlap::Allow => Earlier::Over,
            Overlap::Skip => Earlier::Skip,
            Overlap::BufferOne => Earlier::Wait,
            Overlap::KillPrevious => Earlier::Kill(under_way),
        })
    }

    /// The executions that slots before `slot` have fired and that are not over.
    async fn under_way(&self, schedule: &Schedule, slot: Timestamp) -> Result<Vec<ExecId>> {
        let mut live = BTreeSet::new();
        for exec in self.store.in_flight(&schedule.job_id).await? {
            let execution = self.store.execution(&exec).await?;
            if execution.is_some_and(|execution| self.is_under_way(&execution)) {
                live.insert(exec);
            }
        }
        let mut query = SlotQuery {
            schedule_id: schedule.id.clone(),
            limit: MAX_LIMIT,
            after: None,
        };
        let (mut found, mut seen) = (Vec::new(), 0);
        while !live.is_empty() && seen < SLOTS {
            let page = self.store.slots(&query).await?;
            seen += page.items.len();
            let fired = page.items.into_iter().filter(|earlier| earlier.slot < slot);
            found.extend(fired.filter_map(|earlier| live.take(earlier.exec_id.as_ref()?)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        Ok(found)
    }

    /// Whether something of an execution runs, or is likely to start soon. One that only waits for agents that have been
    /// away for long holds nobody up.
    fn is_under_way(&self, execution: &Execution) -> bool {
        let waits_since = self.clock.now().since(execution.last_due_at);
        execution.counts.of(TargetState::Running) > 0
            || (execution.counts.of(TargetState::Waiting) > 0
                && waits_since <= self.fires.settings.pending_ttl)
    }

    /// What becomes of the slots that wait when a later one takes their place.
    pub(super) async fn displaced(&self, id: &ScheduleId, by: Timestamp) -> Result<Vec<Change>> {
        let waiting = self.store.waiting_slots(WAITING).await?.into_iter();
        Ok(waiting
            .filter(|waiting| waiting.schedule_id == *id && waiting.slot < by)
            .map(|waiting| self.skipped(waiting, "a later slot has taken its place"))
            .collect())
    }

    fn skipped(&self, waiting: SlotRecord, why: &str) -> Change {
        Change::Slot(SlotRecord {
            state: SlotState::Skipped,
            detail: Some(why.to_owned()),
            at: self.clock.now(),
            ..waiting
        })
    }

    async fn skip_waiting(&self, waiting: SlotRecord, why: &str) -> Result<()> {
        let skipped = self.skipped(waiting, why);
        self.committer.commit(ChangeSet::of(skipped)).await?;
        Ok(())
    }

    /// Fires the slots that wait no longer; whether some wait still.
    pub(super) async fn settle_waiting(&self, ticking: &BTreeMap<ScheduleId, Ticking>) -> Result<bool> {
        let mut some_wait = false;
        for waiting in self.store.waiting_slots(WAITING).await? {
            let Some(one) = ticking.get(&waiting.schedule_id) else {
                self.skip_waiting(waiting, "the schedule does not fire any more")
                    .await?;
                continue;
            };
            let now = self.clock.now();
            if let Some(freeze) = self.freezes.at(now).await? {
                let why = format!("frozen until {}: {}", freeze.until, freeze.reason);
                self.skip_waiting(waiting, &why).await?;
                continue;
            }
            if !self.under_way(&one.schedule, waiting.slot).await?.is_empty() {
                some_wait = true;
                continue;
            }
            let only = match aim(&one.schedule, now, &self.documents, &*self.store).await? {
                Aim::Whole => None,
                Aim::Only(only) => Some(only),
                Aim::Nobody { why, .. } => {
                    self.skip_waiting(waiting, why).await?;
                    continue;
                }
            };
            let record = SlotRecord {
                at: now,
                detail: Some("it waited for an earlier firing".into()),
                ..waiting.clone()
            };
            match self.fire(&one.schedule, record, only.as_ref(), Vec::new()).await {
                Ok(_) => {}
                Err(error) if is_final(&error) => self.skip_waiting(waiting, &error.to_string()).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(some_wait)
    }
}
