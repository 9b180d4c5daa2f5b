//! Restarts: what was answered is there, and life goes on from it. A store that keeps nothing is empty.

use kanade_ports::{Change, ChangeSet, Forget, IdempotencyKey, Outcome};
use serde_json::json;

use super::world::{
    Firing, World, ad_hoc, audit, facts, finished, fire, found, heartbeat, id, kill, letter, recorded, run,
    secs, sent, started,
};
use crate::StoreFactory;

/// A bit of everything.
async fn full<F: StoreFactory>() -> World<F> {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2", "pc-3"]),
            sent("e-1", &["pc-1", "pc-2"]),
        ])
        .await;
    world
        .all([
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 0),
            started("e-1", "pc-2"),
            kill("e-1"),
        ])
        .await;
    world
        .all([Firing::of("e-2")
            .everybody(["pc-1"])
            .next_wave()
            .due(secs(500))
            .pcs(["pc-2"])
            .change()])
        .await;
    world
        .all([
            recorded(ad_hoc("r", "pc-1")),
            heartbeat("pc-1", secs(1)),
            audit("one"),
            audit("two"),
        ])
        .await;
    world
        .all([found(facts("pc-1", "backup", secs(20), json!({"ram": 8})))])
        .await;
    world
        .all([
            Change::DeadLetter(letter("x", secs(0))),
            Change::DeadLetter(letter("y", secs(0))),
        ])
        .await;
    let keyed = ChangeSet {
        key: Some(IdempotencyKey {
            key: "k".into(),
            fingerprint: "f".into(),
            at: secs(0),
        }),
        ..Firing::of("e-3").pcs(["pc-1"]).set()
    };
    world.apply([keyed]).await;
    world
}

pub async fn what_was_answered_is_there_after_a_restart<F: StoreFactory>() {
    let world = full::<F>().await;
    let (before, key) = (world.snapshot().await, world.store.key("k").await.unwrap());
    assert!(key.is_some(), "the key led to something");
    let (world, survives) = world.reopened().await;
    let (after, key_after) = (world.snapshot().await, world.store.key("k").await.unwrap());
    if survives {
        assert_eq!(after, before, "everything is there");
        assert_eq!(key_after, key, "so are the keys");
    } else {
        let empty = World::<F>::new().await.snapshot().await;
        assert_eq!(after, empty, "a store that keeps nothing is empty");
        assert_eq!(key_after, None, "so are its keys");
    }
}

pub async fn life_goes_on_after_a_restart<F: StoreFactory>() {
    let (world, survives) = full::<F>().await.reopened().await;
    let repeated = if survives {
        Outcome::Duplicate
    } else {
        Outcome::Applied
    };
    for change in [fire("e-1", &["pc-1"]), audit("one"), finished("e-1", "pc-1", 0)] {
        let text = format!("{change:?}");
        assert_eq!(
            world.change(change).await,
            repeated,
            "what was heard before the restart: {text}"
        );
    }
    if survives {
        world
            .all([
                finished("e-1", "pc-2", 1),
                sent("e-2", &["all"]),
                started("e-2", "pc-2"),
            ])
            .await;
        assert_eq!(
            world.run(run("e-1", "pc-2")).await.exit_code,
            Some(1),
            "an end after the restart"
        );
        assert_eq!(
            world.store.due_sends(None, 9).await.unwrap().len(),
            2,
            "what is owed since before it"
        );
    }
    world.snapshot().await;
}

pub async fn numbers_go_on_after_a_restart<F: StoreFactory>() {
    let world = full::<F>().await;
    let before = world.snapshot().await;
    // The newest ones are forgotten: a store that counts what it has would give their numbers again.
    let forget = Forget {
        audit: vec![before.audit[0].id],
        dead_letters: vec![before.dead_letters[0].id],
        ..Forget::default()
    };
    world.all([Change::Forget(forget)]).await;
    let (world, survives) = world.reopened().await;
    world
        .all([audit("three"), Change::DeadLetter(letter("z", secs(0)))])
        .await;
    let after = world.snapshot().await;
    if survives {
        assert!(
            after.audit[0].id > before.audit[0].id,
            "the number of an audit entry is never given again"
        );
        assert!(
            after.dead_letters[0].id > before.dead_letters[0].id,
            "nor is that of a dead letter"
        );
        assert_eq!(
            (after.audit.len(), after.dead_letters.len()),
            (2, 2),
            "one is forgotten, one is new"
        );
    } else {
        assert_eq!(
            (after.audit.len(), after.dead_letters.len()),
            (1, 1),
            "only what is new"
        );
    }
}

pub async fn several_restarts_lose_nothing<F: StoreFactory>() {
    let mut world = World::<F>::new().await;
    for round in 1..=5 {
        let exec = format!("e-{round}");
        world.all([fire(&exec, &["pc-1"]), audit(&exec)]).await;
        let (reopened, survives) = world.reopened().await;
        world = reopened;
        let there = world.snapshot().await;
        let wanted = if survives { round } else { 0 };
        assert_eq!(
            (there.executions.len(), there.audit.len()),
            (wanted, wanted),
            "after restart {round}"
        );
    }
}

pub async fn a_restart_after_a_caller_went_away_is_whole<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for round in 0..10 {
        let exec = format!("e-{round}");
        let sets = [Firing::of(&exec).pcs(["pc-1", "pc-2"]).set().and(audit(&exec))];
        let store = std::sync::Arc::clone(&world.store);
        let caller = tokio::spawn(async move { store.apply(&sets).await });
        tokio::task::yield_now().await;
        caller.abort();
        let _ = caller.await;
    }
    let (world, survives) = world.reopened().await;
    let there = world.snapshot().await;
    assert_eq!(
        there.audit.len(),
        there.executions.len(),
        "each set is there whole or not at all"
    );
    assert!(
        survives || there.executions.is_empty(),
        "a store that keeps nothing is empty"
    );
    for (execution, _) in &there.executions {
        assert_eq!(
            execution.counts.total(),
            2,
            "{} has its targets",
            execution.exec_id
        );
        assert_eq!(
            world
                .store
                .sends(&id(execution.exec_id.as_str()))
                .await
                .unwrap()
                .len(),
            2,
            "and its sends"
        );
    }
}
