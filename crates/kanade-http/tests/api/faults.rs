//! A store and a catalog over memory that fail, hang or panic when told so.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use kanade_memory::{MemoryCatalog, MemoryStore};
use kanade_model::{ExecId, JobId, PcId, ResultId, ScheduleId, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, Bucket, Catalog, CatalogReader, CatalogStream, ChangeSet,
    DeadLetterRecord, Entry, ErrorKind, Execution, ExecutionQuery, ExecutionStore, Facts, Forget, Key,
    KeyRecord, LiveCount, Order, Outcome, Page, Position, Precondition, RetentionCut, Revision, Run,
    RunQuery, RunRecord, ScheduleCursor, Send, SlotQuery, SlotRecord, StoreError, Success, TargetQuery,
    TargetRecord,
};
use tokio::sync::Semaphore;

/// What a driver would say; callers of the API must never read it.
pub(crate) const DRIVER_TEXT: &str = "database or disk is full: /var/lib/secret.db";

/// A memory store with faults.
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    writes: Mutex<Option<ErrorKind>>,
    reads: Mutex<Option<ErrorKind>>,
    /// Who asks for dead letters needs one of these.
    pub(crate) letters: Semaphore,
    wanted: AtomicUsize,
    /// Who commits needs one of these.
    commits: Semaphore,
}

impl Default for FaultyStore {
    fn default() -> Self {
        Self {
            inner: MemoryStore::default(),
            writes: Mutex::default(),
            reads: Mutex::default(),
            letters: Semaphore::new(Semaphore::MAX_PERMITS),
            wanted: AtomicUsize::new(0),
            commits: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

impl FaultyStore {
    /// From now on every change fails like this.
    pub(crate) fn fail_writes(&self, kind: Option<ErrorKind>) {
        *self.writes.lock().unwrap() = kind;
    }

    /// From now on every question fails like this.
    pub(crate) fn fail_reads(&self, kind: Option<ErrorKind>) {
        *self.reads.lock().unwrap() = kind;
    }

    /// From now on a question for dead letters is not answered.
    pub(crate) fn hold_letters(&self) {
        self.letters.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// From now on nothing is committed.
    pub(crate) fn hold_commits(&self) {
        self.commits.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Commits go on.
    pub(crate) fn release_commits(&self) {
        self.commits.add_permits(Semaphore::MAX_PERMITS);
    }

    /// How often dead letters were asked for.
    pub(crate) fn letters_wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }
}

fn failure(kind: &Mutex<Option<ErrorKind>>, operation: &str) -> Result<(), StoreError> {
    match *kind.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(kind) => Err(StoreError::new(kind, operation).because(DRIVER_TEXT)),
        None => Ok(()),
    }
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl ExecutionStore for FaultyStore {
            async fn apply(&self, sets: &[ChangeSet]) -> Result<Vec<Outcome>, StoreError> {
                failure(&self.writes, "commit changes")?;
                let _permit = self.commits.acquire().await.unwrap();
                self.inner.apply(sets).await
            }

            async fn dead_letters(
                &self,
                after: Option<&Position>,
                limit: usize,
            ) -> Result<Page<DeadLetterRecord>, StoreError> {
                self.wanted.fetch_add(1, Ordering::SeqCst);
                let _permit = self.letters.acquire().await.unwrap();
                self.inner.dead_letters(after, limit).await
            }

            async fn facts_of(&self, pc: &PcId) -> Result<Vec<Facts>, StoreError> {
                assert_ne!(pc.as_str(), "panic", "asked to panic");
                self.inner.facts_of(pc).await
            }

            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                failure(&self.reads, concat!("read ", stringify!($name)))?;
                self.inner.$name($($arg),*).await
            })+
        }
    };
}

delegate! {
    execution(id: &ExecId) -> Option<Execution>;
    executions(query: &ExecutionQuery) -> Page<Execution>;
    order(id: &ExecId) -> Option<Order>;
    in_flight(job: &JobId) -> Vec<ExecId>;
    live_counts() -> BTreeMap<JobId, LiveCount>;
    open_kills(limit: usize) -> Vec<Execution>;
    to_steer(after: Option<&Position>, limit: usize) -> Vec<Execution>;
    stale(due_before: Timestamp, limit: usize) -> Vec<ExecId>;
    target(exec: &ExecId, pc: &PcId) -> Option<TargetRecord>;
    targets(query: &TargetQuery) -> Page<TargetRecord>;
    unfinished(pc: &PcId, due_before: Timestamp, limit: usize) -> Vec<TargetRecord>;
    open_on(pc: &PcId, after: Option<&Position>, limit: usize) -> Vec<TargetRecord>;
    unanswered_kills(pc: &PcId, since: Timestamp, limit: usize) -> Vec<ExecId>;
    overdue_targets(now: Timestamp, limit: usize) -> Vec<TargetRecord>;
    due_sends(after: Option<&Position>, limit: usize) -> Vec<Send>;
    sends(exec: &ExecId) -> Vec<Send>;
    run(id: &ResultId) -> Option<RunRecord>;
    runs(query: &RunQuery) -> Page<RunRecord>;
    overdue_runs(now: Timestamp, limit: usize) -> Vec<Run>;
    agent(pc: &PcId) -> Option<Agent>;
    agents(after: Option<&Position>, limit: usize) -> Page<Agent>;
    facts_by(job: &JobId, after: Option<&Position>, limit: usize) -> Page<Facts>;
    audit(query: &AuditQuery) -> Page<AuditRecord>;
    key(key: &str) -> Option<KeyRecord>;
    mark(name: &str) -> Option<Timestamp>;
    slot(schedule: &ScheduleId, slot: Timestamp) -> Option<SlotRecord>;
    slots(query: &SlotQuery) -> Page<SlotRecord>;
    waiting_slots(limit: usize) -> Vec<SlotRecord>;
    cursor(schedule: &ScheduleId) -> Option<ScheduleCursor>;
    successes(job: &JobId, after: Option<&Position>, limit: usize) -> Page<Success>;
    prunable(cut: &RetentionCut, limit: usize) -> Forget;
}

/// A memory catalog whose deletions fail when told so.
#[derive(Default)]
pub(crate) struct FaultyCatalog {
    inner: MemoryCatalog,
    deletions: Mutex<Option<ErrorKind>>,
}

impl FaultyCatalog {
    /// From now on every deletion fails like this.
    pub(crate) fn fail_deletions(&self, kind: ErrorKind) {
        *self.deletions.lock().unwrap() = Some(kind);
    }
}

#[async_trait]
impl CatalogReader for FaultyCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(bucket, key).await
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        self.inner.watch(bucket).await
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
    async fn put(
        &self,
        bucket: Bucket,
        key: &Key,
        value: Bytes,
        when: Precondition,
    ) -> Result<Revision, StoreError> {
        self.inner.put(bucket, key, value, when).await
    }

    async fn delete(&self, bucket: Bucket, key: &Key, when: Precondition) -> Result<(), StoreError> {
        failure(&self.deletions, "delete a document")?;
        self.inner.delete(bucket, key, when).await
    }

    async fn list(&self, bucket: Bucket) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(bucket).await
    }

    async fn history(&self, bucket: Bucket, key: &Key) -> Result<Vec<Entry>, StoreError> {
        self.inner.history(bucket, key).await
    }
}
