//! When each agent has shown life within the last day, in memory: how often in each span of time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use kanade_model::{PcId, Timestamp, api};

/// The length of a span.
const SPAN: Duration = Duration::from_secs(300);
/// How many are kept: a day.
const SPANS: usize = 288;
/// Agents that are remembered; of more, those that begin to speak later are not.
const REMEMBERED: usize = 50_000;

/// The signs of life of the last day, since this server started.
#[derive(Debug)]
pub struct HeartbeatRecord {
    since: Timestamp,
    agents: Mutex<HashMap<PcId, Spans>>,
}

/// How often an agent was heard in each span. The last of them is span number `newest`.
#[derive(Debug)]
struct Spans {
    newest: i64,
    heard: VecDeque<u16>,
}

impl HeartbeatRecord {
    pub(crate) fn new(since: Timestamp) -> Self {
        Self {
            since,
            agents: Mutex::default(),
        }
    }

    pub(crate) fn heard(&self, pc: &PcId, at: Timestamp) {
        let span = number(at);
        let mut agents = self.agents.lock().expect("no panic while locked");
        if let Some(spans) = agents.get_mut(pc) {
            spans.heard(span);
        } else if agents.len() < REMEMBERED {
            let mut spans = Spans {
                newest: span,
                heard: VecDeque::from([0]),
            };
            spans.heard(span);
            agents.insert(pc.clone(), spans);
        }
    }

    /// How often an agent was heard in each span of the day before `now`, or since the server started.
    pub fn of(&self, pc: &PcId, now: Timestamp) -> api::Heartbeats {
        let newest = number(now);
        let spans = i64::try_from(SPANS).unwrap_or(i64::MAX);
        let oldest = number(self.since).max(newest - spans + 1).min(newest);
        let agents = self.agents.lock().expect("no panic while locked");
        let known = agents.get(pc);
        let counts = (oldest..=newest).map(|span| known.map_or(0, |known| known.count(span)));
        api::Heartbeats {
            pc_id: pc.clone(),
            from: Timestamp::from_micros(oldest * micros()),
            span_secs: u32::try_from(SPAN.as_secs()).unwrap_or(u32::MAX),
            counts: counts.collect(),
        }
    }
}

impl Spans {
    fn heard(&mut self, span: i64) {
        // The clock may have been put back: what is heard then counts for the newest span.
        while self.newest < span {
            self.newest += 1;
            self.heard.push_back(0);
            if self.heard.len() > SPANS {
                self.heard.pop_front();
            }
            if span - self.newest > i64::try_from(SPANS).unwrap_or(i64::MAX) {
                self.heard.clear();
                self.newest = span - 1;
            }
        }
        if let Some(last) = self.heard.back_mut() {
            *last = last.saturating_add(1);
        }
    }

    fn count(&self, span: i64) -> u16 {
        let back = usize::try_from(self.newest - span).ok();
        back.and_then(|back| self.heard.len().checked_sub(back + 1))
            .and_then(|at| self.heard.get(at))
            .copied()
            .unwrap_or(0)
    }
}

fn micros() -> i64 {
    i64::try_from(SPAN.as_micros()).unwrap_or(i64::MAX)
}

fn number(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(spans: u32) -> Timestamp {
        Timestamp::UNIX_EPOCH.plus(SPAN * spans + Duration::from_secs(1))
    }

    #[test]
    fn each_sign_of_life_is_counted_where_it_was_heard_and_for_a_day() {
        let record = HeartbeatRecord::new(at(10));
        let pc: PcId = "pc-1".parse().unwrap();
        assert_eq!(record.of(&pc, at(10)).counts, [0], "known since the start only");
        for span in [10, 10, 11, 14] {
            record.heard(&pc, at(span));
        }
        let found = record.of(&pc, at(15));
        assert_eq!(found.counts, [2, 1, 0, 0, 1, 0]);
        assert_eq!(found.from, Timestamp::UNIX_EPOCH.plus(SPAN * 10));
        record.heard(&pc, at(12));
        assert_eq!(
            record.of(&pc, at(14)).counts,
            [2, 1, 0, 0, 2],
            "a clock that was put back"
        );
        assert_eq!(record.of(&"other".parse().unwrap(), at(14)).counts, [0; 5]);

        let later = record.of(&pc, at(10 + 289));
        assert_eq!(
            (later.counts.len(), later.counts[0], later.counts[2]),
            (288, 0, 2)
        );
        record.heard(&pc, at(5000));
        let counts = record.of(&pc, at(5000)).counts;
        assert_eq!(
            (counts.len(), counts.iter().map(|count| u32::from(*count)).sum()),
            (288, 1)
        );
    }
}
