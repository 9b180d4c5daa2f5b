//! The bodies of the HTTP API, shared by the server and its clients. Shapes that existing clients know keep their
//! fields; what we add stands beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AgentGroups, ConfigScope, DisplayField, EffectiveConfig, ExecId, ExecutionStatus, GroupName, Heartbeat,
    HumanDuration, JobId, Manifest, PcId, Receipt, RequestId, ResultId, Retry, ScheduleId, ScriptStatus,
    SlotState, Target, TargetState, Timestamp, Version,
};

macro_rules! body {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
    )+ };
}

mod output;
mod steering;
pub use output::OutputEvent;
pub use steering::{ExecutionWave, KillOf, KillRequest, Killed, WaveGate};

body! {
    /// A job in a list: its manifest's fields and what is live.
    pub struct Job {
        /// The manifest's fields, at the root.
        #[serde(flatten)] pub manifest: Manifest,
        /// What is under way.
        pub live: Live,
        /// Whether agents may start it.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub script_status: Option<ScriptStatus>,
    }

    /// Executions of a job that are pending or running; those labelled expired count as neither.
    pub struct Live {
        /// With something started.
        pub running: u64,
        /// With nothing started.
        pub pending: u64,
    }

    /// The answer to a job that was stored.
    pub struct JobStored {
        /// The job.
        pub id: JobId,
        /// Its version.
        pub version: Version,
        /// Its description.
        pub description: Option<String>,
        /// Whether it collects inventory facts.
        pub inventory: bool,
    }

    /// One stored version of a job.
    pub struct JobVersion {
        /// Names this version of the document; compare it, never count on it.
        pub revision: String,
        /// The document.
        pub manifest: Manifest,
    }

    /// The answer to a fire.
    pub struct Fired {
        /// The execution.
        pub exec_id: ExecId,
        /// The job.
        pub job_id: JobId,
        /// The version that was pinned.
        pub version: Version,
        /// How many agents it is aimed at.
        pub target_count: u32,
        /// The subjects its Commands go to.
        pub subjects: Vec<String>,
    }

    /// One execution.
    pub struct Execution {
        /// The execution.
        pub exec_id: ExecId,
        /// The job.
        pub job_id: JobId,
        /// The version that was pinned.
        pub version: Version,
        /// Who fired it.
        pub initiated_by: String,
        /// When.
        pub initiated_at: Timestamp,
        /// How many agents it is aimed at.
        pub target_count: u32,
        /// How many succeeded.
        pub success_count: u32,
        /// How many failed, were killed, timed out or are lost.
        pub failure_count: u32,
        /// Where it stands.
        pub status: ExecutionStatus,
        /// How many targets are in which state; states without any are left out.
        #[serde(default)] pub targets: BTreeMap<TargetState, u32>,
        /// When its last target became final.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub finished_at: Option<Timestamp>,
        /// When it was killed.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub killed_at: Option<Timestamp>,
        /// Who killed it.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub killed_by: Option<String>,
        /// Since when it is paused; missing when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub paused_at: Option<Timestamp>,
        /// Who paused it; `gate` when a gate did.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub paused_by: Option<String>,
        /// Why it is paused, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub pause_reason: Option<String>,
        /// When it was aborted.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub aborted_at: Option<Timestamp>,
        /// Who aborted it.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub aborted_by: Option<String>,
        /// At most so many of its agents at once; missing when there is no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub max_parallel: Option<u32>,
        /// How a run that fails is tried again; missing when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub retry: Option<Retry>,
        /// How many agents wait for others to finish or for their next attempt; missing when none does.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub parked_count: Option<u32>,
        /// Its waves, in order; missing for one without a rollout, and in lists.
        #[serde(default, skip_serializing_if = "Vec::is_empty")] pub waves: Vec<ExecutionWave>,
    }

    /// One execution with its runs.
    pub struct ExecutionDetail {
        /// The execution.
        pub execution: Execution,
        /// Its newest runs, 1,000 at most; `GET /api/results?exec_id=` lists all.
        pub results: Vec<RunHead>,
        /// The values of its parameters; null for a secret one.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")] pub params: BTreeMap<String, Option<String>>,
    }

    /// A run without its output.
    pub struct RunHead {
        /// The run.
        pub result_id: ResultId,
        /// The Command that was run.
        pub request_id: RequestId,
        /// The agent.
        pub pc_id: PcId,
        /// The exit code; null while it runs.
        pub exit_code: Option<i32>,
        /// When it started.
        pub started_at: Timestamp,
        /// When it ended; null while it runs.
        pub finished_at: Option<Timestamp>,
    }

    /// Where an execution stands on one agent.
    pub struct ExecutionTarget {
        /// The agent.
        pub pc_id: PcId,
        /// The state.
        pub state: TargetState,
        /// The number of the attempt that this is about, from 1.
        #[serde(default = "first")] pub attempt: u32,
        /// The number of its wave, from 0.
        pub wave: u32,
        /// When its Command is (or was) due.
        pub due_at: Timestamp,
        /// The run that decides the state.
        pub result_id: Option<ResultId>,
        /// When that run started.
        pub started_at: Option<Timestamp>,
        /// When the state became final.
        pub finished_at: Option<Timestamp>,
        /// The exit code of that run.
        pub exit_code: Option<i32>,
        /// Why it was refused, in words.
        pub detail: Option<String>,
        /// What became of a kill; null when none was asked for or it was final before.
        pub receipt: Option<Receipt>,
    }

    /// A run with its output.
    pub struct Run {
        /// The run.
        pub result_id: ResultId,
        /// The Command that was run.
        pub request_id: RequestId,
        /// The execution; null for an ad-hoc run.
        pub exec_id: Option<ExecId>,
        /// The agent.
        pub pc_id: PcId,
        /// The exit code; null while it runs.
        pub exit_code: Option<i32>,
        /// Standard output.
        pub stdout: String,
        /// Standard error, with the agent's own remarks.
        pub stderr: String,
        /// When it started.
        pub started_at: Timestamp,
        /// When it ended; null while it runs.
        pub finished_at: Option<Timestamp>,
        /// The job.
        pub job_id: Option<JobId>,
        /// The version of the job.
        pub version: Option<Version>,
        /// `running`, `succeeded`, `failed`, `killed`, `timed_out` or `lost`.
        #[serde(default)] pub state: Option<crate::RunState>,
    }

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

    /// A slot of a schedule, and what became of it.
    pub struct Slot {
        /// The schedule.
        pub schedule_id: ScheduleId,
        /// The due time.
        pub slot: Timestamp,
        /// What became of it.
        pub state: SlotState,
        /// The execution it fired.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub exec_id: Option<ExecId>,
        /// Why it did not fire, or fired late, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub detail: Option<String>,
        /// When that was settled.
        pub settled_at: Timestamp,
    }

    /// A slot that is to come.
    pub struct SlotAhead {
        /// The schedule.
        pub schedule_id: ScheduleId,
        /// The job it fires.
        pub job_id: JobId,
        /// The due time.
        pub slot: Timestamp,
        /// The same moment in the schedule's time zone, in RFC 3339.
        pub local: String,
        /// The reason of the freeze in which it lies; missing when none does.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub frozen: Option<String>,
    }

    /// The time whose slots are to be fired.
    pub struct Backfill {
        /// The first moment.
        pub from: Timestamp,
        /// The last moment; it must have passed.
        pub until: Timestamp,
    }

    /// A schedule: its document's fields, and whether it is held.
    pub struct ScheduleShown {
        /// The document's fields, at the root.
        #[serde(flatten)] pub schedule: crate::Schedule,
        /// Why it does not fire although it is enabled; missing when nothing holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub held: Option<Held>,
        /// When it is due next; missing when it does not fire by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub next: Option<Timestamp>,
        /// Why its document is not valid, so that it does not fire; missing when it is.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub problem: Option<String>,
    }

    /// A document in the bucket of schedules that is not a schedule. Existing clients read lists of schedules whole or
    /// not at all, so what they want of each is there, and says nothing.
    pub struct UnreadableSchedule {
        /// Its key.
        pub id: String,
        /// What is wrong with it.
        pub problem: String,
        /// Empty.
        pub cron: String,
        /// Empty.
        pub job_id: String,
        /// Nobody.
        pub target: Target,
        /// False.
        pub enabled: bool,
    }

    /// Why a schedule is held.
    pub struct Held {
        /// The reason and what to do about it, in words.
        pub reason: String,
    }

    /// The summary of a schedule that was stored.
    pub struct ScheduleStored {
        /// The schedule.
        pub id: ScheduleId,
        /// Its cron expression.
        pub cron: String,
        /// Whether it fires.
        pub enabled: bool,
        /// The job it fires.
        pub job_id: JobId,
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

    /// A script to run once on one agent.
    pub struct RunRequest {
        /// The agent.
        pub pc_id: PcId,
        /// The text.
        pub script: String,
        /// `powershell` (the default; `ps` and `pwsh` mean it too), `cmd`, `sh`, `bash`.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub shell: Option<String>,
        /// The run is ended after so many seconds; 60 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub timeout_secs: Option<u64>,
        /// An execution id to run under, so that it can be killed.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub exec_id: Option<ExecId>,
        /// The agent waits a random time up to so many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub jitter_secs: Option<u64>,
    }

    /// The answer to a ping.
    pub struct Ping {
        /// The sign of life that came.
        pub heartbeat: Heartbeat,
    }

    /// A job that collects inventory facts.
    pub struct InventoryJob {
        /// The job.
        pub manifest_id: JobId,
        /// Its description.
        pub description: Option<String>,
        /// The columns to show.
        pub display: Vec<DisplayField>,
        /// How to show an agent in one line.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))] pub summary: Option<Value>,
    }

    /// What one job found out about all agents.
    pub struct InventoryTable {
        /// The job.
        pub manifest_id: JobId,
        /// The columns to show.
        pub display: Vec<DisplayField>,
        /// How to show an agent in one line.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))] pub summary: Option<Value>,
        /// One row an agent.
        pub rows: Vec<InventoryRow>,
    }

    /// What one job found out about one agent, in a table.
    pub struct InventoryRow {
        /// The agent.
        pub pc_id: PcId,
        /// What the run printed.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))] pub facts: Value,
        /// When the run finished.
        pub collected_at: Timestamp,
    }

    /// What one job found out about one agent.
    pub struct InventoryFacts {
        /// The job.
        pub job_id: JobId,
        /// What the run printed.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))] pub facts: Value,
        /// The columns to show.
        pub display: Vec<DisplayField>,
        /// How to show an agent in one line.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))] pub summary: Option<Value>,
        /// When the run finished.
        pub collected_at: Timestamp,
        /// When it was recorded.
        pub recorded_at: Timestamp,
    }

    /// An entry of the audit trail.
    pub struct AuditEntry {
        /// Its number; later ones are larger.
        pub id: i64,
        /// `operator` or `scheduler`.
        pub actor: String,
        /// What was done.
        pub action: String,
        /// To what.
        pub target: Option<String>,
        /// The details.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))] pub payload: Map<String, Value>,
        /// When.
        pub occurred_at: Timestamp,
    }

    /// A message that could not be understood.
    pub struct DeadLetter {
        /// Its number; later ones are larger.
        pub id: i64,
        /// Where it was sent to.
        pub subject: String,
        /// The bytes, as text where they are text, cut at 64 KiB.
        pub payload: String,
        /// What is wrong with it.
        pub reason: String,
        /// When it was set aside.
        pub at: Timestamp,
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

    /// An error (RFC 9457 problem details).
    pub struct Problem {
        /// `about:blank`, or a name for the kind of problem.
        #[serde(rename = "type")] pub kind: String,
        /// The HTTP status in words.
        pub title: String,
        /// The HTTP status.
        pub status: u16,
        /// What was attempted, what is wrong, and what to do.
        pub detail: String,
        /// The field that is wrong, as a dotted path.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub field: Option<String>,
        /// The id of the request, as in the server's log.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub request_id: Option<String>,
    }
}

fn first() -> u32 {
    1
}

mod overview;
pub use overview::*;

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

/// One of the documents in the bucket of schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ScheduleListed {
    /// A schedule.
    Schedule(Box<ScheduleShown>),
    /// What is not one.
    Unreadable(UnreadableSchedule),
}

/// One event of `GET /api/events`. The SSE event name is the `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveEvent {
    /// An execution as it stands now.
    Execution(Box<Execution>),
    /// A run has started or ended.
    Run {
        /// The run.
        result_id: ResultId,
        /// The execution; null for an ad-hoc run.
        exec_id: Option<ExecId>,
        /// The agent.
        pc_id: PcId,
        /// The exit code; null while it runs.
        exit_code: Option<i32>,
        /// Where it stands.
        state: crate::RunState,
    },
    /// A sign of life.
    Agent {
        /// The agent.
        pc_id: PcId,
        /// When.
        last_heartbeat: Timestamp,
    },
    /// A slot of a schedule was settled.
    Slot {
        /// The schedule.
        schedule_id: ScheduleId,
        /// The due time.
        slot: Timestamp,
        /// What became of it.
        state: SlotState,
        /// The execution it fired.
        exec_id: Option<ExecId>,
    },
    /// A document was written or deleted.
    Catalog {
        /// `jobs`, `schedules`, …
        bucket: String,
        /// Its key.
        key: String,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// Events were left out because the reader was too slow: read again what you show.
    Lagged {
        /// How many.
        missed: u64,
    },
}

impl LiveEvent {
    /// The `type`, which is also the name of the SSE event.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Execution(_) => "execution",
            Self::Run { .. } => "run",
            Self::Agent { .. } => "agent",
            Self::Slot { .. } => "slot",
            Self::Catalog { .. } => "catalog",
            Self::Lagged { .. } => "lagged",
        }
    }

    /// The execution it is about, if it is about one.
    pub fn exec_id(&self) -> Option<&ExecId> {
        match self {
            Self::Execution(execution) => Some(&execution.exec_id),
            Self::Run { exec_id, .. } | Self::Slot { exec_id, .. } => exec_id.as_ref(),
            Self::Agent { .. } | Self::Catalog { .. } | Self::Lagged { .. } => None,
        }
    }
}

/// The groups of an agent, as the API shows and takes them.
pub type Groups = AgentGroups;
/// A configuration scope, as the API shows and takes it.
pub type Config = ConfigScope;
