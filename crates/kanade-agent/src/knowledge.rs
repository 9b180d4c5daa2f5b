//! What the agent knows of the catalog: kept up to date by watching, asked directly where a moment's lag would matter.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{
    AgentGroups, Command, ConfigScope, EffectiveConfig, GroupName, JobId, Manifest, PcId, RunsOn, Schedule,
    ScriptStatus, SkipReason, Staleness, Timestamp, effective_config,
};
use kanade_ports::{Bucket, CatalogEvent, CatalogReader, Clock, Key, StoreError};
use tokio::sync::watch;

use crate::{
    admission::{Known, Refusal, is_fresh, judge},
    backoff::Backoff,
};

/// What is watched.
pub(crate) const WATCHED: [Bucket; 4] = [
    Bucket::ScriptStatus,
    Bucket::ScriptCurrent,
    Bucket::AgentConfig,
    Bucket::AgentGroups,
];

/// What is kept on the disk for the time without a catalog.
const REMEMBERED: [Bucket; 4] = [
    Bucket::Schedules,
    Bucket::Jobs,
    Bucket::ScriptStatus,
    Bucket::AgentGroups,
];

/// Bucket → key → document.
pub(crate) type Documents = BTreeMap<String, BTreeMap<String, String>>;

/// A question to the catalog is given up after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Knowledge {
    pc_id: PcId,
    catalog: Arc<dyn CatalogReader>,
    clock: Arc<dyn Clock>,
    first_contact_within: Duration,
    views: Mutex<HashMap<Bucket, View>>,
    /// Whether script status and pins have been read once, or waited for in vain.
    looked: watch::Sender<bool>,
    /// Whether the agent's own configuration and groups have been read once.
    configured: watch::Sender<bool>,
    config: watch::Sender<EffectiveConfig>,
    groups: watch::Sender<Vec<GroupName>>,
    /// Counts the changes of what the agent's own schedules depend on.
    changes: watch::Sender<u64>,
}

/// One bucket.
#[derive(Debug, Default)]
struct View {
    documents: HashMap<Key, Bytes>,
    complete: bool,
    contact: Option<Timestamp>,
    /// Whether it is being followed at the moment.
    is_followed: bool,
    /// How often it was read or has changed.
    changes: u64,
}

impl Knowledge {
    pub(crate) fn new(
        pc_id: PcId,
        catalog: Arc<dyn CatalogReader>,
        clock: Arc<dyn Clock>,
        first_contact_within: Duration,
    ) -> Self {
        Self {
            pc_id,
            catalog,
            clock,
            first_contact_within,
            views: Mutex::default(),
            looked: watch::Sender::new(false),
            configured: watch::Sender::new(false),
            config: watch::Sender::new(EffectiveConfig::default()),
            groups: watch::Sender::new(Vec::new()),
            changes: watch::Sender::new(0),
        }
    }

    /// The groups that the agent is in, as it joins and leaves them.
    pub(crate) fn groups(&self) -> watch::Receiver<Vec<GroupName>> {
        self.groups.subscribe()
    }

    /// The agent's own configuration, as it changes.
    pub(crate) fn config(&self) -> watch::Receiver<EffectiveConfig> {
        self.config.subscribe()
    }

    /// Returns when the configuration is not just the default any more: it has been read, and so have the groups.
    pub(crate) async fn configured(&self) {
        let mut configured = self.configured.subscribe();
        // Its sender is `self`.
        let _ = configured.wait_for(|configured| *configured).await;
    }

    /// Whether a Command may start now.
    ///
    /// For a Command that the agent has made itself no version is pinned.
    pub(crate) async fn admit(&self, command: &Command, is_own: bool) -> Result<(), Refusal> {
        if command.staleness != Staleness::Unchecked {
            self.first_contact().await;
        }
        let unpinned = |known: Known| Known {
            pinned: known.pinned.filter(|_| !is_own),
            ..known
        };
        let mut known = unpinned(self.known(command));
        let verdict = judge(command, &known, self.clock.now());
        // A Command may overtake the news of the version it pinned, or of the end of a revocation. And a watch that is
        // silent for long proves nothing: it may hang.
        let asks = match &verdict {
            Err(refusal) => matches!(
                refusal.reason,
                SkipReason::Revoked | SkipReason::Superseded | SkipReason::Staleness
            ),
            Ok(()) => !is_fresh(command, known.contact, self.clock.now()),
        };
        if !asks {
            return verdict;
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.ask(command)).await {
            Ok(Ok(answer)) => known = unpinned(answer),
            Ok(Err(error)) => {
                tracing::warn!(job = %command.id, %error, "cannot ask the catalog; going by what is known");
            }
            Err(_) => {
                tracing::warn!(job = %command.id, "the catalog does not answer; going by what is known");
            }
        }
        judge(command, &known, self.clock.now())
    }

    /// Follows one bucket for as long as it is polled.
    pub(crate) async fn follow(&self, bucket: Bucket) {
        let mut backoff = Backoff::new();
        // Said once, however long the catalog is away.
        let mut told = false;
        loop {
            match self.catalog.watch(bucket).await {
                Ok(mut events) => {
                    told = false;
                    // What was deleted meanwhile is missing among what stands now, so that begins with nothing.
                    let mut fresh = Some(HashMap::new());
                    while let Some(event) = events.next().await {
                        if event == CatalogEvent::Current {
                            backoff.reset();
                        }
                        self.learn(bucket, event, &mut fresh);
                    }
                    self.views().entry(bucket).or_default().is_followed = false;
                    tracing::info!(%bucket, "the watch of the catalog has ended; watching again");
                }
                Err(error) if told => tracing::debug!(%bucket, %error, "still cannot watch the catalog"),
                Err(error) => {
                    told = true;
                    tracing::warn!(%bucket, %error, "cannot watch the catalog; it will be tried again");
                }
            }
            self.clock.sleep(backoff.pause()).await;
        }
    }

    fn learn(&self, bucket: Bucket, event: CatalogEvent, fresh: &mut Option<HashMap<Key, Bytes>>) {
        let mut views = self.views();
        let view = views.entry(bucket).or_default();
        view.contact = Some(self.clock.now());
        match event {
            // Only its own groups are an agent's business, and there may be many thousands.
            CatalogEvent::Put(entry)
                if bucket == Bucket::AgentGroups && entry.key.as_str() != self.pc_id.as_str() => {}
            // Nor are the schedules that the server ticks; one may have been the agents' before.
            CatalogEvent::Put(entry) if bucket == Bucket::Schedules && !is_of_agents(&entry.value) => {
                fresh.as_mut().unwrap_or(&mut view.documents).remove(&entry.key);
            }
            CatalogEvent::Put(entry) => {
                fresh
                    .as_mut()
                    .unwrap_or(&mut view.documents)
                    .insert(entry.key, entry.value);
            }
            CatalogEvent::Deleted(key) => {
                fresh.as_mut().unwrap_or(&mut view.documents).remove(&key);
            }
            CatalogEvent::Current => {
                if let Some(documents) = fresh.take() {
                    view.documents = documents;
                }
                view.complete = true;
                view.is_followed = true;
            }
        }
        if fresh.is_some() {
            return;
        }
        view.changes += 1;
        if matches!(
            bucket,
            Bucket::Schedules | Bucket::AgentGroups | Bucket::ScriptStatus
        ) {
            self.changes.send_modify(|changes| *changes += 1);
        }
        if matches!(bucket, Bucket::AgentConfig | Bucket::AgentGroups) {
            let groups = self.own_groups(&views);
            let (config, warnings) = self.effective(&views, &groups);
            self.groups.send_if_modified(|current| {
                let changed = *current != groups;
                *current = groups;
                changed
            });
            let changed = self.config.send_if_modified(|current| {
                let changed = *current != config;
                *current = config;
                changed
            });
            if changed {
                warnings
                    .iter()
                    .for_each(|warning| tracing::warn!("configuration: {warning}"));
            }
        }
        let is_complete = |bucket| views.get(&bucket).is_some_and(|view| view.complete);
        if is_complete(Bucket::AgentConfig) && is_complete(Bucket::AgentGroups) {
            self.configured
                .send_if_modified(|configured| !std::mem::replace(configured, true));
        }
        if is_complete(Bucket::ScriptStatus) && is_complete(Bucket::ScriptCurrent) {
            self.looked
                .send_if_modified(|looked| !std::mem::replace(looked, true));
        }
    }

    /// Waits for a first look at the catalog, once in the life of the agent and not for ever.
    async fn first_contact(&self) {
        let mut looked = self.looked.subscribe();
        tokio::select! {
            biased;
            // Its sender is `self`.
            _ = looked.wait_for(|looked| *looked) => {}
            () = self.clock.sleep(self.first_contact_within) => {
                tracing::warn!("the catalog has not been read yet; going by what is known");
                self.looked.send_replace(true);
            }
        }
    }

    fn known(&self, command: &Command) -> Known {
        let views = self.views();
        let document = |bucket| views.get(&bucket)?.documents.get(&Key::from(&command.id));
        let contact = |bucket| views.get(&bucket)?.contact;
        Known {
            revoked: is_revoked(command, document(Bucket::ScriptStatus)),
            pinned: text(document(Bucket::ScriptCurrent)),
            contact: contact(Bucket::ScriptStatus).min(contact(Bucket::ScriptCurrent)),
        }
    }

    async fn ask(&self, command: &Command) -> Result<Known, StoreError> {
        let key = Key::from(&command.id);
        let (status, pinned) = futures::try_join!(
            self.catalog.get(Bucket::ScriptStatus, &key),
            self.catalog.get(Bucket::ScriptCurrent, &key),
        )?;
        Ok(Known {
            revoked: is_revoked(command, status.map(|entry| entry.value).as_ref()),
            pinned: text(pinned.map(|entry| entry.value).as_ref()),
            contact: Some(self.clock.now()),
        })
    }

    /// Takes up what an earlier life knew, until the catalog says more.
    pub(crate) fn recall(&self, documents: &Documents) {
        let mut views = self.views();
        for bucket in REMEMBERED {
            let known = documents.get(bucket.as_str()).into_iter().flatten();
            let known = known.filter_map(|(key, text)| Some((key.parse().ok()?, Bytes::from(text.clone()))));
            views.entry(bucket).or_default().documents.extend(known);
        }
    }

    /// Changes of schedules, groups and revocations.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How often the schedules were read or have changed.
    pub(crate) fn schedules_read(&self) -> u64 {
        self.views()
            .get(&Bucket::Schedules)
            .map_or(0, |view| view.changes)
    }

    /// The schedules that agents tick, and the groups that the agent is in, as far as is known.
    pub(crate) fn schedules(&self) -> (Vec<Schedule>, Vec<GroupName>) {
        let views = self.views();
        let documents = views.get(&Bucket::Schedules).map(|view| &view.documents);
        let schedules = documents.into_iter().flatten();
        let schedules = schedules.filter_map(|(key, bytes)| decoded(bytes, key)).collect();
        (schedules, self.own_groups(&views))
    }

    /// A job of such a schedule.
    pub(crate) fn job(&self, job: &JobId) -> Option<Manifest> {
        let (views, key) = (self.views(), Key::from(job));
        decoded(views.get(&Bucket::Jobs)?.documents.get(&key)?, &key)
    }

    /// Asks for a job, where there is somebody to ask; otherwise what is known stays.
    pub(crate) async fn refresh_job(&self, job: &JobId) {
        if !self
            .views()
            .get(&Bucket::Schedules)
            .is_some_and(|view| view.is_followed)
        {
            return;
        }
        let key = Key::from(job);
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.catalog.get(Bucket::Jobs, &key)).await;
        let mut views = self.views();
        let jobs = &mut views.entry(Bucket::Jobs).or_default().documents;
        match asked {
            Ok(Ok(Some(entry))) => drop(jobs.insert(key, entry.value)),
            Ok(Ok(None)) => drop(jobs.remove(&key)),
            Ok(Err(error)) => tracing::warn!(%job, %error, "cannot ask for a job; going by what is known"),
            Err(_) => tracing::warn!(%job, "the catalog does not answer; going by what is known of a job"),
        }
    }

    /// What is needed to tick these jobs without a catalog. Other jobs are forgotten.
    pub(crate) fn needed_for(&self, jobs: &[JobId]) -> Documents {
        let mut views = self.views();
        let is_needed = |key: &Key| jobs.iter().any(|job| Key::from(job) == *key);
        if let Some(view) = views.get_mut(&Bucket::Jobs) {
            view.documents.retain(|key, _| is_needed(key));
        }
        let kept = |bucket: Bucket| {
            let documents = views
                .get(&bucket)
                .map(|view| &view.documents)
                .into_iter()
                .flatten();
            documents
                .filter(|(key, _)| bucket != Bucket::ScriptStatus || is_needed(key))
                .map(|(key, bytes)| (key.to_string(), String::from_utf8_lossy(bytes).into_owned()))
                .collect()
        };
        REMEMBERED
            .iter()
            .map(|bucket| (bucket.as_str().to_owned(), kept(*bucket)))
            .collect()
    }

    fn own_groups(&self, views: &HashMap<Bucket, View>) -> Vec<GroupName> {
        let own = Key::from(&self.pc_id);
        let groups = views.get(&Bucket::AgentGroups).and_then(|view| {
            let bytes = view.documents.get(&own)?;
            decoded::<AgentGroups>(bytes, &own)
        });
        groups.unwrap_or_default().normalised().groups
    }

    fn effective(
        &self,
        views: &HashMap<Bucket, View>,
        groups: &[GroupName],
    ) -> (EffectiveConfig, Vec<String>) {
        let scope = |key: &Key| {
            let scopes = &views.get(&Bucket::AgentConfig)?.documents;
            decoded::<ConfigScope>(scopes.get(key)?, key)
        };
        let groups: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((group.clone(), scope(&Key::group_config(group))?)))
            .collect();
        effective_config(
            scope(&Key::global_config()).as_ref(),
            &groups,
            scope(&Key::pc_config(&self.pc_id)).as_ref(),
        )
    }

    fn views(&self) -> MutexGuard<'_, HashMap<Bucket, View>> {
        self.views.lock().expect("no panic while locked")
    }
}

/// Whether it is the document of a schedule that agents tick.
fn is_of_agents(schedule: &Bytes) -> bool {
    serde_json::from_slice::<Schedule>(schedule).is_ok_and(|schedule| schedule.runs_on == RunsOn::Agent)
}

fn is_revoked(command: &Command, status: Option<&Bytes>) -> bool {
    match status.map(|bytes| {
        std::str::from_utf8(bytes)
            .unwrap_or_default()
            .parse::<ScriptStatus>()
    }) {
        Some(Ok(status)) => status == ScriptStatus::Revoked,
        Some(Err(error)) => {
            tracing::warn!(job = %command.id, %error, "the status of a job cannot be understood; it counts as revoked");
            true
        }
        None => false,
    }
}

fn text<T: std::str::FromStr>(document: Option<&Bytes>) -> Option<T> {
    std::str::from_utf8(document?).ok()?.trim().parse().ok()
}

fn decoded<T: serde::de::DeserializeOwned>(bytes: &Bytes, key: &Key) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!(%key, %error, "a document of the configuration cannot be understood; it is left out"))
        .ok()
}
