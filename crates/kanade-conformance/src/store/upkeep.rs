//! What nobody reports: executions and targets expire, runs are lost, and all of it gives way to a late sign of life.

use kanade_model::{Ended, ExecutionStatus, RunState, SkipReason, TargetState};
use kanade_ports::{Change, Outcome};

use super::world::{
    Firing, World, ended, expire, expire_target, finished, fire, heard_of, id, kill, kill_delivered,
    kill_settled, lose, names, run, secs, sent, skipped, start_event, started,
};
use crate::StoreFactory;

pub async fn an_expired_execution_stays_deliverable<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2"]),
            sent("e-1", &["pc-1"]),
            expire("e-1", secs(500)),
        ])
        .await;
    let expired = world.execution("e-1").await;
    assert_eq!(
        (expired.status, expired.expired_at),
        (ExecutionStatus::Expired, Some(secs(500)))
    );
    assert_eq!(expired.finished_at, None, "it is a label, not an end");
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Waiting,
        "its targets go on waiting"
    );
    assert_eq!(
        world.store.due_sends(None, 9).await.unwrap().len(),
        1,
        "what is owed stays owed"
    );
    assert_eq!(
        names(&world.store.in_flight(&id("backup")).await.unwrap()),
        ["e-1"],
        "a kill still finds it"
    );
    assert!(
        world.store.live_counts().await.unwrap().is_empty(),
        "it is neither pending nor running"
    );

    world.all([started("e-1", "pc-1")]).await;
    let running = world.execution("e-1").await;
    assert_eq!(
        running.status,
        ExecutionStatus::Running,
        "the first start makes it running"
    );
    assert_eq!(
        running.expired_at,
        Some(secs(500)),
        "that it once was expired stays known"
    );
    world.snapshot().await;
}

pub async fn only_a_pending_execution_expires<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1"]),
            fire("e-2", &["pc-1"]),
            started("e-2", "pc-1"),
        ])
        .await;
    world
        .all([
            fire("e-3", &["pc-1"]),
            finished("e-3", "pc-1", 0),
            expire("e-1", secs(500)),
        ])
        .await;
    let before = world.snapshot().await;
    assert_eq!(
        world.change(expire("e-1", secs(600))).await,
        Outcome::Duplicate,
        "expired already"
    );
    assert_eq!(
        world.change(expire("e-2", secs(500))).await,
        Outcome::Superseded,
        "running"
    );
    assert_eq!(
        world.change(expire("e-3", secs(500))).await,
        Outcome::Superseded,
        "completed"
    );
    assert_eq!(
        world.change(expire("e-9", secs(500))).await,
        Outcome::Unknown,
        "not there"
    );
    assert_eq!(world.snapshot().await, before, "nothing has changed");
}

pub async fn a_waiting_target_expires_when_its_time_has_come<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1", "pc-2"]), started("e-1", "pc-2")])
        .await;
    assert_eq!(
        world.change(expire_target("e-1", "pc-1", secs(999))).await,
        Outcome::Superseded,
        "too early"
    );
    assert_eq!(world.state("e-1", "pc-1").await, TargetState::Waiting);
    world.all([expire_target("e-1", "pc-1", secs(1000))]).await;
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(
        (target.state, target.finished_at),
        (TargetState::Expired, Some(secs(1000)))
    );
    assert_eq!(target.check_at, None, "it is not looked at again");
    let again = expire_target("e-1", "pc-1", secs(2000));
    assert_eq!(world.change(again).await, Outcome::Duplicate);
    let running = expire_target("e-1", "pc-2", secs(2000));
    assert_eq!(
        world.change(running).await,
        Outcome::Superseded,
        "what runs does not expire"
    );
    assert_eq!(
        world.change(expire_target("e-1", "pc-9", secs(2000))).await,
        Outcome::Unknown,
        "no such target"
    );
    assert_eq!(
        world.change(expire_target("e-9", "pc-1", secs(2000))).await,
        Outcome::Unknown,
        "no such execution"
    );
    assert_eq!(
        world.execution("e-1").await.counts.failure(),
        0,
        "expired is not failed"
    );
    world.snapshot().await;
}

pub async fn a_late_sign_of_life_replaces_expired<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs = ["pc-1", "pc-2", "pc-3"];
    world.all([fire("e-1", &pcs)]).await;
    world
        .all(pcs.map(|pc| expire_target("e-1", pc, secs(1000))))
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Completed, Some(secs(1000)))
    );
    world.all([started("e-1", "pc-1")]).await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Running, None),
        "a start"
    );
    world
        .all([
            finished("e-1", "pc-2", 0),
            skipped("e-1", "pc-3", SkipReason::Revoked),
        ])
        .await;
    for (pc, state) in [
        ("pc-1", TargetState::Running),
        ("pc-2", TargetState::Succeeded),
        ("pc-3", TargetState::Refused),
    ] {
        assert_eq!(world.state("e-1", pc).await, state, "{pc}");
    }
    assert_eq!(
        world.execution("e-1").await.counts.of(TargetState::Expired),
        0,
        "none is counted as expired"
    );
    world.snapshot().await;
}

pub async fn a_lost_run_counts_as_failed_until_its_result_comes<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([fire("e-1", &["pc-1"]), started("e-1", "pc-1")]).await;
    assert_eq!(
        world.change(lose("e-1", "pc-1", secs(109))).await,
        Outcome::Superseded,
        "too early"
    );
    world.all([lose("e-1", "pc-1", secs(110))]).await;
    let lost = world.execution("e-1").await;
    assert_eq!(
        (lost.counts.failure(), lost.counts.success()),
        (1, 0),
        "lost is a failure"
    );
    assert_eq!(
        (lost.status, lost.finished_at),
        (ExecutionStatus::Completed, Some(secs(110)))
    );
    assert_eq!(world.state("e-1", "pc-1").await, TargetState::Lost);
    assert_eq!(world.run(run("e-1", "pc-1")).await.state, RunState::Lost);
    assert_eq!(
        world.change(lose("e-1", "pc-1", secs(200))).await,
        Outcome::Duplicate
    );
    assert_eq!(
        world.change(lose("e-9", "pc-1", secs(200))).await,
        Outcome::Unknown,
        "no such run"
    );

    world.all([finished("e-1", "pc-1", 0)]).await;
    let found = world.execution("e-1").await;
    assert_eq!(
        (found.counts.failure(), found.counts.success()),
        (0, 1),
        "recounted"
    );
    assert_eq!(found.finished_at, Some(secs(110)), "it has been final since then");
    assert_eq!(world.state("e-1", "pc-1").await, TargetState::Succeeded);
    let late = lose("e-1", "pc-1", secs(300));
    assert_eq!(
        world.change(late).await,
        Outcome::Superseded,
        "a finished run is not lost"
    );
    assert_eq!(
        world.snapshot().await.executions[0].0,
        found,
        "and stays as it is"
    );
}

pub async fn a_start_told_by_a_slow_clock_is_not_lost_before_its_time<F: StoreFactory>() {
    let world = World::<F>::new().await;
    // A run of an execution may take 100 seconds. The agents say second 10; it is heard of when it is.
    for (exec, heard_at, lost_at) in [("slow", 5000, 5100), ("in-step", 10, 110), ("fast", -5000, 110)] {
        let start = Change::RunStarted {
            event: start_event(exec, "pc-1"),
            at: secs(heard_at),
        };
        world.all([fire(exec, &["pc-1"]), start]).await;
        assert_eq!(
            world.run(run(exec, "pc-1")).await.check_at,
            Some(secs(lost_at)),
            "{exec}: its time begins when it started or was heard of, whichever is later"
        );
        assert_eq!(
            world.change(lose(exec, "pc-1", secs(lost_at - 1))).await,
            Outcome::Superseded,
            "{exec}: not lost before its time"
        );
        assert_eq!(
            world.target(exec, "pc-1").await.started_at,
            Some(secs(10)),
            "{exec}: when it started is what the agent says"
        );
        world.all([lose(exec, "pc-1", secs(lost_at))]).await;
    }
    world
        .all([Change::RunStarted {
            event: start_event("foreign", "pc-1"),
            at: secs(5000),
        }])
        .await;
    let check_at = world.run(run("foreign", "pc-1")).await.check_at;
    assert!(
        check_at.is_some_and(|at| at > secs(5000)),
        "of another's execution too: {check_at:?}"
    );
    world.snapshot().await;
}

pub async fn a_lost_run_decides_only_about_a_target_that_it_runs<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let second = kanade_model::ResultId(uuid::Uuid::from_u128(2));
    let second_start = heard_of(kanade_model::EventStarted {
        result_id: second,
        started_at: secs(12),
        ..start_event("e-1", "pc-1")
    });
    world
        .all([fire("e-1", &["pc-1"]), started("e-1", "pc-1"), second_start])
        .await;
    world.all([lose("e-1", "pc-1", secs(110))]).await;
    assert_eq!(
        world.run(run("e-1", "pc-1")).await.state,
        RunState::Lost,
        "the first run is lost"
    );
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Running,
        "the second one goes on"
    );
    world.snapshot().await;
}

pub async fn what_is_overdue_is_handed_out_oldest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (exec, at) in [("e-3", 300), ("e-1", 100), ("e-2", 200)] {
        world
            .all([Firing::of(exec).at(secs(at)).pcs(["pc-1", "pc-2"]).change()])
            .await;
        let start = kanade_model::EventStarted {
            started_at: secs(at),
            ..start_event(exec, "pc-2")
        };
        world.all([heard_of(start)]).await;
    }
    let targets = |now, limit| {
        let store = &world.store;
        async move {
            let found = store.overdue_targets(secs(now), limit).await.unwrap();
            found
                .iter()
                .map(|target| target.exec_id.to_string())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        targets(1099, 9).await,
        [""; 0],
        "nothing is overdue before its time"
    );
    assert_eq!(targets(1100, 9).await, ["e-1"], "at its time it is");
    assert_eq!(targets(9999, 9).await, ["e-1", "e-2", "e-3"], "the oldest first");
    assert_eq!(targets(9999, 2).await, ["e-1", "e-2"], "as many as asked for");

    let runs = |now, limit| {
        let store = &world.store;
        async move {
            let found = store.overdue_runs(secs(now), limit).await.unwrap();
            found
                .into_iter()
                .map(|run| run.exec_id.unwrap().to_string())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(runs(199, 9).await, [""; 0], "no run is overdue before its time");
    assert_eq!(runs(200, 9).await, ["e-1"], "at its time it is");
    assert_eq!(runs(9999, 9).await, ["e-1", "e-2", "e-3"], "the oldest first");
    assert_eq!(runs(9999, 1).await, ["e-1"], "as many as asked for");

    world
        .all([
            expire_target("e-1", "pc-1", secs(1100)),
            lose("e-1", "pc-2", secs(200)),
        ])
        .await;
    assert_eq!(
        targets(9999, 1).await,
        ["e-2"],
        "what is dealt with is gone from the list"
    );
    assert_eq!(runs(9999, 1).await, ["e-2"], "here too");
}

pub async fn stale_executions_are_handed_out_oldest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    // The last due time counts, not when it was fired.
    let waves = Firing::of("e-1")
        .pcs(["pc-1"])
        .next_wave()
        .due(secs(400))
        .pcs(["pc-2"]);
    world.all([waves.change()]).await;
    for (exec, at) in [("e-2", 200), ("e-3", 100), ("e-4", 50)] {
        world
            .all([Firing::of(exec).at(secs(at)).pcs(["pc-1"]).change()])
            .await;
    }
    world.all([started("e-4", "pc-1")]).await;
    let stale = |before, limit| {
        let store = &world.store;
        async move {
            let found = store.stale(secs(before), limit).await.unwrap();
            names(&found)
                .into_iter()
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        stale(100, 9).await,
        [""; 0],
        "nothing was due before; what has started is not stale"
    );
    assert_eq!(stale(101, 9).await, ["e-3"], "due before");
    assert_eq!(stale(999, 9).await, ["e-3", "e-2", "e-1"], "the oldest first");
    assert_eq!(stale(999, 2).await, ["e-3", "e-2"], "as many as asked for");
    world.all([expire("e-3", secs(999))]).await;
    assert_eq!(
        stale(999, 2).await,
        ["e-2", "e-1"],
        "an expired one is dealt with"
    );
}

pub async fn what_an_agent_has_unfinished_is_handed_out_oldest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (exec, at) in [("e-3", 300), ("e-1", 100), ("e-2", 200), ("e-4", 50)] {
        world
            .all([Firing::of(exec).at(secs(at)).pcs(["pc-1", "pc-2"]).change()])
            .await;
    }
    world
        .all([started("e-2", "pc-1"), finished("e-4", "pc-1", 0)])
        .await;
    let unfinished = |pc: &'static str, before, limit| {
        let store = &world.store;
        async move {
            let found = store.unfinished(&id(pc), secs(before), limit).await.unwrap();
            assert!(
                found.iter().all(|target| target.pc_id.as_str() == pc),
                "of this agent only: {found:?}"
            );
            found
                .iter()
                .map(|target| target.exec_id.to_string())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        unfinished("pc-1", 100, 9).await,
        [""; 0],
        "nothing was due before"
    );
    assert_eq!(unfinished("pc-1", 101, 9).await, ["e-1"], "due before");
    assert_eq!(
        unfinished("pc-1", 999, 9).await,
        ["e-1", "e-2", "e-3"],
        "waiting and running, the oldest first"
    );
    assert_eq!(
        unfinished("pc-1", 999, 2).await,
        ["e-1", "e-2"],
        "as many as asked for"
    );
    assert_eq!(
        unfinished("pc-2", 999, 1).await,
        ["e-4"],
        "another agent has more to do"
    );
    assert_eq!(
        unfinished("pc-9", 999, 9).await,
        [""; 0],
        "a stranger has nothing to do"
    );
}

pub async fn kills_that_an_agent_has_not_answered_are_handed_out_newest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let settled = |exec: &str, at| Change::KillSettled {
        exec_id: id(exec),
        at: secs(at),
    };
    let both = ["pc-1", "pc-2"];
    for exec in ["e-1", "e-2", "e-3", "lost", "expired"] {
        world
            .all([fire(exec, &both), sent(exec, &both), kill(exec)])
            .await;
    }
    world
        .all([
            settled("e-2", 200),
            settled("e-1", 100),
            settled("e-3", 300),
            started("lost", "pc-1"),
            lose("lost", "pc-1", secs(400)),
            expire_target("expired", "pc-1", secs(1000)),
        ])
        .await;
    // None of these is an agent's that may hold it still, unaware of a kill.
    for (exec, end) in [
        ("killed", ended("killed", "pc-1", Ended::Killed)),
        ("done", finished("done", "pc-1", 0)),
        ("refused", skipped("refused", "pc-1", SkipReason::Revoked)),
        ("heard", kill_delivered("heard", "pc-1")),
        ("open", sent("open", &["pc-1"])),
    ] {
        world
            .all([fire(exec, &["pc-1"]), sent(exec, &["pc-1"]), kill(exec), end])
            .await;
        if exec == "heard" {
            world.all([kill_settled(exec)]).await;
        }
    }
    world.all([fire("unsent", &["pc-1"]), kill("unsent")]).await;
    world
        .all([
            fire("not-killed", &["pc-1"]),
            expire_target("not-killed", "pc-1", secs(1000)),
        ])
        .await;
    let unanswered = |pc: &'static str, since, limit| {
        let store = &world.store;
        async move {
            let found = store.unanswered_kills(&id(pc), secs(since), limit).await.unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
    };
    let all = ["expired", "lost", "e-3", "e-2", "e-1"];
    assert_eq!(unanswered("pc-1", 0, 99).await, all, "the newest end first");
    assert_eq!(unanswered("pc-1", 300, 99).await, all[..3], "ended then or after");
    assert_eq!(unanswered("pc-1", 301, 99).await, all[..2], "or after");
    assert_eq!(unanswered("pc-1", 0, 2).await, all[..2], "as many as asked for");
    assert_eq!(
        unanswered("pc-2", 0, 99).await,
        ["e-3", "e-2", "e-1"],
        "another agent has its own"
    );
    assert_eq!(unanswered("pc", 0, 99).await, [""; 0], "a stranger has none");

    world
        .all([
            started("e-2", "pc-1"),
            kill_delivered("e-3", "pc-1"),
            finished("lost", "pc-1", 0),
        ])
        .await;
    assert_eq!(
        unanswered("pc-1", 0, 99).await,
        ["expired", "e-1"],
        "whatever is heard of is no longer among them"
    );
    world.snapshot().await;
}
