//! What operators set about agents: groups, configuration scopes, script status.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{GroupName, HumanDuration, Invalid, Version};

/// The groups of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentGroups {
    /// Sorted and unique when we write it.
    #[serde(default)]
    pub groups: Vec<GroupName>,
}

impl AgentGroups {
    /// The groups in the form they are stored in: sorted, each once.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.groups.sort();
        self.groups.dedup();
        self
    }
}

/// Agent configuration of one scope: global, a group, or one pc. A missing field says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigScope {
    /// The agent version to update to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<Version>,
    /// Agents spread the update over this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version_jitter: Option<HumanDuration>,
    /// The time between heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<HumanDuration>,
}

impl ConfigScope {
    fn sets(&self, field: &str) -> bool {
        match field {
            "target_version" => self.target_version.is_some(),
            "target_version_jitter" => self.target_version_jitter.is_some(),
            _ => self.heartbeat_interval.is_some(),
        }
    }

    /// Whether this is a scope we would store.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(version) = &self.target_version {
            version.check().map_err(|error| Invalid {
                field: "target_version".into(),
                ..error
            })?;
        }
        match self.heartbeat_interval {
            Some(interval) if interval.0.as_millis() < 100 => Err(Invalid::new(
                "heartbeat_interval",
                interval.to_string(),
                "at least 100ms is wanted",
            )),
            _ => Ok(()),
        }
    }
}

/// What holds for an agent once all scopes are laid over each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EffectiveConfig {
    /// The agent version to update to.
    pub target_version: Option<Version>,
    /// Agents spread the update over this time.
    pub target_version_jitter: HumanDuration,
    /// The time between heartbeats.
    pub heartbeat_interval: HumanDuration,
}

impl Default for EffectiveConfig {
    fn default() -> Self {
        Self {
            target_version: None,
            target_version_jitter: HumanDuration::default(),
            heartbeat_interval: HumanDuration(std::time::Duration::from_secs(30)),
        }
    }
}

/// Lays the scopes over each other: built-in, global, the agent's groups in alphabetical order, pc; the last
/// that sets a field wins. Also returns a warning for each field that two groups set.
pub fn effective_config(
    global: Option<&ConfigScope>,
    groups: &[(GroupName, ConfigScope)],
    pc: Option<&ConfigScope>,
) -> (EffectiveConfig, Vec<String>) {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let mut effective = EffectiveConfig::default();
    for scope in global
        .into_iter()
        .chain(groups.iter().map(|(_, scope)| scope))
        .chain(pc)
    {
        if let Some(version) = &scope.target_version {
            effective.target_version = Some(version.clone());
        }
        if let Some(jitter) = scope.target_version_jitter {
            effective.target_version_jitter = jitter;
        }
        if let Some(interval) = scope.heartbeat_interval {
            effective.heartbeat_interval = interval;
        }
    }
    let warnings = ["target_version", "target_version_jitter", "heartbeat_interval"]
        .into_iter()
        .filter_map(|field| {
            let by: Vec<&str> = groups
                .iter()
                .filter(|(_, scope)| scope.sets(field))
                .map(|(name, _)| name.as_str())
                .collect();
            let last = by.last().filter(|_| by.len() > 1)?;
            Some(format!(
                "groups {} all set {field}; {last} wins, being last in the alphabet",
                by.join(", ")
            ))
        })
        .collect();
    (effective, warnings)
}

/// Whether agents may start a job. Stored as plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum ScriptStatus {
    /// Agents may start it.
    Active,
    /// Agents must not start it.
    Revoked,
}

impl ScriptStatus {
    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Revoked => "REVOKED",
        }
    }
}

impl FromStr for ScriptStatus {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "ACTIVE" => Ok(Self::Active),
            "REVOKED" => Ok(Self::Revoked),
            _ => Err(Invalid::new("script status", text, "`ACTIVE` or `REVOKED`")),
        }
    }
}

impl fmt::Display for ScriptStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn every(secs: u64) -> ConfigScope {
        ConfigScope {
            heartbeat_interval: Some(HumanDuration(Duration::from_secs(secs))),
            ..Default::default()
        }
    }

    #[test]
    fn the_nearest_scope_wins_and_a_clash_of_groups_is_told() {
        let groups = [
            ("zeta".parse().unwrap(), every(3)),
            ("alpha".parse().unwrap(), every(2)),
        ];
        let (effective, warnings) = effective_config(Some(&every(1)), &groups, None);
        assert_eq!(effective.heartbeat_interval.0.as_secs(), 3);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("alpha, zeta"), "{warnings:?}");
        let (effective, _) = effective_config(Some(&every(1)), &groups, Some(&every(9)));
        assert_eq!(effective.heartbeat_interval.0.as_secs(), 9);
        assert_eq!(effective_config(None, &[], None).0, EffectiveConfig::default());
    }
}
