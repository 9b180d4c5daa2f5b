//! What happens now, for whoever watches: executions, runs, agents and documents as they change.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use kanade_model::{ExecId, RunState, api::LiveEvent};
use kanade_ports::{Bucket, Change, ChangeSet, Clock, ExecutionStore, Key};
use tokio::sync::{Notify, broadcast};

use crate::shape;

/// Events that a slow reader may be behind by.
const BEHIND: usize = 4096;
/// Changed executions that wait to be read; more are told as missed.
const CHANGED: usize = 10_000;
/// Changes of one execution within this time are told as one.
const TOGETHER: Duration = Duration::from_millis(100);

/// The source of live events. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    events: broadcast::Sender<LiveEvent>,
    changed: Mutex<Changed>,
    wake: Notify,
}

#[derive(Default)]
struct Changed {
    executions: BTreeSet<ExecId>,
    missed: u64,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Shared {
            events: broadcast::Sender::new(BEHIND),
            changed: Mutex::default(),
            wake: Notify::new(),
        }))
    }
}

impl Live {
    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LiveEvent> {
        self.0.events.subscribe()
    }

    /// Takes note of a committed set. Costs nothing while nobody watches.
    pub fn committed(&self, set: &ChangeSet) {
        if self.0.events.receiver_count() > 0 {
            set.changes().for_each(|change| self.note(change));
        }
    }

    /// Takes note of a document that was written or deleted.
    pub fn document_changed(&self, bucket: Bucket, key: &Key, deleted: bool) {
        self.emit(LiveEvent::Catalog {
            bucket: bucket.to_string(),
            key: key.to_string(),
            deleted,
        });
    }

    /// Reads executions that have changed and tells of them, for ever.
    pub async fn run(self, store: Arc<dyn ExecutionStore>, clock: Arc<dyn Clock>) {
        loop {
            self.0.wake.notified().await;
            clock.sleep(TOGETHER).await;
            let changed = std::mem::take(&mut *self.0.changed.lock().expect("no panic while locked"));
            if changed.missed > 0 {
                self.emit(LiveEvent::Lagged {
                    missed: changed.missed,
                });
            }
            for exec in changed.executions {
                match store.execution(&exec).await {
                    Ok(Some(execution)) => {
                        self.emit(LiveEvent::Execution(Box::new(shape::execution(execution))));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%exec, %error, "cannot read an execution for those who watch");
                        self.emit(LiveEvent::Lagged { missed: 1 });
                    }
                }
            }
        }
    }

    fn note(&self, change: &Change) {
        match change {
            Change::Fire(new) => self.changed(&new.exec_id),
            Change::TakeOver(past) => self.changed(&past.exec_id),
            Change::Kill { exec_id, .. }
            | Change::KillHeard { exec_id, .. }
            | Change::LetOut { exec_id, .. }
            | Change::KillSettled { exec_id, .. }
            | Change::Pause { exec_id, .. }
            | Change::Resume { exec_id, .. }
            | Change::Abort { exec_id, .. }
            | Change::Judged { exec_id, .. }
            | Change::Expire { exec_id, .. }
            | Change::ExpireTarget { exec_id, .. } => self.changed(exec_id),
            Change::KillDelivered(event) => self.changed(&event.exec_id),
            Change::RunSkipped(event) => self.changed(&event.exec_id),
            Change::RunStarted { event, .. } => {
                self.changed(&event.exec_id);
                self.emit(LiveEvent::Run {
                    result_id: event.result_id,
                    exec_id: Some(event.exec_id.clone()),
                    pc_id: event.pc_id.clone(),
                    exit_code: None,
                    state: RunState::Running,
                });
            }
            Change::RunFinished(result) => {
                if let Some(exec_id) = &result.exec_id {
                    self.changed(exec_id);
                }
                self.emit(LiveEvent::Run {
                    result_id: result.run_id(),
                    exec_id: result.exec_id.clone(),
                    pc_id: result.pc_id.clone(),
                    exit_code: Some(result.exit_code),
                    state: result.state(),
                });
            }
            Change::Slot(slot) => self.emit(LiveEvent::Slot {
                schedule_id: slot.schedule_id.clone(),
                slot: slot.slot,
                state: slot.state,
                exec_id: slot.exec_id.clone(),
            }),
            Change::LoseRun {
                result_id,
                exec_id,
                pc_id,
                ..
            } => {
                self.changed(exec_id);
                self.emit(LiveEvent::Run {
                    result_id: *result_id,
                    exec_id: Some(exec_id.clone()),
                    pc_id: pc_id.clone(),
                    exit_code: None,
                    state: RunState::Lost,
                });
            }
            Change::AgentSeen { heartbeat, .. } => {
                self.emit(LiveEvent::Agent {
                    pc_id: heartbeat.pc_id.clone(),
                    last_heartbeat: heartbeat.at,
                });
            }
            Change::Sent { .. }
            | Change::Facts(_)
            | Change::Audit(_)
            | Change::DeadLetter(_)
            | Change::ScheduleLooked(_)
            | Change::Mark { .. }
            | Change::Forget(_) => {}
        }
    }

    fn changed(&self, exec: &ExecId) {
        {
            let mut changed = self.0.changed.lock().expect("no panic while locked");
            if changed.executions.len() < CHANGED {
                changed.executions.insert(exec.clone());
            } else {
                changed.missed += 1;
            }
        }
        self.0.wake.notify_one();
    }

    fn emit(&self, event: LiveEvent) {
        // Nobody watching is fine.
        drop(self.0.events.send(event));
    }
}
