//! Executions that go out in waves, and kills of many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ExecId, Gate, GateState, GroupName, JobId, PcId, TargetState, Timestamp, WaveStatus};

body! {
    /// One wave of an execution.
    pub struct ExecutionWave {
        /// Its number, from 0.
        pub wave: u32,
        /// Whose members it is for.
        pub group: GroupName,
        /// Where it stands.
        pub status: WaveStatus,
        /// When it is (or was) due: its delay after the fire, later when it was held beyond that.
        pub due_at: Timestamp,
        /// When the last of it was sent.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub sent_at: Option<Timestamp>,
        /// How many agents it is for: members that are in no wave before it.
        pub target_count: u32,
        /// How many of them are in which state; states without any are left out.
        #[serde(default)] pub targets: BTreeMap<TargetState, u32>,
        /// What it must come to before later waves go out.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub proceed_if: Option<Gate>,
        /// What came of that.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub gate: Option<WaveGate>,
    }

    /// What came of a gate. Once it is decided, later results do not change it.
    pub struct WaveGate {
        /// What was decided.
        pub state: GateState,
        /// When.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub decided_at: Option<Timestamp>,
        /// How many had succeeded then.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub succeeded: Option<u32>,
    }

    /// Which executions are to be killed: those in flight of a job, those with an agent of a group or with one agent that is not
    /// at its end, or all. Exactly one is named. A kill is of whole executions, whatever it was that named them.
    pub struct KillRequest {
        /// Of this job.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub job_id: Option<JobId>,
        /// With a member of this group.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub group: Option<GroupName>,
        /// With this agent.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub pc_id: Option<PcId>,
        /// All.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")] pub all: bool,
        /// `kill all`, without which nothing is killed with `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub confirm: Option<String>,
        /// Only say what would be killed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")] pub dry_run: bool,
    }

    /// What is killed, or would be.
    pub struct Killed {
        /// The executions.
        pub executions: Vec<KillOf>,
        /// On how many agents they are not at their end, each counted once an execution.
        pub targets: u64,
        /// Whether nothing was killed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")] pub dry_run: bool,
    }

    /// An execution that is killed, or would be.
    pub struct KillOf {
        /// The execution.
        pub exec_id: ExecId,
        /// Its job.
        pub job_id: JobId,
        /// On how many agents it is not at its end.
        pub targets: u32,
    }
}

impl KillRequest {
    /// What `confirm` must say to kill all.
    pub const CONFIRMATION: &'static str = "kill all";
}
