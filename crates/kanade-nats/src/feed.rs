//! A bucket as it is told: what stands, then what changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kanade_ports::{Bucket, CatalogEvent, Entry, Key, Revision};
use tokio::time;

use crate::{
    acks::Place,
    catalog::is_deletion,
    follow::{Follow, Told},
    key,
    link::{Fault, Link},
    plan,
};

/// How long a replica may be behind what this server wrote itself.
const BEHIND: Duration = Duration::from_secs(1);

/// The feed of one bucket.
pub(crate) struct Feed {
    follow: Follow,
    bucket: Bucket,
}

/// What comes.
enum Step {
    Change {
        event: Option<CatalogEvent>,
        place: Place,
    },
    /// There is nothing more at the moment.
    Idle,
}

impl Feed {
    pub(crate) async fn open(link: Arc<Link>, bucket: Bucket) -> Result<Self, Fault> {
        let filter = format!("$KV.{bucket}.>");
        let follow = Follow::open(link, plan::stream_of_bucket(bucket), &filter).await?;
        Ok(Self { follow, bucket })
    }

    /// Every document as it stands, with what changed while that was read; `None` when the feed broke. `written` is
    /// a revision that this server was given: a replica that has not heard of it yet is waited for.
    pub(crate) async fn standing(&mut self, written: u64) -> Option<BTreeMap<Key, Entry>> {
        let mut documents = BTreeMap::new();
        let mut current = self.follow.standing() == 0;
        let mut newest = 0;
        while !current {
            match self.step().await? {
                Step::Idle => current = true,
                Step::Change { event, place } => {
                    newest = place.stream;
                    apply(&mut documents, event);
                    current = place.pending == 0;
                }
            }
        }
        let catching_up = async {
            while newest < written {
                if let Step::Change { event, place } = self.step().await? {
                    newest = place.stream;
                    apply(&mut documents, event);
                }
            }
            Some(())
        };
        // In vain where that message was purged since.
        if let Ok(broken @ None) = time::timeout(BEHIND, catching_up).await {
            broken?;
        }
        Some(documents)
    }

    /// The next change; `None` when the feed broke.
    pub(crate) async fn next(&mut self) -> Option<CatalogEvent> {
        loop {
            if let Step::Change {
                event: Some(event), ..
            } = self.step().await?
            {
                return Some(event);
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        Some(match self.follow.next().await? {
            Told::Idle => Step::Idle,
            Told::Message(message, place) => Step::Change {
                event: self.event(&message, place),
                place,
            },
        })
    }

    fn event(&self, message: &async_nats::Message, place: Place) -> Option<CatalogEvent> {
        let stored = message
            .subject
            .strip_prefix("$KV.")?
            .strip_prefix(self.bucket.as_str())?
            .strip_prefix('.')?;
        let key = key::read(stored)?;
        let deleted = message.headers.as_ref().is_some_and(is_deletion);
        Some(if deleted {
            CatalogEvent::Deleted(key)
        } else {
            CatalogEvent::Put(Entry {
                key,
                value: message.payload.clone(),
                revision: Revision(place.stream),
            })
        })
    }
}

fn apply(documents: &mut BTreeMap<Key, Entry>, event: Option<CatalogEvent>) {
    match event {
        Some(CatalogEvent::Put(entry)) => drop(documents.insert(entry.key.clone(), entry)),
        Some(CatalogEvent::Deleted(key)) => drop(documents.remove(&key)),
        Some(CatalogEvent::Current) | None => {}
    }
}
