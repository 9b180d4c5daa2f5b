//! The documents that an agent reads: what it may start, its configuration, and the jobs of schedules that agents run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::ready,
    sync::Arc,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream};
use kanade_model::{PcId, RunsOn, Schedule};
use kanade_ports::{Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, Key, StoreError};

use crate::CatalogView;

pub(super) struct OwnCatalog {
    pc: PcId,
    catalog: Arc<dyn Catalog>,
    /// What watches are served from: a thousand agents that watch cost the backend nothing.
    view: CatalogView,
}

impl OwnCatalog {
    pub(super) fn new(pc: PcId, catalog: Arc<dyn Catalog>, view: CatalogView) -> Self {
        Self { pc, catalog, view }
    }

    fn is_job_of_agents(&self, key: &Key) -> bool {
        let schedules = self.view.list(Bucket::Schedules);
        schedules.iter().filter_map(job_of_agents).any(|job| job == *key)
    }
}

/// Whether a document under this key may be an agent's business. Of schedules and jobs the key does not tell.
fn is_for(pc: &PcId, bucket: Bucket, key: &Key) -> bool {
    match bucket {
        Bucket::ScriptStatus | Bucket::ScriptCurrent | Bucket::Schedules | Bucket::Jobs => true,
        Bucket::AgentGroups => *key == Key::from(pc),
        // The server's schedules are not theirs.
        Bucket::Freezes => false,
        // Every group's: an agent may join one at any time.
        Bucket::AgentConfig => {
            *key == Key::global_config() || *key == Key::pc_config(pc) || key.as_str().starts_with("groups.")
        }
    }
}

/// The job of a schedule that agents run themselves.
fn job_of_agents(schedule: &Entry) -> Option<Key> {
    let schedule: Schedule = serde_json::from_slice(&schedule.value).ok()?;
    (schedule.runs_on == RunsOn::Agent).then(|| Key::from(&schedule.job_id))
}

#[async_trait]
impl CatalogReader for OwnCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        if !is_for(&self.pc, bucket, key) || (bucket == Bucket::Jobs && !self.is_job_of_agents(key)) {
            return Ok(None);
        }
        let entry = self.catalog.get(bucket, key).await?;
        Ok(entry.filter(|entry| bucket != Bucket::Schedules || job_of_agents(entry).is_some()))
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        let documents = self.view.watch(bucket).await;
        Ok(match bucket {
            Bucket::Schedules => {
                let mut shown = Shown::default();
                each(documents, move |event| shown.schedule(event))
            }
            Bucket::Jobs => {
                let mut jobs = JobsOfAgents::default();
                let schedules = self.view.watch(Bucket::Schedules).await;
                let both = stream::select(of(Bucket::Schedules, schedules), of(bucket, documents));
                // The end of either ends both: what follows would be seen through the other's past.
                let both = both.take_while(|input| ready(input.is_some())).filter_map(ready);
                each(both, move |(bucket, event)| jobs.take(bucket, event))
            }
            Bucket::ScriptStatus
            | Bucket::ScriptCurrent
            | Bucket::AgentConfig
            | Bucket::AgentGroups
            | Bucket::Freezes => {
                let pc = self.pc.clone();
                let is_own = move |event: &CatalogEvent| match event {
                    CatalogEvent::Put(entry) => is_for(&pc, bucket, &entry.key),
                    CatalogEvent::Deleted(key) => is_for(&pc, bucket, key),
                    CatalogEvent::Current => true,
                };
                documents.filter(move |event| ready(is_own(event))).boxed()
            }
        })
    }
}

/// What becomes of each item, in order.
fn each<T: Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
    mut told: impl FnMut(T) -> Vec<CatalogEvent> + Send + 'static,
) -> CatalogStream {
    items.flat_map(move |item| stream::iter(told(item))).boxed()
}

/// What happens in a bucket, and then that nothing more will be told.
fn of(bucket: Bucket, events: CatalogStream) -> impl Stream<Item = Option<(Bucket, CatalogEvent)>> + Send {
    events
        .map(move |event| Some((bucket, event)))
        .chain(stream::once(ready(None)))
}

/// The schedules that an agent has been told of.
#[derive(Default)]
struct Shown(BTreeSet<Key>);

impl Shown {
    /// One that is no longer run by agents is gone for them.
    fn schedule(&mut self, event: CatalogEvent) -> Vec<CatalogEvent> {
        match event {
            CatalogEvent::Put(entry) if job_of_agents(&entry).is_some() => {
                self.0.insert(entry.key.clone());
                vec![CatalogEvent::Put(entry)]
            }
            CatalogEvent::Put(Entry { key, .. }) | CatalogEvent::Deleted(key) => self
                .0
                .remove(&key)
                .then_some(CatalogEvent::Deleted(key))
                .into_iter()
                .collect(),
            CatalogEvent::Current => vec![CatalogEvent::Current],
        }
    }
}

/// The jobs that schedules of agents refer to, as both change.
#[derive(Default)]
struct JobsOfAgents {
    /// Schedule → its job.
    schedules: HashMap<Key, Key>,
    jobs: BTreeMap<Key, Entry>,
    shown: BTreeSet<Key>,
    current: BTreeSet<Bucket>,
}

impl JobsOfAgents {
    fn take(&mut self, bucket: Bucket, event: CatalogEvent) -> Vec<CatalogEvent> {
        match (bucket, event) {
            (_, CatalogEvent::Current) => {
                let was_complete = self.is_complete();
                self.current.insert(bucket);
                if was_complete || !self.is_complete() {
                    return Vec::new();
                }
                let wanted: BTreeSet<Key> = self.schedules.values().cloned().collect();
                let mut told: Vec<CatalogEvent> = wanted.iter().flat_map(|job| self.show(job)).collect();
                told.push(CatalogEvent::Current);
                told
            }
            (Bucket::Schedules, CatalogEvent::Put(entry)) => match job_of_agents(&entry) {
                Some(job) => {
                    let before = self.schedules.insert(entry.key, job.clone());
                    let hidden = before.filter(|before| *before != job);
                    self.tell(hidden.iter().chain([&job]))
                }
                None => {
                    let before = self.schedules.remove(&entry.key);
                    self.tell(before.iter())
                }
            },
            (Bucket::Schedules, CatalogEvent::Deleted(key)) => {
                let before = self.schedules.remove(&key);
                self.tell(before.iter())
            }
            (_, CatalogEvent::Put(entry)) => {
                let key = entry.key.clone();
                self.jobs.insert(key.clone(), entry);
                // Another version of what is shown is told too.
                self.shown.remove(&key);
                self.tell([&key])
            }
            (_, CatalogEvent::Deleted(key)) => {
                self.jobs.remove(&key);
                self.tell([&key])
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.current.len() == 2
    }

    fn tell<'a>(&mut self, jobs: impl IntoIterator<Item = &'a Key>) -> Vec<CatalogEvent> {
        if !self.is_complete() {
            return Vec::new();
        }
        jobs.into_iter().flat_map(|job| self.show(job)).collect()
    }

    /// What has to be told about one job, so that the agent sees it as it should.
    fn show(&mut self, job: &Key) -> Option<CatalogEvent> {
        let wanted = self.schedules.values().any(|wanted| wanted == job);
        match (wanted, self.jobs.get(job)) {
            (true, Some(entry)) => self
                .shown
                .insert(job.clone())
                .then(|| CatalogEvent::Put(entry.clone())),
            _ => self.shown.remove(job).then(|| CatalogEvent::Deleted(job.clone())),
        }
    }
}
