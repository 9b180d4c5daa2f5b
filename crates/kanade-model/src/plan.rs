//! At whom an execution is aimed, and when.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{GroupName, HumanDuration, Invalid, PcId, Timestamp, param::ParamValues};

/// The body of a fire.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FanoutPlan {
    /// The agents; with a rollout it only labels the execution.
    #[serde(default)]
    pub target: Target,
    /// Fire in waves instead of at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Each agent waits a random time up to this before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<HumanDuration>,
    /// Not started after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// Values for the parameters of the job.
    #[serde(default, skip_serializing_if = "ParamValues::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, serde_json::Value>))]
    pub params: ParamValues,
}

/// A set of agents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// Every agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// The members of these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// These agents, known or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcs: Vec<PcId>,
}

impl Target {
    /// Whether nobody is meant.
    pub fn is_empty(&self) -> bool {
        !self.all && self.groups.is_empty() && self.pcs.is_empty()
    }
}

/// A staged fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// How it is staged.
    pub strategy: Strategy,
    /// The stages, in order.
    pub waves: Vec<Wave>,
}

/// How a fire is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Group after group, each with its own delay.
    Wave,
}

/// One stage: a group, and how long after the fire it is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Wave {
    /// Whose members are sent to.
    pub group: GroupName,
    /// The time from the fire to this wave.
    pub delay: HumanDuration,
    /// What this wave must come to before the waves after it go out; missing: their delays alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proceed_if: Option<Gate>,
}

/// What a wave must come to before the waves after it go out. If it does not, the execution is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gate {
    /// At least this share of the wave's agents has succeeded, 0 to 1.
    pub success_ratio: Ratio,
    /// So long after the wave was sent it is decided, or earlier when nothing can change it any more.
    pub within: HumanDuration,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = f64, example = 0.9))]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

/// No share is NaN.
impl Eq for Ratio {}

impl Ratio {
    /// Whether `part` of `whole` is at least this share. Of nothing, everything is.
    pub fn is_reached(self, part: u32, whole: u32) -> bool {
        // Divided and not multiplied: 55 of 100 is the number that is written 0.55, and 0.55 * 100 is more than 55.
        whole == 0 || f64::from(part) / f64::from(whole) >= self.0
    }
}

impl TryFrom<f64> for Ratio {
    type Error = Invalid;
    fn try_from(share: f64) -> Result<Self, Invalid> {
        (0.0..=1.0)
            .contains(&share)
            .then_some(Self(share))
            .ok_or_else(|| {
                Invalid::new(
                    "success_ratio",
                    share.to_string(),
                    "a share from 0 to 1 is wanted",
                )
            })
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

impl FromStr for Ratio {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let share: f64 = text
            .parse()
            .map_err(|_| Invalid::new("success_ratio", text, "a share from 0 to 1 is wanted"))?;
        Self::try_from(share)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Rollout {
    /// The most waves.
    pub const MOST: usize = 100;

    fn check(&self) -> Result<(), Invalid> {
        let count = self.waves.len();
        if count == 0 {
            return Err(Invalid::new("rollout.waves", "[]", "at least one wave is wanted"));
        }
        if count > Self::MOST {
            let allowed = format!("{} waves at most are wanted", Self::MOST);
            return Err(Invalid::new("rollout.waves", format!("{count} waves"), allowed));
        }
        for (number, gate) in self.waves.iter().map(|wave| wave.proceed_if).enumerate() {
            let Some(gate) = gate else { continue };
            let at = format!("rollout.waves[{number}].proceed_if");
            if number + 1 == count {
                let why = "no wave comes after the last one, so nothing can depend on it";
                return Err(Invalid::new(at, gate.to_string(), why));
            }
            if gate.within.0.is_zero() {
                let why = "more than `0s` is wanted: the agents need time to succeed";
                return Err(Invalid::new(format!("{at}.within"), gate.within.to_string(), why));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {}", self.success_ratio, self.within)
    }
}

impl FanoutPlan {
    /// Whether the plan aims at somebody.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.rollout {
            Some(rollout) => rollout.check(),
            None if self.target.is_empty() => Err(Invalid::new(
                "target",
                "{}",
                "`all`, `groups` or `pcs` must name somebody",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(waves: &serde_json::Value) -> Result<FanoutPlan, serde_json::Error> {
        serde_json::from_value(json!({"rollout": {"strategy": "wave", "waves": waves}}))
    }

    #[test]
    fn a_share_is_reached_by_the_number_that_is_written_so() {
        for (share, part, whole, reached) in [
            ("0.55", 55, 100, true),
            ("0.55", 54, 100, false),
            ("0.1", 1, 10, true),
            ("1", 3, 3, true),
            ("1", 2, 3, false),
            ("0", 0, 3, true),
            ("0.9", 0, 0, true),
        ] {
            let ratio: Ratio = share.parse().unwrap();
            assert_eq!(
                ratio.is_reached(part, whole),
                reached,
                "{part} of {whole}: {share}"
            );
        }
    }

    #[test]
    fn a_gate_that_cannot_be_is_refused_with_its_field() {
        let gate = json!({"success_ratio": 0.9, "within": "10m"});
        let soon = json!({"success_ratio": 0.9, "within": "0s"});
        let wave = |gate: &serde_json::Value| json!({"group": "g", "delay": "0s", "proceed_if": gate});
        let plain = json!({"group": "g", "delay": "0s"});
        assert!(plan(&json!([wave(&gate), plain])).unwrap().check().is_ok());
        for (waves, field) in [
            (json!([]), "rollout.waves"),
            (json!([plain, wave(&gate)]), "rollout.waves[1].proceed_if"),
            (json!([wave(&soon), plain]), "rollout.waves[0].proceed_if.within"),
            (json!(vec![plain.clone(); 101]), "rollout.waves"),
        ] {
            let error = plan(&waves).unwrap().check().unwrap_err();
            assert_eq!(error.field, field, "{waves}");
        }
        for gate in [
            json!({"success_ratio": 1.1, "within": "10m"}),
            json!({"success_ratio": -0.1, "within": "10m"}),
            json!({"success_ratio": 0.5}),
            json!({"within": "10m"}),
        ] {
            assert!(plan(&json!([wave(&gate), plain])).is_err(), "{gate}");
        }
    }

    #[test]
    fn a_wave_without_a_gate_is_written_as_ever() {
        let wave = json!({"group": "g", "delay": "10m"});
        let read: Wave = serde_json::from_value(wave.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), wave);
    }
}
