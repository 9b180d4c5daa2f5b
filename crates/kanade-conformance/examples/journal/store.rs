//! The execution store: one door in, plain questions out.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use kanade_model::{
    ExecId, ExecutionStatus, JobId, PcId, ResultId, RunState, ScheduleId, SlotState, TargetState, Timestamp,
};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, ChangeSet, DeadLetterRecord, ErrorKind, Execution, ExecutionQuery,
    ExecutionStore, Facts, Forget, KeyRecord, LiveCount, Needs, Order, Outcome, Page, Position, RetentionCut,
    Run, RunQuery, RunRecord, ScheduleCursor, Send, SendState, SlotQuery, SlotRecord, StoreError, Success,
    TargetQuery, TargetRecord, TextFilter,
};

use super::{
    file::Journal,
    pages::{List, RECORD, at, by_id, by_number},
    records::Records,
};

pub(crate) struct JournalStore {
    inner: Arc<Mutex<Inner>>,
    /// Whoever commits holds it: turns are taken in the order in which they were asked for, also by callers that went away.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Inner {
    records: Records,
    journal: Journal,
}

impl JournalStore {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut records = Records::default();
        let journal = Journal::open(path, |commit| records.redo(commit))?;
        Ok(Self {
            inner: Arc::new(Mutex::new(Inner { records, journal })),
            turn: Arc::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(&mut self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
        let mut rows = self.records.load(&Needs::of(sets));
        let outcomes = rows.apply(sets);
        let commit = self.records.commit(rows);
        // First the disk, then memory: a failed write has changed nothing.
        self.journal.append(&commit, "record a batch of changes")?;
        self.records.redo(commit);
        Ok(outcomes)
    }
}

#[async_trait]
impl ExecutionStore for JournalStore {
    async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
        let (inner, sets) = (Arc::clone(&self.inner), sets.to_vec());
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // On a thread of its own: it waits for the disk, and goes on to its end when its caller goes away.
        let apply = move || {
            let _turn = turn;
            inner.lock().unwrap_or_else(PoisonError::into_inner).apply(&sets)
        };
        tokio::task::spawn_blocking(apply).await.unwrap_or_else(|died| {
            Err(StoreError::new(ErrorKind::Indeterminate, "record a batch of changes").because(died))
        })
    }

    async fn execution(&self, id: &ExecId) -> Result<Option<Execution>, StoreError> {
        Ok(self.inner().records.executions.get(id).cloned())
    }

    async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, StoreError> {
        let inner = self.inner();
        let wanted = inner.records.executions.values().filter(|row| {
            query.job_id.as_ref().is_none_or(|job| row.job_id == *job)
                && query.status.is_none_or(|status| row.status == status)
        });
        let list = List::down(wanted, |row| at(row.initiated_at, &row.exec_id));
        Ok(list.page(query.after.as_ref(), query.limit, |row| {
            (Some(row.clone()), RECORD)
        }))
    }

    async fn order(&self, id: &ExecId) -> Result<Option<Order>, StoreError> {
        Ok(self.inner().records.orders.get(id).cloned())
    }

    async fn in_flight(&self, job: &JobId) -> Result<Vec<ExecId>, StoreError> {
        let inner = self.inner();
        let wanted = inner
            .records
            .executions
            .values()
            .filter(|row| row.job_id == *job && !row.is_final());
        Ok(wanted.map(|row| row.exec_id.clone()).collect())
    }

    async fn live_counts(&self) -> Result<BTreeMap<JobId, LiveCount>, StoreError> {
        let mut counts: BTreeMap<JobId, LiveCount> = BTreeMap::new();
        for row in self.inner().records.executions.values() {
            match row.status {
                ExecutionStatus::Running => counts.entry(row.job_id.clone()).or_default().running += 1,
                ExecutionStatus::Pending => counts.entry(row.job_id.clone()).or_default().pending += 1,
                ExecutionStatus::Completed | ExecutionStatus::Killed | ExecutionStatus::Expired => {}
            }
        }
        Ok(counts)
    }

    async fn open_kills(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let inner = self.inner();
        let open = inner.records.executions.values().cloned().filter_map(|row| {
            let kill = row.kill.as_ref().filter(|kill| !kill.settled)?;
            Some((kill.at, row))
        });
        let list = List::up(open, |(killed_at, row)| at(*killed_at, &row.exec_id));
        Ok(list.first(limit).into_iter().map(|(_, row)| row).collect())
    }

    async fn to_steer(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let inner = self.inner();
        let open = inner.records.executions.values().filter(|row| {
            row.is_to_be_steered() && after.is_none_or(|after| at(row.initiated_at, &row.exec_id) > *after)
        });
        Ok(List::up(open.cloned(), |row| at(row.initiated_at, &row.exec_id)).first(limit))
    }

    async fn stale(&self, due_before: Timestamp, limit: usize) -> Result<Vec<ExecId>, StoreError> {
        let inner = self.inner();
        let stale = inner
            .records
            .executions
            .values()
            .filter(|row| row.status == ExecutionStatus::Pending && row.hold().is_none())
            .filter(|row| row.last_due_at < due_before);
        let list = List::up(stale, |row| at(row.last_due_at, &row.exec_id));
        Ok(list
            .first(limit)
            .into_iter()
            .map(|row| row.exec_id.clone())
            .collect())
    }

    async fn target(&self, exec: &ExecId, pc: &PcId) -> Result<Option<TargetRecord>, StoreError> {
        Ok(self
            .inner()
            .records
            .targets
            .get(&(exec.clone(), pc.clone()))
            .cloned())
    }

    async fn targets(&self, query: &TargetQuery) -> Result<Page<TargetRecord>, StoreError> {
        let inner = self.inner();
        let wanted =
            inner.records.targets.values().filter(|row| {
                row.exec_id == query.exec_id && query.state.is_none_or(|state| row.state == state)
            });
        let after = query.after.as_ref().map(|after| by_id(&after.id));
        let list = List::up(wanted, |row| by_id(&row.pc_id));
        Ok(list.page(after.as_ref(), query.limit, |row| (Some(row.clone()), RECORD)))
    }

    async fn unfinished(
        &self,
        pc: &PcId,
        due_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let inner = self.inner();
        let rows = inner.records.targets.values().cloned();
        let wanted = rows
            .filter(|row| row.pc_id == *pc && !row.state.is_final() && !row.is_held())
            .filter(|row| row.due_at < due_before);
        Ok(List::up(wanted, |row| at(row.due_at, &row.exec_id)).first(limit))
    }

    async fn open_on(
        &self,
        pc: &PcId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<TargetRecord>, StoreError> {
        let inner = self.inner();
        let rows = inner.records.targets.values().cloned();
        let wanted = rows
            .filter(|row| row.pc_id == *pc && !row.state.is_final())
            .filter(|row| after.is_none_or(|after| at(row.due_at, &row.exec_id) > *after));
        Ok(List::up(wanted, |row| at(row.due_at, &row.exec_id)).first(limit))
    }

    async fn unanswered_kills(
        &self,
        pc: &PcId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecId>, StoreError> {
        let inner = self.inner();
        let unanswered = inner.records.targets.values().filter_map(|row| {
            let ended_at = row
                .finished_at
                .filter(|at| row.pc_id == *pc && row.has_unanswered_kill() && *at >= since)?;
            Some((ended_at, row.exec_id.clone()))
        });
        let list = List::down(unanswered, |(ended_at, exec_id)| at(*ended_at, exec_id));
        Ok(list
            .first(limit)
            .into_iter()
            .map(|(_, exec_id)| exec_id)
            .collect())
    }

    async fn overdue_targets(&self, now: Timestamp, limit: usize) -> Result<Vec<TargetRecord>, StoreError> {
        let inner = self.inner();
        let overdue = inner.records.targets.values().cloned().filter_map(|row| {
            let check_at = row
                .check_at
                .filter(|by| row.state == TargetState::Waiting && *by <= now)?;
            Some((check_at, row))
        });
        let list = List::up(overdue, |(check_at, row)| at(*check_at, &row.exec_id));
        Ok(list.first(limit).into_iter().map(|(_, row)| row).collect())
    }

    async fn due_sends(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Send>, StoreError> {
        let inner = self.inner();
        let due = inner.records.sends.values().filter(|row| {
            row.state == SendState::Due && after.is_none_or(|after| at(row.due_at, &row.send_id) > *after)
        });
        Ok(List::up(due.cloned(), |row| at(row.due_at, &row.send_id)).first(limit))
    }

    async fn sends(&self, exec: &ExecId) -> Result<Vec<Send>, StoreError> {
        let inner = self.inner();
        let wanted = inner
            .records
            .sends
            .values()
            .filter(|row| row.exec_id == *exec)
            .cloned();
        Ok(List::up(wanted, |row| at(row.due_at, &row.send_id)).first(usize::MAX))
    }

    async fn run(&self, id: &ResultId) -> Result<Option<RunRecord>, StoreError> {
        let inner = self.inner();
        Ok(inner.records.runs.get(id).map(|run| RunRecord {
            run: run.clone(),
            output: inner.records.outputs.get(id).cloned().unwrap_or_default(),
        }))
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>, StoreError> {
        let inner = self.inner();
        // What an index would leave out does not count as looked at.
        let exact = |filter: &Option<TextFilter>, text: &str| {
            filter
                .as_ref()
                .and_then(TextFilter::exact)
                .is_none_or(|wanted| wanted == text)
        };
        let wanted = inner.records.runs.values().filter(|run| {
            query.since.is_none_or(|since| run.started_at >= since)
                && query
                    .status
                    .is_none_or(|status| status.states().contains(&run.state))
                && exact(&query.pc_id, run.pc_id.as_str())
                && exact(&query.job_id, run.job_id.as_ref().map_or("", JobId::as_str))
                && exact(&query.exec_id, run.exec_id.as_ref().map_or("", ExecId::as_str))
        });
        let list = List::down(wanted, |run| at(run.started_at, &run.result_id));
        Ok(list.page(query.after.as_ref(), query.limit, |run| {
            let output = inner
                .records
                .outputs
                .get(&run.result_id)
                .filter(|_| query.reads_output());
            let mut record = RunRecord {
                run: run.clone(),
                output: output.cloned().unwrap_or_default(),
            };
            if !query.matches(&record) {
                return (None, 0);
            }
            if !query.with_output {
                record.output = Default::default();
            }
            let bytes = RECORD + record.output.stdout.len() + record.output.stderr.len();
            (Some(record), bytes)
        }))
    }

    async fn overdue_runs(&self, now: Timestamp, limit: usize) -> Result<Vec<Run>, StoreError> {
        let inner = self.inner();
        let overdue = inner.records.runs.values().cloned().filter_map(|row| {
            let check_at = row
                .check_at
                .filter(|by| row.state == RunState::Running && *by <= now)?;
            Some((check_at, row))
        });
        let list = List::up(overdue, |(check_at, row)| at(*check_at, &row.result_id));
        Ok(list.first(limit).into_iter().map(|(_, row)| row).collect())
    }

    async fn agent(&self, pc: &PcId) -> Result<Option<Agent>, StoreError> {
        Ok(self.inner().records.agents.get(pc).cloned())
    }

    async fn agents(&self, after: Option<&Position>, limit: usize) -> Result<Page<Agent>, StoreError> {
        let inner = self.inner();
        let after = after.map(|after| by_id(&after.id));
        let list = List::up(inner.records.agents.values(), |row| by_id(&row.pc_id));
        Ok(list.page(after.as_ref(), limit, |row| (Some(row.clone()), RECORD)))
    }

    async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError> {
        let inner = self.inner();
        // The key sorts by agent, then by job.
        Ok(inner
            .records
            .facts
            .values()
            .filter(|row| row.pc_id == *pc)
            .cloned()
            .collect())
    }

    async fn facts_by(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Facts>, StoreError> {
        let inner = self.inner();
        let after = after.map(|after| by_id(&after.id));
        let wanted = inner.records.facts.values().filter(|row| row.job_id == *job);
        let list = List::up(wanted, |row| by_id(&row.pc_id));
        Ok(list.page(after.as_ref(), limit, |row| {
            (Some(row.clone()), RECORD + row.facts.to_string().len())
        }))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let inner = self.inner();
        let by_actor = inner
            .records
            .audit
            .iter()
            .filter(|(_, event)| query.actor.as_ref().is_none_or(|actor| event.actor == *actor));
        let after = query.after.as_ref().map(|after| by_number(after.at));
        let list = List::down(by_actor, |(id, _)| by_number(**id));
        Ok(list.page(after.as_ref(), query.limit, |(id, event)| {
            let record = AuditRecord {
                id: *id,
                event: event.clone(),
            };
            let details = serde_json::to_string(&event.payload).map_or(0, |text| text.len());
            (
                Some(record).filter(|record| query.matches(record)),
                RECORD + details,
            )
        }))
    }

    async fn dead_letters(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<DeadLetterRecord>, StoreError> {
        let inner = self.inner();
        let after = after.map(|after| by_number(after.at));
        let list = List::down(inner.records.dead_letters.iter(), |(id, _)| by_number(**id));
        Ok(list.page(after.as_ref(), limit, |(id, letter)| {
            let record = DeadLetterRecord {
                id: *id,
                letter: letter.clone(),
            };
            (Some(record), RECORD + letter.payload.len())
        }))
    }

    async fn key(&self, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.inner().records.keys.get(key).cloned())
    }

    async fn mark(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.inner().records.marks.get(name).copied())
    }

    async fn slot(&self, schedule: &ScheduleId, slot: Timestamp) -> Result<Option<SlotRecord>, StoreError> {
        Ok(self.inner().records.slots.get(&(schedule.clone(), slot)).cloned())
    }

    async fn slots(&self, query: &SlotQuery) -> Result<Page<SlotRecord>, StoreError> {
        let inner = self.inner();
        let after = query.after.as_ref().map(|after| by_number(after.at));
        let rows = inner.records.slots.values();
        let rows = rows.filter(|row| row.schedule_id == query.schedule_id);
        let list = List::down(rows, |row| by_number(row.slot.as_micros()));
        Ok(list.page(after.as_ref(), query.limit, |row| (Some(row.clone()), RECORD)))
    }

    async fn waiting_slots(&self, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let inner = self.inner();
        let rows = inner.records.slots.values();
        let mut waiting: Vec<_> = rows
            .filter(|row| row.state == SlotState::Waiting)
            .cloned()
            .collect();
        waiting.sort_by_key(|row| (row.slot, row.schedule_id.clone()));
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn cursor(&self, schedule: &ScheduleId) -> Result<Option<ScheduleCursor>, StoreError> {
        Ok(self.inner().records.cursors.get(schedule).cloned())
    }

    async fn successes(
        &self,
        job: &JobId,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Page<Success>, StoreError> {
        let inner = self.inner();
        let of_job = inner.records.successes.iter();
        let of_job = of_job.filter(|((job_id, _), _)| job_id == job);
        let list = List::up(of_job, |((_, pc_id), _)| by_id(pc_id));
        Ok(list.page(after, limit, |((job_id, pc_id), at)| {
            let success = Success {
                job_id: job_id.clone(),
                pc_id: pc_id.clone(),
                at: *at,
            };
            (Some(success), RECORD)
        }))
    }

    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Result<Forget, StoreError> {
        let inner = self.inner();
        let records = &inner.records;
        let is_old =
            |row: &Execution| row.is_final() && row.finished_at.is_some_and(|at| at < cut.executions);
        let mut forget = Forget::default();
        for run in records.runs.values() {
            let old = match run.exec_id.as_ref().and_then(|id| records.executions.get(id)) {
                Some(execution) => is_old(execution),
                None => run.finished_at.is_some_and(|at| at < cut.executions),
            };
            if old {
                forget.runs.push(run.result_id);
            }
        }
        let has_runs = |id| records.runs.values().any(|run| run.exec_id.as_ref() == Some(id));
        let old = records
            .executions
            .values()
            .filter(|row| is_old(row) && !has_runs(&row.exec_id));
        forget.executions.extend(old.map(|row| row.exec_id.clone()));
        let old = records
            .audit
            .iter()
            .filter(|(_, event)| event.occurred_at < cut.audit);
        forget.audit.extend(old.map(|(id, _)| *id));
        let old = records
            .dead_letters
            .iter()
            .filter(|(_, letter)| letter.at < cut.audit);
        forget.dead_letters.extend(old.map(|(id, _)| *id));
        let old = records.keys.iter().filter(|(_, key)| key.at < cut.keys);
        forget.keys.extend(old.map(|(key, _)| key.clone()));
        let old = records.slots.keys().filter(|(_, slot)| *slot < cut.slots);
        forget.slots.extend(old.cloned());

        let mut left = limit;
        let mut cut_off = |len: usize| {
            let kept = len.min(left);
            left -= kept;
            kept
        };
        forget.runs.truncate(cut_off(forget.runs.len()));
        forget.executions.truncate(cut_off(forget.executions.len()));
        forget.audit.truncate(cut_off(forget.audit.len()));
        forget.dead_letters.truncate(cut_off(forget.dead_letters.len()));
        forget.keys.truncate(cut_off(forget.keys.len()));
        forget.slots.truncate(cut_off(forget.slots.len()));
        Ok(forget)
    }
}
