//! Which slots of a schedule have come, and whether they are in time. Pure: values and the time it is.

use std::time::Duration;

use kanade_model::{Cron, Timestamp};

/// A slot is in its time for so long: a server that restarts, or is busy, still fires it.
pub(crate) const IN_TIME: Duration = Duration::from_secs(60);
/// The most slots that are looked at in one round.
const ROUND: usize = 1000;

/// A slot that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Come {
    pub(crate) slot: Timestamp,
    pub(crate) lateness: Lateness,
}

/// How late it is for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// It is its time.
    InTime,
    /// Its time has passed, and it is made up for.
    CaughtUp,
    /// Its time has passed.
    Missed,
}

/// What a look at a schedule finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The slots that have come since the last look, the oldest first.
    pub(crate) come: Vec<Come>,
    /// Up to here everything has been looked at.
    pub(crate) through: Timestamp,
    /// From here on slots were missed without being looked at one by one, because there are too many of them.
    pub(crate) passed_over_from: Option<Timestamp>,
}

/// Looks at the slots after `looked`, up to `now`; those that are missed are made up for when they are no older than
/// `catch_up`.
pub(crate) fn look(cron: &Cron, looked: Timestamp, now: Timestamp, catch_up: Duration) -> Look {
    let in_reach = now.minus(catch_up.max(IN_TIME));
    let mut come = Vec::new();
    for slot in cron.between(looked, now) {
        if come.len() == ROUND {
            let through = come.last().map_or(looked, |last: &Come| last.slot);
            // The older of them are missed for sure: there is no end to what a schedule of every second misses in a year.
            let passed_over = through < in_reach;
            return Look {
                come,
                through: if passed_over { in_reach } else { through },
                passed_over_from: passed_over.then_some(slot),
            };
        }
        let late = now.since(slot);
        let lateness = if late <= IN_TIME {
            Lateness::InTime
        } else if late <= catch_up {
            Lateness::CaughtUp
        } else {
            Lateness::Missed
        };
        come.push(Come { slot, lateness });
    }
    Look {
        come,
        through: now,
        passed_over_from: None,
    }
}

#[cfg(test)]
mod tests {
    use kanade_model::TimeZone;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn looked(cron: &str, looked: &str, now: &str, catch_up: u64) -> Look {
        let cron = Cron::parse(cron, TimeZone::UTC).unwrap();
        look(&cron, at(looked), at(now), Duration::from_secs(catch_up))
    }

    #[test]
    fn a_slot_is_in_time_for_a_minute_then_made_up_for_then_missed() {
        use Lateness::{CaughtUp, InTime, Missed};
        for (now, catch_up, lateness) in [
            ("2026-05-01T09:00:00Z", 0, Some(InTime)),
            ("2026-05-01T09:01:00Z", 0, Some(InTime)),
            ("2026-05-01T09:01:01Z", 0, Some(Missed)),
            ("2026-05-01T09:01:01Z", 600, Some(CaughtUp)),
            ("2026-05-01T09:10:00Z", 600, Some(CaughtUp)),
            ("2026-05-01T09:10:01Z", 600, Some(Missed)),
            ("2026-05-01T08:59:59Z", 600, None),
        ] {
            let look = looked("0 0 * * * *", "2026-05-01T08:00:00Z", now, catch_up);
            let wanted: Vec<_> = lateness
                .map(|lateness| Come {
                    slot: at("2026-05-01T09:00:00Z"),
                    lateness,
                })
                .into_iter()
                .collect();
            assert_eq!((look.come, look.through), (wanted, at(now)), "{now} {catch_up}");
        }
    }

    #[test]
    fn a_clock_that_was_put_back_brings_no_slot_again() {
        let look = looked("0 0 * * * *", "2026-05-01T09:30:00Z", "2026-05-01T08:30:00Z", 0);
        assert_eq!(look.come, []);
    }

    #[test]
    fn what_a_fast_schedule_missed_in_a_year_is_told_in_a_thousand_records() {
        let look = looked("* * * * * *", "2025-05-01T00:00:00Z", "2026-05-01T00:00:00Z", 300);
        assert_eq!(look.come.len(), ROUND);
        assert!(look.come.iter().all(|come| come.lateness == Lateness::Missed));
        assert_eq!(look.through, at("2026-04-30T23:55:00Z"));
        assert_eq!(look.passed_over_from, Some(at("2025-05-01T00:16:41Z")));
        // What can be made up for comes in the next look, whole.
        let cron = Cron::parse("* * * * * *", TimeZone::UTC).unwrap();
        let now = at("2026-05-01T00:00:00Z");
        let next = super::look(&cron, look.through, now, Duration::from_secs(300));
        assert_eq!(next.come.len(), 300);
        assert!(next.come.iter().all(|come| come.lateness != Lateness::Missed));
    }

    #[test]
    fn more_than_one_round_that_is_in_reach_goes_on_where_it_ended() {
        let look = looked(
            "* * * * * *",
            "2026-05-01T00:00:00Z",
            "2026-05-01T01:00:00Z",
            7200,
        );
        assert_eq!(look.come.len(), ROUND);
        assert_eq!(
            (look.through, look.passed_over_from),
            (at("2026-05-01T00:16:40Z"), None)
        );
    }
}
