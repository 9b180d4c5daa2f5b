//! The schedules that agents run themselves (`runs_on: agent`): this agent fires their slots where they aim at it, also
//! when no server can be reached.
//!
//! What it knows of schedules, jobs, revocations and its groups it keeps on its disk, so it ticks on after a restart. The
//! Command of a slot is the same whenever it is made, so the journal sees to it that a slot runs once. Slots that pass
//! while the agent does not run are not made up for.

mod due;
mod memory;

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::join_all;
use kanade_model::{ExecId, JobId, ParamValues, ScheduleId, Timestamp, param};
use tokio::sync::watch;

use crate::{agent::Shared, backoff::Backoff, intake};
use due::{Own, Verdict, judge};
pub(crate) use memory::Memory;

/// How often it looks at the clock, though nothing is due.
const LOOK: Duration = Duration::from_secs(60);
/// How often a Command is brought to the journal that cannot take it in.
const TRIES: u32 = 10;

/// What is known of the runs of such schedules.
pub(crate) struct Ticking {
    pub(crate) memory: Memory,
    in_hand: Mutex<HashMap<ScheduleId, Vec<ExecId>>>,
    /// How often the slots to come were worked out.
    planned: watch::Sender<u64>,
}

impl Ticking {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            in_hand: Mutex::default(),
            planned: watch::Sender::new(0),
        }
    }

    /// Notes that a run is in the agent's hands until that is dropped.
    pub(crate) fn hold(self: &Arc<Self>, schedule: ScheduleId, exec_id: ExecId) -> Holding {
        let mut in_hand = self.in_hand();
        in_hand.entry(schedule.clone()).or_default().push(exec_id.clone());
        drop(in_hand);
        Holding {
            ticking: Arc::clone(self),
            schedule,
            exec_id,
        }
    }

    fn held(&self, schedule: &ScheduleId) -> Vec<ExecId> {
        self.in_hand().get(schedule).cloned().unwrap_or_default()
    }

    fn in_hand(&self) -> MutexGuard<'_, HashMap<ScheduleId, Vec<ExecId>>> {
        self.in_hand.lock().expect("no panic while locked")
    }
}

/// A run of a schedule in the agent's hands.
pub(crate) struct Holding {
    ticking: Arc<Ticking>,
    schedule: ScheduleId,
    exec_id: ExecId,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut in_hand = self.ticking.in_hand();
        if let Some(held) = in_hand.get_mut(&self.schedule) {
            held.retain(|exec_id| *exec_id != self.exec_id);
            if held.is_empty() {
                in_hand.remove(&self.schedule);
            }
        }
    }
}

/// Fires slots as they become due after the start of the agent.
pub(crate) async fn tick(shared: Arc<Shared>, mut since: Timestamp) {
    let mut changes = shared.knowledge.changes();
    let mut own = own_schedules(&shared);
    loop {
        changes.borrow_and_update();
        let now = shared.clock.now();
        let current = own_schedules(&shared);
        // What was changed, disabled or deleted meanwhile has no slots from before that.
        let stands = |own: &&Own| current.iter().any(|now| now.schedule == own.schedule);
        let due = own.iter().filter(stands).map(|own| {
            let slots = own.slots(since, now);
            let shared = &shared;
            async move {
                for slot in slots {
                    fire(shared, own, slot).await;
                }
            }
        });
        join_all(due).await;
        // A clock that is set back brings slots back, which the journal knows.
        since = now;
        own = current;
        shared.ticking.planned.send_modify(|planned| *planned += 1);
        let next = own.iter().filter_map(|own| own.next(since)).min();
        tokio::select! {
            () = until(&shared, next) => {}
            // Its sender lives as long as the agent.
            _ = changes.changed() => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

async fn until(shared: &Shared, next: Option<Timestamp>) {
    match next {
        // A clock that was set is noticed.
        Some(next) => tokio::select! {
            () = shared.clock.sleep_until(next) => {}
            () = shared.clock.sleep(LOOK) => {}
        },
        None => pending().await,
    }
}

fn own_schedules(shared: &Shared) -> Vec<Own> {
    let (schedules, groups) = shared.knowledge.schedules();
    let pc = &shared.config.pc_id;
    schedules
        .into_iter()
        .filter_map(|schedule| Own::of(schedule, pc, &groups))
        .collect()
}

async fn fire(shared: &Arc<Shared>, own: &Own, slot: Timestamp) {
    let schedule = &own.schedule;
    shared.knowledge.refresh_job(&schedule.job_id).await;
    let Some(job) = shared.knowledge.job(&schedule.job_id) else {
        tracing::warn!(schedule = %schedule.id, job = %schedule.job_id, %slot, "a slot has no job that is known");
        return;
    };
    let held = shared.ticking.held(&schedule.id);
    let success = shared.ticking.memory.success(&schedule.job_id);
    match judge(schedule, success, !held.is_empty(), shared.clock.now()) {
        Verdict::Skip(why) => {
            tracing::info!(schedule = %schedule.id, %slot, why, "a slot is skipped");
            return;
        }
        Verdict::Replace => held.into_iter().for_each(|exec_id| intake::kill(shared, exec_id)),
        Verdict::Fire => {}
    }
    // Nobody supplies any here, so defaults are all there is.
    let params = match param::resolve(&job.params, &ParamValues::new()) {
        Ok(resolved) => resolved.plain,
        Err(error) => {
            tracing::warn!(schedule = %schedule.id, job = %job.id, %slot, %error, "a slot is skipped");
            return;
        }
    };
    tracing::info!(schedule = %schedule.id, job = %job.id, version = %job.version, %slot, "a slot fires");
    let command = own.command(&job, slot, &shared.config.pc_id, params);
    let mut backoff = Backoff::new();
    for _ in 0..TRIES {
        if intake::take_in(shared, command.clone(), Some(schedule.id.clone())).await
            == intake::Intake::Settled
        {
            return;
        }
        shared.clock.sleep(backoff.pause()).await;
    }
    tracing::error!(schedule = %schedule.id, %slot, "a slot is missed: its Command cannot be recorded");
}

/// Keeps what is needed to tick on the disk, whenever it has been taken into account.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut planned = shared.ticking.planned.subscribe();
    let mut seen = None;
    loop {
        planned.borrow_and_update();
        let (schedules, _) = shared.knowledge.schedules();
        let mut jobs: Vec<JobId> = schedules.iter().map(|schedule| schedule.job_id.clone()).collect();
        jobs.sort();
        jobs.dedup();
        // Once for each time the schedules were read or changed: what fires asks again.
        let now = shared.knowledge.schedules_read();
        if seen.replace(now) != Some(now) {
            for job in &jobs {
                shared.knowledge.refresh_job(job).await;
            }
        }
        let documents = shared.knowledge.needed_for(&jobs);
        let change = shared.ticking.memory.change(|kept| {
            kept.documents = documents;
            kept.successes.retain(|job, _| jobs.binary_search(job).is_ok());
        });
        change.await;
        tokio::select! {
            // Its sender lives as long as the agent.
            _ = planned.changed() => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

impl Shared {
    /// Remembers that a job has succeeded here, where one of its own schedules asks for that. Before it is reported: a
    /// run that is not reported counts all the same.
    pub(crate) async fn succeeded(&self, job: &JobId, at: Timestamp) {
        let (schedules, _) = self.knowledge.schedules();
        if schedules.iter().any(|schedule| schedule.job_id == *job) {
            let change = self.ticking.memory.change(|kept| {
                kept.successes.insert(job.clone(), at);
            });
            change.await;
        }
    }
}
