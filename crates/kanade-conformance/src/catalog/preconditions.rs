//! Compare and set: what must hold for a write is decided in one step with it.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use kanade_ports::{Bucket, ErrorKind, Precondition, Revision};

use super::shelf::{Shelf, key, kind};
use crate::CatalogFactory;

pub async fn a_write_is_made_when_its_condition_holds<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let old = shelf.put("there", "old").await;
    let now = shelf.put("there", "now").await;
    let past = shelf.put("gone", "past").await;
    shelf.delete("gone").await;
    for (name, when, refused) in [
        ("never", Precondition::At(now), Some(ErrorKind::Conflict)),
        ("gone", Precondition::At(past), Some(ErrorKind::Conflict)),
        ("there", Precondition::At(old), Some(ErrorKind::Conflict)),
        ("there", Precondition::At(past), Some(ErrorKind::Conflict)),
        (
            "there",
            Precondition::At(Revision(u64::MAX)),
            Some(ErrorKind::Conflict),
        ),
        ("there", Precondition::At(Revision(0)), Some(ErrorKind::Conflict)),
        ("there", Precondition::Absent, Some(ErrorKind::AlreadyExists)),
        ("there", Precondition::At(now), None),
        ("there", Precondition::Any, None),
        ("gone", Precondition::Absent, None),
        ("never", Precondition::Absent, None),
        ("anew", Precondition::Any, None),
    ] {
        let before = shelf.text(name).await;
        let written = shelf.try_put(name, "written", when).await;
        assert_eq!(written.err(), refused, "{name} when {when:?}");
        let wanted = if refused.is_some() {
            before
        } else {
            Some("written".to_owned())
        };
        assert_eq!(shelf.text(name).await, wanted, "{name} when {when:?}");
    }
}

pub async fn a_deletion_is_made_when_its_condition_holds<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let old = shelf.put("there", "old").await;
    let now = shelf.put("there", "now").await;
    shelf.put("other", "other").await;
    for (name, when, refused) in [
        ("never", Precondition::Any, Some(ErrorKind::NotFound)),
        ("never", Precondition::Absent, Some(ErrorKind::NotFound)),
        ("never", Precondition::At(now), Some(ErrorKind::NotFound)),
        ("there", Precondition::At(old), Some(ErrorKind::Conflict)),
        ("there", Precondition::Absent, Some(ErrorKind::Conflict)),
        ("there", Precondition::At(now), None),
        ("there", Precondition::At(now), Some(ErrorKind::NotFound)),
        ("other", Precondition::Any, None),
    ] {
        let before = shelf.text(name).await;
        assert_eq!(
            shelf.try_delete(name, when).await.err(),
            refused,
            "{name} when {when:?}"
        );
        let wanted = before.filter(|_| refused.is_some());
        assert_eq!(shelf.text(name).await, wanted, "{name} when {when:?}");
    }
}

pub async fn a_refused_write_leaves_no_trace<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let revision = shelf.put("backup", "one").await;
    for when in [Precondition::Absent, Precondition::At(Revision(revision.0 + 1))] {
        assert!(
            shelf.try_put("backup", "two", when).await.is_err(),
            "{when:?} does not hold"
        );
    }
    assert_eq!(shelf.history("backup").await, ["one"], "no version comes of it");
    let entry = shelf.get("backup").await.unwrap();
    assert_eq!(entry.revision, revision, "nor a revision");
    assert!(
        shelf
            .try_put("fresh", "two", Precondition::At(revision))
            .await
            .is_err()
    );
    assert_eq!(shelf.history("fresh").await, [""; 0], "nor a document");
}

pub async fn a_revision_is_never_given_to_a_key_again<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut seen = BTreeSet::new();
    for round in 0..8 {
        let revision = shelf.put("backup", "same").await;
        assert!(seen.insert(revision.0), "round {round}: {revision} is new");
        if round % 2 == 1 {
            shelf.delete("backup").await;
            let stale = shelf.try_put("backup", "late", Precondition::At(revision)).await;
            assert_eq!(
                stale,
                Err(ErrorKind::Conflict),
                "round {round}: of what was deleted"
            );
        }
    }
    for revision in seen {
        let stale = shelf
            .try_put("backup", "late", Precondition::At(Revision(revision)))
            .await;
        assert_eq!(
            stale,
            Err(ErrorKind::Conflict),
            "no old revision is current: {revision}"
        );
    }
}

pub async fn of_racing_creators_one_wins<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    for round in 0..8 {
        let name = key(&format!("job-{round}"));
        let racers = (0..8).map(|racer| {
            let (catalog, name) = (Arc::clone(&shelf.catalog), name.clone());
            let value = Bytes::from(format!("of {racer}"));
            tokio::spawn(async move {
                kind(
                    catalog
                        .put(Bucket::Jobs, &name, value, Precondition::Absent)
                        .await,
                )
            })
        });
        let results: Vec<_> = join_all(racers)
            .await
            .into_iter()
            .map(|racer| racer.unwrap())
            .collect();
        let winners: Vec<_> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.is_ok())
            .collect();
        assert_eq!(winners.len(), 1, "one of {results:?} creates {name}");
        let lost = results
            .iter()
            .filter(|result| **result == Err(ErrorKind::AlreadyExists))
            .count();
        assert_eq!(lost, 7, "the others are told: {results:?}");
        let entry = shelf.catalog.get(Bucket::Jobs, &name).await.unwrap().unwrap();
        assert_eq!(
            entry.value,
            format!("of {}", winners[0].0),
            "the winner's text is there"
        );
        assert_eq!(Ok(entry.revision), *winners[0].1, "with the winner's revision");
    }
}

pub async fn racing_counters_count_every_increment<F: CatalogFactory>() {
    const WRITERS: usize = 6;
    const EACH: usize = 10;
    let shelf = Shelf::<F>::new().await;
    shelf.put("counter", "0").await;
    let writers = (0..WRITERS).map(|_| {
        let catalog = Arc::clone(&shelf.catalog);
        tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let entry = catalog.get(Bucket::Jobs, &key("counter")).await.unwrap().unwrap();
                let count: usize = super::shelf::text(&entry).parse().unwrap();
                let value = Bytes::from((count + 1).to_string());
                match kind(
                    catalog
                        .put(
                            Bucket::Jobs,
                            &key("counter"),
                            value,
                            Precondition::At(entry.revision),
                        )
                        .await,
                ) {
                    Ok(_) => done += 1,
                    Err(kind) => assert_eq!(kind, ErrorKind::Conflict, "a lost race is a conflict"),
                }
            }
        })
    });
    join_all(writers)
        .await
        .into_iter()
        .for_each(|writer| writer.unwrap());
    assert_eq!(
        shelf.text("counter").await,
        Some((WRITERS * EACH).to_string()),
        "no increment is lost"
    );
}

pub async fn of_racing_deleters_one_wins<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    for round in 0..6 {
        let revision = shelf.put("backup", "one").await;
        let racers = (0..6).map(|racer| {
            let catalog = Arc::clone(&shelf.catalog);
            let when = if racer % 2 == 0 {
                Precondition::Any
            } else {
                Precondition::At(revision)
            };
            tokio::spawn(async move { kind(catalog.delete(Bucket::Jobs, &key("backup"), when).await) })
        });
        let results: Vec<_> = join_all(racers)
            .await
            .into_iter()
            .map(|racer| racer.unwrap())
            .collect();
        let winners = results.iter().filter(|result| result.is_ok()).count();
        let missed = results
            .iter()
            .filter(|result| **result == Err(ErrorKind::NotFound))
            .count();
        assert_eq!(
            (winners, missed),
            (1, 5),
            "round {round}: one of {results:?} deletes it"
        );
    }
}
