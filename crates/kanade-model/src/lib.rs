//! The words of kanade as types: ids, the documents operators write, the messages that travel.
//!
//! Serde types and pure checks, no I/O. Shapes that existing fleets speak are marked with the wire
//! name they have there. Reading is lenient (old fleets hold ids we would not create), creating is
//! strict: [`Invalid`] says which field, which value and what is allowed.

pub mod api;
mod audit;
mod command;
mod config;
mod cron;
mod duration;
mod freeze;
mod id;
mod invalid;
mod inventory;
mod manifest;
mod message;
mod output;
pub mod param;
mod plan;
mod schedule;
mod state;
mod subject;
mod time;

pub use audit::{AuditAction, AuditEvent, Caller};
pub use command::{Command, RunAs, Shell, Staleness, params_unknown_to};
pub use config::{AgentGroups, ConfigScope, EffectiveConfig, ScriptStatus, effective_config};
pub use cron::{Cron, TimeZone};
pub use duration::HumanDuration;
pub use freeze::Freeze;
pub use id::{ExecId, GroupName, JobId, PcId, RequestId, ResultId, ScheduleId, SendId, Version};
pub use invalid::Invalid;
pub use inventory::{DisplayField, InventoryHints};
pub use manifest::{Execute, Manifest, Retry};
pub use message::{
    Ended, EventKill, EventSkipped, EventStarted, ExecResult, Heartbeat, LogsRequest, SkipReason,
};
pub use output::{OutputChunk, OutputStream};
pub use param::{Param, ParamText, ParamType, ParamValue, ParamValues, Params};
pub use plan::{FanoutPlan, Gate, Ratio, Rollout, Strategy, Target, Wave};
pub use schedule::{Mode, Overlap, RunsOn, Schedule};
pub use state::{ExecutionStatus, GateState, Receipt, RunState, SlotState, TargetState, WaveStatus};
pub use subject::{Pattern, Subject};
pub use time::Timestamp;
