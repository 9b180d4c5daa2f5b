//! The execution store port: records what happened, and answers plain questions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kanade_model::{ExecId, JobId, PcId, ResultId, ScheduleId, Timestamp};

use crate::{
    Agent, AuditQuery, AuditRecord, ChangeSet, DeadLetterRecord, Execution, ExecutionQuery, Facts, Forget,
    KeyRecord, LiveCount, MAX_LIMIT, Order, Outcome, Page, Position, RetentionCut, Run, RunFilter, RunQuery,
    RunRecord, RunTally, ScheduleCursor, Send, SlotQuery, SlotRecord, StoreError, Success, TargetQuery,
    TargetRecord,
};

/// Records executions and everything around them.
///
/// To be correct, a backend
/// - applies the sets of one [`apply`](Self::apply) in order and in one durable commit, with the meaning that
///   [`WorkingSet`](crate::WorkingSet) gives them; on an error nothing of the call is kept (or the error is
///   `Indeterminate`);
/// - answers every question from committed state, and sees its own commits at once;
/// - keeps lists in their documented total order, so that walking pages neither misses nor repeats what was there
///   all the time;
/// - keeps an `apply` whole when its caller goes away in the middle.
#[async_trait]
pub trait ExecutionStore: std::marker::Send + Sync + 'static {
    /// Applies every set in order in one durable commit. Says what each set did.
    ///
    /// # Errors
    /// `Unavailable` when nothing was kept, `Indeterminate` when that is not known.
    async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError>;

    /// One execution.
    async fn execution(&self, id: &ExecId) -> Result<Option<Execution>, StoreError>;
    /// Executions, newest first.
    async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, StoreError>;
    /// What an execution tells its agents.
    async fn order(&self, id: &ExecId) -> Result<Option<Order>, StoreError>;
    /// The executions of a job that are pending, running or labelled expired: what a kill of the job is for.
    async fn in_flight(&self, job: &JobId) -> Result<Vec<ExecId>, StoreError>;
    /// How many executions of each job are running and pending. Jobs with neither are left out.
    async fn live_counts(&self) -> Result<BTreeMap<JobId, LiveCount>, StoreError>;
    /// Killed executions whose kill is not settled, oldest kill first, `limit` at most.
    async fn open_kills(&self, limit: usize) -> Result<Vec<Execution>, StoreError>;
    /// Executions that are [to be steered](Execution::is_to_be_steered), by `(initiated_at, exec_id)`, `limit` at most.
    async fn to_steer(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Execution>, StoreError>;
    /// Pending executions whose last send was due before `due_before` and that nothing [holds](Execution::hold), oldest
    /// first, `limit` at most.
    async fn stale(&self, due_before: Timestamp, limit: usize) -> Result<Vec<ExecId>, StoreError>;

    /// One target.
    async fn target(&self, exec: &ExecId, pc: &PcId) -> Result<Option<TargetRecord>, StoreError>;
    /// The targets of an execution, by pc id.
    async fn targets(&self, query: &TargetQuery) -> Result<Page<TargetRecord>, StoreError>;
    /// The targets on one agent that are waiting or running, were due before `due_before` and are not
    /// [held](TargetRecord::is_held), oldest first, `limit` at most.
    async fn unfinished(
        &self,
        pc: &PcId,
        due_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError>;
    /// The targets on one agent that are waiting or running, held ones too, by `(due_at, exec_id)`, `limit` at most.
    async fn open_on(
        &self,
        pc: &PcId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError>;
    /// The executions whose kill an agent has left unanswered: those of its targets that
    /// [have an unanswered kill](TargetRecord::has_unanswered_kill) and ended at `since` or after, newest end first,
    /// `limit` at most.
    async fn unanswered_kills(
        &self,
        pc: &PcId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecId>, StoreError>;
    /// Waiting targets whose `check_at` is `now` or before, oldest first, `limit` at most.
    async fn overdue_targets(&self, now: Timestamp, limit: usize) -> Result<Vec<TargetRecord>, StoreError>;

    /// Sends that are still owed, whatever their due time, by `(due_at, send_id)`, `limit` at most.
    async fn due_sends(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Send>, StoreError>;
    /// Every send of an execution, by `(due_at, send_id)`.
    async fn sends(&self, exec: &ExecId) -> Result<Vec<Send>, StoreError>;

    /// One run with its output.
    async fn run(&self, id: &ResultId) -> Result<Option<RunRecord>, StoreError>;
    /// Runs, newest first.
    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>, StoreError>;
    /// How many runs that started at `since` or after, and before `until` where it is given, have ended. Of those that
    /// succeeded and of those that did not, it counts `at_most` each and then stops. A backend that can count without
    /// reading rows does so.
    async fn tally(
        &self,
        since: Timestamp,
        until: Option<Timestamp>,
        at_most: usize,
    ) -> Result<RunTally, StoreError> {
        let failed = count(self, RunFilter::Failure, since, until, at_most).await?;
        let succeeded = count(self, RunFilter::Success, since, until, at_most).await?;
        Ok(RunTally {
            ended: failed + succeeded,
            failed,
        })
    }
    /// Running runs whose `check_at` is `now` or before, oldest first, `limit` at most.
    async fn overdue_runs(&self, now: Timestamp, limit: usize) -> Result<Vec<Run>, StoreError>;

    /// One agent.
    async fn agent(&self, pc: &PcId) -> Result<Option<Agent>, StoreError>;
    /// Agents, by pc id. The place's `id` is a pc id.
    async fn agents(&self, after: Option<&Position>, limit: usize) -> Result<Page<Agent>, StoreError>;

    /// The facts about one agent, by job id.
    async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError>;
    /// What one job found out, by pc id. The place's `id` is a pc id.
    async fn facts_by(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Facts>, StoreError>;

    /// Audit entries, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError>;
    /// Dead letters, newest first. The place's `at` is a letter's number.
    async fn dead_letters(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<DeadLetterRecord>, StoreError>;
    /// What a request with this idempotency key led to.
    async fn key(&self, key: &str) -> Result<Option<KeyRecord>, StoreError>;

    /// When something was [marked](crate::Change::Mark); none when it never was. Marks are never forgotten.
    async fn mark(&self, name: &str) -> Result<Option<Timestamp>, StoreError>;

    /// One slot of a schedule.
    async fn slot(&self, schedule: &ScheduleId, slot: Timestamp) -> Result<Option<SlotRecord>, StoreError>;
    /// The slots of a schedule, newest first.
    async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>, StoreError>;
    /// The slots that wait for an earlier firing, by schedule and slot, `limit` at most.
    async fn waiting_slots(&self, limit: usize) -> Result<Vec<SlotRecord>, StoreError>;
    /// How far a schedule was looked at.
    async fn cursor(&self, schedule: &ScheduleId) -> Result<Option<ScheduleCursor>, StoreError>;
    /// Where a job has succeeded, by pc id: the newest success on each agent, whether its run is still there or not. The
    /// place's `id` is a pc id.
    async fn successes(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Success>, StoreError>;

    /// Up to `limit` records that retention may remove. An execution is named once no run of it is left, its runs
    /// before that.
    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Result<Forget, StoreError>;
}

/// Counts page by page.
async fn count<S: ExecutionStore + ?Sized>(
    store: &S,
    status: RunFilter,
    since: Timestamp,
    until: Option<Timestamp>,
    at_most: usize,
) -> Result<u64, StoreError> {
    let mut query = RunQuery {
        status: Some(status),
        since: Some(since),
        after: until.map(Position::before_all_runs_at),
        ..RunQuery::default()
    };
    let mut counted = 0;
    while counted < at_most {
        query.limit = MAX_LIMIT.min(at_most - counted);
        let page = store.runs(&query).await?;
        counted += page.items.len();
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    Ok(counted as u64)
}
