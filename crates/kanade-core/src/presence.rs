//! Signs of life: records them, and gives an agent that shows life what it may have missed: Commands it has not
//! started, kills of what it runs or may still start.

mod absence;
mod admission;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use kanade_model::{ExecId, Heartbeat, PcId, Subject, TargetState, Timestamp};
use kanade_ports::{
    Addressee, Bus, BusError, Change, ChangeSet, Clock, ExecutionStore, Subscription, TargetRecord,
};

use tokio::sync::Notify;

use crate::{
    Committer, Counters, Dispatcher, Settings,
    error::{Result, chain},
    project::Progress,
};

pub(crate) use absence::Absences;
pub(crate) use admission::Admissions;
pub use record::HeartbeatRecord;

/// Heartbeats recorded in one go.
const BATCH: usize = 1024;
/// Targets looked at for one agent on one heartbeat.
const PER_AGENT: usize = 256;
/// Agents looked after at once.
const AT_ONCE: usize = 8;
/// Agents that are back whose kills go out together, each of them once.
const TOGETHER: usize = 256;
/// Targets whose resends are remembered; more than that begins anew, which only resends earlier.
const REMEMBERED: usize = 100_000;
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
const CATCH_UP: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Listens for heartbeats.
pub(crate) struct Presence {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) committer: Committer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) progress: Progress,
    pub(crate) settings: Arc<Settings>,
    pub(crate) resends: Mutex<HashMap<(ExecId, PcId), Resends>>,
    pub(crate) absences: Absences,
    pub(crate) admissions: Option<Admissions>,
    pub(crate) alive: Alive,
    pub(crate) counters: Arc<Counters>,
    pub(crate) record: Arc<HeartbeatRecord>,
}

/// Agents that have shown life and are still to be looked after.
#[derive(Default)]
pub(crate) struct Alive {
    agents: Mutex<BTreeSet<PcId>>,
    wake: Notify,
}

/// How often a Command was sent again, and when last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resends {
    count: u32,
    last: Timestamp,
}

impl Presence {
    /// Records heartbeats and looks after those who sent them, for ever.
    pub(crate) async fn run(self) {
        // Apart, so that heartbeats are taken off the bus whatever the projectors do.
        tokio::join!(self.listen(), self.kill_again(), self.look_after(), self.admit());
    }

    async fn admit(&self) {
        if let Some(admissions) = &self.admissions {
            // For who was away longer, nothing is retained any more.
            let since = self.clock.now().minus(self.settings.command_ttl);
            admissions.run(&*self.store, &*self.clock, since).await;
        }
    }

    async fn listen(&self) {
        let pattern = "heartbeat.>".parse().expect("a literal pattern");
        loop {
            match self.bus.subscribe(&pattern).await {
                Ok(heartbeats) => self.follow(heartbeats).await,
                Err(error) => tracing::warn!(error = %chain(&error), "cannot listen for heartbeats"),
            }
            self.clock.sleep(RETRY).await;
        }
    }

    async fn follow(&self, mut heartbeats: Subscription) {
        while let Some(first) = heartbeats.next().await {
            let mut newest = BTreeMap::new();
            let mut message = Some(first);
            while let Some(heartbeat) = message.take() {
                match serde_json::from_slice::<Heartbeat>(&heartbeat.payload) {
                    // A broker lets agents speak by subjects, so the subject says who it is.
                    Ok(said) if Subject::heartbeat(&said.pc_id) != heartbeat.subject => {
                        tracing::warn!(
                            subject = %heartbeat.subject, pc = %said.pc_id,
                            "a heartbeat speaks for another agent than its subject; it is passed over"
                        );
                    }
                    Ok(heartbeat) => {
                        newest.insert(heartbeat.pc_id.clone(), heartbeat);
                    }
                    Err(error) => {
                        tracing::warn!(subject = %heartbeat.subject, %error, "a heartbeat cannot be read");
                    }
                }
                if newest.len() < BATCH {
                    message = heartbeats.next().now_or_never().flatten();
                }
            }
            let alive: Vec<PcId> = newest.keys().cloned().collect();
            let at = self.clock.now();
            // First of all: what such an agent has in hand may start at any moment.
            for pc in &alive {
                self.absences.heard(pc, at, &self.settings);
                self.record.heard(pc, at);
            }
            if let Some(admissions) = &self.admissions {
                admissions.heard(&alive, at);
            }
            let seen = |heartbeat| ChangeSet::of(Change::AgentSeen { heartbeat, at });
            for outcome in self
                .committer
                .commit_all(newest.into_values().map(seen).collect())
                .await
            {
                if let Err(error) = outcome {
                    tracing::warn!(error = %chain(&error), "cannot record a heartbeat");
                }
            }
            self.alive
                .agents
                .lock()
                .expect("no panic while locked")
                .extend(alive);
            self.alive.wake.notify_one();
        }
    }

    /// Level-triggered: whatever an agent that is alive should have and shows no sign of, it gets again.
    async fn look_after(&self) {
        loop {
            self.alive.wake.notified().await;
            let alive = std::mem::take(&mut *self.alive.agents.lock().expect("no panic while locked"));
            if !self.projectors_are_past(self.clock.now()).await {
                continue;
            }
            stream::iter(alive)
                .for_each_concurrent(AT_ONCE, |pc| async move {
                    if let Err(error) = self.remind(&pc).await {
                        tracing::warn!(%pc, error = %error.report(), "cannot give an agent what it may have missed");
                    }
                })
                .await;
        }
    }

    /// Gives agents that are back the kills of what they may have in hand, and what is only presumed to have ended.
    async fn kill_again(&self) {
        loop {
            let mut unanswered = stream::iter(self.absences.ended().await)
                .map(|(pc, since)| async move {
                    let kills = self.store.unanswered_kills(&pc, since, PER_AGENT).await;
                    (pc, kills)
                })
                .buffer_unordered(AT_ONCE)
                .chunks(TOGETHER);
            while let Some(agents) = unanswered.next().await {
                let mut kills = BTreeSet::new();
                let mut missed = Vec::new();
                for (pc, found) in agents {
                    match found {
                        Ok(found) => {
                            kills.extend(found);
                            missed.push(pc);
                        }
                        Err(error) => self.kills_not_given(&pc, &error),
                    }
                }
                if let Err(error) = self.publish_kills(&kills).await {
                    missed.iter().for_each(|pc| self.kills_not_given(pc, &error));
                }
            }
        }
    }

    async fn publish_kills(&self, kills: &BTreeSet<ExecId>) -> Result<(), BusError> {
        for exec in kills {
            tracing::debug!(%exec, "killed again for an agent that is back");
            self.bus.publish(&Subject::kill(exec), Bytes::new()).await?;
            self.counters.killed_again();
        }
        Ok(())
    }

    fn kills_not_given(&self, pc: &PcId, error: &dyn std::error::Error) {
        tracing::warn!(%pc, error = %chain(error), "cannot give an agent the kills it may have missed");
        self.absences.not_given(pc);
    }

    async fn projectors_are_past(&self, moment: Timestamp) -> bool {
        let patience = moment.plus(CATCH_UP);
        while !self.progress.is_past(moment) {
            if self.clock.now() > patience {
                return false;
            }
            self.clock.sleep(LOOK_AGAIN).await;
        }
        true
    }

    async fn remind(&self, pc: &PcId) -> Result<()> {
        let now = self.clock.now();
        let since = now.minus(self.settings.resend_after);
        for target in self.store.unfinished(pc, since, PER_AGENT).await? {
            if target.receipt.is_some() {
                self.bus
                    .publish(&Subject::kill(&target.exec_id), Bytes::new())
                    .await?;
                self.counters.killed_again();
            } else if target.state == TargetState::Waiting && self.is_time(&target, now) {
                let to = Addressee::Pc(pc.clone());
                if self
                    .dispatcher
                    .send_again(&target.exec_id, to, target.request_id)
                    .await?
                {
                    self.counters.sent_again();
                    tracing::info!(exec = %target.exec_id, %pc, "sent a command again");
                }
            }
        }
        Ok(())
    }

    /// Whether a resend is due by its backoff; counts it if so.
    fn is_time(&self, target: &TargetRecord, now: Timestamp) -> bool {
        let mut resends = self.resends.lock().expect("no panic while locked");
        if resends.len() >= REMEMBERED {
            resends.clear();
        }
        let key = (target.exec_id.clone(), target.pc_id.clone());
        let before = resends.get(&key).copied().unwrap_or(Resends {
            count: 0,
            last: target.due_at,
        });
        let due = now.since(before.last) >= backoff(self.settings.resend_after, before.count);
        if due {
            resends.insert(
                key,
                Resends {
                    count: before.count + 1,
                    last: now,
                },
            );
        }
        due
    }
}

/// The time before resend number `count`, from 0: doubles from `first` to ten minutes.
fn backoff(first: Duration, count: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(count))
        .min(LONGEST_BACKOFF.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resends_come_less_and_less_often() {
        let first = Duration::from_secs(15);
        let waits: Vec<u64> = [0, 1, 2, 5, 6, 40]
            .map(|count| backoff(first, count).as_secs())
            .into();
        assert_eq!(waits, [15, 30, 60, 480, 600, 600]);
    }
}
