//! Lists of executions and targets: their order, their filters, and walking them while they grow.

use std::collections::BTreeSet;

use kanade_model::{ExecutionStatus, TargetState};
use kanade_ports::{ExecutionQuery, LiveCount, MAX_LIMIT, Position, RunQuery, TargetQuery};

use super::{
    walk::{at, executions, targets},
    world::{
        Firing, World, ad_hoc, expire, finished, fire, heartbeat, id, kill, names, numbered, recorded, secs,
        skipped, started,
    },
};
use crate::StoreFactory;

pub async fn executions_of_one_moment_are_walked_without_a_miss_or_a_repeat<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut wanted = Vec::new();
    for (number, second) in [(0..7, 5), (7..14, 6), (14..15, -1), (15..22, 5)]
        .iter()
        .cloned()
        .flat_map(|(numbers, second)| numbers.map(move |number| (number, second)))
    {
        // Ids in no order at all.
        let exec = format!("e-{}", (number * 7) % 22);
        world.all([Firing::of(&exec).at(secs(second)).change()]).await;
        wanted.push((second, exec));
    }
    wanted.sort_by(|a, b| b.cmp(a));
    let wanted: Vec<_> = wanted.into_iter().map(|(_, exec)| exec).collect();
    for limit in [1, 2, 3, 7, 21, 22, 23] {
        let mut query = ExecutionQuery {
            limit,
            ..ExecutionQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let page = world.store.executions(&query).await.unwrap();
            found.extend(
                page.items
                    .into_iter()
                    .map(|execution| execution.exec_id.to_string()),
            );
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "pages of {limit}: newest first, then by id");
    }
}

pub async fn a_walk_can_begin_at_any_place<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for number in 0..6 {
        world
            .all([Firing::of(&format!("e-{number}")).at(secs(number / 2)).change()])
            .await;
    }
    let from = |after: Position| {
        let query = ExecutionQuery {
            limit: 9,
            after: Some(after),
            ..ExecutionQuery::default()
        };
        let store = &world.store;
        async move {
            let page = store.executions(&query).await.unwrap();
            names(page.items.iter().map(|execution| &execution.exec_id)).join(" ")
        }
    };
    assert_eq!(from(at(secs(1), &"e-3")).await, "e-2 e-1 e-0", "after an item");
    assert_eq!(
        from(at(secs(1), &"e-2x")).await,
        "e-2 e-1 e-0",
        "after one that is not (or no longer) there"
    );
    assert_eq!(
        from(at(secs(1), &"")).await,
        "e-1 e-0",
        "after everything of a moment"
    );
    assert_eq!(
        from(at(secs(1), &"\u{10ffff}")).await,
        "e-3 e-2 e-1 e-0",
        "before everything of a moment"
    );
    assert_eq!(
        from(at(secs(99), &"")).await,
        "e-5 e-4 e-3 e-2 e-1 e-0",
        "from before the list"
    );
    assert_eq!(from(at(secs(-99), &"z")).await, "", "from behind the list");
    for edge in [i64::MIN, i64::MAX] {
        let place = Position {
            at: edge,
            id: "x".into(),
        };
        let all = "e-5 e-4 e-3 e-2 e-1 e-0";
        assert_eq!(from(place).await, if edge > 0 { all } else { "" }, "from {edge}");
    }
}

pub async fn execution_filters_work_alone_and_together<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (number, job) in ["a", "b", "a/ü"].into_iter().cycle().take(15).enumerate() {
        let exec = numbered("e", number);
        world
            .all([Firing::of(&exec).job(job).at(secs(1)).pcs(["pc-1"]).change()])
            .await;
        match number / 3 {
            0 => {}
            1 => world.all([started(&exec, "pc-1")]).await,
            2 => world.all([finished(&exec, "pc-1", 0)]).await,
            3 => world.all([kill(&exec)]).await,
            _ => world.all([expire(&exec, secs(99))]).await,
        }
    }
    let find = |job: Option<&str>, status| {
        let query = ExecutionQuery {
            job_id: job.map(id),
            status,
            ..ExecutionQuery::default()
        };
        let store = &world.store;
        async move {
            let found = executions(&**store, &query).await;
            names(found.iter().map(|execution| &execution.exec_id)).join(" ")
        }
    };
    assert_eq!(
        find(Some("b"), None).await,
        "e-00013 e-00010 e-00007 e-00004 e-00001",
        "by job"
    );
    for (number, status) in [
        ExecutionStatus::Pending,
        ExecutionStatus::Running,
        ExecutionStatus::Completed,
        ExecutionStatus::Killed,
        ExecutionStatus::Expired,
    ]
    .into_iter()
    .enumerate()
    {
        let three: Vec<_> = (number * 3..number * 3 + 3)
            .rev()
            .map(|number| numbered("e", number))
            .collect();
        assert_eq!(find(None, Some(status)).await, three.join(" "), "{status}");
        assert_eq!(
            find(Some("a"), Some(status)).await,
            three[2],
            "{status}, and of one job"
        );
        assert_eq!(
            find(Some("c"), Some(status)).await,
            "",
            "{status}, and of a job that never ran"
        );
    }
    world.snapshot().await;
}

pub async fn what_is_live_and_in_flight_follows_every_change<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for exec in ["e-1", "e-2", "e-3"] {
        world
            .all([Firing::of(exec).job("a").pcs(["pc-1"]).change()])
            .await;
    }
    world
        .all([Firing::of("e-4").job("b").pcs(["pc-1"]).change()])
        .await;
    let live = |job: &'static str| {
        let store = &world.store;
        async move { store.live_counts().await.unwrap().get(&id(job)).copied() }
    };
    let in_flight = || {
        let store = &world.store;
        async move {
            let mut found = store.in_flight(&id("a")).await.unwrap();
            found.sort();
            names(&found).join(" ")
        }
    };
    let count = |running, pending| Some(LiveCount { running, pending });
    assert_eq!(
        (live("a").await, live("b").await),
        (count(0, 3), count(0, 1)),
        "all are pending"
    );
    world.all([started("e-1", "pc-1")]).await;
    assert_eq!(live("a").await, count(1, 2), "one runs");
    world.all([expire("e-2", secs(99))]).await;
    assert_eq!(live("a").await, count(1, 1), "an expired one is not counted");
    assert_eq!(in_flight().await, "e-1 e-2 e-3", "but in flight");
    world.all([finished("e-1", "pc-1", 0), kill("e-3")]).await;
    assert_eq!(
        (live("a").await, live("b").await),
        (None, count(0, 1)),
        "a job with nothing live is left out"
    );
    assert_eq!(in_flight().await, "e-2", "final ones are not in flight");
    world.all([started("e-3", "pc-1")]).await;
    assert_eq!(live("a").await, count(1, 0), "a late start counts again");
    assert_eq!(in_flight().await, "e-2 e-3", "and is in flight");
    assert_eq!(live("c").await, None, "a job that never ran");
    world.snapshot().await;
}

pub async fn pages_hold_while_the_list_grows<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let old: Vec<_> = (0..20).map(|number| numbered("old", number)).collect();
    for (number, exec) in old.iter().enumerate() {
        world
            .all([Firing::of(exec)
                .at(secs(i64::try_from(number / 4).unwrap()))
                .change()])
            .await;
    }
    let mut query = ExecutionQuery {
        limit: 3,
        ..ExecutionQuery::default()
    };
    let mut found = Vec::new();
    for round in 0.. {
        let page = world.store.executions(&query).await.unwrap();
        found.extend(
            page.items
                .into_iter()
                .map(|execution| execution.exec_id.to_string()),
        );
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
        // One newer, one of the same moment as those that are being walked, one older.
        for second in [1000, 2, -1000] {
            let exec = format!("new-{round}-{second}");
            world.all([Firing::of(&exec).at(secs(second)).change()]).await;
        }
    }
    let walked: Vec<_> = found.iter().filter(|exec| exec.starts_with("old")).collect();
    let wanted: Vec<_> = old.iter().rev().collect();
    assert_eq!(walked, wanted, "what was there all the time comes once, in order");
    let distinct: BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "nothing comes twice");
}

pub async fn a_limit_that_is_too_large_is_cut<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs: Vec<_> = (0..MAX_LIMIT + 5).map(|number| numbered("pc", number)).collect();
    let mut sets = vec![Firing::of("many").pcs(&pcs).set()];
    for pc in &pcs {
        sets.push(Firing::of(pc).set());
        sets.push(kanade_ports::ChangeSet::of(recorded(ad_hoc("r", pc))));
        sets.push(kanade_ports::ChangeSet::of(heartbeat(pc, secs(1))));
    }
    world.apply(sets).await;
    let limit = usize::MAX;
    let query = ExecutionQuery {
        limit,
        ..ExecutionQuery::default()
    };
    let page = world.store.executions(&query).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next.is_some()),
        (MAX_LIMIT, true),
        "executions"
    );
    let query = RunQuery {
        limit,
        ..RunQuery::default()
    };
    let page = world.store.runs(&query).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (MAX_LIMIT, true), "runs");
    let query = TargetQuery {
        exec_id: id("many"),
        state: None,
        limit,
        after: None,
    };
    let page = world.store.targets(&query).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next.is_some()),
        (MAX_LIMIT, true),
        "targets"
    );
    let page = world.store.agents(None, limit).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next.is_some()),
        (MAX_LIMIT, true),
        "agents"
    );
}

pub async fn targets_are_listed_by_id_and_filtered_by_state<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs = ["pc-10", "pc-2", "PC-2", "a.b", "ä", "pc-1", "漢字", "z"];
    world.all([fire("e-1", &pcs), fire("e-10", &["other"])]).await;
    world
        .all([
            started("e-1", "ä"),
            finished("e-1", "z", 1),
            finished("e-1", "a.b", 0),
        ])
        .await;
    world
        .all([skipped("e-1", "pc-2", kanade_model::SkipReason::Revoked)])
        .await;
    let find = |state| {
        let store = &world.store;
        async move {
            let found = targets(&**store, &id("e-1"), state).await;
            found
                .iter()
                .map(|target| target.pc_id.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        }
    };
    let mut wanted = pcs;
    wanted.sort_unstable();
    assert_eq!(
        find(None).await,
        wanted.join(" "),
        "by the bytes of the id, and of this execution only"
    );
    assert_eq!(
        find(Some(TargetState::Waiting)).await,
        "PC-2 pc-1 pc-10 漢字",
        "waiting"
    );
    assert_eq!(find(Some(TargetState::Running)).await, "ä", "running");
    assert_eq!(find(Some(TargetState::Succeeded)).await, "a.b", "succeeded");
    assert_eq!(find(Some(TargetState::Failed)).await, "z", "failed");
    assert_eq!(find(Some(TargetState::Refused)).await, "pc-2", "refused");
    assert_eq!(find(Some(TargetState::Lost)).await, "", "lost");
}
