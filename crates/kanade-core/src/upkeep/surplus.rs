//! Executions beyond the number that is kept of a job.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use kanade_model::{ExecId, JobId, Timestamp};
use kanade_ports::{
    Change, ChangeSet, ExecutionQuery, ExecutionStore, Forget, MAX_LIMIT, RunQuery, TextFilter,
};

use crate::error::Result;

/// The most executions that are removed of one job at a time.
const AT_ONCE: usize = 50;
/// How long a job is left alone of which only executions that go on are too many.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Which jobs may have more executions than are kept: those that were fired. Nothing is looked up of any other.
pub(crate) struct Surplus {
    keep: Option<NonZeroU32>,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    /// To be looked at.
    next: BTreeSet<JobId>,
    /// To be looked at again after a while: what is too much of them has not come to its end.
    later: BTreeSet<JobId>,
    /// When it was that while the last time.
    looked_again: Option<Timestamp>,
}

impl Surplus {
    pub(crate) fn new(keep: Option<NonZeroU32>) -> Self {
        Self {
            keep,
            jobs: Mutex::default(),
        }
    }

    /// Looks at what was committed.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        if self.keep.is_none() {
            return;
        }
        for change in set.changes() {
            if let Change::Fire(new) = change {
                self.look_at([new.order.job_id.clone()]);
            }
        }
    }

    /// Has these jobs looked at.
    pub(crate) fn look_at(&self, jobs: impl IntoIterator<Item = JobId>) {
        if self.keep.is_some() {
            self.jobs().next.extend(jobs);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().expect("no panic while locked")
    }

    /// What goes of the next job that has too many: `limit` records at most, runs before their executions. Empty when no
    /// job has.
    pub(crate) async fn next(
        &self,
        store: &dyn ExecutionStore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Forget> {
        self.jobs().look_again(now);
        while let (Some(keep), Some(job)) = (self.keep, self.first()) {
            let beyond = beyond(store, &job, keep.get()).await?;
            let forget = forget(store, beyond.over, limit).await?;
            if !forget.is_empty() {
                return Ok(forget);
            }
            let mut jobs = self.jobs();
            jobs.next.remove(&job);
            if beyond.goes_on {
                jobs.later.insert(job);
            }
        }
        Ok(Forget::default())
    }

    fn first(&self) -> Option<JobId> {
        self.jobs().next.first().cloned()
    }
}

impl Jobs {
    fn look_again(&mut self, now: Timestamp) {
        let last = *self.looked_again.get_or_insert(now);
        if now.since(last) >= LOOK_AGAIN {
            self.looked_again = Some(now);
            self.next.append(&mut self.later);
        }
    }
}

/// The executions of a job beyond the number that is kept.
#[derive(Default)]
struct Beyond {
    /// Some of those that are over.
    over: Vec<ExecId>,
    /// Whether one goes on.
    goes_on: bool,
}

async fn forget(store: &dyn ExecutionStore, over: Vec<ExecId>, limit: usize) -> Result<Forget> {
    let mut forget = Forget::default();
    for exec_id in over {
        let left = limit - forget.len();
        if left == 0 {
            break;
        }
        let query = RunQuery {
            exec_id: Some(TextFilter::Exact(exec_id.to_string())),
            limit: left.min(MAX_LIMIT),
            ..RunQuery::default()
        };
        let runs = store.runs(&query).await?.items;
        if runs.is_empty() {
            forget.executions.push(exec_id);
        }
        forget
            .runs
            .extend(runs.into_iter().map(|found| found.run.result_id));
    }
    Ok(forget)
}

/// What is older than the newest `keep` executions of a job.
async fn beyond(store: &dyn ExecutionStore, job: &JobId, keep: u32) -> Result<Beyond> {
    let (mut newer, mut beyond) = (0, Beyond::default());
    let mut after = None;
    loop {
        let query = ExecutionQuery {
            job_id: Some(job.clone()),
            limit: MAX_LIMIT,
            after,
            ..ExecutionQuery::default()
        };
        let page = store.executions(&query).await?;
        for execution in page.items {
            if newer < keep {
                newer += 1;
            } else if execution.is_final() {
                beyond.over.push(execution.exec_id);
            } else {
                beyond.goes_on = true;
            }
        }
        match page.next {
            Some(next) if beyond.over.len() < AT_ONCE => after = Some(next),
            _ => break,
        }
    }
    beyond.over.truncate(AT_ONCE);
    Ok(beyond)
}
