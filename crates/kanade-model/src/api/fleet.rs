//! Bodies about the whole: the fleet, the broker, the server itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

body! {
    /// What the wire contract wants on the broker. All lists are empty in a deployment without a broker.
    pub struct BrokerStatus {
        /// Streams of messages.
        pub streams: Vec<BrokerResource>,
        /// Buckets of documents.
        pub kv_buckets: Vec<BrokerResource>,
        /// Object stores.
        pub object_stores: Vec<BrokerResource>,
    }

    /// Something on the broker.
    pub struct BrokerResource {
        /// Its name.
        pub name: String,
        /// Whether it is there.
        pub exists: bool,
    }

    /// How the fleet is.
    pub struct FleetHealth {
        /// All in one word.
        pub status: FleetStatus,
        /// The agents.
        pub agents: FleetAgents,
        /// What is on the broker.
        pub jetstream: FleetBroker,
        /// How runs went.
        pub recent_results: RecentResults,
        /// When this was found out; it is told again for a few seconds.
        pub observed_at: Timestamp,
    }

    /// How many agents there are.
    pub struct FleetAgents {
        /// That have ever shown life.
        pub known: u64,
        /// Of which within two minutes.
        pub active: u64,
        /// The others.
        pub stale: u64,
    }

    /// What the wire contract wants on the broker, in numbers; nothing where there is no broker.
    pub struct FleetBroker {
        /// Whether all of it is there.
        pub all_ok: bool,
        /// How much is.
        pub healthy: u64,
        /// How much there should be; 0 as long as the broker does not answer.
        pub total: u64,
        /// The names of what is not there.
        pub missing: Vec<String>,
        /// Why the broker could not be asked.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub error: Option<String>,
    }

    /// How many runs have ended lately. Of successes and of failures, 100,000 each are counted at most.
    pub struct RecentResults {
        /// Of runs that started within so many hours …
        pub window_hours: u32,
        /// … so many have ended,
        pub total: u64,
        /// so many of them not well.
        pub failed: u64,
    }

    /// Whether the server can do its work.
    pub struct Ready {
        /// Whether all checks are well.
        pub ready: bool,
        /// Each part (`store`, `catalog`, `bus`) and `ok` or what is wrong.
        pub checks: BTreeMap<String, String>,
        /// What became of the bus since the start; only told with the checks.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub bus: Option<BusRecord>,
    }

    /// What became of the bus since the server started.
    pub struct BusRecord {
        /// How often its connection was lost.
        pub outages: u64,
        /// How many messages were dropped because they were not taken in time.
        pub dropped: u64,
    }
}

/// How a fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FleetStatus {
    /// Agents show life, and what should be on the broker is there.
    Ok,
    /// No agent has shown life yet.
    Unknown,
    /// The broker does not answer or lacks something, or none of the agents shows life.
    Degraded,
}
