//! Pauses, resumptions and aborts: what is held, what goes out after it, and what never does.

use kanade_model::{ExecutionStatus, Receipt, TargetState};
use kanade_ports::{Abort, Change, Outcome, Pause, SendState};

use super::{
    waves::{Staged, judged, staged},
    world::{
        Firing, World, expire, expire_target, finished, fire, id, kill, kill_settled, names, secs, send,
        sent, started,
    },
};
use crate::StoreFactory;

fn pause(exec: &str, at: i64) -> Change {
    Change::Pause {
        exec_id: id(exec),
        by: "ann".into(),
        at: secs(at),
    }
}

fn resume(exec: &str, at: i64) -> Change {
    Change::Resume {
        exec_id: id(exec),
        at: secs(at),
    }
}

fn abort(exec: &str, at: i64) -> Change {
    Change::Abort {
        exec_id: id(exec),
        by: "ann".into(),
        at: secs(at),
    }
}

/// An execution whose first wave is out, and whose later ones are due at seconds 100 and 900.
async fn begun<F: StoreFactory>(exec: &str) -> World<F> {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 3] = [
        (0, None, &["pc-1"]),
        (100, None, &["pc-2"]),
        (900, None, &["pc-3"]),
    ];
    world
        .all([staged(exec, &waves).change(), sent(exec, &["pc-1"])])
        .await;
    world
}

const LATER: [&str; 2] = ["pc-2", "pc-3"];

pub async fn what_is_paused_is_due_when_it_is_resumed<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world.all([pause("e-1", 50)]).await;
    let by_ann = Pause {
        by: "ann".into(),
        at: secs(50),
        reason: None,
    };
    assert_eq!(world.execution("e-1").await.course.pause, Some(by_ann));
    assert_eq!(
        world.due("e-1", &LATER).await,
        [""; 0],
        "nothing is due while it is paused"
    );
    assert_eq!(world.change(pause("e-1", 60)).await, Outcome::Duplicate);
    world.all([resume("e-1", 500)]).await;
    assert_eq!(world.execution("e-1").await.course.pause, None);
    let sends = world.store.due_sends(None, 9).await.unwrap();
    let due: Vec<_> = sends.iter().map(|send| (send.wave, send.due_at)).collect();
    assert_eq!(
        due,
        [(1, secs(500)), (2, secs(900))],
        "at once what was due meanwhile, the rest at its time"
    );
    let let_go = world.target("e-1", "pc-2").await;
    assert_eq!((let_go.due_at, let_go.check_at), (secs(500), Some(secs(1500))));
    let execution = world.execution("e-1").await;
    assert_eq!(execution.course.waves[1].due_at, secs(500));
    assert_eq!(
        world.change(resume("e-1", 501)).await,
        Outcome::Superseded,
        "it is not paused"
    );
    world.snapshot().await;
}

pub async fn the_time_of_what_is_paused_does_not_run<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world.all([pause("e-1", 50)]).await;
    for pc in ["pc-1", "pc-2"] {
        let expired = expire_target("e-1", pc, secs(99_999));
        assert_eq!(world.change(expired).await, Outcome::Superseded, "{pc} is held");
    }
    assert_eq!(world.store.overdue_targets(secs(99_999), 9).await.unwrap(), []);
    let stale = world.store.stale(secs(99_999), 9).await.unwrap();
    assert_eq!(names(&stale), [""; 0]);
    assert_eq!(
        world.change(expire("e-1", secs(99_999))).await,
        Outcome::Superseded
    );
    // Resumed after the time it would have had.
    world.all([resume("e-1", 5000)]).await;
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(
        (target.due_at, target.check_at),
        (secs(0), Some(secs(6000))),
        "sent before, its time runs anew"
    );
    let overdue = world.store.overdue_targets(secs(5999), 9).await.unwrap();
    assert_eq!(overdue, []);
    world.snapshot().await;
}

pub async fn what_is_held_on_an_agent_is_open_but_not_to_be_sent_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1"]), (5, None, &["pc-2"])];
    world
        .all([
            staged("gated", &waves).change(),
            Firing::of("paused").at(secs(1)).pcs(["pc-2"]).change(),
            Firing::of("plain").at(secs(9)).pcs(["pc-2"]).change(),
            sent("paused", &["pc-2"]),
            pause("paused", 10),
        ])
        .await;
    let unfinished = world.store.unfinished(&id("pc-2"), secs(999), 1).await.unwrap();
    let of = |found: &[kanade_ports::TargetRecord]| -> Vec<String> {
        found.iter().map(|target| target.exec_id.to_string()).collect()
    };
    assert_eq!(of(&unfinished), ["plain"], "what is held takes no place");
    let open = world.store.open_on(&id("pc-2"), None, 2).await.unwrap();
    assert_eq!(of(&open), ["paused", "gated"], "by due time");
    let after = kanade_ports::Position {
        at: open[1].due_at.as_micros(),
        id: open[1].exec_id.to_string(),
    };
    let rest = world.store.open_on(&id("pc-2"), Some(&after), 9).await.unwrap();
    assert_eq!(of(&rest), ["plain"]);
    world.snapshot().await;
}

pub async fn what_can_be_paused_resumed_and_aborted<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for change in [pause("none", 1), resume("none", 1), abort("none", 1)] {
        assert_eq!(world.change(change).await, Outcome::Unknown);
    }
    world
        .all([fire("over", &["pc-1"]), finished("over", "pc-1", 0)])
        .await;
    for change in [pause("over", 50), resume("over", 50), abort("over", 50)] {
        assert_eq!(world.change(change).await, Outcome::Superseded, "it is over");
    }
    world
        .all([
            fire("killed", &["pc-1"]),
            sent("killed", &["pc-1"]),
            kill("killed"),
        ])
        .await;
    assert_eq!(world.change(pause("killed", 50)).await, Outcome::Superseded);
    assert_eq!(
        world.change(abort("killed", 50)).await,
        Outcome::Duplicate,
        "the kill has withdrawn everything"
    );
    world
        .all([
            fire("aborted", &["pc-1"]),
            sent("aborted", &["pc-1"]),
            abort("aborted", 50),
        ])
        .await;
    assert_eq!(world.change(pause("aborted", 51)).await, Outcome::Superseded);
    assert_eq!(world.change(abort("aborted", 51)).await, Outcome::Duplicate);
    let first = Abort {
        by: "ann".into(),
        at: secs(50),
    };
    assert_eq!(world.execution("aborted").await.course.abort, Some(first));
    world.snapshot().await;
}

pub async fn an_abort_withdraws_what_has_not_gone_out<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world.all([started("e-1", "pc-1"), abort("e-1", 50)]).await;
    let sends = world.store.sends(&id("e-1")).await.unwrap();
    let state = |pc| {
        sends
            .iter()
            .find(|found| found.send_id == send("e-1", pc))
            .unwrap()
            .state
    };
    assert_eq!(
        ["pc-1", "pc-2", "pc-3"].map(state),
        [SendState::Sent, SendState::Withdrawn, SendState::Withdrawn]
    );
    assert_eq!(world.state("e-1", "pc-2").await, TargetState::Withdrawn);
    let running = world.target("e-1", "pc-1").await;
    assert_eq!(
        (running.state, running.receipt),
        (TargetState::Running, None),
        "what runs goes on"
    );
    assert_eq!(world.status("e-1").await, ExecutionStatus::Running);
    assert_eq!(world.wave("e-1", 1).await.owed, 0);
    world.all([finished("e-1", "pc-1", 0)]).await;
    let execution = world.execution("e-1").await;
    assert_eq!(execution.status, ExecutionStatus::Killed, "some were withdrawn");
    assert_eq!((&execution.kill, execution.counts.success()), (&None, 1));
    world.snapshot().await;
}

pub async fn an_abort_of_what_is_paused_or_never_went_out<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world.all([pause("e-1", 50), abort("e-1", 60)]).await;
    let execution = world.execution("e-1").await;
    assert_eq!((&execution.course.pause, execution.hold()), (&None, None));
    let waiting = world.target("e-1", "pc-1").await;
    assert_eq!(
        (waiting.state, waiting.check_at),
        (TargetState::Waiting, Some(secs(1060))),
        "sent before, its time runs"
    );
    assert_eq!(world.change(resume("e-1", 70)).await, Outcome::Superseded);
    assert_eq!(world.due("e-1", &LATER).await, [""; 0]);

    world
        .all([fire("e-2", &["pc-1", "pc-2"]), abort("e-2", 60)])
        .await;
    let execution = world.execution("e-2").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Killed, Some(secs(60)))
    );
    world.snapshot().await;
}

pub async fn a_kill_of_what_is_paused_is_a_kill<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world.all([pause("e-1", 20), kill("e-1")]).await;
    let execution = world.execution("e-1").await;
    assert_eq!((execution.course.pause.clone(), execution.hold()), (None, None));
    assert_eq!(world.state("e-1", "pc-2").await, TargetState::Withdrawn);
    let asked = world.target("e-1", "pc-1").await;
    assert_eq!(
        (asked.receipt, asked.check_at),
        (Some(Receipt::Requested), Some(secs(1030)))
    );
    let unfinished = world.store.unfinished(&id("pc-1"), secs(999), 9).await.unwrap();
    assert_eq!(unfinished, [asked], "it is killed again when it shows life");
    assert_eq!(world.change(resume("e-1", 40)).await, Outcome::Superseded);
    assert_eq!(
        world.due("e-1", &LATER).await,
        [""; 0],
        "nothing of it ever goes out"
    );
    world.all([kill_settled("e-1")]).await;
    assert_eq!(world.status("e-1").await, ExecutionStatus::Killed);
    world.snapshot().await;
}

pub async fn a_pause_does_not_keep_a_gate_from_what_comes_after<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1"]), (5, None, &["pc-2"])];
    world
        .all([
            staged("e-1", &waves).change(),
            sent("e-1", &["pc-1"]),
            pause("e-1", 10),
        ])
        .await;
    assert_eq!(
        world.change(judged("e-1", 0, false, 60, 0, 1)).await,
        Outcome::Superseded,
        "nothing is decided while it is paused"
    );
    world.all([resume("e-1", 100)]).await;
    assert_eq!(
        world.due("e-1", &["pc-2"]).await,
        [""; 0],
        "nobody has waived the gate"
    );
    world.all([judged("e-1", 0, false, 100, 0, 1)]).await;
    assert!(world.execution("e-1").await.course.pause.is_some());
    world.all([resume("e-1", 110)]).await;
    assert_eq!(world.due("e-1", &["pc-2"]).await, ["pc-2"]);
    world.snapshot().await;
}

pub async fn what_ends_is_not_paused_any_more<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1"]),
            sent("e-1", &["pc-1"]),
            pause("e-1", 5),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.course.pause),
        (ExecutionStatus::Completed, None)
    );
    world.snapshot().await;
}

pub async fn ten_thousand_targets_are_paused_and_resumed<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs: Vec<String> = (0..10_000)
        .map(|number| super::world::numbered("pc", number))
        .collect();
    world.all([Firing::of("e-1").pcs(&pcs).change()]).await;
    world.all([pause("e-1", 10)]).await;
    assert_eq!(world.store.due_sends(None, 9).await.unwrap(), []);
    world.all([resume("e-1", 20)]).await;
    let due = world.store.due_sends(None, 20_000).await.unwrap();
    assert_eq!(due.len(), 10_000);
    assert!(due.iter().all(|send| send.due_at == secs(20)));
}

pub async fn a_pause_is_there_after_a_restart<F: StoreFactory>() {
    let world = begun::<F>("e-1").await;
    world
        .all([
            pause("e-1", 50),
            fire("e-2", &["pc-1", "pc-2"]),
            sent("e-2", &["pc-1"]),
            abort("e-2", 50),
        ])
        .await;
    let before = (world.execution("e-1").await, world.execution("e-2").await);
    let (world, survives) = world.reopened().await;
    if survives {
        assert_eq!(
            (world.execution("e-1").await, world.execution("e-2").await),
            before
        );
        assert_eq!(world.due("e-1", &LATER).await, [""; 0]);
        world.all([resume("e-1", 1000)]).await;
        assert_eq!(world.due("e-1", &LATER).await, LATER);
    }
}
