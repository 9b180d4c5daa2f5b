//! Watching a bucket: all of it as it stands, then every change in order.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use kanade_ports::{Bucket, Catalog, CatalogEvent, CatalogStream, Precondition};

use super::shelf::{SOON, Shelf, key, next, standing, text};
use crate::{CatalogFactory, within};

pub async fn a_watch_begins_with_what_stands<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut empty = shelf.watch().await;
    assert_eq!(
        next(&mut empty).await,
        CatalogEvent::Current,
        "of an empty bucket there is nothing to say"
    );
    shelf.put("a", "1").await;
    shelf.put("a", "2").await;
    shelf.put("b", "1").await;
    shelf.put("gone", "1").await;
    shelf.delete("gone").await;
    let documents = standing(&mut shelf.watch().await).await;
    let wanted: BTreeMap<_, _> = shelf
        .list()
        .await
        .into_iter()
        .map(|entry| (entry.key.to_string(), entry))
        .collect();
    assert_eq!(documents, wanted, "each document once, in its newest version");
}

pub async fn a_watch_tells_every_change_in_order<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    shelf.put("a", "0").await;
    let mut watch = shelf.watch().await;
    standing(&mut watch).await;
    let mut revisions = Vec::new();
    for (name, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "2")] {
        revisions.push(shelf.put(name, value).await);
    }
    shelf.delete("a").await;
    revisions.push(shelf.put("a", "3").await);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(match next(&mut watch).await {
            CatalogEvent::Put(entry) => {
                assert_eq!(
                    Some(entry.revision),
                    revisions.first().copied(),
                    "with the revision of its write"
                );
                revisions.remove(0);
                format!("{}={}", entry.key, text(&entry))
            }
            CatalogEvent::Deleted(key) => format!("{key} deleted"),
            CatalogEvent::Current => "current".to_owned(),
        });
    }
    assert_eq!(
        told,
        ["a=1", "b=1", "a=2", "a=2", "a deleted", "a=3"],
        "each change, in the order of its commit"
    );
}

pub async fn a_watch_sees_its_own_bucket_and_no_refused_write<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut watch = shelf.watch().await;
    standing(&mut watch).await;
    for bucket in Bucket::ALL.iter().filter(|bucket| **bucket != Bucket::Jobs) {
        shelf
            .catalog
            .put(*bucket, &key("x"), Bytes::from("x"), Precondition::Any)
            .await
            .unwrap();
    }
    shelf.put("a", "1").await;
    shelf.try_put("a", "2", Precondition::Absent).await.unwrap_err();
    shelf.try_delete("b", Precondition::Any).await.unwrap_err();
    shelf.put("z", "1").await;
    for name in ["a", "z"] {
        match next(&mut watch).await {
            CatalogEvent::Put(entry) => {
                assert_eq!(entry.key, key(name), "only what was written in this bucket");
            }
            other => panic!("{name} was written, not {other:?}"),
        }
    }
}

pub async fn several_watchers_are_told_the_same<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut watches = Vec::new();
    for round in 0..3 {
        let mut watch = shelf.watch().await;
        let before = standing(&mut watch).await;
        assert_eq!(before.len(), round, "each begins with what stands by then");
        watches.push(watch);
        shelf.put(&format!("d-{round}"), "x").await;
    }
    drop(watches.remove(0));
    shelf.put("last", "x").await;
    for (number, watch) in watches.iter_mut().enumerate() {
        let mut told = Vec::new();
        while told.last().is_none_or(|name| name != "last") {
            match next(watch).await {
                CatalogEvent::Put(entry) => told.push(entry.key.to_string()),
                other => panic!("nothing but writes happened, not {other:?}"),
            }
        }
        let mut wanted: Vec<_> = (number + 1..3).map(|round| format!("d-{round}")).collect();
        wanted.push("last".into());
        assert_eq!(
            told, wanted,
            "watcher {number}: everything since it began; one that left disturbs nobody"
        );
    }
}

pub async fn a_watch_that_begins_during_writes_misses_nothing<F: CatalogFactory>() {
    const WRITERS: usize = 4;
    const EACH: usize = 25;
    let shelf = Shelf::<F>::new().await;
    let writers = (0..WRITERS).map(|writer| {
        let catalog = Arc::clone(&shelf.catalog);
        tokio::spawn(async move {
            for number in 0..EACH {
                let name = key(&format!("d-{}", (writer + number) % 5));
                let value = Bytes::from(format!("{writer}:{number}"));
                catalog
                    .put(Bucket::Jobs, &name, value, Precondition::Any)
                    .await
                    .unwrap();
                if number % 7 == 0 {
                    // Another writer may have been faster.
                    let _ = catalog.delete(Bucket::Jobs, &name, Precondition::Any).await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut watches = Vec::new();
    for _ in 0..6 {
        watches.push(shelf.watch().await);
        tokio::task::yield_now().await;
    }
    join_all(writers)
        .await
        .into_iter()
        .for_each(|writer| writer.unwrap());
    shelf.put("last", "written").await;
    let wanted: BTreeMap<_, _> = shelf
        .list()
        .await
        .into_iter()
        .map(|entry| (entry.key.to_string(), entry))
        .collect();
    for (number, watch) in watches.iter_mut().enumerate() {
        let found = follow(watch).await;
        assert_eq!(
            found, wanted,
            "who follows watch {number} has the bucket as it is"
        );
    }
}

/// What a follower of a watch has once it heard of the document `last`.
async fn follow(watch: &mut CatalogStream) -> BTreeMap<String, kanade_ports::Entry> {
    let mut documents = standing(watch).await;
    while !documents.contains_key("last") {
        match next(watch).await {
            CatalogEvent::Put(entry) => drop(documents.insert(entry.key.to_string(), entry)),
            CatalogEvent::Deleted(key) => drop(documents.remove(key.as_str())),
            CatalogEvent::Current => panic!("a watch becomes current once"),
        }
    }
    documents
}

pub async fn a_slow_watcher_gets_everything_or_its_end<F: CatalogFactory>() {
    const WRITES: usize = 1500;
    let shelf = Shelf::<F>::new().await;
    let mut watch = shelf.watch().await;
    standing(&mut watch).await;
    let catalog: &Arc<dyn Catalog> = &shelf.catalog;
    futures::stream::iter(0..WRITES)
        .map(|number| async move {
            let value = Bytes::from(number.to_string());
            catalog
                .put(
                    Bucket::Jobs,
                    &key(&format!("d-{number:04}")),
                    value,
                    Precondition::Any,
                )
                .await
                .unwrap();
        })
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    shelf.put("last", "written").await;
    let mut heard = 0;
    let ended = loop {
        let event = within(SOON, "an event or the end", watch.next()).await;
        match event {
            None => break true,
            Some(CatalogEvent::Put(entry)) if entry.key == key("last") => break false,
            Some(_) => heard += 1,
        }
    };
    assert!(
        ended || heard == WRITES,
        "a stream that skips changes must end; {heard} of {WRITES} came"
    );
    let again = standing(&mut shelf.watch().await).await;
    assert_eq!(again.len(), WRITES + 1, "watching again gives everything");
}

pub async fn a_watch_that_is_not_read_holds_up_nobody<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let _unread = shelf.watch().await;
    let writes = async {
        for number in 0..50 {
            shelf.put(&format!("d-{number}"), &"x".repeat(10_000)).await;
        }
    };
    within(SOON, "writes beside a watch that is not read", writes).await;
    assert_eq!(shelf.list().await.len(), 50, "every write was made");
}
