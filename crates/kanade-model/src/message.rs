//! What agents say: results, events, heartbeats; and what they are asked.

use serde::{Deserialize, Serialize};

use crate::{ExecId, JobId, PcId, RequestId, ResultId, RunState, Timestamp, Version};

/// The end of a run (`results.{request_id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecResult {
    /// The run; old agents leave it out, see [`ExecResult::run_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_id: Option<ResultId>,
    /// The Command that was run.
    pub request_id: RequestId,
    /// The execution; none for an ad-hoc run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// The agent.
    pub pc_id: PcId,
    /// The exit code of the script, or one of the agent's own: -1 ended by kill, timeout or stop.
    pub exit_code: i32,
    /// What the script printed, cut to the agent's limit.
    pub stdout: String,
    /// What the script printed on standard error, cut to the agent's limit; the agent appends its reasons.
    pub stderr: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_id: Option<JobId>,
    /// How the run ended, where the agent says so; older agents leave it to be read from `stderr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl ExecResult {
    /// The run's id: the one given, or the one that follows from request and agent.
    pub fn run_id(&self) -> ResultId {
        self.result_id
            .unwrap_or_else(|| ResultId::derived(self.request_id, &self.pc_id))
    }

    /// Where the run stands after this.
    pub fn state(&self) -> RunState {
        match self.how_it_ended() {
            Ended::Killed => RunState::Killed,
            Ended::TimedOut => RunState::TimedOut,
            Ended::Exited if self.exit_code == 0 => RunState::Succeeded,
            Ended::Exited | Ended::Interrupted | Ended::NotStarted => RunState::Failed,
        }
    }

    /// How the run ended: as the agent says, or as its exit code and the last line of `stderr` tell.
    pub fn how_it_ended(&self) -> Ended {
        self.ended.unwrap_or_else(|| {
            let last = self.stderr.trim_end().lines().next_back().unwrap_or_default();
            match self.exit_code {
                -1 if last.contains("killed by remote signal") => Ended::Killed,
                -1 if last.contains("timeout after") => Ended::TimedOut,
                _ => Ended::Exited,
            }
        })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself, with its exit code.
    Exited,
    /// By a kill.
    Killed,
    /// By its timeout.
    TimedOut,
    /// By a stop of the agent.
    Interrupted,
    /// It never started: the interpreter is missing, the account cannot be used, …
    NotStarted,
}

/// A run has started (`events.started.{exec_id}.{pc_id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStarted {
    /// The run; the same id as in its later [`ExecResult`].
    pub result_id: ResultId,
    /// The Command.
    pub request_id: RequestId,
    /// The execution.
    pub exec_id: ExecId,
    /// The agent.
    pub pc_id: PcId,
    /// When the process started.
    pub started_at: Timestamp,
    /// The job.
    pub manifest_id: JobId,
    /// The version of the job.
    pub version: Version,
}

/// An agent did not start what it was told to (`events.skipped.{exec_id}.{pc_id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSkipped {
    /// The Command.
    pub request_id: RequestId,
    /// The execution.
    pub exec_id: ExecId,
    /// The agent.
    pub pc_id: PcId,
    /// When it was decided.
    pub at: Timestamp,
    /// The job.
    pub manifest_id: JobId,
    /// The version the Command carried.
    pub version: Version,
    /// Why.
    pub reason: SkipReason,
    /// The reason in words.
    pub detail: String,
}

/// Why an agent did not start a Command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The job is revoked.
    Revoked,
    /// The deadline had passed.
    Deadline,
    /// The agent's knowledge of revocations was too old.
    Staleness,
    /// Another version of the job is pinned.
    Superseded,
    /// The agent is too old for what the job needs. Said by the server: such an agent says nothing.
    Unsupported,
}

/// A kill has reached an agent that has a run of the execution in hand (`events.kill.{exec_id}.{pc_id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventKill {
    /// The execution that was to be killed.
    pub exec_id: ExecId,
    /// The agent.
    pub pc_id: PcId,
    /// When the kill arrived.
    pub at: Timestamp,
}

/// A sign of life (`heartbeat.{pc_id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// The agent.
    pub pc_id: PcId,
    /// When it was sent.
    pub at: Timestamp,
    /// The version of the agent program.
    pub agent_version: String,
    /// The host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `windows`, `linux`, `macos`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_family: Option<String>,
}

/// A request for the end of an agent's log (`logs.fetch.{pc_id}`); the reply is UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// How many lines.
    #[serde(default = "default_tail")]
    pub tail_lines: u32,
}

fn default_tail() -> u32 {
    500
}

impl Default for LogsRequest {
    fn default() -> Self {
        Self {
            tail_lines: default_tail(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(exit_code: i32, stderr: &str) -> ExecResult {
        serde_json::from_value(json!({
            "request_id": "00000000-0000-0000-0000-000000000007", "pc_id": "pc-1", "exit_code": exit_code,
            "stdout": "", "stderr": stderr, "started_at": "2026-05-01T08:30:00Z", "finished_at": "2026-05-01T08:30:01Z"
        }))
        .unwrap()
    }

    #[test]
    fn how_an_old_agents_run_ended_is_read_from_code_and_stderr() {
        for (code, stderr, ended) in [
            (0, "killed by remote signal (kill.e)", Ended::Exited),
            (-1, "oops\nkilled by remote signal (kill.e)\n", Ended::Killed),
            (-1, "timeout after 30s", Ended::TimedOut),
            (-1, "killed by remote signal\nbut went on", Ended::Exited),
            (-1, "", Ended::Exited),
            (127, "sh: no such command", Ended::Exited),
        ] {
            assert_eq!(result(code, stderr).how_it_ended(), ended, "{code} {stderr:?}");
        }
    }

    #[test]
    fn a_result_without_an_id_gets_the_same_one_each_time() {
        assert_eq!(result(0, "").run_id(), result(1, "x").run_id());
    }
}
