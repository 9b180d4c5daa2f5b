//! Times as people read and write them: how long ago, for how long, since when.

use std::time::Duration;

use kanade_model::{HumanDuration, Timestamp};
use kanade_ports::{Clock, SystemClock};

/// The moment that relative times refer to.
pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// A moment as seen from `now`: `12s ago`, `in 5m`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", rough(at.since(now)))
    } else {
        format!("{} ago", rough(now.since(at)))
    }
}

/// A time span in its largest unit.
fn rough(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        7200..172_800 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// A time span in its two largest units: `1m 20s`; short ones more exactly.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{secs}s"),
        60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// Reads a moment in the past: RFC 3339, or how long ago.
pub(super) fn past(text: &str) -> Result<Timestamp, String> {
    moment(text, |by| now().minus(by))
}

/// Reads a moment to come: RFC 3339, or in how long.
pub(super) fn future(text: &str) -> Result<Timestamp, String> {
    moment(text, |by| now().plus(by))
}

fn moment(text: &str, from_now: impl FnOnce(Duration) -> Timestamp) -> Result<Timestamp, String> {
    if let Ok(HumanDuration(by)) = text.parse() {
        return Ok(from_now(by));
    }
    text.parse().map_err(|_| {
        "a time such as `2026-05-01T08:30:00Z` is wanted, or a duration such as `90m` or `2d` from now"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_seen_from_now_in_its_largest_unit() {
        let now = Timestamp::from_micros(1_000_000_000_000_000);
        for (secs, text) in [
            (0, "0s ago"),
            (119, "119s ago"),
            (120, "2m ago"),
            (7199, "119m ago"),
            (7200, "2h ago"),
            (400_000, "4d ago"),
        ] {
            assert_eq!(relative(now.minus(Duration::from_secs(secs)), now), text);
        }
        assert_eq!(relative(now.plus(Duration::from_secs(300)), now), "in 5m");
    }

    #[test]
    fn a_span_has_two_units() {
        for (secs, text) in [
            (9, "9.0s"),
            (59, "59s"),
            (80, "1m 20s"),
            (3_725, "1h 2m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(span(Duration::from_secs(secs)), text);
        }
        assert_eq!(span(Duration::from_millis(1234)), "1.2s");
        assert_eq!(span(Duration::from_millis(7)), "7ms");
    }

    #[test]
    fn a_moment_is_written_as_a_time_or_as_a_distance() {
        let zero = |by: Duration| Timestamp::from_micros(0).plus(by);
        assert_eq!(moment("1h 5m", zero).unwrap().as_micros(), 3_900_000_000);
        assert_eq!(
            moment("1970-01-01T01:00:00+01:00", zero).unwrap(),
            Timestamp::UNIX_EPOCH
        );
        for text in ["", "yesterday", "5", "2026-05-01"] {
            assert!(moment(text, zero).unwrap_err().contains("90m"), "{text:?}");
        }
    }
}
