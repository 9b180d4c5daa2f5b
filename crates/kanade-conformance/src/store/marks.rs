//! Marks: what happened once is known for good.

use kanade_model::Timestamp;
use kanade_ports::{Change, ChangeSet, Outcome, RetentionCut};

use super::world::{World, audit, secs};
use crate::StoreFactory;

fn mark(name: &str, at: Timestamp) -> Change {
    Change::Mark {
        name: name.to_owned(),
        at,
    }
}

pub async fn the_first_time_something_is_marked_stays<F: StoreFactory>() {
    let world = World::<F>::new().await;
    assert_eq!(world.store.mark("one").await.unwrap(), None, "not marked yet");
    world
        .all([mark("one", secs(10)), mark("ünï/code \u{0}", secs(11))])
        .await;
    for at in [secs(5), secs(10), secs(20)] {
        assert_eq!(world.change(mark("one", at)).await, Outcome::Duplicate);
    }
    assert_eq!(
        world
            .apply([
                ChangeSet::of(mark("two", secs(1))),
                ChangeSet::of(mark("two", secs(2)))
            ])
            .await,
        [Outcome::Applied, Outcome::Duplicate],
        "also within one batch"
    );
    for (name, at) in [
        ("one", Some(secs(10))),
        ("ünï/code \u{0}", Some(secs(11))),
        ("two", Some(secs(1))),
        ("ONE", None),
        ("on", None),
        ("", None),
    ] {
        assert_eq!(world.store.mark(name).await.unwrap(), at, "{name:?}");
    }
    let far = Timestamp::from_micros(i64::MAX);
    let cut = RetentionCut {
        executions: far,
        audit: far,
        keys: far,
        slots: far,
    };
    assert!(
        world.store.prunable(&cut, 9).await.unwrap().is_empty(),
        "no retention removes a mark"
    );
}

pub async fn a_mark_decides_about_what_stands_with_it<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let set = |name: &str| ChangeSet::of(mark("once", secs(1))).and(audit(name));
    assert_eq!(
        world.apply([set("first"), set("second")]).await,
        [Outcome::Applied, Outcome::Duplicate]
    );
    let trail = world.snapshot().await.audit;
    let targets: Vec<_> = trail.iter().map(|entry| entry.event.target.as_deref()).collect();
    assert_eq!(targets, [Some("first")], "it was told once");
}

pub async fn marks_are_there_after_a_restart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([mark("one", secs(10))]).await;
    let (world, survives) = world.reopened().await;
    let wanted = survives.then(|| secs(10));
    assert_eq!(world.store.mark("one").await.unwrap(), wanted);
    let repeated = if survives {
        Outcome::Duplicate
    } else {
        Outcome::Applied
    };
    assert_eq!(world.change(mark("one", secs(20))).await, repeated);
}
