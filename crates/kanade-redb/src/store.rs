//! The execution store in a data file.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use kanade_model::{ExecId, ExecutionStatus, JobId, PcId, ResultId, ScheduleId, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, ChangeSet, DeadLetterRecord, Execution, ExecutionQuery, ExecutionStore,
    Facts, Forget, KeyRecord, LiveCount, Order, Outcome, Page, Position, RetentionCut, Run, RunQuery,
    RunRecord, RunTally, ScheduleCursor, Send, SlotQuery, SlotRecord, StoreError, Success, TargetQuery,
    TargetRecord,
};
use redb::ReadTransaction;

use crate::{
    batch::Batch,
    engine::{Engine, Write},
    fault::Fault,
    key::Key,
    output::{self, OUTPUTS},
    pages, prune,
    record::{self, KeptKey, Mark, Ordered},
    table::{Found, Reading, Record},
    task,
};

/// An [`ExecutionStore`] in a data file. Get one from [`Database::store`](crate::Database::store).
pub struct RedbStore {
    engine: Arc<Engine>,
}

impl RedbStore {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn read<T: std::marker::Send + 'static>(
        &self,
        what: impl FnOnce() -> String + std::marker::Send,
        look: impl Fn(&ReadTransaction) -> Result<T, Fault> + std::marker::Send + 'static,
    ) -> Result<T, StoreError> {
        task::read(&self.engine, look)
            .await
            .map_err(|fault| fault.of(format!("read {}", what())))
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedbStore({})", self.engine.name())
    }
}

#[async_trait]
impl ExecutionStore for RedbStore {
    async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
        // The work goes on without the caller, so it needs sets of its own.
        let sets = sets.to_vec();
        let count = sets.len();
        task::write(&self.engine, move |engine, writer| {
            engine.write(writer, |txn| {
                let mut batch = Batch::work_out(txn, &sets)?;
                // Outputs are in the batch now; one copy of them is enough.
                drop(sets);
                let outcomes = std::mem::take(&mut batch.outcomes);
                let write: Option<Write> = batch
                    .changes_something()
                    .then(|| -> Write { Box::new(|txn| batch.write(txn)) });
                Ok((outcomes, write))
            })
        })
        .await
        .map_err(|fault| fault.of(format!("commit a batch of {count}")))
    }

    async fn execution(&self, id: &ExecId) -> Result<Option<Execution>, StoreError> {
        let key = record::execution(id);
        self.read(|| format!("execution `{id}`"), move |txn| get(txn, &key))
            .await
    }

    async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, StoreError> {
        let query = query.clone();
        self.read(|| "executions".into(), move |txn| pages::executions(txn, &query))
            .await
    }

    async fn order(&self, id: &ExecId) -> Result<Option<Order>, StoreError> {
        let key = record::execution(id);
        let order = self.read(
            || format!("the order of execution `{id}`"),
            move |txn| get::<Ordered>(txn, &key),
        );
        Ok(order.await?.map(|ordered| ordered.order))
    }

    async fn in_flight(&self, job: &JobId) -> Result<Vec<ExecId>, StoreError> {
        let list = record::live_of(job);
        self.read(
            || format!("what is in flight of job `{job}`"),
            move |txn| {
                let executions = Reading::<Execution>::of(txn)?;
                first(executions.list(&list)?, usize::MAX, |row| row.exec_id)
            },
        )
        .await
    }

    async fn live_counts(&self) -> Result<BTreeMap<JobId, LiveCount>, StoreError> {
        self.read(
            || "live counts".into(),
            |txn| {
                let mut counts: BTreeMap<JobId, LiveCount> = BTreeMap::new();
                for entry in Reading::<Execution>::of(txn)?.list(&record::live())?.entries() {
                    let entry = record::live_entry(&entry?);
                    let (job, status) =
                        entry.ok_or_else(|| Fault::Damaged("the list of live executions".into()))?;
                    match status {
                        ExecutionStatus::Running => counts.entry(job).or_default().running += 1,
                        ExecutionStatus::Pending => counts.entry(job).or_default().pending += 1,
                        ExecutionStatus::Expired | ExecutionStatus::Completed | ExecutionStatus::Killed => {}
                    }
                }
                Ok(counts)
            },
        )
        .await
    }

    async fn open_kills(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.read(
            || "open kills".into(),
            move |txn| first(Reading::of(txn)?.list(&record::open_kills())?, limit, |row| row),
        )
        .await
    }

    async fn to_steer(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let list = record::to_steer();
        let after = after.map(|after| list.name().number(after.at).last(&after.id));
        self.read(
            || "executions with an open gate".into(),
            move |txn| {
                let executions = Reading::of(txn)?;
                first(
                    executions.list_between(&list, after.as_ref(), None)?,
                    limit,
                    |row| row,
                )
            },
        )
        .await
    }

    async fn stale(&self, due_before: Timestamp, limit: usize) -> Result<Vec<ExecId>, StoreError> {
        self.read(
            || "stale executions".into(),
            move |txn| {
                let executions = Reading::<Execution>::of(txn)?;
                let (list, end) = record::before(record::pending(), due_before);
                first(executions.list_between(&list, None, Some(&end))?, limit, |row| {
                    row.exec_id
                })
            },
        )
        .await
    }

    async fn target(&self, exec: &ExecId, pc: &PcId) -> Result<Option<TargetRecord>, StoreError> {
        let key = record::target(exec, pc);
        self.read(
            || format!("target `{pc}` of execution `{exec}`"),
            move |txn| get(txn, &key),
        )
        .await
    }

    async fn targets(&self, query: &TargetQuery) -> Result<Page<TargetRecord>, StoreError> {
        let (exec_id, query) = (&query.exec_id, query.clone());
        self.read(
            || format!("the targets of execution `{exec_id}`"),
            move |txn| pages::targets(txn, &query),
        )
        .await
    }

    async fn unfinished(
        &self,
        pc: &PcId,
        due_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let (list, end) = record::before(record::unfinished(pc), due_before);
        self.read(
            || format!("unfinished targets on `{pc}`"),
            move |txn| {
                let targets = Reading::<TargetRecord>::of(txn)?;
                let due = targets.list_between(&list, None, Some(&end))?;
                let is_held = |found: &Result<Found<TargetRecord>, Fault>| {
                    found.as_ref().is_ok_and(|found| found.row.is_held())
                };
                first(due.filter(|found| !is_held(found)), limit, |row| row)
            },
        )
        .await
    }

    async fn open_on(
        &self,
        pc: &PcId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let list = record::unfinished(pc);
        let after = after.map(|after| list.name().number(after.at).text(&after.id).last(pc.as_str()));
        self.read(
            || format!("open targets on `{pc}`"),
            move |txn| {
                let targets = Reading::of(txn)?;
                first(targets.list_between(&list, after.as_ref(), None)?, limit, |row| {
                    row
                })
            },
        )
        .await
    }

    async fn unanswered_kills(
        &self,
        pc: &PcId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecId>, StoreError> {
        let (list, begin) = record::before(record::unanswered_kills(pc), since);
        self.read(
            || format!("the kills that agent `{pc}` has not answered"),
            move |txn| {
                let targets = Reading::<TargetRecord>::of(txn)?;
                let newest_first = targets.list_between(&list, Some(&begin), None)?.rev();
                first(newest_first, limit, |row| row.exec_id)
            },
        )
        .await
    }

    async fn overdue_targets(&self, now: Timestamp, limit: usize) -> Result<Vec<TargetRecord>, StoreError> {
        self.read(
            || "overdue targets".into(),
            move |txn| {
                let targets = Reading::of(txn)?;
                let (list, end) = record::until(record::overdue_targets(), now);
                first(targets.list_between(&list, None, end.as_ref())?, limit, |row| row)
            },
        )
        .await
    }

    async fn due_sends(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Send>, StoreError> {
        let list = record::due_sends();
        let after = after.map(|after| list.name().number(after.at).uuid_text(&after.id));
        self.read(
            || "due sends".into(),
            move |txn| {
                let sends = Reading::of(txn)?;
                first(sends.list_between(&list, after.as_ref(), None)?, limit, |row| row)
            },
        )
        .await
    }

    async fn sends(&self, exec: &ExecId) -> Result<Vec<Send>, StoreError> {
        let list = record::sends_of(exec);
        self.read(
            || format!("the sends of execution `{exec}`"),
            move |txn| first(Reading::of(txn)?.list(&list)?, usize::MAX, |row| row),
        )
        .await
    }

    async fn run(&self, id: &ResultId) -> Result<Option<RunRecord>, StoreError> {
        let id = *id;
        self.read(
            || format!("run {id}"),
            move |txn| {
                let Some(run) = get::<Run>(txn, &record::run(id))? else {
                    return Ok(None);
                };
                let output = output::read(&txn.open_table(OUTPUTS)?, id)?;
                Ok(Some(RunRecord { run, output }))
            },
        )
        .await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>, StoreError> {
        let query = query.clone();
        self.read(|| "runs".into(), move |txn| pages::runs(txn, &query))
            .await
    }

    async fn tally(
        &self,
        since: Timestamp,
        until: Option<Timestamp>,
        at_most: usize,
    ) -> Result<RunTally, StoreError> {
        self.read(
            || "how recent runs went".into(),
            move |txn| pages::tally(txn, since, until, at_most),
        )
        .await
    }

    async fn overdue_runs(&self, now: Timestamp, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.read(
            || "overdue runs".into(),
            move |txn| {
                let runs = Reading::of(txn)?;
                let (list, end) = record::until(record::overdue_runs(), now);
                first(runs.list_between(&list, None, end.as_ref())?, limit, |row| row)
            },
        )
        .await
    }

    async fn agent(&self, pc: &PcId) -> Result<Option<Agent>, StoreError> {
        let key = record::agent(pc);
        self.read(|| format!("agent `{pc}`"), move |txn| get(txn, &key))
            .await
    }

    async fn agents(&self, after: Option<&Position>, limit: usize) -> Result<Page<Agent>, StoreError> {
        let after = after.cloned();
        self.read(
            || "agents".into(),
            move |txn| pages::agents(txn, after.as_ref(), limit),
        )
        .await
    }

    async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError> {
        let prefix = record::facts_of(pc.as_str());
        self.read(
            || format!("the facts about `{pc}`"),
            move |txn| {
                first(Reading::of(txn)?.rows(&prefix, None, None)?, usize::MAX, |row| {
                    row
                })
            },
        )
        .await
    }

    async fn facts_by(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Facts>, StoreError> {
        let (id, after) = (job.clone(), after.cloned());
        self.read(
            || format!("the facts of job `{job}`"),
            move |txn| pages::facts(txn, &id, after.as_ref(), limit),
        )
        .await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let query = query.clone();
        self.read(|| "the audit trail".into(), move |txn| pages::audit(txn, &query))
            .await
    }

    async fn dead_letters(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<DeadLetterRecord>, StoreError> {
        let after = after.cloned();
        self.read(
            || "dead letters".into(),
            move |txn| pages::dead_letters(txn, after.as_ref(), limit),
        )
        .await
    }

    async fn key(&self, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        let kept = record::kept_key(key);
        let kept = self.read(
            || "an idempotency key".into(),
            move |txn| get::<KeptKey>(txn, &kept),
        );
        Ok(kept.await?.map(|kept| kept.record))
    }

    async fn mark(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let mark = record::mark(name);
        let mark = self.read(
            || format!("whether `{name}` is marked"),
            move |txn| get::<Mark>(txn, &mark),
        );
        Ok(mark.await?.map(|mark| mark.at))
    }

    async fn slot(&self, schedule: &ScheduleId, slot: Timestamp) -> Result<Option<SlotRecord>, StoreError> {
        let key = record::slot(schedule, slot);
        self.read(
            || format!("slot {slot} of schedule `{schedule}`"),
            move |txn| get(txn, &key),
        )
        .await
    }

    async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>, StoreError> {
        let wanted = query.clone();
        self.read(
            || format!("the slots of schedule `{}`", query.schedule_id),
            move |txn| pages::slots(txn, &wanted),
        )
        .await
    }

    async fn waiting_slots(&self, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        self.read(
            || "the slots that wait".into(),
            move |txn| {
                first(Reading::of(txn)?.list(&record::waiting_slots())?, limit, |row| {
                    row
                })
            },
        )
        .await
    }

    async fn cursor(&self, schedule: &ScheduleId) -> Result<Option<ScheduleCursor>, StoreError> {
        let key = record::cursor(schedule);
        self.read(
            || format!("how far schedule `{schedule}` was looked at"),
            move |txn| get(txn, &key),
        )
        .await
    }

    async fn successes(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Success>, StoreError> {
        let (id, after) = (job.clone(), after.cloned());
        self.read(
            || format!("where job `{job}` has succeeded"),
            move |txn| pages::successes(txn, &id, after.as_ref(), limit),
        )
        .await
    }

    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Result<Forget, StoreError> {
        let cut = *cut;
        self.read(
            || "what retention may remove".into(),
            move |txn| prune::prunable(txn, &cut, limit),
        )
        .await
    }
}

fn get<R: Record>(txn: &ReadTransaction, key: &Key) -> Result<Option<R>, Fault> {
    Reading::<R>::of(txn)?.get(key)
}

/// The first rows of a walk.
fn first<R, T>(
    walk: impl Iterator<Item = Result<Found<R>, Fault>>,
    limit: usize,
    shape: impl Fn(R) -> T,
) -> Result<Vec<T>, Fault> {
    walk.take(limit).map(|found| Ok(shape(found?.row))).collect()
}
