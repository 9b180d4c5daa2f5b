//! The loop that keeps up with what is retained and removes what nobody is to start any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use kanade_model::{ExecId, JobId, ScriptStatus, Subject, TargetState, Version};
use kanade_ports::{ExecutionStore, Key, MAX_LIMIT, RetainedCommand, RetainedEvent, Sequence, TargetQuery};

use super::{
    Retained,
    index::{Place, Told, own},
};
use crate::{
    CatalogView, Document,
    error::{Result, chain},
};

/// Executions looked at at once.
const AT_ONCE: usize = 8;
/// Changes within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(500);
/// Everything is looked at again so often, whatever has been heard.
const SWEEP: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(1);

/// Removes what is to go.
pub(crate) struct Clearing {
    pub(crate) retained: Retained,
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) view: CatalogView,
}

impl Clearing {
    /// Keeps up with what is retained and removes what is to go, for ever.
    pub(crate) async fn run(self) {
        tokio::join!(self.follow(), self.clear());
    }

    async fn follow(&self) {
        let Retained(shared) = &self.retained;
        loop {
            self.retained.state().index.begin_watch();
            match shared.port.watch().await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        self.hear(event);
                    }
                    tracing::debug!("the watch of what is retained ended; it is read again");
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot read what is retained for agents");
                }
            }
            shared.current.send_replace(false);
            shared.clock.sleep(RETRY).await;
        }
    }

    fn hear(&self, event: RetainedEvent) {
        match event {
            RetainedEvent::Kept(RetainedCommand {
                sequence,
                subject,
                payload,
            }) => {
                let place = Place { subject, sequence };
                match serde_json::from_slice::<Told>(&payload) {
                    Ok(told) => self.retained.note(place, told),
                    Err(error) => {
                        tracing::warn!(subject = %place.subject, %error, "what is retained there is no Command");
                        self.retained.state().index.note_other(&place);
                    }
                }
            }
            RetainedEvent::Current => {
                let mut state = self.retained.state();
                state.index.end_of_list();
                state.all_changed();
                drop(state);
                self.retained.0.current.send_replace(true);
                self.retained.0.wake.notify_one();
            }
        }
    }

    async fn clear(&self) {
        let Retained(shared) = &self.retained;
        let (mut troubled, mut swept) = (false, shared.clock.now());
        loop {
            tokio::select! {
                () = shared.wake.notified() => shared.clock.sleep(TOGETHER).await,
                () = shared.clock.sleep(SWEEP) => {}
            }
            let now = shared.clock.now();
            if now.since(swept) >= SWEEP {
                self.retained.state().all_changed();
                swept = now;
            }
            match self.clear_once().await {
                Ok(()) if troubled => {
                    tracing::info!("what is retained for agents is looked after again");
                    troubled = false;
                }
                Ok(()) => {}
                Err(trouble) => {
                    if !troubled {
                        tracing::warn!(
                            error = trouble,
                            "cannot remove what is retained for agents; it will be tried again"
                        );
                    }
                    troubled = true;
                    shared.clock.sleep(RETRY).await;
                    shared.wake.notify_one();
                }
            }
        }
    }

    async fn clear_once(&self) -> Result<(), String> {
        let (changed, documents) = {
            let mut state = self.retained.state();
            (
                std::mem::take(&mut state.changed),
                std::mem::take(&mut state.documents),
            )
        };
        if documents {
            self.judge_jobs();
        }
        let judged = stream::iter(changed)
            .map(|exec| async move {
                let judged = self.judge(&exec).await;
                judged.map_err(|error| {
                    self.retained.state().changed.insert(exec);
                    error.report()
                })
            })
            .buffer_unordered(AT_ONCE)
            .fold(Ok(()), |all, one| std::future::ready(all.and(one)))
            .await;
        let doomed = self.retained.state().index.doomed();
        let removed = self.retained.remove(doomed).await;
        judged.and(removed.map_err(|error| chain(&error)))
    }

    /// Dooms what belongs to jobs that are revoked or pinned to another version, and scripts that ran once and are over.
    fn judge_jobs(&self) {
        let now = self.retained.0.clock.now();
        let jobs = self.retained.state().index.jobs();
        let rules: HashMap<JobId, (bool, Option<Version>)> = jobs
            .into_iter()
            .map(|job| {
                let revoked = self.document::<ScriptStatus>(&job) == Some(ScriptStatus::Revoked);
                let pinned = self.document::<Version>(&job);
                (job, (revoked, pinned))
            })
            .collect();
        let is_stopped = |told: &Told| {
            rules.get(&told.job_id).is_some_and(|(revoked, pinned)| {
                *revoked || pinned.as_ref().is_some_and(|pinned| *pinned != told.version)
            })
        };
        let is_over = |told: &Told| told.exec_id.is_none() && told.is_over(now);
        let mut state = self.retained.state();
        state.index.doom_where(|told| is_stopped(told) || is_over(told));
    }

    fn document<D: Document>(&self, job: &JobId) -> Option<D> {
        let entry = self.view.get(D::BUCKET, &Key::from(job))?;
        D::decode(&entry.value).ok()
    }

    /// Dooms what no target of an execution waits for.
    async fn judge(&self, exec: &ExecId) -> Result<()> {
        // Before the store is asked: what is sent from here on is not judged by its answer.
        let (single, shared) = {
            let state = self.retained.state();
            (state.index.single_of(exec), state.index.shared_of(exec))
        };
        if single.is_empty() && shared.is_empty() {
            return Ok(());
        }
        let all = || single.iter().chain(&shared);
        let execution = self.store.execution(exec).await?;
        // Of what was taken over from another server nobody knows who has still to start it.
        let is_ours = self
            .store
            .order(exec)
            .await?
            .is_some_and(|order| order.has_known_aim());
        match execution {
            Some(execution) if execution.kill.is_some() => self.doom(all()),
            None | Some(_) if !is_ours => {
                // Somebody else's. Agents do not start it once its time is over.
                let now = self.retained.0.clock.now();
                let is_over = |told: &Told| told.exec_id.as_ref() == Some(exec) && told.is_over(now);
                self.retained.state().index.doom_where(is_over);
            }
            // It has just been removed.
            None => {}
            Some(execution) if execution.is_final() => self.doom(all()),
            Some(execution) => {
                let counts = &execution.counts;
                if counts.total() > 0 && counts.of(TargetState::Waiting) == 0 {
                    self.doom(&shared);
                }
                if !single.is_empty() {
                    let reached = self.reached(exec).await?;
                    self.doom(single.iter().filter(|(subject, _)| reached.contains(*subject)));
                }
            }
        }
        Ok(())
    }

    /// The subjects of those targets of an execution that do not wait.
    async fn reached(&self, exec: &ExecId) -> Result<HashSet<Subject>> {
        let mut reached = HashSet::new();
        let mut query = TargetQuery {
            exec_id: exec.clone(),
            state: None,
            limit: MAX_LIMIT,
            after: None,
        };
        loop {
            let page = self.store.targets(&query).await?;
            let started = page
                .items
                .iter()
                .filter(|target| target.state != TargetState::Waiting);
            reached.extend(started.map(|target| own(&target.pc_id)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(reached),
            }
        }
    }

    fn doom<'a>(&self, places: impl IntoIterator<Item = (&'a Subject, &'a Sequence)>) {
        let mut state = self.retained.state();
        for (subject, sequence) in places {
            state.index.doom(subject, *sequence);
        }
    }
}
