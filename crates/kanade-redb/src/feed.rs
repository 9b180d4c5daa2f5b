//! Tells watchers of changes, in the order of the commits.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt, future};
use kanade_ports::{Bucket, CatalogEvent, Revision};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// How many changes a watcher may be behind before its stream ends.
const BEHIND: usize = 256;

/// The watchers of every bucket.
#[derive(Default)]
pub(crate) struct Feeds(Mutex<BTreeMap<Bucket, broadcast::Sender<(Revision, CatalogEvent)>>>);

impl Feeds {
    /// Every change that is published from now on. Ends when some would be lost.
    pub(crate) fn follow(
        &self,
        bucket: Bucket,
    ) -> impl Stream<Item = (Revision, CatalogEvent)> + Send + use<> {
        let changes = self
            .feeds()
            .entry(bucket)
            .or_insert_with(|| broadcast::channel(BEHIND).0)
            .subscribe();
        // An error says that changes were lost.
        BroadcastStream::new(changes).scan((), |(), change| future::ready(change.ok()))
    }

    /// Tells of a change. Call it in the order of the commits.
    pub(crate) fn publish(&self, bucket: Bucket, revision: Revision, event: CatalogEvent) {
        if let Some(feed) = self.feeds().get(&bucket) {
            // Fails when nobody watches any more, which is nobody's loss.
            let _ = feed.send((revision, event));
        }
    }

    /// Ends the streams of a bucket: nobody knows whether it changed.
    pub(crate) fn cut(&self, bucket: Bucket) {
        self.feeds().remove(&bucket);
    }

    /// Ends every stream.
    pub(crate) fn close(&self) {
        self.feeds().clear();
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<Bucket, broadcast::Sender<(Revision, CatalogEvent)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
