//! The store in memory: tables under one lock, ordered lists for every question.

mod state;
mod table;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use async_trait::async_trait;
use kanade_model::{ExecId, ExecutionStatus, JobId, PcId, ResultId, ScheduleId, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, ChangeSet, DeadLetterRecord, Execution, ExecutionQuery, ExecutionStore,
    Facts, Forget, KeyRecord, LiveCount, MAX_LIMIT, Needs, Order, Outcome, PAGE_BYTES, Page, PageBuilder,
    Position, Progress, RetentionCut, Run, RunQuery, RunRecord, SCAN_LIMIT, ScheduleCursor, Send, SlotQuery,
    SlotRecord, StoreError, Success, TargetQuery, TargetRecord, TextFilter,
};

use state::{
    ExecutionList, FactsList, RunList, SendList, SlotList, State, TargetList, TrailList, by_id, by_number,
};

/// About what a record takes on a page beside its long texts, in bytes.
const RECORD: usize = 256;

/// An [`ExecutionStore`] whose records live as long as it does.
pub struct MemoryStore(RwLock<State>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self(RwLock::new(State::new()))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A batch is worked out before anything is written, so a panic in it leaves the state whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

#[async_trait]
impl ExecutionStore for MemoryStore {
    async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut rows = state.load(&Needs::of(sets));
        let outcomes = rows.apply(sets);
        state.write(rows);
        Ok(outcomes)
    }

    async fn execution(&self, id: &ExecId) -> Result<Option<Execution>, StoreError> {
        Ok(self.read().executions.get(id).cloned())
    }

    async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, StoreError> {
        let list = ExecutionList::Of(query.job_id.clone(), query.status);
        let state = self.read();
        let rows = state.executions.backwards(&list, query.after.as_ref());
        Ok(page(query.limit, rows, |row| (Some(row.clone()), RECORD)))
    }

    async fn order(&self, id: &ExecId) -> Result<Option<Order>, StoreError> {
        Ok(self.read().orders.get(id).cloned())
    }

    async fn in_flight(&self, job: &JobId) -> Result<Vec<ExecId>, StoreError> {
        let state = self.read();
        Ok([
            ExecutionStatus::Pending,
            ExecutionStatus::Running,
            ExecutionStatus::Expired,
        ]
        .into_iter()
        .flat_map(|status| {
            let list = ExecutionList::Of(Some(job.clone()), Some(status));
            first(state.executions.forwards(&list, None), usize::MAX, |row| {
                row.exec_id.clone()
            })
        })
        .collect())
    }

    async fn live_counts(&self) -> Result<BTreeMap<JobId, LiveCount>, StoreError> {
        let state = self.read();
        let mut counts: BTreeMap<JobId, LiveCount> = BTreeMap::new();
        let mut count = |status, add: fn(&mut LiveCount)| {
            let list = ExecutionList::Of(None, Some(status));
            for (_, row) in state.executions.forwards(&list, None) {
                add(counts.entry(row.job_id.clone()).or_default());
            }
        };
        count(ExecutionStatus::Running, |live| live.running += 1);
        count(ExecutionStatus::Pending, |live| live.pending += 1);
        Ok(counts)
    }

    async fn open_kills(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let state = self.read();
        Ok(first(
            state.executions.forwards(&ExecutionList::OpenKill, None),
            limit,
            Clone::clone,
        ))
    }

    async fn to_steer(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let state = self.read();
        Ok(first(
            state.executions.forwards(&ExecutionList::ToSteer, after),
            limit,
            Clone::clone,
        ))
    }

    async fn stale(&self, due_before: Timestamp, limit: usize) -> Result<Vec<ExecId>, StoreError> {
        let state = self.read();
        let rows = state
            .executions
            .forwards(&ExecutionList::Pending, None)
            .take_while(|(_, row)| row.last_due_at < due_before);
        Ok(first(rows, limit, |row| row.exec_id.clone()))
    }

    async fn target(&self, exec: &ExecId, pc: &PcId) -> Result<Option<TargetRecord>, StoreError> {
        Ok(self.read().targets.get(&(exec.clone(), pc.clone())).cloned())
    }

    async fn targets(&self, query: &TargetQuery) -> Result<Page<TargetRecord>, StoreError> {
        let list = TargetList::Of(query.exec_id.clone(), query.state);
        let after = query.after.as_ref().map(|after| by_id(&after.id));
        let state = self.read();
        let rows = state.targets.forwards(&list, after.as_ref());
        Ok(page(query.limit, rows, |row| (Some(row.clone()), RECORD)))
    }

    async fn unfinished(
        &self,
        pc: &PcId,
        due_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let state = self.read();
        let rows = state
            .targets
            .forwards(&TargetList::UnfinishedOn(pc.clone()), None)
            .take_while(|(_, row)| row.due_at < due_before)
            .filter(|(_, row)| !row.is_held());
        Ok(first(rows, limit, Clone::clone))
    }

    async fn open_on(
        &self,
        pc: &PcId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let list = TargetList::UnfinishedOn(pc.clone());
        let state = self.read();
        Ok(first(state.targets.forwards(&list, after), limit, Clone::clone))
    }

    async fn unanswered_kills(
        &self,
        pc: &PcId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecId>, StoreError> {
        let state = self.read();
        let rows = state
            .targets
            .backwards(&TargetList::UnansweredOn(pc.clone()), None)
            .take_while(|(place, _)| place.at >= since.as_micros());
        Ok(first(rows, limit, |row| row.exec_id.clone()))
    }

    async fn overdue_targets(&self, now: Timestamp, limit: usize) -> Result<Vec<TargetRecord>, StoreError> {
        let state = self.read();
        let rows = state
            .targets
            .forwards(&TargetList::Expiring, None)
            .take_while(|(place, _)| place.at <= now.as_micros());
        Ok(first(rows, limit, Clone::clone))
    }

    async fn due_sends(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Send>, StoreError> {
        let state = self.read();
        Ok(first(
            state.sends.forwards(&SendList::Due, after),
            limit,
            Clone::clone,
        ))
    }

    async fn sends(&self, exec: &ExecId) -> Result<Vec<Send>, StoreError> {
        let state = self.read();
        let list = SendList::Of(exec.clone());
        Ok(first(state.sends.forwards(&list, None), usize::MAX, Clone::clone))
    }

    async fn run(&self, id: &ResultId) -> Result<Option<RunRecord>, StoreError> {
        let state = self.read();
        Ok(state.runs.get(id).map(|run| RunRecord {
            run: run.clone(),
            output: state.outputs.get(id).cloned().unwrap_or_default(),
        }))
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>, StoreError> {
        let state = self.read();
        let list = narrowest(query);
        let rows = state
            .runs
            .backwards(&list, query.after.as_ref())
            .take_while(|(_, row)| query.since.is_none_or(|since| row.started_at >= since));
        // Long texts are only copied for rows that everything else speaks for.
        let by_row = RunQuery {
            stdout: None,
            stderr: None,
            ..query.clone()
        };
        Ok(page(query.limit, rows, |row| {
            let mut record = RunRecord {
                run: row.clone(),
                output: Default::default(),
            };
            if !by_row.matches(&record) {
                return (None, 0);
            }
            if query.reads_output() {
                record.output = state.outputs.get(&row.result_id).cloned().unwrap_or_default();
                if !query.matches(&record) {
                    return (None, 0);
                }
                if !query.with_output {
                    record.output = Default::default();
                }
            }
            let bytes = RECORD + record.output.stdout.len() + record.output.stderr.len();
            (Some(record), bytes)
        }))
    }

    async fn overdue_runs(&self, now: Timestamp, limit: usize) -> Result<Vec<Run>, StoreError> {
        let state = self.read();
        let rows = state
            .runs
            .forwards(&RunList::Expiring, None)
            .take_while(|(place, _)| place.at <= now.as_micros());
        Ok(first(rows, limit, Clone::clone))
    }

    async fn agent(&self, pc: &PcId) -> Result<Option<Agent>, StoreError> {
        Ok(self.read().agents.get(pc).cloned())
    }

    async fn agents(&self, after: Option<&Position>, limit: usize) -> Result<Page<Agent>, StoreError> {
        let after = after.map(|after| by_id(&after.id));
        let state = self.read();
        let rows = state.agents.forwards(&(), after.as_ref());
        Ok(page(limit, rows, |row| (Some(row.clone()), RECORD)))
    }

    async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError> {
        let state = self.read();
        let list = FactsList::About(pc.clone());
        Ok(first(state.facts.forwards(&list, None), usize::MAX, Clone::clone))
    }

    async fn facts_by(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Facts>, StoreError> {
        let after = after.map(|after| by_id(&after.id));
        let state = self.read();
        let rows = state.facts.forwards(&FactsList::By(job.clone()), after.as_ref());
        Ok(page(limit, rows, |row| {
            (Some(row.clone()), RECORD + row.facts.to_string().len())
        }))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let list = query.actor.clone().map_or(TrailList::All, TrailList::By);
        let after = query.after.as_ref().map(|after| by_number(after.at));
        let state = self.read();
        let rows = state.audit.backwards(&list, after.as_ref());
        Ok(page(query.limit, rows, |row| {
            if !query.matches(row) {
                return (None, 0);
            }
            let details = serde_json::to_string(&row.event.payload).map_or(0, |text| text.len());
            (Some(row.clone()), RECORD + details)
        }))
    }

    async fn dead_letters(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<DeadLetterRecord>, StoreError> {
        let after = after.map(|after| by_number(after.at));
        let state = self.read();
        let rows = state.dead_letters.backwards(&TrailList::All, after.as_ref());
        Ok(page(limit, rows, |row| {
            (Some(row.clone()), RECORD + row.letter.payload.len())
        }))
    }

    async fn key(&self, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        let state = self.read();
        Ok(state.keys.get(&key.to_owned()).map(|(_, record)| record.clone()))
    }

    async fn mark(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.read().marks.get(name).copied())
    }

    async fn slot(&self, schedule: &ScheduleId, slot: Timestamp) -> Result<Option<SlotRecord>, StoreError> {
        Ok(self.read().slots.get(&(schedule.clone(), slot)).cloned())
    }

    async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>, StoreError> {
        let list = SlotList::Of(query.schedule_id.clone());
        let after = query.after.as_ref().map(|after| by_number(after.at));
        let state = self.read();
        let rows = state.slots.backwards(&list, after.as_ref());
        Ok(page(query.limit, rows, |row| (Some(row.clone()), RECORD)))
    }

    async fn waiting_slots(&self, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let state = self.read();
        let rows = state.slots.forwards(&SlotList::Waiting, None);
        Ok(first(rows, limit, Clone::clone))
    }

    async fn cursor(&self, schedule: &ScheduleId) -> Result<Option<ScheduleCursor>, StoreError> {
        Ok(self.read().cursors.get(schedule).cloned())
    }

    async fn successes(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Success>, StoreError> {
        let state = self.read();
        let from = after.and_then(|after| after.id.parse::<PcId>().ok());
        let from = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = PageBuilder::new(limit.clamp(1, MAX_LIMIT), SCAN_LIMIT, PAGE_BYTES);
        let all = state.successes.get(job).into_iter();
        for (pc_id, at) in all.flat_map(|agents| agents.range::<PcId, _>((from, Bound::Unbounded))) {
            let success = Success {
                job_id: job.clone(),
                pc_id: pc_id.clone(),
                at: *at,
            };
            if page.offer(Some(success), || by_id(pc_id.as_str()), RECORD) == Progress::Full {
                return Ok(page.finish(false));
            }
        }
        Ok(page.finish(true))
    }

    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Result<Forget, StoreError> {
        Ok(prunable(&self.read(), cut, limit))
    }
}

/// The shortest list that holds every run a query can match.
fn narrowest(query: &RunQuery) -> RunList {
    let exact =
        |filter: &Option<TextFilter>| filter.as_ref().and_then(TextFilter::exact).map(ToOwned::to_owned);
    exact(&query.exec_id)
        .map(RunList::Of)
        .or_else(|| exact(&query.pc_id).map(RunList::On))
        .or_else(|| exact(&query.job_id).map(RunList::OfJob))
        .or_else(|| query.status.map(RunList::with))
        .unwrap_or(RunList::All)
}

/// A page of a walk; `look` gives a row's item, if it is wanted, and its size.
fn page<'a, R: 'a, T>(
    limit: usize,
    rows: impl Iterator<Item = (&'a Position, &'a R)>,
    mut look: impl FnMut(&R) -> (Option<T>, usize),
) -> Page<T> {
    let mut page = PageBuilder::new(limit.clamp(1, MAX_LIMIT), SCAN_LIMIT, PAGE_BYTES);
    for (place, row) in rows {
        let (item, bytes) = look(row);
        if page.offer(item, || place.clone(), bytes) == Progress::Full {
            return page.finish(false);
        }
    }
    page.finish(true)
}

fn first<'a, R: 'a, T>(
    rows: impl Iterator<Item = (&'a Position, &'a R)>,
    limit: usize,
    shape: impl Fn(&R) -> T,
) -> Vec<T> {
    rows.take(limit).map(|(_, row)| shape(row)).collect()
}

fn prunable(state: &State, cut: &RetentionCut, limit: usize) -> Forget {
    let mut forget = Forget::default();
    let old = |before: Timestamp| move |place: &Position| place.at < before.as_micros();

    let is_old = old(cut.executions);
    let executions = state.executions.forwards(&ExecutionList::Final, None);
    for (_, execution) in executions.take_while(|(place, _)| is_old(place)) {
        let list = RunList::Of(execution.exec_id.as_str().to_owned());
        let left = limit - forget.len();
        let runs = first(state.runs.forwards(&list, None), left, |run| run.result_id);
        if left == 0 {
            break;
        } else if runs.is_empty() {
            forget.executions.push(execution.exec_id.clone());
        } else {
            forget.runs.extend(runs);
        }
    }
    let homeless = state
        .runs
        .forwards(&RunList::Ended, None)
        .take_while(|(place, _)| is_old(place))
        .filter(|(_, run)| {
            run.exec_id
                .as_ref()
                .is_none_or(|exec_id| state.executions.get(exec_id).is_none())
        });
    let left = limit - forget.len();
    forget.runs.extend(first(homeless, left, |run| run.result_id));

    let is_old = old(cut.audit);
    let audit = state.audit.forwards(&TrailList::Age, None);
    let left = limit - forget.len();
    let audit = first(audit.take_while(|(place, _)| is_old(place)), left, |row| row.id);
    forget.audit.extend(audit);
    let letters = state.dead_letters.forwards(&TrailList::Age, None);
    let left = limit - forget.len();
    let letters = first(letters.take_while(|(place, _)| is_old(place)), left, |row| row.id);
    forget.dead_letters.extend(letters);

    let is_old = old(cut.keys);
    let keys = state.keys.forwards(&TrailList::Age, None);
    let left = limit - forget.len();
    let keys = first(keys.take_while(|(place, _)| is_old(place)), left, |(key, _)| {
        key.clone()
    });
    forget.keys.extend(keys);

    let is_old = old(cut.slots);
    let slots = state.slots.forwards(&SlotList::Age, None);
    let left = limit - forget.len();
    let slots = first(slots.take_while(|(place, _)| is_old(place)), left, |row| {
        (row.schedule_id.clone(), row.slot)
    });
    forget.slots.extend(slots);
    forget
}
