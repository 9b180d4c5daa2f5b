//! What a store keeps. Every record is a plain value that a backend writes as it likes.

use std::{collections::BTreeMap, time::Duration};

use kanade_model::{
    AuditEvent, Command, EventStarted, ExecId, ExecutionStatus, FanoutPlan, InventoryHints, JobId, PcId,
    Receipt, RequestId, ResultId, RunAs, RunState, SendId, Shell, Staleness, Subject, TargetState, Timestamp,
    Version,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Course, OrderParams};

/// One firing of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub exec_id: ExecId,
    /// The job.
    pub job_id: JobId,
    /// The version that was pinned.
    pub version: Version,
    /// Who fired it: a person's name where known, else `operator` or `scheduler`.
    pub initiated_by: String,
    /// When.
    pub initiated_at: Timestamp,
    /// How many targets are in which state. Derived in the commit that changes a target.
    pub counts: Counts,
    /// Where it stands. Derived in the same commit.
    pub status: ExecutionStatus,
    /// Whether anything of it ever started.
    pub started: bool,
    /// When its last send is (or was) due.
    pub last_due_at: Timestamp,
    /// Set while it is labelled expired or once was.
    pub expired_at: Option<Timestamp>,
    /// When its last target became final.
    pub finished_at: Option<Timestamp>,
    /// The kill, if there was one.
    pub kill: Option<Kill>,
    /// How long things of it may take.
    pub limits: Limits,
    /// Its waves, and whether somebody has paused or aborted it.
    #[serde(default, skip_serializing_if = "Course::is_plain")]
    pub course: Course,
}

impl Execution {
    /// Whether nothing more is expected.
    pub fn is_final(&self) -> bool {
        matches!(self.status, ExecutionStatus::Completed | ExecutionStatus::Killed)
    }
}

/// A kill of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Who killed it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whether the time for answers is over: the kill is no longer repeated on its own.
    pub settled: bool,
    /// When it was asked for again, by somebody or because a run showed life after it; none while the first time counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_again_at: Option<Timestamp>,
}

impl Kill {
    /// Since when the time for answers runs.
    pub fn asked_at(&self) -> Timestamp {
        self.asked_again_at.unwrap_or(self.at)
    }

    /// Begins its time for answers anew.
    pub(crate) fn ask_again(&mut self, at: Timestamp) {
        self.settled = false;
        self.asked_again_at = Some(at.max(self.asked_at()));
    }
}

/// How long things of an execution may take, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From due to started; then a waiting target is expired.
    pub start_within_secs: u64,
    /// From started, or from when the server heard of the start where that is later, to finished, agents' grace
    /// included; then a run is lost.
    pub run_within_secs: u64,
}

impl Limits {
    /// When a waiting target expires that was due at `due_at`.
    pub fn start_by(&self, due_at: Timestamp) -> Timestamp {
        due_at.plus(Duration::from_secs(self.start_within_secs))
    }

    /// When a run is lost that started, or was heard of, at `started_at`.
    pub fn finish_by(&self, started_at: Timestamp) -> Timestamp {
        started_at.plus(Duration::from_secs(self.run_within_secs))
    }
}

/// How many targets of an execution are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Counts([u32; TargetState::ALL.len()]);

/// A record that was written when there were fewer states has fewer counts.
impl TryFrom<Vec<u32>> for Counts {
    type Error = &'static str;
    fn try_from(stored: Vec<u32>) -> Result<Self, Self::Error> {
        let mut counts = Self::default();
        let known = counts
            .0
            .get_mut(..stored.len())
            .ok_or("there are more counts than states")?;
        known.copy_from_slice(&stored);
        Ok(counts)
    }
}

impl From<Counts> for Vec<u32> {
    fn from(counts: Counts) -> Self {
        counts.0.into()
    }
}

impl Counts {
    /// Targets in `state`.
    pub fn of(&self, state: TargetState) -> u32 {
        self.0[state as usize]
    }

    /// All targets.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Targets that succeeded.
    pub fn success(&self) -> u32 {
        self.of(TargetState::Succeeded)
    }

    /// Targets that failed, were killed, timed out or are lost.
    pub fn failure(&self) -> u32 {
        self.sum(TargetState::is_failure)
    }

    /// Targets of which nothing more is expected.
    pub fn finished(&self) -> u32 {
        self.sum(TargetState::is_final)
    }

    /// Counts one more target in `state`.
    pub fn add(&mut self, state: TargetState) {
        self.0[state as usize] += 1;
    }

    /// Counts one target less in `state`.
    pub fn remove(&mut self, state: TargetState) {
        let count = &mut self.0[state as usize];
        *count = count
            .checked_sub(1)
            .expect("a target is only removed from a state it was counted in");
    }

    fn sum(&self, wanted: impl Fn(TargetState) -> bool) -> u32 {
        TargetState::ALL
            .iter()
            .filter(|state| wanted(**state))
            .map(|state| self.of(*state))
            .sum()
    }
}

/// What an execution tells its agents, the same for each, and what was known of the job at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job_id: JobId,
    /// The version that was pinned.
    pub version: Version,
    /// The interpreter.
    pub shell: Shell,
    /// The script.
    pub script: String,
    /// A run is ended after so many seconds.
    pub timeout_secs: u64,
    /// Agents spread their starts over so many seconds.
    pub jitter_secs: Option<u64>,
    /// The account to run as.
    pub run_as: RunAs,
    /// Working directory.
    pub cwd: Option<String>,
    /// Not started after this.
    pub deadline_at: Option<Timestamp>,
    /// How fresh an agent's knowledge of revocations must be.
    pub staleness: Staleness,
    /// How facts that a run prints are to be shown; none for a job that prints none.
    pub inventory: Option<InventoryHints>,
    /// The job's description.
    pub description: Option<String>,
    /// At whom it was aimed, as it was asked for.
    pub plan: FanoutPlan,
    /// What it gives to the script. `plan` holds none of it.
    #[serde(default, skip_serializing_if = "OrderParams::is_empty")]
    pub params: OrderParams,
}

impl Order {
    /// Whether it is known at whom it was aimed. It is not of an execution that was taken over from another server:
    /// agents that are not among its targets may still start it.
    pub fn has_known_aim(&self) -> bool {
        !self.plan.target.is_empty() || self.plan.rollout.is_some()
    }

    /// The Command for one subject, without what is secret.
    pub fn command(&self, exec_id: &ExecId, request_id: RequestId) -> Command {
        Command {
            id: self.job_id.clone(),
            version: self.version.clone(),
            request_id,
            exec_id: Some(exec_id.clone()),
            shell: self.shell,
            script: self.script.clone(),
            timeout_secs: self.timeout_secs,
            jitter_secs: self.jitter_secs,
            run_as: self.run_as,
            cwd: self.cwd.clone(),
            deadline_at: self.deadline_at,
            staleness: self.staleness,
            params: self.params.plain.clone(),
            secrets: BTreeMap::new(),
        }
    }
}

/// Who gets a send.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressee {
    /// `commands.all`
    All,
    /// `commands.pc.{pc_id}`
    Pc(PcId),
}

impl Addressee {
    /// The subject.
    pub fn subject(&self) -> Subject {
        match self {
            Self::All => Subject::commands_all(),
            Self::Pc(pc) => Subject::commands_pc(pc),
        }
    }
}

/// One message an execution owes the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// Its id.
    pub send_id: SendId,
    /// The execution.
    pub exec_id: ExecId,
    /// Who gets it.
    pub to: Addressee,
    /// The request id its Command carries.
    pub request_id: RequestId,
    /// The number of its wave, from 0.
    pub wave: u32,
    /// When it is due.
    pub due_at: Timestamp,
    /// Whether it is still owed.
    pub state: SendState,
}

/// Whether a send is still owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendState {
    /// Owed from its due time on.
    Due,
    /// Owed once a gate or the end of a pause lets it out.
    Held,
    /// Owed once it is let out: when others have finished, where the execution limits how many are at it at once, or for
    /// its agent's next attempt.
    Parked,
    /// On the bus.
    Sent,
    /// Never to be sent.
    Withdrawn,
}

impl SendState {
    /// Whether it has not gone out and may still.
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Due | Self::Held | Self::Parked)
    }
}

/// Where an execution stands on one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// The execution.
    pub exec_id: ExecId,
    /// The agent.
    pub pc_id: PcId,
    /// The state.
    pub state: TargetState,
    /// The send that reaches it; none for an agent that joined by reporting.
    pub send_id: Option<SendId>,
    /// The request id of its Command.
    pub request_id: RequestId,
    /// The number of the attempt, from 1.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The number of its wave, from 0.
    pub wave: u32,
    /// When its send is (or was) due.
    pub due_at: Timestamp,
    /// The run that decides the state.
    pub run: Option<ResultId>,
    /// When that run started.
    pub started_at: Option<Timestamp>,
    /// When the state became final.
    pub finished_at: Option<Timestamp>,
    /// The exit code of that run.
    pub exit_code: Option<i32>,
    /// Why it was refused or given up, in words.
    pub detail: Option<String>,
    /// What became of a kill.
    pub receipt: Option<Receipt>,
    /// When a waiting target expires; none once it is not waiting, and while something [holds](Self::is_held) it.
    pub check_at: Option<Timestamp>,
}

fn first_attempt() -> u32 {
    1
}

impl TargetRecord {
    /// Whether a gate, a pause or a want of room holds it: it waits, and its time does not run.
    pub fn is_held(&self) -> bool {
        self.state == TargetState::Waiting && self.check_at.is_none()
    }

    /// Whether its end was only presumed while a kill went unanswered: the agent may hold it still, and must get the
    /// kill when it is back.
    pub fn has_unanswered_kill(&self) -> bool {
        self.state.is_presumed() && matches!(self.receipt, Some(Receipt::Requested | Receipt::Unreachable))
    }
}

/// An execution on one agent, from start to end, without its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub result_id: ResultId,
    /// The Command that was run.
    pub request_id: RequestId,
    /// The execution; none for an ad-hoc run.
    pub exec_id: Option<ExecId>,
    /// The agent.
    pub pc_id: PcId,
    /// The job.
    pub job_id: Option<JobId>,
    /// The version of the job.
    pub version: Option<Version>,
    /// Where it stands.
    pub state: RunState,
    /// The exit code, once finished.
    pub exit_code: Option<i32>,
    /// When the process started. The key that lists are sorted by; never changed.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it is lost; none once it is finished.
    pub check_at: Option<Timestamp>,
}

impl Run {
    /// The run that a start event tells of.
    pub fn started(event: &EventStarted, check_at: Timestamp) -> Self {
        Self {
            result_id: event.result_id,
            request_id: event.request_id,
            exec_id: Some(event.exec_id.clone()),
            pc_id: event.pc_id.clone(),
            job_id: Some(event.manifest_id.clone()),
            version: Some(event.version.clone()),
            state: RunState::Running,
            exit_code: None,
            started_at: event.started_at,
            finished_at: None,
            check_at: Some(check_at),
        }
    }
}

/// What a run printed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error, and the agent's reasons.
    pub stderr: String,
}

/// A run with what it printed, where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: Run,
    /// Empty when it was not asked for or the run has not finished.
    pub output: Output,
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The agent.
    pub pc_id: PcId,
    /// The host's name.
    pub hostname: Option<String>,
    /// `windows`, `linux`, `macos`, …
    pub os_family: Option<String>,
    /// The version of the agent program.
    pub agent_version: Option<String>,
    /// The newest sign of life, by the agent's clock.
    pub last_heartbeat: Timestamp,
    /// When that was recorded, by the server's clock.
    pub updated_at: Timestamp,
}

/// What an inventory job found out about an agent: the newest per agent and job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The agent.
    pub pc_id: PcId,
    /// The job.
    pub job_id: JobId,
    /// What the run printed, as JSON.
    pub facts: Value,
    /// The display hints of that time.
    pub hints: InventoryHints,
    /// The job's description of that time.
    pub description: Option<String>,
    /// When the run finished.
    pub collected_at: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// A message that could not be understood, kept for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it was sent to.
    pub subject: Subject,
    /// The bytes, as text where they are text (cut at 64 KiB).
    pub payload: String,
    /// What is wrong with it.
    pub reason: String,
    /// When it was set aside.
    pub at: Timestamp,
}

/// A dead letter with the number the store gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// Its number; later ones are larger.
    pub id: i64,
    /// The letter.
    pub letter: DeadLetter,
}

/// An entry of the audit trail with the number the store gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number; later ones are larger.
    pub id: i64,
    /// What happened.
    pub event: AuditEvent,
}

/// What a request with an idempotency key led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The digest of the request that came with the key.
    pub fingerprint: String,
    /// The execution it fired.
    pub exec_id: ExecId,
    /// When.
    pub at: Timestamp,
}

/// Executions of a job that are pending or running; those labelled expired count as neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCount {
    /// With something started.
    pub running: u64,
    /// With nothing started.
    pub pending: u64,
}

/// How many runs of a time have ended, and how many of them badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTally {
    /// Those that have ended, or are lost.
    pub ended: u64,
    /// Those of them that did not succeed.
    pub failed: u64,
}

/// What retention may remove: everything final that is older than these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCut {
    /// Executions (with all that belongs to them) and ad-hoc runs that finished before.
    pub executions: Timestamp,
    /// Audit entries and dead letters from before.
    pub audit: Timestamp,
    /// Idempotency keys from before.
    pub keys: Timestamp,
    /// Slots from before.
    pub slots: Timestamp,
}
