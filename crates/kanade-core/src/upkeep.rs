//! Upkeep: expires what was never started, gives up what never ended, removes what is too old.

mod surplus;

use std::{sync::Arc, time::Duration};

use kanade_model::Schedule;
use kanade_ports::{Change, ChangeSet, Clock, ExecutionStore, RetentionCut};

use crate::{Committer, Settings, error::Result, project::Progress};

pub(crate) use surplus::Surplus;

/// What is overdue that is looked at in one round.
const ROUND: usize = 500;

/// Records that are removed in one round: whoever waits for a commit waits for all of one round.
const BATCH: usize = 100;

/// What is overdue by less is left for the next round: its news may be on its way.
const MARGIN: Duration = Duration::from_secs(2);

/// Slots are known for at least so long: a day more than schedules can make up for.
const KEEP_SLOTS: Duration = Schedule::LONGEST_CATCH_UP.saturating_add(Duration::from_secs(24 * 3600));

/// Keeps the store in order.
pub(crate) struct Upkeep {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) committer: Committer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Progress,
    pub(crate) settings: Arc<Settings>,
    pub(crate) surplus: Arc<Surplus>,
}

impl Upkeep {
    /// Does a round now and then, for ever.
    pub(crate) async fn run(self) {
        loop {
            let begun = self.clock.now();
            match self.round().await {
                // The disk is everybody's: it is left to the others for as long as this took.
                Ok(true) => {
                    let took = self.clock.now().since(begun);
                    self.clock.sleep(took.min(self.settings.upkeep_every)).await;
                }
                Ok(false) => self.clock.sleep(self.settings.upkeep_every).await,
                Err(error) => {
                    tracing::warn!(error = %error.report(), "upkeep was interrupted");
                    self.clock.sleep(self.settings.upkeep_every).await;
                }
            }
        }
    }

    /// One round; says whether there is likely more to do at once.
    async fn round(&self) -> Result<bool> {
        let now = self.clock.now().minus(MARGIN);
        let mut sets = Vec::new();
        // What looks overdue may only be waiting to be recorded.
        if self.progress.is_past(now) {
            for target in self.store.overdue_targets(now, ROUND).await? {
                let (exec_id, pc_id) = (target.exec_id, target.pc_id);
                sets.push(ChangeSet::of(Change::ExpireTarget {
                    exec_id,
                    pc_id,
                    at: now,
                }));
            }
            for run in self.store.overdue_runs(now, ROUND).await? {
                if let Some(exec_id) = run.exec_id {
                    let (result_id, pc_id) = (run.result_id, run.pc_id);
                    sets.push(ChangeSet::of(Change::LoseRun {
                        result_id,
                        exec_id,
                        pc_id,
                        at: now,
                    }));
                }
            }
            for exec_id in self
                .store
                .stale(now.minus(self.settings.pending_ttl), ROUND)
                .await?
            {
                sets.push(ChangeSet::of(Change::Expire { exec_id, at: now }));
            }
        }
        let cut = RetentionCut {
            executions: now.minus(self.settings.keep_executions),
            audit: now.minus(self.settings.keep_audit),
            keys: now.minus(self.settings.keep_keys),
            // What may still be made up for must be known to have fired or not.
            slots: now.minus(self.settings.keep_executions.max(KEEP_SLOTS)),
        };
        let mut forget = self.store.prunable(&cut, BATCH).await?;
        if forget.is_empty() {
            // Of one thing at a time, so that each batch stays small.
            forget = self.surplus.next(&*self.store, now, BATCH).await?;
        }
        let forgets_all = forget.len() >= BATCH;
        if !forget.is_empty() {
            sets.push(ChangeSet::of(Change::Forget(forget)));
        }
        let more = sets.len() >= ROUND || forgets_all;
        for outcome in self.committer.commit_all(sets).await {
            outcome?;
        }
        Ok(more)
    }
}
