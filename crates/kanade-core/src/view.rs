//! Every bucket of the catalog in memory, kept up to date from watches, so that hot reads do not ask the backend.

use std::{
    collections::{BTreeMap, VecDeque},
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use futures::{StreamExt, stream};
use kanade_ports::{Bucket, Catalog, CatalogEvent, CatalogStream, Clock, Entry, Key, Revision};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a writer waits for its own write to show.
const OWN_WRITE_WAIT: Duration = Duration::from_secs(2);
/// How many revisions are remembered for writers that wait for theirs.
const REMEMBERED: usize = 1024;
/// How many changes a watcher may be behind before its watch ends.
const BEHIND: usize = 1024;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The catalog as last heard of. Cheap to clone.
#[derive(Clone)]
pub struct CatalogView {
    buckets: Arc<BTreeMap<Bucket, BucketView>>,
}

#[derive(Default)]
struct BucketView {
    /// Shared with the watches that still tell what stood when they began; copied before a change only while there are
    /// such.
    entries: RwLock<Arc<BTreeMap<Key, Entry>>>,
    /// Told under the lock of the entries, so that a watcher misses nothing and hears nothing twice.
    changes: Changes,
    /// The newest revisions that were heard of, the newest last.
    recent: Mutex<VecDeque<Revision>>,
    /// Counts what was heard; says whether the view is whole.
    heard: watch::Sender<Heard>,
}

struct Changes(broadcast::Sender<CatalogEvent>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Changes {
    fn tell(&self, event: CatalogEvent) {
        // Nobody may be watching.
        drop(self.0.send(event));
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    changes: u64,
    current: bool,
}

/// Told of every change of a document.
pub(crate) type ChangeObserver = Arc<dyn Fn(Bucket, &Key, bool) + Send + Sync>;

impl CatalogView {
    /// A view of `catalog`, kept up to date by tasks on `tasks` until `stop`.
    pub(crate) fn start(
        catalog: &Arc<dyn Catalog>,
        clock: &Arc<dyn Clock>,
        observer: &ChangeObserver,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let empty = |bucket: &Bucket| (*bucket, BucketView::default());
        let view = Self {
            buckets: Arc::new(Bucket::ALL.iter().map(empty).collect()),
        };
        for bucket in Bucket::ALL {
            let follow = view.clone().follow(
                Arc::clone(catalog),
                Arc::clone(clock),
                Arc::clone(observer),
                *bucket,
            );
            tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
        }
        view
    }

    /// A document.
    pub fn get(&self, bucket: Bucket, key: &Key) -> Option<Entry> {
        self.bucket(bucket)
            .entries
            .read()
            .expect("no panic while locked")
            .get(key)
            .cloned()
    }

    /// Every document of a bucket, in the order of the keys.
    pub fn list(&self, bucket: Bucket) -> Vec<Entry> {
        self.bucket(bucket)
            .entries
            .read()
            .expect("no panic while locked")
            .values()
            .cloned()
            .collect()
    }

    /// Every document of a bucket, then [`CatalogEvent::Current`], then each change, from memory: a watcher costs the
    /// backend nothing. Waits for the bucket to be read. Ends when the watcher is too far behind.
    pub async fn watch(&self, bucket: Bucket) -> CatalogStream {
        let view = self.bucket(bucket);
        let mut heard = view.heard.subscribe();
        // The sender lives in `self`.
        drop(heard.wait_for(|heard| heard.current).await);
        let (entries, changes) = {
            let entries = view.entries.read().expect("no panic while locked");
            (Arc::clone(&entries), view.changes.0.subscribe())
        };
        let stands = stream::unfold((entries, None), |(entries, last): (_, Option<Key>)| async move {
            let entry = following(&entries, last.as_ref())?.clone();
            let key = entry.key.clone();
            Some((CatalogEvent::Put(entry), (entries, Some(key))))
        });
        let changes = BroadcastStream::new(changes)
            .take_while(|change| ready(change.is_ok()))
            .filter_map(|change| ready(change.ok()));
        stands
            .chain(stream::once(ready(CatalogEvent::Current)))
            .chain(changes)
            .boxed()
    }

    /// Whether every bucket has been read once and its watch stands.
    pub fn is_current(&self) -> bool {
        self.buckets.values().all(|bucket| bucket.heard.borrow().current)
    }

    /// Returns when every bucket has been read.
    pub async fn wait_current(&self) {
        for bucket in self.buckets.values() {
            let mut heard = bucket.heard.subscribe();
            // The sender lives in `self`.
            drop(heard.wait_for(|heard| heard.current).await);
        }
    }

    /// Returns when a write of this process has shown, or after two seconds: a view that lags must not hold up its
    /// writer.
    pub async fn wait_written(&self, clock: &dyn Clock, bucket: Bucket, revision: Revision) {
        self.wait_for(clock, bucket, |view| {
            view.recent
                .lock()
                .expect("no panic while locked")
                .contains(&revision)
        })
        .await;
    }

    /// Returns when a document no longer shows as it stood before this process deleted it, or after two seconds.
    pub async fn wait_deleted(&self, clock: &dyn Clock, bucket: Bucket, before: &Entry) {
        self.wait_for(clock, bucket, |view| {
            let entries = view.entries.read().expect("no panic while locked");
            entries
                .get(&before.key)
                .is_none_or(|entry| entry.revision != before.revision)
        })
        .await;
    }

    async fn wait_for(&self, clock: &dyn Clock, bucket: Bucket, shows: impl Fn(&BucketView) -> bool) {
        let view = self.bucket(bucket);
        let mut heard = view.heard.subscribe();
        let shown = async {
            while !shows(view) {
                if heard.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = shown => {}
            () = clock.sleep(OWN_WRITE_WAIT) => {
                tracing::warn!(%bucket, "the view of the catalog lags behind a write of this server");
            }
        }
    }

    fn bucket(&self, bucket: Bucket) -> &BucketView {
        self.buckets.get(&bucket).expect("every bucket is there")
    }

    async fn follow(
        self,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
        observer: ChangeObserver,
        bucket: Bucket,
    ) {
        let mut retry = FIRST_RETRY;
        loop {
            match catalog.watch(bucket).await {
                Ok(events) => {
                    retry = FIRST_RETRY;
                    self.follow_one(events, &observer, bucket).await;
                    tracing::info!(%bucket, "a watch of the catalog ended; reading the bucket again");
                }
                Err(error) => {
                    tracing::warn!(%bucket, error = %crate::error::chain(&error), "cannot watch the catalog");
                }
            }
            self.bucket(bucket)
                .heard
                .send_modify(|heard| heard.current = false);
            clock.sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Follows one watch to its end. What a watch lists first replaces what was known, at once.
    async fn follow_one(
        &self,
        mut events: kanade_ports::CatalogStream,
        observer: &ChangeObserver,
        bucket: Bucket,
    ) {
        let view = self.bucket(bucket);
        let mut listed = Some(BTreeMap::new());
        while let Some(event) = events.next().await {
            match (event, &mut listed) {
                (CatalogEvent::Put(entry), Some(listed)) => {
                    listed.insert(entry.key.clone(), entry);
                }
                (CatalogEvent::Deleted(key), Some(listed)) => {
                    listed.remove(&key);
                }
                (CatalogEvent::Current, _) => {
                    if let Some(listed) = listed.take() {
                        listed.values().for_each(|entry| view.note(entry.revision));
                        view.replace(listed);
                    }
                    view.heard.send_modify(|heard| {
                        *heard = Heard {
                            changes: heard.changes + 1,
                            current: true,
                        }
                    });
                }
                (CatalogEvent::Put(entry), None) => {
                    let key = entry.key.clone();
                    view.note(entry.revision);
                    {
                        let mut entries = view.entries.write().expect("no panic while locked");
                        Arc::make_mut(&mut entries).insert(key.clone(), entry.clone());
                        view.changes.tell(CatalogEvent::Put(entry));
                    }
                    view.heard.send_modify(|heard| heard.changes += 1);
                    observer(bucket, &key, false);
                }
                (CatalogEvent::Deleted(key), None) => {
                    {
                        let mut entries = view.entries.write().expect("no panic while locked");
                        Arc::make_mut(&mut entries).remove(&key);
                        view.changes.tell(CatalogEvent::Deleted(key.clone()));
                    }
                    view.heard.send_modify(|heard| heard.changes += 1);
                    observer(bucket, &key, true);
                }
            }
        }
    }
}

/// The entry after a key, or the first.
fn following<'e>(entries: &'e BTreeMap<Key, Entry>, last: Option<&Key>) -> Option<&'e Entry> {
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    let mut behind = entries.range::<Key, _>((after, Bound::Unbounded));
    behind.next().map(|(_, entry)| entry)
}

impl BucketView {
    /// Takes what was listed anew for what stands; watchers are told the difference.
    fn replace(&self, listed: BTreeMap<Key, Entry>) {
        let mut entries = self.entries.write().expect("no panic while locked");
        for key in entries.keys().filter(|key| !listed.contains_key(*key)) {
            self.changes.tell(CatalogEvent::Deleted(key.clone()));
        }
        for (key, entry) in &listed {
            if entries
                .get(key)
                .is_none_or(|before| before.revision != entry.revision)
            {
                self.changes.tell(CatalogEvent::Put(entry.clone()));
            }
        }
        *entries = Arc::new(listed);
    }

    fn note(&self, revision: Revision) {
        let mut recent = self.recent.lock().expect("no panic while locked");
        if recent.len() >= REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(revision);
    }
}
