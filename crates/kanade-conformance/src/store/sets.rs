//! Change-sets: the lead decides, a set is whole or not there, a batch is one commit in order, callers do not get into
//! each other's way and may go away at any time.

use std::sync::Arc;

use futures::{FutureExt, future::join_all};
use kanade_model::{ExecutionStatus, TargetState};
use kanade_ports::{AuditQuery, ChangeSet, ExecutionQuery, Outcome};

use super::{
    walk::{audit as audit_entries, executions},
    world::{
        Firing, World, audit, finished, fire, heartbeat, id, kill, kill_settled, letter, numbered, sent,
        started,
    },
};
use crate::{StoreFactory, harness::Rng};

pub async fn an_empty_batch_does_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    assert_eq!(world.apply([]).await, [], "no set, no outcome");
    world.snapshot().await;
}

pub async fn what_the_lead_does_decides_about_the_rest<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    let before = world.snapshot().await;
    for (lead, outcome) in [
        (fire("e-1", &["pc-2"]), Outcome::Duplicate),
        (started("e-1", "pc-1"), Outcome::Duplicate),
        (finished("e-1", "pc-1", 1), Outcome::Duplicate),
        (kill("e-1"), Outcome::Superseded),
        (kill("e-9"), Outcome::Unknown),
        (sent("e-9", &[]), Outcome::Unknown),
        (kill_settled("e-1"), Outcome::Unknown),
    ] {
        let text = format!("{lead:?}");
        let set = ChangeSet::of(lead)
            .and(audit("follows"))
            .and(fire("e-2", &["pc-1"]));
        assert_eq!(world.apply([set]).await, [outcome], "{text}");
        assert_eq!(world.snapshot().await, before, "what follows is skipped: {text}");
    }
    let set = Firing::of("e-2")
        .set()
        .and(audit("follows"))
        .and(heartbeat("pc-1", super::world::secs(1)));
    assert_eq!(world.apply([set]).await, [Outcome::Applied]);
    let after = world.snapshot().await;
    assert_eq!(
        (after.audit.len(), after.agents.len()),
        (1, 1),
        "what follows a lead that applies is applied"
    );
}

pub async fn a_follower_that_is_old_news_does_not_stop_the_others<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([audit("old"), fire("e-1", &["pc-1"])]).await;
    let set = Firing::of("e-2")
        .set()
        .and(audit("old"))
        .and(kill("e-9"))
        .and(fire("e-1", &[]))
        .and(audit("new"));
    assert_eq!(
        world.apply([set]).await,
        [Outcome::Applied],
        "the lead's outcome is the set's"
    );
    let entries = audit_entries(&*world.store, &AuditQuery::default()).await;
    let targets: Vec<_> = entries
        .iter()
        .map(|record| record.event.target.as_deref())
        .collect();
    assert_eq!(
        targets,
        [Some("new"), Some("old")],
        "the last follower counts, the first is not there twice"
    );
}

pub async fn later_sets_of_a_batch_see_earlier_ones<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let sets = [
        fire("e-1", &["pc-1", "pc-2", "pc-3"]),
        sent("e-1", &["pc-1", "pc-2"]),
        started("e-1", "pc-1"),
        finished("e-1", "pc-1", 0),
        started("e-1", "pc-2"),
        kill("e-1"),
        kill("e-1"),
        finished("e-1", "pc-2", 1),
        kill("e-1"),
    ];
    let outcomes = world.apply(sets.map(ChangeSet::of)).await;
    let mut wanted = [Outcome::Applied; 9];
    wanted[6] = Outcome::Duplicate;
    wanted[8] = Outcome::Superseded;
    assert_eq!(outcomes, wanted, "each set finds what the sets before it left");
    for (pc, state) in [
        ("pc-1", TargetState::Succeeded),
        ("pc-2", TargetState::Failed),
        ("pc-3", TargetState::Withdrawn),
    ] {
        assert_eq!(world.state("e-1", pc).await, state, "{pc}");
    }
    assert_eq!(
        world.status("e-1").await,
        ExecutionStatus::Killed,
        "a kill withdrew one"
    );
    world.snapshot().await;
}

pub async fn a_large_batch_is_one_commit_with_an_outcome_each<F: StoreFactory>() {
    const SETS: usize = 1000;
    let world = World::<F>::new().await;
    let sets = (0..SETS).map(|number| {
        let exec = numbered("e", number / 2);
        Firing::of(&exec).pcs(["pc-1"]).set().and(audit(&exec))
    });
    let outcomes = world.apply(sets).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let wanted = if number % 2 == 0 {
            Outcome::Applied
        } else {
            Outcome::Duplicate
        };
        assert_eq!(outcome, wanted, "set {number}");
    }
    let found = executions(&*world.store, &ExecutionQuery::default()).await;
    assert_eq!(found.len(), SETS / 2, "one execution for each pair");
    let entries = audit_entries(&*world.store, &AuditQuery::default()).await;
    assert_eq!(entries.len(), SETS / 2, "one entry for each execution");
}

pub async fn concurrent_writers_lose_nothing<F: StoreFactory>() {
    const WRITERS: usize = 8;
    const EACH: usize = 12;
    let world = World::<F>::new().await;
    let pcs: Vec<_> = (0..WRITERS).map(|writer| numbered("pc", writer)).collect();
    world.all([Firing::of("shared").pcs(&pcs).change()]).await;
    let writers = pcs.iter().cloned().map(|pc| {
        let store = Arc::clone(&world.store);
        tokio::spawn(async move {
            let mut applied = 0;
            for number in 0..EACH {
                let own = format!("{pc}-{number}");
                let sets = [
                    Firing::of(&own).pcs([&pc]).set().and(audit(&own)),
                    // Everybody tries this one; one of them wins.
                    Firing::of(&numbered("raced", number)).pcs([&pc]).set(),
                    ChangeSet::of(started(&own, &pc)),
                    ChangeSet::of(finished(&own, &pc, 0)),
                    ChangeSet::of(finished("shared", &pc, 0)),
                ];
                for set in sets {
                    applied += usize::from(store.apply(&[set]).await.unwrap() == [Outcome::Applied]);
                }
            }
            applied
        })
    });
    let applied: usize = join_all(writers)
        .await
        .into_iter()
        .map(|writer| writer.unwrap())
        .sum();
    // Its own three changes each time, its part of the shared one once, and each race has one winner.
    assert_eq!(
        applied,
        WRITERS * EACH * 3 + WRITERS + EACH,
        "how many sets were news"
    );
    let after = world.snapshot().await;
    assert_eq!(
        after.executions.len(),
        1 + WRITERS * EACH + EACH,
        "every execution is there once"
    );
    assert_eq!(
        after.audit.len(),
        WRITERS * EACH,
        "every audit entry is there once"
    );
    assert_eq!(
        world.status("shared").await,
        ExecutionStatus::Completed,
        "everybody's result was counted"
    );
}

pub async fn racing_for_one_execution_has_one_winner<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for round in 0..10 {
        let exec = numbered("e", round);
        let racers = (0..8).map(|racer| {
            let store = Arc::clone(&world.store);
            let set = Firing::of(&exec).pcs([numbered("pc", racer)]).set();
            tokio::spawn(async move { store.apply(&[set]).await.unwrap()[0] })
        });
        let outcomes: Vec<_> = join_all(racers)
            .await
            .into_iter()
            .map(|racer| racer.unwrap())
            .collect();
        let winners = outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Applied)
            .count();
        assert_eq!(winners, 1, "one of {outcomes:?} fires");
        assert_eq!(
            world.execution(&exec).await.counts.total(),
            1,
            "with the winner's target"
        );
    }
    world.snapshot().await;
}

pub async fn a_caller_that_goes_away_leaves_its_set_whole_or_undone<F: StoreFactory>() {
    const ROUNDS: usize = 40;
    let world = World::<F>::new().await;
    let mut random = Rng::new(7);
    for round in 0..ROUNDS {
        let exec = numbered("e", round);
        let pcs: Vec<_> = (0..50).map(|pc| numbered("pc", pc)).collect();
        let sets = [
            Firing::of(&exec).pcs(&pcs).set().and(audit(&exec)),
            ChangeSet::of(started(&exec, &pcs[0])),
        ];
        let mut apply = world.store.apply(&sets);
        // Polled a random number of times, then dropped in the middle of whatever it was doing.
        for _ in 0..=random.below(4) {
            if (&mut apply).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // Later commits stand behind what was given up, so afterwards each is either there or never will be.
    world.all([fire("last", &["pc-1"])]).await;
    let after = world.snapshot().await;
    for round in 0..ROUNDS {
        let exec = numbered("e", round);
        let execution = world.store.execution(&id(&exec)).await.unwrap();
        let entries = after
            .audit
            .iter()
            .filter(|record| record.event.target.as_deref() == Some(&exec))
            .count();
        match execution {
            None => assert_eq!(entries, 0, "{exec} is not there, nor is what followed it"),
            Some(execution) => {
                assert_eq!(execution.counts.total(), 50, "{exec} has all its targets");
                assert_eq!(
                    execution.status,
                    ExecutionStatus::Running,
                    "{exec} has its second set"
                );
                assert_eq!(entries, 1, "{exec} has what followed it");
            }
        }
    }
}

pub async fn a_caller_that_goes_away_does_not_hold_up_others<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for round in 0..20 {
        let lost = [Firing::of(&numbered("lost", round)).pcs(["pc-1"]).set()];
        let kept = [Firing::of(&numbered("kept", round)).pcs(["pc-1"]).set()];
        let store = Arc::clone(&world.store);
        let given_up = tokio::spawn(async move { store.apply(&lost).await });
        given_up.abort();
        assert_eq!(world.apply(kept).await, [Outcome::Applied], "round {round}");
        let _ = given_up.await;
    }
    let after = world.snapshot().await;
    let kept = after
        .executions
        .iter()
        .filter(|(row, _)| row.exec_id.as_str().starts_with("kept"));
    assert_eq!(kept.count(), 20, "every caller that stayed got its commit");
}

pub async fn readers_see_whole_sets_while_others_write<F: StoreFactory>() {
    const SETS: usize = 60;
    let world = World::<F>::new().await;
    let store = Arc::clone(&world.store);
    let writer = tokio::spawn(async move {
        for number in 0..SETS {
            let exec = numbered("e", number);
            let set = Firing::of(&exec).pcs(["pc-1", "pc-2", "pc-3"]).set();
            let set = set.and(kanade_ports::Change::DeadLetter(letter(
                &exec,
                super::world::secs(0),
            )));
            store.apply(&[set]).await.unwrap();
        }
    });
    loop {
        let done = writer.is_finished();
        // The letter is read first: what is there with it was committed with it.
        let page = world.store.dead_letters(None, 1).await.unwrap();
        if let Some(newest) = page.items.first() {
            let exec = id(&newest.letter.payload);
            let execution = world.store.execution(&exec).await.unwrap();
            let execution = execution.expect("the execution of a committed set");
            assert_eq!(execution.counts.total(), 3, "with its counts");
            assert_eq!(world.store.sends(&exec).await.unwrap().len(), 3, "with its sends");
        }
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(
        world.snapshot().await.executions.len(),
        SETS,
        "all of them in the end"
    );
}
