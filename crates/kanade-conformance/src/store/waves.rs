//! Waves and the gates between them: what is counted of each, what a gate holds, and what it comes to.

use kanade_model::{ExecutionStatus, Gate, Rollout, SkipReason, Strategy, TargetState, Wave};
use kanade_ports::{Change, Counts, Hold, Outcome, Position, SendState, Verdict, WaveRecord};

use super::world::{Firing, World, finished, id, kill, names, secs, send, sent, skipped, started};
use crate::StoreFactory;

/// One wave of a case: its delay in seconds, the share its gate wants within a minute, its agents.
pub(super) type Staged<'a> = (i64, Option<&'a str>, &'a [&'a str]);

/// A firing in waves at second 0. What comes after a gate is held.
pub(super) fn staged(exec: &str, waves: &[Staged<'_>]) -> Firing {
    let mut firing = Firing::of(exec);
    let mut written = Vec::new();
    for (number, (delay, ratio, pcs)) in waves.iter().enumerate() {
        if number > 0 {
            firing = firing.next_wave();
        }
        firing = firing.due(secs(*delay)).pcs(*pcs);
        written.push(Wave {
            group: id(&format!("group-{number}")),
            delay: format!("{delay}s").parse().expect("a delay"),
            proceed_if: ratio.map(|ratio| Gate {
                success_ratio: ratio.parse().expect("a ratio"),
                within: "60s".parse().expect("a duration"),
            }),
        });
    }
    if let Some(gated) = written.iter().position(|wave| wave.proceed_if.is_some()) {
        for send in &mut firing.new.sends {
            if send.wave as usize > gated {
                send.state = SendState::Held;
            }
        }
    }
    firing.new.order.plan.rollout = Some(Rollout {
        strategy: Strategy::Wave,
        waves: written,
    });
    firing
}

/// What the gate of a wave has come to at that second.
pub(super) fn judged(exec: &str, wave: u32, passed: bool, at: i64, succeeded: u32, of: u32) -> Change {
    Change::Judged {
        exec_id: id(exec),
        wave,
        verdict: Verdict {
            passed,
            at: secs(at),
            succeeded,
            of,
        },
    }
}

impl<F: StoreFactory> World<F> {
    pub(super) async fn wave(&self, exec: &str, wave: usize) -> WaveRecord {
        self.execution(exec).await.course.waves[wave].clone()
    }

    /// The agents of an execution whose sends are due.
    pub(super) async fn due(&self, exec: &str, pcs: &[&str]) -> Vec<String> {
        let due = self.store.due_sends(None, 999).await.unwrap();
        let is_due = |pc: &&str| due.iter().any(|found| found.send_id == send(exec, pc));
        pcs.iter().copied().filter(is_due).map(str::to_owned).collect()
    }
}

fn counts(of: &[(TargetState, u32)]) -> Counts {
    let mut counts = Counts::default();
    for (state, count) in of {
        (0..*count).for_each(|_| counts.add(*state));
    }
    counts
}

pub async fn each_wave_is_counted_by_itself<F: StoreFactory>() {
    use TargetState::{Failed, Refused, Succeeded, Waiting};
    let world = World::<F>::new().await;
    let waves = staged(
        "e-1",
        &[
            (0, None, &["pc-1", "pc-2"]),
            (100, None, &["pc-3"]),
            (200, None, &[]),
        ],
    );
    world.all([waves.change()]).await;
    let first = world.wave("e-1", 0).await;
    assert_eq!((first.owed, first.sent_at, first.due_at), (2, None, secs(0)));
    assert_eq!(first.group, id("group-0"));
    assert_eq!(first.counts, counts(&[(Waiting, 2)]));
    let last = world.wave("e-1", 2).await;
    assert_eq!(
        (last.owed, last.counts.total(), last.due_at),
        (0, 0, secs(200)),
        "nobody is in it"
    );

    world.all([sent("e-1", &["pc-1"])]).await;
    assert_eq!(world.wave("e-1", 0).await.sent_at, None, "not all of it is out");
    world.change(sent("e-1", &["pc-1"])).await;
    let first = world.wave("e-1", 0).await;
    assert_eq!((first.owed, first.sent_at), (1, None), "told twice, counted once");
    world
        .all([
            Change::Sent {
                exec_id: id("e-1"),
                sends: vec![send("e-1", "pc-2")],
                at: secs(7),
            },
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 0),
            finished("e-1", "pc-2", 3),
            // Not on the list: it joins the execution, and no wave.
            finished("e-1", "pc-9", 0),
            skipped("e-1", "pc-3", SkipReason::Revoked),
        ])
        .await;
    let first = world.wave("e-1", 0).await;
    assert_eq!((first.owed, first.sent_at), (0, Some(secs(7))));
    assert_eq!(first.counts, counts(&[(Succeeded, 1), (Failed, 1)]));
    assert_eq!(world.wave("e-1", 1).await.counts, counts(&[(Refused, 1)]));
    assert_eq!(world.execution("e-1").await.counts.total(), 4);
    world.snapshot().await;
}

pub async fn a_gate_holds_later_waves_until_it_has_passed<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let all = ["pc-1", "pc-2", "pc-3", "pc-4"];
    let waves: [Staged<'_>; 3] = [
        (0, Some("0.5"), &["pc-1", "pc-2"]),
        (5, None, &["pc-3"]),
        (900, None, &["pc-4"]),
    ];
    world.all([staged("e-1", &waves).change()]).await;
    assert_eq!(world.due("e-1", &all).await, ["pc-1", "pc-2"]);
    assert_eq!(world.execution("e-1").await.hold(), Some(Hold::Gate));
    let held = world.target("e-1", "pc-3").await;
    assert!(held.is_held(), "its time does not run: {held:?}");

    world
        .all([sent("e-1", &["pc-1", "pc-2"]), finished("e-1", "pc-1", 0)])
        .await;
    assert_eq!(
        world.due("e-1", &all).await,
        [""; 0],
        "results alone let nothing out"
    );
    world.all([judged("e-1", 0, true, 30, 1, 2)]).await;
    assert_eq!(world.due("e-1", &all).await, ["pc-3", "pc-4"]);
    let sends = world.store.sends(&id("e-1")).await.unwrap();
    let due_at = |pc| {
        sends
            .iter()
            .find(|found| found.send_id == send("e-1", pc))
            .unwrap()
            .due_at
    };
    assert_eq!(
        due_at("pc-3"),
        secs(30),
        "due when the gate passed, which is later than its delay"
    );
    assert_eq!(due_at("pc-4"), secs(900), "due at its delay, which is later");
    let let_out = world.target("e-1", "pc-3").await;
    assert_eq!(
        (let_out.due_at, let_out.check_at),
        (secs(30), Some(secs(1030))),
        "its time runs from then on"
    );
    let later = world.target("e-1", "pc-4").await;
    assert_eq!((later.due_at, later.check_at), (secs(900), Some(secs(1900))));
    let execution = world.execution("e-1").await;
    assert_eq!((execution.hold(), execution.last_due_at), (None, secs(900)));
    assert_eq!(execution.course.waves[1].due_at, secs(30));
    world.snapshot().await;
}

pub async fn a_gate_that_fails_pauses_and_stays_failed<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1"]), (5, None, &["pc-2"])];
    world
        .all([
            staged("e-1", &waves).change(),
            sent("e-1", &["pc-1"]),
            judged("e-1", 0, false, 60, 0, 1),
        ])
        .await;
    let execution = world.execution("e-1").await;
    let pause = execution.course.pause.clone().expect("it is paused");
    assert_eq!((pause.by.as_str(), pause.at), ("gate", secs(60)));
    let reason = pause.reason.expect("it says why");
    assert!(
        reason.contains("wave 1 of 2") && reason.contains("0 of 1"),
        "{reason}"
    );
    assert_eq!(execution.hold(), Some(Hold::Pause));

    // The result was only late.
    world.all([finished("e-1", "pc-1", 0)]).await;
    for verdict in [
        judged("e-1", 0, true, 70, 1, 1),
        judged("e-1", 0, false, 60, 0, 1),
    ] {
        assert_eq!(
            world.change(verdict).await,
            Outcome::Duplicate,
            "it is decided once"
        );
    }
    assert_eq!(world.due("e-1", &["pc-2"]).await, [""; 0]);
    assert_eq!(world.execution("e-1").await.hold(), Some(Hold::Pause));

    let resume = Change::Resume {
        exec_id: id("e-1"),
        at: secs(80),
    };
    world.all([resume]).await;
    assert_eq!(
        world.due("e-1", &["pc-2"]).await,
        ["pc-2"],
        "somebody let it go on"
    );
    let gate = world.wave("e-1", 0).await.gate.unwrap();
    assert_eq!(
        (gate.verdict.map(|verdict| verdict.passed), gate.waived_at),
        (Some(false), Some(secs(80)))
    );
    world.snapshot().await;
}

pub async fn a_verdict_must_fit_what_is_recorded<F: StoreFactory>() {
    let world = World::<F>::new().await;
    assert_eq!(
        world.change(judged("e-1", 0, true, 30, 1, 1)).await,
        Outcome::Unknown
    );
    let waves: [Staged<'_>; 3] = [
        (0, Some("1"), &["pc-1", "pc-2"]),
        (5, Some("1"), &["pc-3"]),
        (9, None, &["pc-4"]),
    ];
    world
        .all([
            staged("e-1", &waves).change(),
            sent("e-1", &["pc-1", "pc-2"]),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    for (verdict, why) in [
        (judged("e-1", 0, true, 30, 2, 2), "one has not succeeded"),
        (judged("e-1", 0, false, 59, 1, 2), "its time is not over"),
        (judged("e-1", 0, false, 60, 0, 2), "one has succeeded since"),
        (judged("e-1", 1, false, 99, 0, 1), "another gate comes first"),
        (judged("e-1", 2, true, 99, 0, 1), "there is no gate"),
        (judged("e-1", 3, true, 99, 0, 1), "there is no such wave"),
    ] {
        assert_eq!(world.change(verdict).await, Outcome::Superseded, "{why}");
    }
    assert_eq!(world.wave("e-1", 0).await.gate.unwrap().verdict, None);
    world
        .all([finished("e-1", "pc-2", 0), judged("e-1", 0, true, 30, 2, 2)])
        .await;
    assert_eq!(
        world.due("e-1", &["pc-3", "pc-4"]).await,
        ["pc-3"],
        "up to the next gate"
    );
    assert_eq!(
        world.change(judged("e-1", 1, false, 999, 0, 1)).await,
        Outcome::Superseded,
        "its wave is not out"
    );
    world
        .all([
            sent("e-1", &["pc-3"]),
            finished("e-1", "pc-3", 0),
            judged("e-1", 1, true, 40, 1, 1),
        ])
        .await;
    assert_eq!(world.due("e-1", &["pc-3", "pc-4"]).await, ["pc-4"]);
    world.snapshot().await;
}

pub async fn what_is_to_be_steered_is_handed_out_oldest_first<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1"]), (0, None, &["pc-2"])];
    let plain: [Staged<'_>; 2] = [(0, None, &["pc-1"]), (0, None, &["pc-2"])];
    world
        .all([
            staged("e-3", &waves).at(secs(30)).change(),
            staged("e-2", &waves).at(secs(10)).change(),
            staged("e-1", &waves).at(secs(10)).change(),
            staged("plain", &plain).change(),
            staged("killed", &waves).change(),
            kill("killed"),
        ])
        .await;
    let open = async |after: Option<&Position>, limit| {
        let found = world.store.to_steer(after, limit).await.unwrap();
        let ids: Vec<_> = found.into_iter().map(|execution| execution.exec_id).collect();
        names(&ids).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(open(None, 9).await, ["e-1", "e-2", "e-3"]);
    assert_eq!(open(None, 1).await, ["e-1"]);
    let after = Position {
        at: secs(10).as_micros(),
        id: "e-1".into(),
    };
    assert_eq!(open(Some(&after), 9).await, ["e-2", "e-3"]);

    let pause = Change::Pause {
        exec_id: id("e-2"),
        by: "ann".into(),
        at: secs(40),
    };
    world
        .all([
            sent("e-1", &["pc-1"]),
            finished("e-1", "pc-1", 0),
            judged("e-1", 0, true, 50, 1, 1),
            pause,
        ])
        .await;
    assert_eq!(open(None, 9).await, ["e-3"], "one is decided, one is paused");
    let stale = world.store.stale(secs(9999), 9).await.unwrap();
    assert_eq!(
        names(&stale),
        ["plain"],
        "what waits for a gate or is paused is not stale"
    );
    assert_eq!(world.status("e-3").await, ExecutionStatus::Pending);
    world.snapshot().await;
}

pub async fn a_gate_is_as_it_was_after_a_restart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 3] = [
        (0, Some("0.5"), &["pc-1"]),
        (5, Some("0.9"), &["pc-2"]),
        (9, None, &["pc-3"]),
    ];
    world
        .all([
            staged("e-1", &waves).change(),
            sent("e-1", &["pc-1"]),
            finished("e-1", "pc-1", 0),
            judged("e-1", 0, true, 30, 1, 1),
        ])
        .await;
    let before = world.execution("e-1").await;
    let (world, survives) = world.reopened().await;
    if survives {
        assert_eq!(world.execution("e-1").await, before);
        assert_eq!(world.due("e-1", &["pc-2", "pc-3"]).await, ["pc-2"]);
        assert_eq!(world.store.to_steer(None, 9).await.unwrap(), [before]);
    }
}
