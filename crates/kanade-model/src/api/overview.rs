//! Bodies for whoever looks at a deployment as a whole: groups, what a fire would hit, how runs went over time, and what
//! the deployment is made of.

use serde::{Deserialize, Serialize};

use crate::{GroupName, PcId, Timestamp};

body! {
    /// How often an agent showed life within the last day, or since the server started where that is less.
    pub struct Heartbeats {
        /// The agent.
        pub pc_id: PcId,
        /// When the first span begins.
        pub from: Timestamp,
        /// The length of each span, in seconds.
        pub span_secs: u32,
        /// How often it was heard in each span; the last one goes on.
        pub counts: Vec<u16>,
    }

    /// A group of agents.
    pub struct Group {
        /// Its name.
        pub name: GroupName,
        /// How many agents are in it, known or not.
        pub members: u64,
    }

    /// The agents that a fire would be aimed at.
    pub struct Aim {
        /// How many.
        pub count: u64,
        /// How many of them have been heard of within two minutes.
        pub alive: u64,
        /// Those that have never reported, by id; 100 at most.
        pub unknown: Vec<PcId>,
    }

    /// How executions and runs went over time.
    pub struct Statistics {
        /// Spans of the same length, one after the other.
        pub buckets: Vec<Bucket>,
        /// Whether everything was counted. Of a span, 20,000 successes and as many failures are counted at most, and
        /// of all firings the newest 10,000.
        pub complete: bool,
    }

    /// What began within a span of time.
    pub struct Bucket {
        /// When the span begins.
        pub at: Timestamp,
        /// Executions that were fired.
        pub fired: u64,
        /// Runs that have succeeded.
        pub succeeded: u64,
        /// Runs that have failed, were killed, took too long or are lost.
        pub failed: u64,
    }

    /// Who calls, as the server sees it.
    pub struct WhoAmI {
        /// How callers show who they are: `none`, `token` or `jwt`.
        pub mode: String,
        /// The name that stands in the audit trail.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub name: Option<String>,
        /// When the token ends.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub expires_at: Option<Timestamp>,
    }

    /// What a deployment is made of.
    pub struct Deployment {
        /// The version of the server.
        pub version: String,
        /// What keeps executions: the `kind` of `[store]` in the configuration.
        pub store: String,
        /// What keeps documents: the `kind` of `[catalog]`.
        pub catalog: String,
        /// What moves messages: the `kind` of `[bus]`.
        pub bus: String,
        /// The folder of the data, on the server.
        pub data_dir: String,
    }

    /// Something that was looked at, as `kanade doctor` does.
    pub struct Check {
        /// What was looked at.
        pub check: String,
        /// How it is.
        pub verdict: Verdict,
        /// What was found, and what to do about it.
        pub detail: String,
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}
