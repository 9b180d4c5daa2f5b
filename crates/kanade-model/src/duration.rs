//! Durations as people write them (`30s`, `1h 5m`).

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A duration in the notation of the `humantime` crate; serialised as such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "1h 5m"))]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest accepted: about 100 years, so that adding it to a moment stays meaningful.
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

    /// Whole seconds, rounded up: a limit is never shorter than what was written.
    pub fn as_secs_ceil(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

impl FromStr for HumanDuration {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        humantime::parse_duration(text)
            .ok()
            .filter(|duration| *duration <= Self::LONGEST)
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(
                    "duration",
                    text,
                    "a duration such as `30s`, `5m` or `1h 5m` is wanted, 100 years at most",
                )
            })
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, secs) in [("30s", 30), ("1h 5m", 3900), ("0s", 0), ("1500ms", 2)] {
            assert_eq!(
                text.parse::<HumanDuration>().unwrap().as_secs_ceil(),
                secs,
                "{text}"
            );
        }
        for text in ["", "30", "five minutes", "-3s", "1000y"] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert!(error.to_string().contains("`30s`"), "{error}");
        }
    }
}
