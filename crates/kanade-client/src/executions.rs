//! Executions and runs: firing, following, killing, reading what came back.

use kanade_model::{
    ExecId, ExecResult, ExecutionStatus, FanoutPlan, JobId, ResultId, TargetState, Timestamp, api,
};
use reqwest::Method;
use std::time::Duration;

use crate::{Client, Error, Items, page::Pairs};

/// What the server waits for a result beyond the time of the run, and a little for the way.
const RUN_GRACE: Duration = Duration::from_secs(15);
/// What a run may take when the request says nothing.
const RUN_TIMEOUT_SECS: u64 = 60;

/// Which executions are wanted.
#[derive(Debug, Clone, Default)]
pub struct ExecutionQuery {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// With this status.
    pub status: Option<ExecutionStatus>,
    /// How many to fetch at once, 1 to 1,000; the server's choice when missing.
    pub page_size: Option<usize>,
}

/// Which targets of an execution are wanted.
#[derive(Debug, Clone, Default)]
pub struct TargetQuery {
    /// In this state.
    pub state: Option<TargetState>,
    /// How many to fetch at once, 1 to 1,000; the server's choice when missing.
    pub page_size: Option<usize>,
}

/// Which runs are wanted. The texts are unanchored regular expressions.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    /// On agents like this.
    pub pc_id: Option<String>,
    /// Of jobs like this.
    pub job_id: Option<String>,
    /// Of executions like this.
    pub exec_id: Option<String>,
    /// With such a standard output.
    pub stdout: Option<String>,
    /// With such a standard error.
    pub stderr: Option<String>,
    /// With such an outcome.
    pub status: Option<Outcome>,
    /// Started at or after this.
    pub since: Option<Timestamp>,
    /// How many to fetch at once, 1 to 1,000; the server's choice when missing.
    pub page_size: Option<usize>,
}

/// How a run has turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Ended with exit code 0.
    Success,
    /// Ended in any other way, or lost.
    Failure,
    /// Not ended.
    Running,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Running => "running",
        }
    }
}

/// Query parameters: those that are set.
pub(crate) fn pairs<const N: usize>(all: [(&'static str, Option<String>); N]) -> Pairs {
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

impl Client {
    /// Fires a job. A request with an idempotency key can be sent again: it fires once, and is answered the same.
    ///
    /// # Errors
    /// An unknown or revoked job, a plan that aims at nobody, a key that came with another request before.
    pub async fn fire(&self, job: &JobId, plan: &FanoutPlan, key: Option<&str>) -> Result<api::Fired, Error> {
        let mut call = self
            .call(Method::POST, &["api", "exec", job.as_str()])?
            .json(plan);
        if let Some(key) = key {
            call = call.header("idempotency-key", key);
        }
        call.read().await
    }

    /// Executions, newest first.
    pub fn executions(&self, query: &ExecutionQuery) -> Items<api::Execution> {
        let pairs = pairs([
            ("job_id", query.job_id.as_ref().map(ToString::to_string)),
            ("status", query.status.map(|status| status.to_string())),
            ("limit", query.page_size.map(|size| size.to_string())),
        ]);
        self.list(&["api", "executions"], pairs)
    }

    /// One execution with its newest runs.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn execution(&self, id: &ExecId) -> Result<api::ExecutionDetail, Error> {
        self.call(Method::GET, &["api", "executions", id.as_str()])?
            .read()
            .await
    }

    /// Where an execution stands on its agents, by agent.
    pub fn targets(&self, id: &ExecId, query: &TargetQuery) -> Items<api::ExecutionTarget> {
        let pairs = pairs([
            ("state", query.state.map(|state| state.to_string())),
            ("limit", query.page_size.map(|size| size.to_string())),
        ]);
        self.list(&["api", "executions", id.as_str(), "targets"], pairs)
    }

    /// Kills an execution: what waits is withdrawn, what runs is ended. [`Client::targets`] has the receipts.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn kill(&self, id: &ExecId) -> Result<(), Error> {
        self.call(Method::POST, &["api", "executions", id.as_str(), "kill"])?
            .done()
            .await
    }

    /// Kills every execution in flight that the request names, or only says which those are.
    ///
    /// # Errors
    /// A request that does not name exactly one thing, or all without its confirmation.
    pub async fn kill_many(&self, request: &api::KillRequest) -> Result<api::Killed, Error> {
        self.call(Method::POST, &["api", "kill"])?
            .json(request)
            .read()
            .await
    }

    /// Keeps back what of an execution has not been sent, until it is resumed.
    ///
    /// # Errors
    /// Not found; a conflict where nothing of it is still to be sent.
    pub async fn pause(&self, id: &ExecId) -> Result<(), Error> {
        self.steer(id, "pause").await
    }

    /// Lets a paused execution go on, also past a gate that has failed.
    ///
    /// # Errors
    /// Not found; a conflict where it is not paused.
    pub async fn resume(&self, id: &ExecId) -> Result<(), Error> {
        self.steer(id, "resume").await
    }

    /// Withdraws what of an execution has not been sent; what has goes on.
    ///
    /// # Errors
    /// Not found; a conflict where it is over.
    pub async fn abort(&self, id: &ExecId) -> Result<(), Error> {
        self.steer(id, "abort").await
    }

    async fn steer(&self, id: &ExecId, how: &str) -> Result<(), Error> {
        self.call(Method::POST, &["api", "executions", id.as_str(), how])?
            .done()
            .await
    }

    /// Runs with their output, newest first.
    pub fn results(&self, query: &RunQuery) -> Items<api::Run> {
        let pairs = pairs([
            ("pc_id", query.pc_id.clone()),
            ("job_id", query.job_id.clone()),
            ("exec_id", query.exec_id.clone()),
            ("stdout", query.stdout.clone()),
            ("stderr", query.stderr.clone()),
            ("status", query.status.map(|status| status.as_str().to_owned())),
            ("since", query.since.map(|since| since.to_string())),
            ("limit", query.page_size.map(|size| size.to_string())),
        ]);
        self.list(&["api", "results"], pairs)
    }

    /// One run with its output.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn result(&self, id: ResultId) -> Result<api::Run, Error> {
        self.call(Method::GET, &["api", "results", &id.to_string()])?
            .read()
            .await
    }

    /// Runs a script once on one agent and waits for its end.
    ///
    /// # Errors
    /// A request timeout when the agent sends no result in time; the run may still end and be recorded.
    pub async fn run(&self, request: &api::RunRequest) -> Result<ExecResult, Error> {
        let secs = request
            .timeout_secs
            .unwrap_or(RUN_TIMEOUT_SECS)
            .saturating_add(request.jitter_secs.unwrap_or(0));
        let call = self.call(Method::POST, &["api", "run"])?.json(request);
        call.patient(Duration::from_secs(secs).saturating_add(RUN_GRACE))
            .read()
            .await
    }
}
