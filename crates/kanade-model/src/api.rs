//! The bodies of the HTTP API, shared by the server and its clients. Shapes that existing clients know keep their
//! fields; what we add stands beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AgentGroups, ConfigScope, DisplayField, ExecId, ExecutionStatus, JobId, Manifest, PcId, Receipt,
    RequestId, ResultId, Retry, ScheduleId, ScriptStatus, SlotState, TargetState, Timestamp, Version,
};

macro_rules! body {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
    )+ };
}

mod agents;
mod fleet;
mod output;
mod overview;
mod schedules;
mod steering;
pub use agents::*;
pub use fleet::*;
pub use output::OutputEvent;
pub use overview::*;
pub use schedules::*;
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
