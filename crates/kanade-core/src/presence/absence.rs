//! When each agent was last heard, and so what it may have missed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use kanade_model::{PcId, Timestamp};
use tokio::sync::Notify;

use crate::Settings;

/// Agents whose last sign of life is remembered; more than that begins anew, which only kills again what was killed.
const REMEMBERED: usize = 100_000;

/// Finds agents that were away for so long that a kill may have begun and ended without them.
#[derive(Default)]
pub(crate) struct Absences {
    heard: Mutex<HashMap<PcId, Timestamp>>,
    /// Those that are back, each with the moment since when it may have missed kills.
    back: Mutex<BTreeMap<PcId, Timestamp>>,
    wake: Notify,
}

impl Absences {
    /// Takes note of a sign of life.
    pub(super) fn heard(&self, pc: &PcId, now: Timestamp, settings: &Settings) {
        let last = {
            let mut heard = self.heard.lock().expect("no panic while locked");
            if heard.len() >= REMEMBERED && !heard.contains_key(pc) {
                heard.clear();
            }
            heard.insert(pc.clone(), now)
        };
        if let Some(since) = missed_since(last, now, settings) {
            let mut back = self.back.lock().expect("no panic while locked");
            let earliest = back.entry(pc.clone()).or_insert(since);
            *earliest = since.min(*earliest);
            self.wake.notify_one();
        }
    }

    /// Waits for agents that are back, and gives all of them, each with the moment since when it may have missed kills.
    pub(super) async fn ended(&self) -> BTreeMap<PcId, Timestamp> {
        self.wake.notified().await;
        std::mem::take(&mut *self.back.lock().expect("no panic while locked"))
    }

    /// Could not give an agent what it has missed: its next sign of life counts as its first.
    pub(super) fn not_given(&self, pc: &PcId) {
        self.heard.lock().expect("no panic while locked").remove(pc);
    }
}

/// Since when an agent that shows life `now`, and did so at `last`, may have missed kills; none where it cannot have
/// missed the whole time in which one is repeated.
fn missed_since(last: Option<Timestamp>, now: Timestamp, settings: &Settings) -> Option<Timestamp> {
    match last {
        // What is older is not started any more.
        None => Some(now.minus(settings.command_ttl)),
        Some(last) if now.since(last) < settings.kill_window => None,
        // Heartbeats may be as far apart as that, so what was given at the last one is not given for ever; but it is
        // given once more, as nobody knows whether it arrived.
        Some(last) => Some(last.minus(settings.kill_window)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn who_was_away_for_a_whole_kill_may_have_missed_it() {
        let settings = Settings {
            command_ttl: Duration::from_secs(1000),
            kill_window: Duration::from_secs(30),
            ..Settings::default()
        };
        for (last, now, since) in [
            (None, 5000, Some(4000)),
            (Some(4999), 5000, None),
            (Some(4971), 5000, None),
            (Some(4970), 5000, Some(4940)),
            (Some(100), 5000, Some(70)),
            // The server's clock was set back.
            (Some(9000), 5000, None),
        ] {
            assert_eq!(
                missed_since(last.map(at), at(now), &settings),
                since.map(at),
                "heard at {last:?} and now {now}"
            );
        }
    }

    #[tokio::test]
    async fn an_agent_that_could_not_be_given_its_kills_is_back_again_at_once() {
        let (absences, settings) = (Absences::default(), Settings::default());
        let pc: PcId = "pc-1".parse().unwrap();
        let far_back = at(5000).minus(settings.command_ttl);
        absences.heard(&pc, at(5000), &settings);
        absences.heard(&pc, at(5001), &settings);
        assert_eq!(absences.ended().await, [(pc.clone(), far_back)].into());
        absences.not_given(&pc);
        absences.heard(&pc, at(5000), &settings);
        assert_eq!(absences.ended().await, [(pc, far_back)].into());
    }
}
