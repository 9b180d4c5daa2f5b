//! One kind of timestamp everywhere: UTC, microseconds, RFC 3339 outside.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A moment in UTC with microsecond precision (finer input is cut, so that every store keeps the same value).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime))]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);
    /// The first and the last moment that RFC 3339 can write.
    const YEARS: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

    /// Microseconds since 1970, kept within the years 0000 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(*Self::YEARS.start(), *Self::YEARS.end()))
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// This moment plus `by`; the end of the year 9999 at most.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(by)))
    }

    /// This moment less `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(by)))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The second of this moment in the way of HTTP (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http_date(self) -> String {
        self.to_chrono().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Reads what [`http_date`](Self::http_date) writes.
    pub fn from_http_date(text: &str) -> Option<Self> {
        let at = DateTime::parse_from_rfc2822(text).ok()?;
        Some(at.to_utc().into())
    }

    /// The same moment as chrono has it.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).expect("within the years chrono knows")
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self::from_micros(at.timestamp_micros())
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        DateTime::parse_from_rfc3339(text)
            .map(|at| at.to_utc().into())
            .map_err(|_| {
                Invalid::new(
                    "timestamp",
                    text,
                    "RFC 3339 is wanted, for example `2026-05-01T08:30:00Z`",
                )
            })
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        for text in [
            "2026-05-01T08:30:00Z",
            "1969-12-31T23:59:59.999999Z",
            "2026-05-01T08:30:00.120Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        let with_offset: Timestamp = "2026-05-01T10:30:00.1234567+02:00".parse().unwrap();
        assert_eq!(with_offset.to_string(), "2026-05-01T08:30:00.123456Z");
    }

    #[test]
    fn arithmetic_stays_within_what_can_be_written() {
        let far = Timestamp::UNIX_EPOCH.plus(Duration::MAX);
        assert_eq!(far.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(
            Timestamp::from_micros(i64::MIN)
                .to_string()
                .parse::<Timestamp>()
                .unwrap()
                .as_micros(),
            -62_167_219_200_000_000
        );
        assert_eq!(Timestamp::UNIX_EPOCH.since(far), Duration::ZERO);
    }

    #[test]
    fn the_way_of_http_is_known() {
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = Timestamp::from_http_date(text).unwrap();
        assert_eq!(at.to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(at.plus(Duration::from_millis(999)).http_date(), text);
        assert_eq!(Timestamp::from_http_date("1994-11-06"), None);
    }
}
