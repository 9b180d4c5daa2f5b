//! Forgetting: what is forgotten is gone from everywhere, and nothing else is.

use kanade_model::{Ended, TargetState};
use kanade_ports::{Change, ChangeSet, Forget, Outcome};
use serde_json::json;

use super::{
    retention::{NOTHING, keyed},
    world::{
        Firing, World, ad_hoc, audit, ended, facts, finished, fire, found, heard_of, heartbeat, id, kill,
        letter, lose, recorded, run, secs, sent, start_event, started,
    },
};
use crate::StoreFactory;

pub async fn a_forgotten_execution_is_gone_from_everywhere<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("stays", &["pc-1"]),
            sent("stays", &["pc-1"]),
            finished("stays", "pc-1", 0),
        ])
        .await;
    let before = world.snapshot().await;
    // In a state in which it stands on as many lists as possible.
    let pcs = ["pc-1", "pc-2", "pc-3", "pc-4"];
    world
        .all([Firing::of("gone")
            .pcs(pcs)
            .next_wave()
            .due(secs(500))
            .pcs(["pc-5"])
            .change()])
        .await;
    world
        .all([
            sent("gone", &["pc-1", "pc-2"]),
            started("gone", "pc-1"),
            kill("gone"),
            started("gone", "pc-3"),
        ])
        .await;
    world
        .all([
            ended("gone", "pc-3", Ended::Killed),
            started("gone", "joined"),
            lose("gone", "joined", secs(110)),
        ])
        .await;
    let forget = Forget {
        executions: vec![id("gone")],
        ..NOTHING
    };
    world.forget(forget.clone()).await;
    assert_eq!(world.snapshot().await, before, "as if it had never been");
    assert_eq!(world.store.execution(&id("gone")).await.unwrap(), None);
    assert_eq!(world.store.order(&id("gone")).await.unwrap(), None);
    assert!(world.store.sends(&id("gone")).await.unwrap().is_empty());
    for pc in pcs.iter().chain(&["joined"]) {
        assert_eq!(
            world.store.target(&id("gone"), &id(pc)).await.unwrap(),
            None,
            "{pc}"
        );
        assert_eq!(
            world.store.run(&run("gone", pc)).await.unwrap(),
            None,
            "{pc}: runs that were left go with it"
        );
        assert!(
            world
                .store
                .unfinished(&id(pc), secs(9999), 9)
                .await
                .unwrap()
                .is_empty(),
            "{pc}"
        );
        assert!(
            world
                .store
                .unanswered_kills(&id(pc), secs(0), 9)
                .await
                .unwrap()
                .is_empty(),
            "{pc}"
        );
    }
    assert!(
        world.store.due_sends(None, 9).await.unwrap().is_empty(),
        "it owes nothing"
    );
    assert!(
        world.store.overdue_runs(secs(9999), 9).await.unwrap().is_empty(),
        "it has no run to lose"
    );
    assert!(
        world
            .store
            .overdue_targets(secs(9999), 9)
            .await
            .unwrap()
            .is_empty(),
        "nor a target to expire"
    );
    assert!(
        world.store.open_kills(9).await.unwrap().is_empty(),
        "nor a kill to repeat"
    );
    world.forget(forget).await;
    assert_eq!(
        world.snapshot().await,
        before,
        "forgetting it twice changes nothing"
    );

    world.all([fire("gone", &["pc-9"])]).await;
    assert_eq!(
        world.execution("gone").await.counts.total(),
        1,
        "its id can be used again, from nothing"
    );
    assert_eq!(world.state("gone", "pc-9").await, TargetState::Waiting);
    world.snapshot().await;
}

pub async fn forgetting_frees_what_was_only_there_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.apply([keyed("e-1", "k", 0)]).await;
    world
        .all([audit("one"), started("e-1", "pc-1"), finished("e-1", "pc-1", 0)])
        .await;
    let number = world.snapshot().await.audit[0].id;
    world
        .forget(Forget {
            audit: vec![number],
            keys: vec!["k".into()],
            slots: Vec::new(),
            runs: vec![run("e-1", "pc-1")],
            ..NOTHING
        })
        .await;
    assert_eq!(world.store.key("k").await.unwrap(), None, "the key");
    assert_eq!(
        world.store.run(&run("e-1", "pc-1")).await.unwrap(),
        None,
        "the run"
    );
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Succeeded,
        "its target remembers how it ended"
    );
    assert_eq!(
        world.change(audit("one")).await,
        Outcome::Applied,
        "the event is not known any more"
    );
    assert_eq!(
        world.apply([keyed("e-2", "k", 0)]).await,
        [Outcome::Applied],
        "nor is the key"
    );
    let again = world.snapshot().await.audit[0].id;
    assert!(
        again > number,
        "a number is never given again: {again} after {number}"
    );
}

pub async fn numbers_of_dead_letters_are_never_given_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut last = i64::MIN;
    for round in 0..3 {
        world
            .all([
                Change::DeadLetter(letter("x", secs(round))),
                Change::DeadLetter(letter("y", secs(round))),
            ])
            .await;
        let letters = world.snapshot().await.dead_letters;
        let numbers: Vec<_> = letters.iter().map(|record| record.id).collect();
        assert!(
            numbers.iter().all(|number| *number > last),
            "{numbers:?} are all after {last}"
        );
        last = numbers[0];
        world
            .forget(Forget {
                dead_letters: numbers,
                ..NOTHING
            })
            .await;
        assert!(world.snapshot().await.dead_letters.is_empty(), "round {round}");
    }
}

pub async fn agents_and_their_facts_outlive_executions<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            Firing::of("e-1").job("inventory").pcs(["pc-1"]).change(),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    world
        .all([
            heartbeat("pc-1", secs(1)),
            found(facts("pc-1", "inventory", secs(20), json!({"ram": 8}))),
        ])
        .await;
    world
        .forget(Forget {
            executions: vec![id("e-1")],
            ..NOTHING
        })
        .await;
    assert_eq!(
        world.store.facts_of(&id("pc-1")).await.unwrap().len(),
        1,
        "what was found out stays known"
    );
    assert!(
        world.store.agent(&id("pc-1")).await.unwrap().is_some(),
        "so does the agent"
    );
}

pub async fn forgetting_what_is_not_there_changes_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1"]), finished("e-1", "pc-1", 0), audit("one")])
        .await;
    world.all([Change::DeadLetter(letter("x", secs(0)))]).await;
    let before = world.snapshot().await;
    world.forget(NOTHING).await;
    world
        .forget(Forget {
            executions: vec![id("e-9"), id("e-9")],
            runs: vec![run("e-9", "pc-1")],
            audit: vec![i64::MIN, -1, i64::MAX],
            dead_letters: vec![i64::MIN, -1, i64::MAX],
            keys: vec![String::new(), "k".into()],
            slots: vec![(id("nobody"), secs(1))],
        })
        .await;
    assert_eq!(world.snapshot().await, before, "nothing has changed");
}

pub async fn a_batch_can_forget_and_go_on<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    let forget = || {
        Change::Forget(Forget {
            executions: vec![id("e-1")],
            runs: vec![run("r", "pc-1")],
            ..NOTHING
        })
    };
    let second_start = heard_of(kanade_model::EventStarted {
        started_at: secs(12),
        ..start_event("e-1", "pc-1")
    });
    let sets = [
        recorded(ad_hoc("r", "pc-1")),
        forget(),
        fire("e-1", &["pc-1"]),
        second_start,
        fire("e-2", &["pc-1"]),
    ];
    let outcomes = world.apply(sets.map(ChangeSet::of)).await;
    assert_eq!(
        outcomes,
        [Outcome::Applied; 5],
        "what was forgotten is news again"
    );
    assert_eq!(
        world.store.run(&run("r", "pc-1")).await.unwrap(),
        None,
        "a run of the same batch is forgotten too"
    );
    let execution = world.execution("e-1").await;
    assert_eq!(execution.counts.total(), 1, "fired from nothing");
    let again = world.run(run("e-1", "pc-1")).await;
    assert_eq!(
        (again.started_at, again.finished_at),
        (secs(12), None),
        "with a run from nothing"
    );
    let output = world.store.run(&again.result_id).await.unwrap().unwrap().output;
    assert_eq!(output.stdout, "", "that has printed nothing yet");
    world.snapshot().await;

    let sets = [
        finished("e-2", "pc-1", 0),
        Change::Forget(Forget {
            executions: vec![id("e-2")],
            ..NOTHING
        }),
    ];
    world.apply(sets.map(ChangeSet::of)).await;
    let left = world.snapshot().await;
    assert_eq!(
        (left.executions.len(), left.runs.len()),
        (1, 1),
        "what came before the forgetting is gone with it"
    );
    world.all([fire("e-2", &["pc-1"]), started("e-2", "pc-1")]).await;
    let again = world.store.run(&run("e-2", "pc-1")).await.unwrap().unwrap();
    assert_eq!(again.output.stdout, "", "also what it had printed");
}
