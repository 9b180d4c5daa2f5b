//! Sees that each agent is given what a broker retains for it and nothing that is meant for others.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use kanade_model::{PcId, Timestamp};
use kanade_ports::{Bus, BusError, Clock, ExecutionStore, MAX_LIMIT, RetainedCommands};
use tokio::sync::Notify;

use crate::error::chain;

/// Agents of which it is remembered that they are admitted; more than that begins anew, which only looks again.
const REMEMBERED: usize = 100_000;
/// Agents that wait to be admitted; the others wait for their next sign of life.
const WAITING: usize = 100_000;
/// Agents admitted at once: a broker works longer on it than on anything else that is asked of it.
const AT_ONCE: usize = 8;
/// So many failures end a round: a broker that does not answer would hold up everybody for long.
const GIVE_UP: usize = 32;
/// An agent that was away for so long may have been set up anew.
const AWAY: Duration = Duration::from_secs(120);
/// An agent is looked at again after this, whatever it does.
const AGAIN: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(1);

/// Admits agents.
pub(crate) struct Admissions {
    port: Arc<dyn RetainedCommands>,
    bus: Arc<dyn Bus>,
    admitted: Mutex<HashMap<PcId, Admitted>>,
    waiting: Mutex<BTreeSet<PcId>>,
    wake: Notify,
}

/// An agent that is admitted.
#[derive(Debug, Clone, Copy)]
struct Admitted {
    at: Timestamp,
    heard: Timestamp,
    /// How often the connection to the broker had been lost by then: on the next one it may be another broker.
    outages: u64,
}

impl Admissions {
    pub(crate) fn new(port: Arc<dyn RetainedCommands>, bus: Arc<dyn Bus>) -> Self {
        Self {
            port,
            bus,
            admitted: Mutex::default(),
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Takes note of signs of life. Waits for nothing.
    pub(super) fn heard(&self, alive: &[PcId], now: Timestamp) {
        let outages = self.bus.outages();
        let due: Vec<&PcId> = {
            let mut admitted = self.admitted.lock().expect("no panic while locked");
            let is_due = |pc: &&PcId| match admitted.get_mut(*pc) {
                Some(known) if !known.is_due(now, outages) => {
                    known.heard = now;
                    false
                }
                _ => {
                    admitted.remove(*pc);
                    true
                }
            };
            alive.iter().filter(is_due).collect()
        };
        if !due.is_empty() {
            self.wait(due.into_iter().cloned());
        }
    }

    fn wait(&self, agents: impl Iterator<Item = PcId>) {
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        for pc in agents {
            if waiting.len() < WAITING {
                waiting.insert(pc);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Admits who showed life since `since`, and then whoever shows life, for ever.
    pub(super) async fn run(&self, store: &dyn ExecutionStore, clock: &dyn Clock, since: Timestamp) {
        while let Err(error) = self.recall(store, since).await {
            tracing::warn!(error, "cannot read which agents there are");
            clock.sleep(RETRY).await;
        }
        loop {
            self.wake.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock().expect("no panic while locked"));
            let failures: Vec<BusError> = stream::iter(waiting)
                .map(|pc| self.admit(pc, clock))
                .buffer_unordered(AT_ONCE)
                .filter_map(|outcome| std::future::ready(outcome.err()))
                .take(GIVE_UP)
                .collect()
                .await;
            if let Some(error) = failures.first() {
                // Each is tried again at its next sign of life, and so is who was not reached.
                tracing::warn!(error = %chain(error), "cannot see to what agents are given when they are back");
            }
        }
    }

    /// Agents that are away now are admitted before they are back.
    async fn recall(&self, store: &dyn ExecutionStore, since: Timestamp) -> Result<(), String> {
        let mut after = None;
        loop {
            let page = store.agents(after.as_ref(), MAX_LIMIT).await;
            let page = page.map_err(|error| chain(&error))?;
            let recent = page.items.into_iter().filter(|agent| agent.updated_at >= since);
            self.wait(recent.map(|agent| agent.pc_id));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn admit(&self, pc: PcId, clock: &dyn Clock) -> Result<(), BusError> {
        let (at, outages) = (clock.now(), self.bus.outages());
        self.port.admit(&pc).await?;
        let mut admitted = self.admitted.lock().expect("no panic while locked");
        if admitted.len() >= REMEMBERED {
            admitted.clear();
        }
        let heard = at;
        admitted.insert(pc, Admitted { at, heard, outages });
        Ok(())
    }
}

impl Admitted {
    /// Whether it has to be looked at again, now that its agent shows life.
    fn is_due(&self, now: Timestamp, outages: u64) -> bool {
        self.outages != outages || now.since(self.heard) >= AWAY || now.since(self.at) >= AGAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_looked_at_again_when_it_was_away_or_the_connection_or_now_and_then() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        for (heard, outages, now, due) in [
            (1000, 0, 1030, false),
            (1000, 0, 1119, false),
            (1000, 0, 1120, true),
            (1000, 1, 1030, true),
            (4570, 0, 4599, false),
            (4570, 0, 4600, true),
            // The server's clock was set back.
            (9000, 0, 1030, false),
        ] {
            let admitted = Admitted {
                at: at(1000),
                heard: at(heard),
                outages: 0,
            };
            assert_eq!(
                admitted.is_due(at(now), outages),
                due,
                "heard at {heard}, now {now}, {outages} outages"
            );
        }
    }
}
