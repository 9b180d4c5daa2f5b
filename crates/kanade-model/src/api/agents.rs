//! Bodies about agents: their groups, their configuration, the programs that they update themselves to.

use serde::{Deserialize, Serialize};

use crate::{EffectiveConfig, GroupName, Heartbeat, HumanDuration, PcId, Timestamp, Version};

body! {
    /// An agent.
    pub struct Agent {
        /// The agent.
        pub pc_id: PcId,
        /// The host's name.
        pub hostname: Option<String>,
        /// `windows`, `linux`, `macos`, …
        pub os_family: Option<String>,
        /// The version of the agent program.
        pub agent_version: Option<String>,
        /// The newest sign of life.
        pub last_heartbeat: Timestamp,
        /// When that was recorded.
        pub updated_at: Timestamp,
    }

    /// A group an agent is to join.
    pub struct GroupJoin {
        /// The group.
        pub group: GroupName,
    }

    /// What holds for an agent.
    pub struct AgentConfig {
        /// The agent.
        pub pc_id: PcId,
        /// The configuration after laying all scopes over each other.
        pub effective: EffectiveConfig,
        /// Fields that two groups set.
        pub warnings: Vec<String>,
    }

    /// The answer to a ping.
    pub struct Ping {
        /// The sign of life that came.
        pub heartbeat: Heartbeat,
    }

    /// A program that agents can update themselves to.
    pub struct Release {
        /// Its version.
        pub version: Version,
        /// Its bytes.
        pub size: u64,
        /// `SHA-256=` and the hash in URL-safe base64.
        pub digest: String,
        /// When it was stored.
        pub modified: Timestamp,
    }

    /// The answer to a program that was published.
    pub struct Published {
        /// The version it was stored under.
        pub version: Version,
        /// Its bytes.
        pub size: u64,
        /// `SHA-256=` and the hash in URL-safe base64.
        pub digest: String,
    }

    /// Which agents are to update themselves, to what.
    pub struct RolloutRequest {
        /// A version that is published.
        pub version: Version,
        /// The agents.
        pub scope: RolloutScope,
        /// They spread the update over this time; what is set for them already when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub jitter: Option<HumanDuration>,
    }

    /// The answer to a rollout.
    pub struct RolledOut {
        /// The version.
        pub version: Version,
        /// The document that says so: `global`, `groups.{name}` or `pcs.{pc_id}`.
        pub scope_key: String,
        /// The same for people: `global`, `group canary`, `pc web-1`.
        pub scope_label: String,
        /// The agents spread the update over this time.
        pub jitter: Option<HumanDuration>,
    }
}

/// The agents that a rollout is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", content = "value", rename_all = "lowercase")]
pub enum RolloutScope {
    /// All.
    Global,
    /// The members of this group.
    Group(GroupName),
    /// This one.
    Pc(PcId),
}
