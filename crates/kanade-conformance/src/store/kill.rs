//! Kills: nothing more goes out, what is out is asked to end, and each target has a receipt of what came of it.

use kanade_model::{Ended, ExecutionStatus, Receipt, TargetState};
use kanade_ports::{Change, Kill, Outcome, SendState};

use super::world::{
    Firing, World, ended, expire, finished, fire, id, kill, kill_settled, names, secs, send, sent,
    start_event, started,
};
use crate::StoreFactory;

/// An execution that was sent to these agents, then killed.
pub(super) async fn killed<F: StoreFactory>(world: &World<F>, exec: &str, pcs: &[&str]) {
    world.all([fire(exec, pcs), sent(exec, pcs), kill(exec)]).await;
}

pub async fn a_kill_withdraws_what_has_not_gone_out<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves = Firing::of("e-1")
        .pcs(["pc-1"])
        .next_wave()
        .due(secs(999))
        .pcs(["pc-2"]);
    world
        .all([
            waves.change(),
            fire("e-2", &["pc-1"]),
            sent("e-1", &["pc-1"]),
            kill("e-1"),
        ])
        .await;
    let sends = world.store.sends(&id("e-1")).await.unwrap();
    let state = |to| {
        sends
            .iter()
            .find(|found| found.send_id == send("e-1", to))
            .unwrap()
            .state
    };
    assert_eq!(
        (state("pc-1"), state("pc-2")),
        (SendState::Sent, SendState::Withdrawn),
        "a later wave too"
    );
    assert_eq!(
        world.store.due_sends(None, 9).await.unwrap().len(),
        1,
        "only another execution owes something"
    );

    let gone = world.target("e-1", "pc-2").await;
    assert_eq!(
        (gone.state, gone.receipt),
        (TargetState::Withdrawn, None),
        "it never started, nobody is asked"
    );
    assert_eq!((gone.finished_at, gone.check_at), (Some(secs(30)), None));
    let asked = world.target("e-1", "pc-1").await;
    assert_eq!(
        (asked.state, asked.receipt),
        (TargetState::Waiting, Some(Receipt::Requested))
    );
    let execution = world.execution("e-1").await;
    let by_alice = Kill {
        by: "alice".into(),
        at: secs(30),
        settled: false,
        asked_again_at: None,
    };
    assert_eq!(execution.kill, Some(by_alice), "who killed it, and when");
    assert_eq!(
        execution.status,
        ExecutionStatus::Pending,
        "an agent may still have it"
    );
    world.snapshot().await;
}

pub async fn a_kill_of_what_never_went_out_ends_it<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([fire("e-1", &["pc-1", "pc-2"]), kill("e-1")]).await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Killed, Some(secs(30)))
    );
    assert!(
        execution.kill.is_some_and(|kill| kill.settled),
        "nobody is left to ask"
    );
    assert!(
        world.store.open_kills(9).await.unwrap().is_empty(),
        "so it is not repeated"
    );
    assert!(
        world.store.in_flight(&id("backup")).await.unwrap().is_empty(),
        "nothing is in flight"
    );
    assert_eq!(execution.counts.failure(), 0, "withdrawn is not failed");
    world.snapshot().await;
}

pub async fn a_kill_withdraws_a_send_to_everybody<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            Firing::of("e-1").everybody(["pc-1", "pc-2"]).change(),
            kill("e-1"),
        ])
        .await;
    for pc in ["pc-1", "pc-2"] {
        assert_eq!(
            world.state("e-1", pc).await,
            TargetState::Withdrawn,
            "{pc} was to be reached by that send"
        );
    }
    world
        .all([
            Firing::of("e-2").everybody(["pc-1"]).change(),
            sent("e-2", &["all"]),
            kill("e-2"),
        ])
        .await;
    assert_eq!(
        world.state("e-2", "pc-1").await,
        TargetState::Waiting,
        "here it was out"
    );
    world.snapshot().await;
}

pub async fn what_can_be_killed<F: StoreFactory>() {
    let world = World::<F>::new().await;
    assert_eq!(
        world.change(kill("e-9")).await,
        Outcome::Unknown,
        "what is not there"
    );
    world
        .all([fire("pending", &["pc-1"]), sent("pending", &["pc-1"])])
        .await;
    world
        .all([fire("running", &["pc-1"]), started("running", "pc-1")])
        .await;
    world
        .all([
            fire("expired", &["pc-1"]),
            sent("expired", &["pc-1"]),
            expire("expired", secs(20)),
        ])
        .await;
    world
        .all([fire("completed", &["pc-1"]), finished("completed", "pc-1", 0)])
        .await;
    world
        .all([fire("killed", &["pc-1"]), ended("killed", "pc-1", Ended::Killed)])
        .await;
    for (exec, outcome) in [
        ("pending", Outcome::Applied),
        ("running", Outcome::Applied),
        ("expired", Outcome::Applied),
        ("completed", Outcome::Superseded),
        ("killed", Outcome::Superseded),
    ] {
        let before = world.execution(exec).await;
        assert_eq!(world.change(kill(exec)).await, outcome, "{exec}");
        let after = world.execution(exec).await;
        assert_eq!(
            after.status, before.status,
            "a kill alone does not change the status of what is {exec}"
        );
        assert_eq!(after.kill.is_some(), outcome == Outcome::Applied, "{exec}");
    }
    world.snapshot().await;
}

pub async fn a_second_kill_repeats_the_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    killed(&world, "e-1", &["pc-1"]).await;
    world.all([started("e-1", "pc-1"), kill_settled("e-1")]).await;
    assert!(
        world.store.open_kills(9).await.unwrap().is_empty(),
        "the time for answers is over"
    );
    let again = Change::Kill {
        exec_id: id("e-1"),
        by: "bob".into(),
        at: secs(90),
    };
    assert_eq!(
        world.change(again).await,
        Outcome::Duplicate,
        "it was killed before"
    );
    let kill = world.execution("e-1").await.kill.unwrap();
    assert_eq!((&*kill.by, kill.at), ("alice", secs(30)), "the first one counts");
    assert!(!kill.settled, "but it is repeated");
    assert_eq!(world.store.open_kills(9).await.unwrap().len(), 1);
    world.snapshot().await;
}

pub async fn the_time_for_answers_begins_anew_when_asked_again_or_at_a_sign_of_life<F: StoreFactory>() {
    let world = World::<F>::new().await;
    killed(&world, "e-1", &["pc-1", "pc-2"]).await;
    let asked_at = async || world.execution("e-1").await.kill.map(|kill| kill.asked_at());
    assert_eq!(asked_at().await, Some(secs(30)));
    let again = |at| Change::Kill {
        exec_id: id("e-1"),
        by: "bob".into(),
        at: secs(at),
    };
    assert_eq!(world.change(again(40)).await, Outcome::Duplicate);
    assert_eq!(asked_at().await, Some(secs(40)));
    let start = Change::RunStarted {
        event: start_event("e-1", "pc-1"),
        at: secs(55),
    };
    world.all([start.clone()]).await;
    assert_eq!(
        asked_at().await,
        Some(secs(55)),
        "when it was heard of, whatever the agent's clock says"
    );
    world.change(start).await;
    assert_eq!(world.change(again(50)).await, Outcome::Duplicate);
    assert_eq!(asked_at().await, Some(secs(55)), "it never goes back");
    assert_eq!(
        world.execution("e-1").await.kill.map(|kill| kill.by),
        Some("alice".into()),
        "who killed it stays"
    );
    world.snapshot().await;
}

pub async fn a_kill_that_is_heard_of_after_what_it_did_has_its_killer<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let heard = |exec: &str| Change::KillHeard {
        exec_id: id(exec),
        by: "bob".into(),
        at: secs(40),
    };
    world
        .all([
            fire("open", &["pc-1", "pc-2"]),
            ended("open", "pc-1", Ended::Killed),
            fire("completed", &["pc-1"]),
            finished("completed", "pc-1", 0),
            fire("over", &["pc-1", "pc-2"]),
            ended("over", "pc-1", Ended::Killed),
            finished("over", "pc-2", 0),
        ])
        .await;
    killed(&world, "known", &["pc-1"]).await;
    world.all([ended("known", "pc-1", Ended::Killed)]).await;
    for (exec, outcome) in [
        ("nowhere", Outcome::Unknown),
        ("open", Outcome::Superseded),
        ("completed", Outcome::Superseded),
        ("over", Outcome::Applied),
        ("over", Outcome::Duplicate),
        ("known", Outcome::Duplicate),
    ] {
        assert_eq!(world.change(heard(exec)).await, outcome, "{exec}");
    }
    let over = world.execution("over").await;
    let kill = over.kill.unwrap();
    assert_eq!((&*kill.by, kill.at, kill.settled), ("bob", secs(40), true));
    assert_eq!(over.status, ExecutionStatus::Killed);
    assert_eq!(
        world.target("over", "pc-1").await.receipt,
        Some(Receipt::Confirmed)
    );
    assert_eq!(
        world.target("over", "pc-2").await.receipt,
        Some(Receipt::Finished)
    );
    assert_eq!(world.execution("known").await.kill.unwrap().by, "alice");
    assert!(world.execution("open").await.kill.is_none());
    world.snapshot().await;
}

pub async fn a_settled_kill_leaves_nobody_waiting<F: StoreFactory>() {
    let world = World::<F>::new().await;
    killed(&world, "e-1", &["pc-1", "pc-2", "pc-3"]).await;
    world
        .all([
            started("e-1", "pc-1"),
            ended("e-1", "pc-1", Ended::Killed),
            kill_settled("e-1"),
        ])
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Killed, Some(secs(60)))
    );
    assert_eq!(
        execution.counts.of(TargetState::Withdrawn),
        2,
        "who did not start never will"
    );
    assert_eq!(world.change(kill_settled("e-1")).await, Outcome::Duplicate);
    assert_eq!(
        world.change(kill_settled("e-9")).await,
        Outcome::Unknown,
        "no such execution"
    );
    world.all([fire("e-2", &["pc-1"])]).await;
    assert_eq!(
        world.change(kill_settled("e-2")).await,
        Outcome::Unknown,
        "no such kill"
    );
    world.snapshot().await;
}

pub async fn a_start_after_a_kill_opens_it_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    // One is withdrawn at once, one when nobody answered; both start all the same.
    world
        .all([
            fire("e-1", &["pc-1", "pc-2"]),
            sent("e-1", &["pc-1"]),
            kill("e-1"),
            kill_settled("e-1"),
        ])
        .await;
    assert_eq!(world.status("e-1").await, ExecutionStatus::Killed);
    for pc in ["pc-1", "pc-2"] {
        world.all([started("e-1", pc)]).await;
        let execution = world.execution("e-1").await;
        assert_eq!(
            (execution.status, execution.finished_at),
            (ExecutionStatus::Running, None),
            "{pc} runs"
        );
        assert_eq!(
            world.receipt("e-1", pc).await,
            Some(Receipt::Requested),
            "{pc} is asked again"
        );
        assert_eq!(
            world.store.open_kills(9).await.unwrap().len(),
            1,
            "the kill is open again"
        );
        world.all([ended("e-1", pc, Ended::Killed)]).await;
        assert_eq!(world.receipt("e-1", pc).await, Some(Receipt::Confirmed), "{pc}");
        assert_eq!(world.status("e-1").await, ExecutionStatus::Killed, "final again");
        assert!(world.store.open_kills(9).await.unwrap().is_empty(), "and settled");
    }
    assert_eq!(world.execution("e-1").await.counts.of(TargetState::Killed), 2);
    world.snapshot().await;
}

pub async fn a_send_that_was_in_flight_at_the_kill_is_known_to_be_out<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1"]), kill("e-1"), sent("e-1", &["pc-1"])])
        .await;
    assert!(
        world.store.due_sends(None, 9).await.unwrap().is_empty(),
        "nothing is owed"
    );
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Withdrawn,
        "it is not waited for"
    );
    world.all([ended("e-1", "pc-1", Ended::Killed)]).await;
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Killed,
        "but its result is taken"
    );
    world.snapshot().await;
}

pub async fn how_a_killed_execution_ends<F: StoreFactory>() {
    let world = World::<F>::new().await;
    killed(&world, "both", &["pc-1", "pc-2"]).await;
    world
        .all([finished("both", "pc-1", 0), ended("both", "pc-2", Ended::Killed)])
        .await;
    assert_eq!(
        world.status("both").await,
        ExecutionStatus::Killed,
        "the kill ended one of them"
    );
    killed(&world, "late", &["pc-1", "pc-2"]).await;
    world
        .all([finished("late", "pc-1", 0), finished("late", "pc-2", 1)])
        .await;
    let late = world.execution("late").await;
    assert_eq!(
        late.status,
        ExecutionStatus::Completed,
        "the kill came too late for both"
    );
    assert!(
        late.kill.is_some_and(|kill| kill.settled),
        "there is nothing left to ask"
    );
    world.snapshot().await;
}

pub async fn open_kills_are_handed_out_oldest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (exec, at) in [("e-1", 300), ("e-2", 100), ("e-3", 200), ("e-4", 400)] {
        world.all([fire(exec, &["pc-1"]), sent(exec, &["pc-1"])]).await;
        let kill = Change::Kill {
            exec_id: id(exec),
            by: "alice".into(),
            at: secs(at),
        };
        world.all([kill]).await;
    }
    world.all([kill_settled("e-4")]).await;
    let open = |limit| {
        let store = &world.store;
        async move {
            let found = store.open_kills(limit).await.unwrap();
            names(found.iter().map(|execution| &execution.exec_id)).join(" ")
        }
    };
    assert_eq!(
        open(9).await,
        "e-2 e-3 e-1",
        "by the time of the kill; a settled one is not open"
    );
    assert_eq!(open(2).await, "e-2 e-3", "as many as asked for");
    world.all([finished("e-2", "pc-1", 0)]).await;
    assert_eq!(open(9).await, "e-3 e-1", "a final one is not open");
}
