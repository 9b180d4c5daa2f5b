//! When a schedule is due: a cron expression read in a time zone.

use std::{fmt, str::FromStr};

use chrono_tz::Tz;
use croner::{
    JobType,
    parser::{CronParser, Seconds},
};
use serde::{Deserialize, Serialize};

use crate::{Invalid, Timestamp};

/// A time zone by its IANA name, such as `Europe/Berlin`; UTC where nothing is said. Its rules are those of the
/// database that this program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "Europe/Berlin"))]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(Tz);

impl TimeZone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(Tz::UTC);

    /// The name.
    pub fn as_str(self) -> &'static str {
        self.0.name()
    }

    /// The same zone as chrono has it.
    pub fn to_chrono(self) -> Tz {
        self.0
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::UTC
    }
}

impl FromStr for TimeZone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self).map_err(|_| {
            Invalid::new(
                "timezone",
                text,
                "an IANA time zone is wanted, for example `Europe/Berlin` or `UTC`",
            )
        })
    }
}

impl TryFrom<String> for TimeZone {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.as_str().to_owned()
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A cron expression in a time zone: six fields, seconds first, as the `croner` crate reads them. Sunday is 0 or 7. Where
/// day of month and day of week are both restricted, both must fit.
///
/// Where clocks are put forward, a time of day that is left out counts as the first moment after the gap when seconds,
/// minutes and hours are single numbers; otherwise it is passed over. Where they are put back, such a fixed time is due
/// once, the first time; anything else is due both times.
#[derive(Debug, Clone)]
pub struct Cron {
    parsed: croner::Cron,
    zone: TimeZone,
}

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// Names the field `cron`: what is wrong, or that it is never due.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, Invalid> {
        let parsed = CronParser::builder()
            .seconds(Seconds::Required)
            .dom_and_dow(true)
            .build()
            .parse(text)
            .map_err(|error| {
                let wanted = format!("{error}; six fields are wanted, seconds first: `0 30 8 * * *`");
                Invalid::new("cron", text, wanted)
            })?;
        Ok(Self { parsed, zone })
    }

    /// The first slot after a moment; none when there is no more, as for the 30th of February.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = whole_second(after).to_chrono().with_timezone(&self.zone.0);
        let next = self.parsed.find_next_occurrence(&after, false).ok()?;
        Some(next.to_utc().into())
    }

    /// The slots after `after`, up to and with `until`, in order.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(after), |slot| self.next_after(*slot))
            .take_while(move |slot| *slot <= until)
    }

    /// Whether it names one time of day, which is due once on days when clocks are put forward or back.
    pub fn is_fixed_time(&self) -> bool {
        self.parsed.determine_job_type() == JobType::FixedTime
    }
}

/// The second that a moment is in: slots have no fractions.
fn whole_second(at: Timestamp) -> Timestamp {
    const SECOND: i64 = 1_000_000;
    Timestamp::from_micros(at.as_micros().div_euclid(SECOND) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron, zone.parse().unwrap()).unwrap();
        let first = cron.next_after(after.parse().unwrap());
        std::iter::successors(first, |slot| cron.next_after(*slot))
            .take(count)
            .map(|slot| slot.to_string())
            .collect()
    }

    /// How day fields are read. Each row can be worked out with a calendar: 2026-05-01 is a Friday.
    #[test]
    fn day_fields_are_read_as_the_contract_says() {
        for (cron, expected) in [
            // Sunday is 0 and 7.
            ("0 0 0 * * 0", ["2026-05-03T00:00:00Z", "2026-05-10T00:00:00Z"]),
            ("0 0 0 * * 7", ["2026-05-03T00:00:00Z", "2026-05-10T00:00:00Z"]),
            ("0 0 0 * * SUN", ["2026-05-03T00:00:00Z", "2026-05-10T00:00:00Z"]),
            (
                "0 0 0 * * MON-FRI",
                ["2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z"],
            ),
            // Day of month and day of week: both must fit. Fridays the 13th.
            ("0 0 0 13 * 5", ["2026-11-13T00:00:00Z", "2027-08-13T00:00:00Z"]),
            // One of them is enough where the other is open.
            ("0 0 0 13 * *", ["2026-05-13T00:00:00Z", "2026-06-13T00:00:00Z"]),
            ("0 0 0 * * 5", ["2026-05-08T00:00:00Z", "2026-05-15T00:00:00Z"]),
            // The last day of the month, the second Friday, leap days.
            ("0 0 0 L * *", ["2026-05-31T00:00:00Z", "2026-06-30T00:00:00Z"]),
            ("0 0 0 * * 5#2", ["2026-05-08T00:00:00Z", "2026-06-12T00:00:00Z"]),
            ("0 0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("*/30 * * * * *", ["2026-05-01T00:00:30Z", "2026-05-01T00:01:00Z"]),
        ] {
            assert_eq!(slots(cron, "UTC", "2026-05-01T00:00:00Z", 2), expected, "{cron}");
        }
    }

    #[test]
    fn a_slot_is_never_the_moment_asked_from_and_has_no_fraction() {
        let each = |after| slots("* * * * * *", "UTC", after, 1).remove(0);
        assert_eq!(each("2026-05-01T08:00:00Z"), "2026-05-01T08:00:01Z");
        assert_eq!(each("2026-05-01T08:00:00.999999Z"), "2026-05-01T08:00:01Z");
        assert_eq!(each("1969-12-31T23:59:58.5Z"), "1969-12-31T23:59:59Z");
    }

    /// Berlin puts clocks from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC.
    #[test]
    fn a_time_that_is_left_out_is_due_after_the_gap_when_it_is_fixed() {
        let fixed = slots("0 30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            fixed,
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        let every = slots("0 */30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(every, ["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    /// Berlin puts clocks from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
    #[test]
    fn a_time_that_comes_twice_is_due_once_when_it_is_fixed() {
        let fixed = slots("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(fixed, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let every = slots("0 */30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 5);
        assert_eq!(
            every,
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-26T01:00:00Z"
            ]
        );
    }

    #[test]
    fn what_is_never_due_has_no_next_slot() {
        assert_eq!(slots("0 0 0 30 2 *", "UTC", "2026-05-01T00:00:00Z", 1), [""; 0]);
    }

    #[test]
    fn slots_between_two_moments_leave_out_the_first_and_hold_the_last() {
        let cron = Cron::parse("0 0 * * * *", TimeZone::UTC).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let between: Vec<_> = cron
            .between(at("2026-05-01T08:00:00Z"), at("2026-05-01T10:00:00Z"))
            .map(|slot| slot.to_string())
            .collect();
        assert_eq!(between, ["2026-05-01T09:00:00Z", "2026-05-01T10:00:00Z"]);
    }

    #[test]
    fn a_zone_that_does_not_exist_is_refused_with_its_name() {
        let error = "Mars/Olympus".parse::<TimeZone>().unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.value.as_str()),
            ("timezone", "Mars/Olympus")
        );
        assert_eq!(
            "Asia/Kolkata".parse::<TimeZone>().unwrap().to_string(),
            "Asia/Kolkata"
        );
    }
}
