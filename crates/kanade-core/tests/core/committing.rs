use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use kanade_core::Committer;
use kanade_ports::{Change, ChangeSet, DeadLetter, ErrorKind, ExecutionStore, Outcome};

use crate::world::{FaultyStore, World, id, manifest};

fn letter(reason: &str) -> ChangeSet {
    ChangeSet::of(Change::DeadLetter(DeadLetter {
        subject: id("events.x"),
        payload: String::new(),
        reason: reason.into(),
        at: kanade_model::Timestamp::UNIX_EPOCH,
    }))
}

fn poison() -> ChangeSet {
    let manifest = manifest("poison", "1");
    ChangeSet::of(Change::Fire(Box::new(kanade_ports::NewExecution {
        exec_id: id("e-poison"),
        initiated_by: "test".into(),
        initiated_at: kanade_model::Timestamp::UNIX_EPOCH,
        order: kanade_ports::Order {
            job_id: manifest.id,
            version: manifest.version,
            shell: manifest.execute.shell,
            script: manifest.execute.script,
            timeout_secs: 1,
            jitter_secs: None,
            run_as: kanade_model::RunAs::System,
            cwd: None,
            deadline_at: None,
            staleness: kanade_model::Staleness::Cached,
            inventory: None,
            description: None,
            plan: kanade_model::FanoutPlan::default(),
            params: kanade_ports::OrderParams::default(),
        },
        limits: kanade_ports::Limits {
            start_within_secs: 1,
            run_within_secs: 1,
        },
        targets: vec![],
        sends: vec![],
        pace: kanade_ports::Pace::default(),
    })))
}

#[tokio::test]
async fn what_queues_up_is_committed_together() {
    let store = Arc::new(FaultyStore::default());
    let (committer, run) = Committer::new(store.clone(), Arc::new(|_| {}));
    // Everything is in the queue before the loop runs.
    let all = join_all((0..500).map(|n| {
        let committer = committer.clone();
        async move { committer.commit(letter(&n.to_string())).await }
    }));
    let (outcomes, ()) = tokio::join!(
        async {
            let outcomes = all.await;
            drop(committer);
            outcomes
        },
        run
    );
    assert!(
        outcomes
            .into_iter()
            .all(|outcome| outcome.unwrap() == Outcome::Applied)
    );
    assert_eq!(store.dead_letters(None, 1000).await.unwrap().items.len(), 500);
    let commits = store.commits.load(Ordering::SeqCst);
    assert!(commits <= 20, "500 sets in {commits} commits");
}

#[tokio::test]
async fn a_set_that_the_store_rejects_fails_alone() {
    let store = Arc::new(FaultyStore::default());
    let (committer, run) = Committer::new(store.clone(), Arc::new(|_| {}));
    let mut sets: Vec<ChangeSet> = (0..9).map(|n| letter(&n.to_string())).collect();
    sets.insert(4, poison());
    let (outcomes, ()) = tokio::join!(
        async {
            let outcomes = committer.commit_all(sets).await;
            drop(committer);
            outcomes
        },
        run
    );
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(outcome) => assert!(at != 4 && outcome == Outcome::Applied),
            Err(error) => assert_eq!((at, error.kind()), (4, ErrorKind::Corrupt)),
        }
    }
    let reasons: Vec<String> = store
        .dead_letters(None, 1000)
        .await
        .unwrap()
        .items
        .into_iter()
        .rev()
        .map(|record| record.letter.reason)
        .collect();
    assert_eq!(
        reasons,
        (0..9).map(|n| n.to_string()).collect::<Vec<_>>(),
        "in order, each once"
    );
}

#[tokio::test]
async fn a_full_disk_is_told_to_callers_and_to_readiness_and_passes() {
    let world = World::new().await;
    world.job("backup").await;
    world.store.full.store(true, Ordering::SeqCst);
    let error = world
        .services
        .fires
        .fire(
            &id("backup"),
            &crate::world::at(&["pc-1"]),
            &crate::world::operator(),
            None,
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&error, kanade_core::Error::Store(error) if error.kind() == ErrorKind::Unavailable),
        "{error}"
    );
    let trouble = world.services.check().await["store"].clone().unwrap_err();
    assert!(trouble.contains("full disk"), "{trouble}");
    world.store.full.store(false, Ordering::SeqCst);
    world.fire("backup", &["pc-1"]).await;
    assert_eq!(world.services.check().await["store"], Ok(()));
}

#[tokio::test]
async fn callers_that_go_away_take_no_room_with_them() {
    let store = Arc::new(FaultyStore::default());
    let (committer, run) = Committer::new(store.clone(), Arc::new(|_| {}));
    // Nothing is committed yet: the queue fills up, and the others give up while they wait for a place in it. They
    // are more than fit into all the room there is.
    for _ in 0..300_000 {
        let mut commit = Box::pin(tokio::task::unconstrained(committer.commit(letter(""))));
        assert!(futures::poll!(&mut commit).is_pending());
    }
    let Change::DeadLetter(light) = letter("last").lead else {
        unreachable!("a letter")
    };
    let large = Change::DeadLetter(DeadLetter {
        payload: "x".repeat(1 << 20),
        ..light
    });
    let last = async {
        let outcome = committer.commit(ChangeSet::of(large)).await;
        drop(committer);
        outcome
    };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(last, run) })
        .await
        .expect("there is room for a large one");
    assert_eq!(outcome.unwrap(), Outcome::Applied);
}
