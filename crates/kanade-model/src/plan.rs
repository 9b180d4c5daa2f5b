//! At whom an execution is aimed, and when.

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
}

impl FanoutPlan {
    /// Whether the plan aims at somebody.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.rollout {
            Some(rollout) if rollout.waves.is_empty() => {
                Err(Invalid::new("rollout.waves", "[]", "at least one wave is wanted"))
            }
            None if self.target.is_empty() => Err(Invalid::new(
                "target",
                "{}",
                "`all`, `groups` or `pcs` must name somebody",
            )),
            _ => Ok(()),
        }
    }
}
