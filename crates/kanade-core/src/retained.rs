//! What a broker retains for agents that are away: nothing of it outlives its execution. Knows what is retained, from a
//! watch and from what was published here, and removes each Command that nobody is to start any more.

mod clearing;
mod index;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use kanade_model::{ExecId, JobId, PcId, RequestId, Subject, Timestamp};
use kanade_ports::{
    Bucket, BusError, BusErrorKind, Change, ChangeSet, Clock, Execution, MessageId, RetainedCommands,
};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

pub(crate) use clearing::Clearing;
use index::{Index, Place, Told, is_request, own};

/// The most bytes of Commands that are on their way to the broker.
const ON_THEIR_WAY: u32 = 16 << 20;
/// Commands removed at once.
const REMOVALS: usize = 64;
/// How long a removal waits until it is known what is retained.
const PATIENCE: Duration = Duration::from_secs(5);

/// The Commands that a broker retains. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Retained(Arc<Shared>);

struct Shared {
    port: Arc<dyn RetainedCommands>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    wake: Notify,
    /// Whether everything that is retained is known.
    current: watch::Sender<bool>,
    room: Semaphore,
}

#[derive(Default)]
struct State {
    index: Index,
    /// Executions of which something may have to go.
    changed: BTreeSet<ExecId>,
    /// Jobs may have been revoked or pinned to another version.
    documents: bool,
}

impl Retained {
    pub(crate) fn new(port: Arc<dyn RetainedCommands>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            port,
            clock,
            state: Mutex::default(),
            wake: Notify::new(),
            current: watch::Sender::new(false),
            room: Semaphore::new(ON_THEIR_WAY as usize),
        }))
    }

    /// Waits until so many bytes may be on their way to the broker.
    pub(crate) async fn room(&self, bytes: usize) -> SemaphorePermit<'_> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(ON_THEIR_WAY);
        let permit = self.0.room.acquire_many(bytes).await;
        permit.expect("nobody closes it")
    }

    /// Publishes a Command of an execution; returns when the broker retains it and that is remembered here. `attempt` is
    /// the attempt's own.
    pub(crate) async fn keep(
        &self,
        execution: &Execution,
        request: RequestId,
        deadline_at: Option<Timestamp>,
        to: &Subject,
        command: Bytes,
        attempt: MessageId,
    ) -> Result<(), BusError> {
        let sequence = self.0.port.keep(to, command, attempt).await?;
        let place = Place {
            subject: to.clone(),
            sequence,
        };
        self.note(place, Told::of(execution, request, deadline_at));
        Ok(())
    }

    /// Removes what is retained of executions; returns when none of it is left. What could not be removed is removed
    /// later.
    ///
    /// # Errors
    /// When the broker does not do it, or it cannot be known in time what it retains.
    pub(crate) async fn withdraw(&self, executions: &[ExecId]) -> Result<(), BusError> {
        let doom = || {
            let mut state = self.state();
            let mut doomed = Vec::new();
            for exec in executions {
                doomed.extend(state.index.doom_execution(exec));
            }
            doomed
        };
        self.remove_known(doom, || {
            let of = match executions {
                [exec] => format!("execution {exec}"),
                several => format!("{} executions", several.len()),
            };
            format!("remove the Commands retained of {of}")
        })
        .await
    }

    /// Removes what is retained of a job that agents must not start any more.
    ///
    /// # Errors
    /// As [`withdraw`](Self::withdraw).
    pub(crate) async fn withdraw_job(&self, job: &JobId) -> Result<(), BusError> {
        let doom = || self.state().index.doom_where(|told| told.job_id == *job);
        self.remove_known(doom, || format!("remove the Commands retained of job {job}"))
            .await
    }

    async fn remove_known(
        &self,
        doom: impl Fn() -> Vec<Place>,
        doing: impl Fn() -> String,
    ) -> Result<(), BusError> {
        // Before the wait, so that it is known what is to go whatever comes of it.
        doom();
        self.0.wake.notify_one();
        let is_current = self.wait_current().await;
        self.remove(doom()).await?;
        match is_current {
            true => Ok(()),
            false => Err(BusError::new(BusErrorKind::Unavailable, doing())),
        }
    }

    /// Whether everything that is retained is known, or soon was.
    async fn wait_current(&self) -> bool {
        let mut current = self.0.current.subscribe();
        tokio::select! {
            // The sender lives in `self`.
            known = current.wait_for(|current| *current) => known.is_ok(),
            () = self.0.clock.sleep(PATIENCE) => false,
        }
    }

    /// Removes some; stops at the first that cannot be.
    async fn remove(&self, places: Vec<Place>) -> Result<(), BusError> {
        stream::iter(places.into_iter().map(Ok))
            .try_for_each_concurrent(REMOVALS, |place| async move {
                self.0.port.remove(&place.subject, place.sequence).await?;
                self.state().index.removed(&place);
                Ok(())
            })
            .await
    }

    /// Takes note of a committed set.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        let mut state = self.state();
        if state.index.is_empty() {
            return;
        }
        let mut news = false;
        for change in set.changes() {
            news |= state.note(change);
        }
        drop(state);
        if news {
            self.0.wake.notify_one();
        }
    }

    /// Takes note of a document that was written or deleted.
    pub(crate) fn document_changed(&self, bucket: Bucket) {
        if matches!(bucket, Bucket::ScriptStatus | Bucket::ScriptCurrent) {
            self.state().documents = true;
            self.0.wake.notify_one();
        }
    }

    fn note(&self, place: Place, told: Told) {
        let mut state = self.state();
        let exec = told.exec_id.clone();
        if state.index.note(place, told) {
            // Its agent may have been faster than we, and the job may have been revoked meanwhile.
            state.changed.extend(exec);
            state.documents = true;
            drop(state);
            self.0.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while locked")
    }
}

impl State {
    /// Takes note of a change. Whether something of what is retained may have to go.
    fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::RunStarted { event, .. } => {
                self.reached(&event.pc_id, event.request_id, Some(&event.exec_id))
            }
            Change::RunFinished(result) => {
                self.reached(&result.pc_id, result.request_id, result.exec_id.as_ref())
            }
            Change::RunSkipped(event) => {
                self.reached(&event.pc_id, event.request_id, Some(&event.exec_id))
            }
            Change::ExpireTarget { exec_id, pc_id, .. } => {
                let is_its = |kept: &index::Kept| kept.command.exec_id.as_ref() == Some(exec_id);
                let expired = self.index.doom_if(&own(pc_id), is_its);
                self.shared_changed(exec_id) || expired
            }
            Change::Kill { exec_id, .. }
            | Change::KillSettled { exec_id, .. }
            | Change::Abort { exec_id, .. } => self.changed(exec_id),
            Change::TakeOver(past) => self.changed(&past.exec_id),
            Change::Fire(_)
            | Change::Sent { .. }
            | Change::Pause { .. }
            | Change::Resume { .. }
            | Change::Judged { .. }
            | Change::KillHeard { .. }
            | Change::LetOut { .. }
            | Change::KillDelivered(_)
            | Change::AgentSeen { .. }
            | Change::Expire { .. }
            // It had been started, so it was removed then.
            | Change::LoseRun { .. }
            | Change::Facts(_)
            | Change::Audit(_)
            | Change::DeadLetter(_)
            | Change::Slot(_)
            | Change::ScheduleLooked(_)
            | Change::Mark { .. }
            | Change::Forget(_) => false,
        }
    }

    /// An agent has got a Command, whoever sent it: it must not get that again.
    fn reached(&mut self, pc: &PcId, request: RequestId, exec: Option<&ExecId>) -> bool {
        let had = self.index.doom_if(&own(pc), is_request(request));
        exec.is_some_and(|exec| self.shared_changed(exec)) || had
    }

    fn shared_changed(&mut self, exec: &ExecId) -> bool {
        self.index.holds_shared(exec) && self.changed(exec)
    }

    fn changed(&mut self, exec: &ExecId) -> bool {
        let holds = self.index.holds(exec);
        if holds {
            self.changed.insert(exec.clone());
        }
        holds
    }

    fn all_changed(&mut self) {
        self.documents = true;
        self.changed.extend(self.index.executions().cloned());
    }
}
