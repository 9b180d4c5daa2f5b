//! The audit trail on the bus: entries that were committed here are published there for others, and what others
//! published is taken into the store by a [`Projector`](crate::project::Projector). The store is the trail; what the
//! stream misses while the bus is away for long is only missing there.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kanade_model::{AuditEvent, Subject};
use kanade_ports::{Bus, BusErrorKind, Change, ChangeSet, Clock, MessageId};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::chain;

/// Entries that wait for the bus; the oldest gives way.
const WAITING: usize = 10_000;
const RETRY: Duration = Duration::from_secs(1);

/// Publishes the entries of this server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct AuditStream(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<AuditEvent>,
    missed: u64,
    /// What is being committed because it came from the bus.
    heard: HashSet<Uuid>,
}

/// Entries that came from the bus, until they have been committed or will come again.
pub(crate) struct Heard {
    events: Vec<Uuid>,
    stream: AuditStream,
}

impl Drop for Heard {
    fn drop(&mut self) {
        if self.events.is_empty() {
            return;
        }
        let mut state = self.stream.state();
        for event in &self.events {
            state.heard.remove(event);
        }
    }
}

impl AuditStream {
    /// Takes note of a committed set.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        for change in set.changes() {
            if let Change::Audit(event) = change {
                self.publish_later(event);
            }
        }
    }

    /// Entries came from the bus and are about to be committed.
    pub(crate) fn heard(&self, events: Vec<Uuid>) -> Heard {
        if !events.is_empty() {
            self.state().heard.extend(&events);
        }
        Heard {
            events,
            stream: self.clone(),
        }
    }

    fn publish_later(&self, event: &AuditEvent) {
        let mut state = self.state();
        if state.heard.contains(&event.id()) {
            return;
        }
        if state.waiting.len() == WAITING {
            state.waiting.pop_front();
            state.missed += 1;
        }
        state.waiting.push_back(event.clone());
        drop(state);
        self.0.wake.notify_one();
    }

    /// Publishes what was committed, for ever.
    pub(crate) async fn run(self, bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) {
        let mut away = false;
        loop {
            let (next, missed) = {
                let mut state = self.state();
                (state.waiting.pop_front(), std::mem::take(&mut state.missed))
            };
            if missed > 0 {
                tracing::warn!(
                    missed,
                    "the audit stream misses entries; the trail in the store has them"
                );
            }
            let Some(event) = next else {
                self.0.wake.notified().await;
                continue;
            };
            let subject = Subject::audit(&event.actor, &event.action, event.target.as_deref());
            let payload = serde_json::to_vec(&event).expect("an audit entry has string keys only");
            let id = MessageId(event.id().to_string());
            match bus.publish_durable(&subject, payload.into(), id).await {
                Ok(()) => away = false,
                Err(error) if matches!(error.kind(), BusErrorKind::TooLarge | BusErrorKind::Refused) => {
                    tracing::warn!(%subject, error = %chain(&error), "the audit stream does not take an entry; the trail in the store has it");
                }
                Err(error) => {
                    if !away {
                        tracing::warn!(error = %chain(&error), "cannot publish to the audit stream; it will be tried again");
                    }
                    away = true;
                    self.put_back(event);
                    clock.sleep(RETRY).await;
                }
            }
        }
    }

    fn put_back(&self, event: AuditEvent) {
        let mut state = self.state();
        if state.waiting.len() < WAITING {
            state.waiting.push_front(event);
        } else {
            state.missed += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
