//! A freeze: for some time no schedule of the server fires.

use serde::{Deserialize, Serialize};

use crate::{Invalid, Timestamp};

/// No schedule of the server fires from `from` until `until`; slots in between are skipped, with the reason. What operators
/// fire by hand is not concerned, nor are schedules that agents tick themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why, for people.
    pub reason: String,
    /// Its begin; when it was set, where missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Its end.
    pub until: Timestamp,
    /// Who set it; the server fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Freeze {
    /// The longest reason, in bytes.
    const LONGEST_REASON: usize = 1000;

    /// Whether this is a freeze that can be set at `now`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self, now: Timestamp) -> Result<(), Invalid> {
        if self.reason.trim().is_empty() || self.reason.len() > Self::LONGEST_REASON {
            return Err(Invalid::new(
                "reason",
                &self.reason,
                "a reason is wanted, 1000 bytes at most",
            ));
        }
        if self.until <= now || self.from.is_some_and(|from| from >= self.until) {
            let wanted = "a moment in the future is wanted, after `from`";
            return Err(Invalid::new("until", self.until.to_string(), wanted));
        }
        Ok(())
    }

    /// Whether it holds at a moment.
    pub fn covers(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && at < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(from: Option<&str>, until: &str) -> Freeze {
        Freeze {
            reason: "year-end closing".into(),
            from: from.map(|from| from.parse().unwrap()),
            until: until.parse().unwrap(),
            by: None,
        }
    }

    #[test]
    fn a_freeze_holds_from_its_begin_and_up_to_its_end() {
        let freeze = freeze(Some("2026-12-24T00:00:00Z"), "2027-01-02T00:00:00Z");
        for (at, covered) in [
            ("2026-12-23T23:59:59Z", false),
            ("2026-12-24T00:00:00Z", true),
            ("2027-01-01T23:59:59Z", true),
            ("2027-01-02T00:00:00Z", false),
        ] {
            assert_eq!(freeze.covers(at.parse().unwrap()), covered, "{at}");
        }
    }

    #[test]
    fn a_freeze_that_means_nothing_is_refused() {
        let now = "2026-12-01T00:00:00Z".parse().unwrap();
        assert!(freeze(None, "2026-12-02T00:00:00Z").check(now).is_ok());
        for (from, until) in [
            (None, "2026-12-01T00:00:00Z"),
            (Some("2026-12-03T00:00:00Z"), "2026-12-02T00:00:00Z"),
        ] {
            assert_eq!(freeze(from, until).check(now).unwrap_err().field, "until");
        }
        let silent = Freeze {
            reason: " ".into(),
            ..freeze(None, "2026-12-02T00:00:00Z")
        };
        assert_eq!(silent.check(now).unwrap_err().field, "reason");
    }
}
