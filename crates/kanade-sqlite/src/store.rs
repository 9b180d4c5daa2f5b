//! The execution store: one door in, and the questions, each answered by its topic's module.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::FutureExt;
use kanade_model::{ExecId, JobId, PcId, ResultId, ScheduleId, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, ChangeSet, DeadLetterRecord, Execution, ExecutionQuery, ExecutionStore,
    Facts, Forget, KeyRecord, LiveCount, Order, Outcome, Page, Position, RetentionCut, Run, RunQuery,
    RunRecord, RunTally, ScheduleCursor, Send, SlotQuery, SlotRecord, StoreError, Success, TargetQuery,
    TargetRecord,
};

use crate::{
    database::Database,
    fault::Fault,
    query::{agents, executions, retention, runs, slots, targets, trail},
    write::apply,
};

/// The [`ExecutionStore`] in a [`Database`].
#[derive(Debug)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Asks `$query` on a connection for reading; what goes wrong went wrong while trying to `$operation`.
macro_rules! read {
    ($self:ident, $topic:ident::$query:ident($($argument:expr),*), $($operation:tt)+) => {{
        let answer = async { $topic::$query(&mut *$self.database.read().await?, $($argument),*).await };
        answer.await.map_err(|fault: Fault| fault.during(format!($($operation)+)))
    }};
}

#[async_trait]
impl ExecutionStore for SqliteStore {
    async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
        let count = sets.len();
        let sets = sets.to_vec();
        self.database
            .write(
                move |conn| async move { apply(conn, &sets).await }.boxed(),
                |_, _| {},
            )
            .await
            .map_err(|fault| fault.during(format!("record {count} change sets")))
    }

    async fn execution(&self, id: &ExecId) -> Result<Option<Execution>, StoreError> {
        read!(self, executions::execution(id), "read execution `{id}`")
    }

    async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, StoreError> {
        read!(self, executions::list(query), "list executions")
    }

    async fn order(&self, id: &ExecId) -> Result<Option<Order>, StoreError> {
        read!(self, executions::order(id), "read the order of execution `{id}`")
    }

    async fn in_flight(&self, job: &JobId) -> Result<Vec<ExecId>, StoreError> {
        read!(
            self,
            executions::in_flight(job),
            "list what is in flight of job `{job}`"
        )
    }

    async fn live_counts(&self) -> Result<BTreeMap<JobId, LiveCount>, StoreError> {
        read!(self, executions::live_counts(), "count live executions")
    }

    async fn open_kills(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        read!(self, executions::open_kills(limit), "list open kills")
    }

    async fn to_steer(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Execution>, StoreError> {
        read!(
            self,
            executions::to_steer(after, limit),
            "list executions to steer"
        )
    }

    async fn stale(&self, due_before: Timestamp, limit: usize) -> Result<Vec<ExecId>, StoreError> {
        read!(
            self,
            executions::stale(due_before, limit),
            "list stale executions"
        )
    }

    async fn target(&self, exec: &ExecId, pc: &PcId) -> Result<Option<TargetRecord>, StoreError> {
        read!(
            self,
            targets::target(exec, pc),
            "read target `{pc}` of execution `{exec}`"
        )
    }

    async fn targets(&self, query: &TargetQuery) -> Result<Page<TargetRecord>, StoreError> {
        read!(
            self,
            targets::list(query),
            "list the targets of execution `{}`",
            query.exec_id
        )
    }

    async fn unfinished(
        &self,
        pc: &PcId,
        due_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        read!(
            self,
            targets::unfinished(pc, due_before, limit),
            "list what is unfinished on agent `{pc}`"
        )
    }

    async fn open_on(
        &self,
        pc: &PcId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        read!(
            self,
            targets::open_on(pc, after, limit),
            "list the open targets on agent `{pc}`"
        )
    }

    async fn unanswered_kills(
        &self,
        pc: &PcId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecId>, StoreError> {
        read!(
            self,
            targets::unanswered_kills(pc, since, limit),
            "list the kills that agent `{pc}` has not answered"
        )
    }

    async fn overdue_targets(&self, now: Timestamp, limit: usize) -> Result<Vec<TargetRecord>, StoreError> {
        read!(self, targets::overdue(now, limit), "list overdue targets")
    }

    async fn due_sends(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Send>, StoreError> {
        read!(self, targets::due_sends(after, limit), "list due sends")
    }

    async fn sends(&self, exec: &ExecId) -> Result<Vec<Send>, StoreError> {
        read!(self, targets::sends(exec), "list the sends of execution `{exec}`")
    }

    async fn run(&self, id: &ResultId) -> Result<Option<RunRecord>, StoreError> {
        read!(self, runs::run(id), "read run `{id}`")
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>, StoreError> {
        read!(self, runs::list(query), "list runs")
    }

    async fn tally(
        &self,
        since: Timestamp,
        until: Option<Timestamp>,
        at_most: usize,
    ) -> Result<RunTally, StoreError> {
        read!(self, runs::tally(since, until, at_most), "count recent runs")
    }

    async fn overdue_runs(&self, now: Timestamp, limit: usize) -> Result<Vec<Run>, StoreError> {
        read!(self, runs::overdue(now, limit), "list overdue runs")
    }

    async fn agent(&self, pc: &PcId) -> Result<Option<Agent>, StoreError> {
        read!(self, agents::agent(pc), "read agent `{pc}`")
    }

    async fn agents(&self, after: Option<&Position>, limit: usize) -> Result<Page<Agent>, StoreError> {
        read!(self, agents::list(after, limit), "list agents")
    }

    async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError> {
        read!(self, agents::facts_of(pc), "read the facts about agent `{pc}`")
    }

    async fn facts_by(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Facts>, StoreError> {
        read!(
            self,
            agents::facts_by(job, after, limit),
            "list the facts that job `{job}` found"
        )
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        read!(self, trail::audit(query), "list audit entries")
    }

    async fn dead_letters(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<DeadLetterRecord>, StoreError> {
        read!(self, trail::dead_letters(after, limit), "list dead letters")
    }

    async fn key(&self, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        read!(self, trail::key(key), "look up an idempotency key")
    }

    async fn mark(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        read!(self, trail::mark(name), "look up whether `{name}` is marked")
    }

    async fn slot(&self, schedule: &ScheduleId, slot: Timestamp) -> Result<Option<SlotRecord>, StoreError> {
        read!(
            self,
            slots::slot(schedule, slot),
            "read slot {slot} of schedule `{schedule}`"
        )
    }

    async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>, StoreError> {
        read!(
            self,
            slots::slots(query),
            "list the slots of schedule `{}`",
            query.schedule_id
        )
    }

    async fn waiting_slots(&self, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        read!(self, slots::waiting(limit), "list the slots that wait")
    }

    async fn cursor(&self, schedule: &ScheduleId) -> Result<Option<ScheduleCursor>, StoreError> {
        read!(
            self,
            slots::cursor(schedule),
            "read how far schedule `{schedule}` was looked at"
        )
    }

    async fn successes(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Success>, StoreError> {
        read!(
            self,
            slots::successes(job, after, limit),
            "list where job `{job}` has succeeded"
        )
    }

    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Result<Forget, StoreError> {
        read!(
            self,
            retention::prunable(cut, limit),
            "list what is past its retention"
        )
    }
}
