//! The world of a catalog case: a fresh catalog, and reading and writing it in few words.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogStream, Entry, ErrorKind, Key, Precondition, Revision, StoreError,
};

use crate::{CatalogFactory, within};

/// By then, whatever must come has come.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A catalog of a case's own; its short forms speak of the bucket of jobs.
pub(crate) struct Shelf<F> {
    factory: F,
    pub(crate) catalog: Arc<dyn Catalog>,
}

impl<F: CatalogFactory> Shelf<F> {
    pub(crate) async fn new() -> Self {
        let factory = F::fresh().await;
        let catalog = factory.open().await;
        Self { factory, catalog }
    }

    /// The same catalog after a clean stop and a start; whether it is one that keeps things.
    pub(crate) async fn reopened(self) -> (Self, bool) {
        let Self { factory, catalog } = self;
        let catalog = factory.reopen(catalog).await;
        let survives = factory.survives_reopen();
        (Self { factory, catalog }, survives)
    }

    pub(crate) async fn put(&self, name: &str, value: &str) -> Revision {
        self.try_put(name, value, Precondition::Any).await.unwrap()
    }

    pub(crate) async fn try_put(
        &self,
        name: &str,
        value: &str,
        when: Precondition,
    ) -> Result<Revision, ErrorKind> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        kind(self.catalog.put(Bucket::Jobs, &key(name), value, when).await)
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.try_delete(name, Precondition::Any).await.unwrap();
    }

    pub(crate) async fn try_delete(&self, name: &str, when: Precondition) -> Result<(), ErrorKind> {
        kind(self.catalog.delete(Bucket::Jobs, &key(name), when).await)
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Entry> {
        self.catalog.get(Bucket::Jobs, &key(name)).await.unwrap()
    }

    /// The text of a document, if it is there.
    pub(crate) async fn text(&self, name: &str) -> Option<String> {
        self.get(name).await.map(|entry| text(&entry))
    }

    pub(crate) async fn list(&self) -> Vec<Entry> {
        self.catalog.list(Bucket::Jobs).await.unwrap()
    }

    /// The texts of the versions of a document, newest first.
    pub(crate) async fn history(&self, name: &str) -> Vec<String> {
        let versions = self.catalog.history(Bucket::Jobs, &key(name)).await.unwrap();
        versions.iter().map(text).collect()
    }

    pub(crate) async fn watch(&self) -> CatalogStream {
        self.catalog.watch(Bucket::Jobs).await.unwrap()
    }
}

/// What kind of failure it is, if it is one.
pub(crate) fn kind<T>(result: Result<T, StoreError>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

pub(crate) fn key(name: &str) -> Key {
    name.parse().expect("a valid key")
}

pub(crate) fn text(entry: &Entry) -> String {
    String::from_utf8(entry.value.to_vec()).expect("these cases write text")
}

/// The next event of a watch, which must come.
pub(crate) async fn next(watch: &mut CatalogStream) -> CatalogEvent {
    within(SOON, "an event", watch.next())
        .await
        .expect("the watch goes on")
}

/// What a watch says of its beginning: every document as it stands, up to [`CatalogEvent::Current`].
pub(crate) async fn standing(watch: &mut CatalogStream) -> BTreeMap<String, Entry> {
    let mut documents = BTreeMap::new();
    loop {
        match next(watch).await {
            CatalogEvent::Put(entry) => {
                let name = entry.key.to_string();
                assert!(
                    documents.insert(name.clone(), entry).is_none(),
                    "{name} comes once"
                );
            }
            CatalogEvent::Deleted(key) => panic!("{key} was deleted before the watch began"),
            CatalogEvent::Current => return documents,
        }
    }
}
