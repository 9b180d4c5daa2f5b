//! How many agents are at an execution at once, and what is tried again: what waits is parked until it is let out.

use kanade_model::{Ended, ExecResult, ExecutionStatus, RequestId, Retry, SendId, SkipReason, TargetState};
use kanade_ports::{Addressee, Change, Hold, Outcome, Pace, Position, Retrying, SendState};
use uuid::Uuid;

use super::{
    waves::{Staged, judged, staged},
    world::{
        Firing, World, ended, expire_target, finished, id, kill, recorded, request, result, run, secs, send,
        sent, skipped, start_event, started,
    },
};
use crate::StoreFactory;

/// The send and the request of an attempt after `later` others.
pub(super) fn attempt(exec: &str, pc: &str, later: usize) -> (SendId, RequestId) {
    attempt_after(exec, pc, pc, later)
}

/// As [`attempt`], where the first Command is named `first`.
pub(super) fn attempt_after(exec: &str, first: &str, pc: &str, later: usize) -> (SendId, RequestId) {
    let first = (send(exec, first), request(exec, first));
    (0..later).fold(first, |(_, request), _| {
        let name = |what: &str| Uuid::new_v5(&request.0, format!("{what} of {pc}").as_bytes());
        (
            SendId(name("the send of the next attempt")),
            RequestId(name("the next attempt")),
        )
    })
}

/// A firing at these agents of which so many are at it at once.
fn narrow(exec: &str, most: u32, pcs: &[&str]) -> Firing {
    parked(Firing::of(exec).pcs(pcs), most)
}

fn parked(mut firing: Firing, most: u32) -> Firing {
    firing.new.pace.max_parallel = Some(most);
    for send in &mut firing.new.sends {
        send.state = SendState::Parked;
    }
    firing
}

/// A firing with or without a limit that is tried again.
pub(super) fn at_some_pace(mut firing: Firing, most: Option<u32>) -> Firing {
    let Some(most) = most else { return firing };
    firing.new.pace = retry(&[]);
    let is_for_all = firing.new.sends.iter().any(|send| send.to == Addressee::All);
    if is_for_all { firing } else { parked(firing, most) }
}

/// Three attempts, ten seconds apart and then twenty, of runs that end with one of these codes.
fn retry(on: &[i32]) -> Pace {
    let rule = Retry {
        max_attempts: 3,
        backoff: "10s".parse().expect("a duration"),
        on: on.to_vec(),
    };
    Pace {
        max_parallel: None,
        retry: Some(Retrying { rule, until: None }),
    }
}

fn tried_again(exec: &str, pcs: &[&str]) -> Firing {
    let mut firing = Firing::of(exec).pcs(pcs);
    firing.new.pace = retry(&[]);
    firing
}

fn let_out(exec: &str, pcs: &[(&str, usize)], at: i64) -> Change {
    Change::LetOut {
        exec_id: id(exec),
        sends: pcs
            .iter()
            .map(|(pc, later)| (attempt(exec, pc, *later).0, id(pc)))
            .collect(),
        at: secs(at),
    }
}

/// The end of an attempt after `later` others, `at` that second.
fn end(exec: &str, pc: &str, later: usize, exit_code: i32, at: i64) -> Change {
    let request_id = attempt(exec, pc, later).1;
    recorded(ExecResult {
        result_id: Some(kanade_model::ResultId(Uuid::new_v5(&request_id.0, b"run"))),
        request_id,
        started_at: secs(at - 1),
        finished_at: secs(at),
        ..result(exec, pc, exit_code)
    })
}

impl<F: StoreFactory> World<F> {
    /// The agents of an execution whose newest send is due.
    async fn out(&self, exec: &str, pcs: &[&str]) -> Vec<String> {
        let due = self.store.due_sends(None, 999).await.unwrap();
        let mut out = Vec::new();
        for pc in pcs {
            let newest = self.target(exec, pc).await.send_id;
            if due.iter().any(|send| Some(send.send_id) == newest) {
                out.push((*pc).to_owned());
            }
        }
        out
    }
}

pub async fn no_more_go_out_than_there_is_room_for<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs = ["pc-1", "pc-2", "pc-3", "pc-4"];
    world.all([narrow("e-1", 2, &pcs).change()]).await;
    let execution = world.execution("e-1").await;
    assert_eq!((execution.hold(), execution.room()), (Some(Hold::Room), 2));
    assert!(
        world.out("e-1", &pcs).await.is_empty(),
        "nobody has let anything out"
    );
    assert!(
        world.target("e-1", "pc-1").await.is_held(),
        "its time does not run"
    );

    let all = pcs.map(|pc| (pc, 0));
    world.all([let_out("e-1", &all, 5)]).await;
    assert_eq!(
        world.out("e-1", &pcs).await,
        ["pc-1", "pc-2"],
        "as many as may be at it"
    );
    let target = world.target("e-1", "pc-1").await;
    assert_eq!((target.due_at, target.check_at), (secs(5), Some(secs(1005))));
    assert_eq!(world.execution("e-1").await.room(), 0);
    assert_eq!(
        world.change(let_out("e-1", &all, 6)).await,
        Outcome::Superseded,
        "no room"
    );

    world
        .all([
            sent("e-1", &["pc-1", "pc-2"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 1),
        ])
        .await;
    assert_eq!(world.execution("e-1").await.room(), 1, "whatever it ended as");
    world.all([let_out("e-1", &[("pc-4", 0), ("pc-3", 0)], 30)]).await;
    assert_eq!(
        world.out("e-1", &pcs).await,
        ["pc-4"],
        "who stands first goes first"
    );
    world
        .all([
            skipped("e-1", "pc-2", SkipReason::Revoked),
            expire_target("e-1", "pc-4", secs(5000)),
        ])
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!((execution.room(), execution.course.parked), (1, 1), "one is left");
    world
        .all([let_out("e-1", &all, 5000), finished("e-1", "pc-3", 0)])
        .await;
    assert_eq!(world.status("e-1").await, ExecutionStatus::Completed);
    world.snapshot().await;
}

pub async fn what_is_let_out_is_checked_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    assert_eq!(world.change(let_out("nowhere", &[], 1)).await, Outcome::Unknown);
    world
        .all([
            narrow("e-1", 1, &["pc-1", "pc-2", "pc-3"]).change(),
            Firing::of("plain").pcs(["pc-1"]).change(),
        ])
        .await;
    assert_eq!(
        world.change(let_out("plain", &[("pc-1", 0)], 1)).await,
        Outcome::Superseded,
        "it is due already"
    );
    assert_eq!(
        world.change(sent("e-1", &["pc-1"])).await,
        Outcome::Applied,
        "an answer to nobody: it has not been let out"
    );
    assert_eq!(world.execution("e-1").await.course.parked, 3);
    // Somebody who was not let out has it all the same, and is done with it.
    world.all([finished("e-1", "pc-1", 0)]).await;
    world.all([let_out("e-1", &[("pc-1", 0), ("pc-2", 0)], 30)]).await;
    assert_eq!(
        world.out("e-1", &["pc-1", "pc-2", "pc-3"]).await,
        ["pc-2"],
        "a send that nobody waits for takes no room"
    );
    let sends = world.store.sends(&id("e-1")).await.unwrap();
    let of_it = sends.iter().find(|found| found.send_id == send("e-1", "pc-1"));
    assert_eq!(of_it.unwrap().state, SendState::Withdrawn);
    world.snapshot().await;
}

pub async fn what_a_gate_or_a_pause_holds_has_no_room<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1", "pc-2"]), (0, None, &["pc-3"])];
    world.all([parked(staged("e-1", &waves), 5).change()]).await;
    let execution = world.execution("e-1").await;
    assert_eq!((execution.hold(), execution.room()), (Some(Hold::Gate), 2));
    let all = [("pc-3", 0), ("pc-1", 0), ("pc-2", 0)];
    world.all([let_out("e-1", &all, 1)]).await;
    assert_eq!(
        world.out("e-1", &["pc-1", "pc-2", "pc-3"]).await,
        ["pc-1", "pc-2"]
    );
    let pause = Change::Pause {
        exec_id: id("e-1"),
        by: "ann".into(),
        at: secs(2),
    };
    world.all([pause]).await;
    assert_eq!(world.execution("e-1").await.room(), 0);
    world.snapshot().await;
    let resume = Change::Resume {
        exec_id: id("e-1"),
        at: secs(40),
    };
    world
        .all([
            resume,
            sent("e-1", &["pc-1", "pc-2"]),
            finished("e-1", "pc-1", 0),
            finished("e-1", "pc-2", 0),
        ])
        .await;
    assert_eq!(world.change(let_out("e-1", &all, 50)).await, Outcome::Superseded);
    world.all([judged("e-1", 0, true, 51, 2, 2)]).await;
    assert!(
        world.target("e-1", "pc-3").await.is_held(),
        "a gate does not let it out"
    );
    let steered = world.store.to_steer(None::<&Position>, 9).await.unwrap();
    assert_eq!(steered.len(), 1);
    world.all([let_out("e-1", &all, 52)]).await;
    assert_eq!(world.out("e-1", &["pc-3"]).await, ["pc-3"]);
    assert!(world.store.to_steer(None, 9).await.unwrap().is_empty());
    world.snapshot().await;
}

pub async fn a_kill_or_an_abort_ends_what_is_parked<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let abort = Change::Abort {
        exec_id: id("e-2"),
        by: "ann".into(),
        at: secs(30),
    };
    world
        .all([
            narrow("e-1", 1, &["pc-1", "pc-2"]).change(),
            let_out("e-1", &[("pc-1", 0)], 1),
            sent("e-1", &["pc-1"]),
            started("e-1", "pc-1"),
            kill("e-1"),
            tried_again("e-2", &["pc-1", "pc-2"]).change(),
            finished("e-2", "pc-1", 1),
            started("e-2", "pc-2"),
            abort,
        ])
        .await;
    for (exec, pc) in [("e-1", "pc-2"), ("e-2", "pc-1")] {
        assert_eq!(world.state(exec, pc).await, TargetState::Withdrawn, "{exec} {pc}");
        let execution = world.execution(exec).await;
        assert_eq!((execution.course.parked, execution.room()), (0, 0), "{exec}");
    }
    // Nothing of what is killed or aborted is tried again.
    world
        .all([finished("e-1", "pc-1", 1), finished("e-2", "pc-2", 1)])
        .await;
    assert_eq!(world.state("e-1", "pc-1").await, TargetState::Failed);
    assert_eq!(world.state("e-2", "pc-2").await, TargetState::Failed);
    world.snapshot().await;
}

pub async fn a_run_that_failed_is_tried_again_with_a_request_of_its_own<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            tried_again("e-1", &["pc-1"]).change(),
            sent("e-1", &["pc-1"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 3),
        ])
        .await;
    let target = world.target("e-1", "pc-1").await;
    let (send_id, request_id) = attempt("e-1", "pc-1", 1);
    assert_eq!((target.state, target.attempt), (TargetState::Waiting, 2));
    assert_eq!((target.send_id, target.request_id), (Some(send_id), request_id));
    assert_eq!((target.due_at, target.check_at), (secs(30), None));
    assert_eq!(
        (target.run, target.exit_code, target.finished_at),
        (None, None, None)
    );
    assert_eq!(target.detail.as_deref(), Some("attempt 1 ended with exit code 3"));
    assert_eq!(world.status("e-1").await, ExecutionStatus::Running);
    assert_eq!(
        world.run(run("e-1", "pc-1")).await.exit_code,
        Some(3),
        "what it was is kept"
    );
    assert_eq!(world.change(finished("e-1", "pc-1", 3)).await, Outcome::Duplicate);
    assert_eq!(
        world.target("e-1", "pc-1").await,
        target,
        "told twice, tried once"
    );
    world.snapshot().await;

    world.all([let_out("e-1", &[("pc-1", 1)], 21)]).await;
    let due = world.store.due_sends(None, 9).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].send_id, due[0].due_at, due[0].request_id),
        (send_id, secs(30), request_id)
    );
    assert_eq!(world.target("e-1", "pc-1").await.check_at, Some(secs(1030)));
    world.all([end("e-1", "pc-1", 1, 3, 40)]).await;
    assert_eq!(
        world.target("e-1", "pc-1").await.due_at,
        secs(60),
        "twice as long after the second"
    );
    world
        .all([let_out("e-1", &[("pc-1", 2)], 41), end("e-1", "pc-1", 2, 4, 70)])
        .await;
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(
        (target.state, target.attempt, target.exit_code),
        (TargetState::Failed, 3, Some(4)),
        "the third is the last"
    );
    let execution = world.execution("e-1").await;
    assert_eq!(
        (
            execution.status,
            execution.counts.failure(),
            execution.counts.total()
        ),
        (ExecutionStatus::Completed, 1, 1)
    );
    world.snapshot().await;
}

pub async fn each_of_those_that_heard_one_command_tries_again_by_itself<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs = ["pc-1", "pc-2", "pc-3"];
    let mut firing = Firing::of("e-1").everybody(pcs);
    firing.new.pace = retry(&[]);
    let end = |pc: &str, exit_code| {
        recorded(ExecResult {
            request_id: request("e-1", "all"),
            ..result("e-1", pc, exit_code)
        })
    };
    world
        .all([
            firing.change(),
            sent("e-1", &["all"]),
            end("pc-1", 1),
            end("pc-2", 2),
            end("pc-3", 0),
        ])
        .await;
    let (one, two) = (
        world.target("e-1", "pc-1").await,
        world.target("e-1", "pc-2").await,
    );
    assert_eq!((one.attempt, two.attempt), (2, 2));
    assert_ne!(one.request_id, two.request_id, "an agent answers for itself");
    assert_eq!(world.execution("e-1").await.course.parked, 2);
    let sends = [&one, &two].map(|target| (target.send_id.expect("parked"), target.pc_id.clone()));
    let change = Change::LetOut {
        exec_id: id("e-1"),
        sends: sends.to_vec(),
        at: secs(30),
    };
    world.all([change]).await;
    assert_eq!(world.out("e-1", &pcs).await, ["pc-1", "pc-2"]);
    let due = world.store.due_sends(None, 9).await.unwrap();
    let to = |pc: &str| due.iter().filter(|send| send.to == Addressee::Pc(id(pc))).count();
    assert_eq!(pcs.map(to), [1, 1, 0]);
    world.snapshot().await;
}

pub async fn only_what_the_job_says_is_tried_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (exec, on, until, change, wanted) in [
        (
            "listed",
            &[3][..],
            None,
            finished("listed", "pc-1", 3),
            TargetState::Waiting,
        ),
        (
            "other",
            &[3],
            None,
            finished("other", "pc-1", 1),
            TargetState::Failed,
        ),
        (
            "good",
            &[],
            None,
            finished("good", "pc-1", 0),
            TargetState::Succeeded,
        ),
        (
            "killed",
            &[],
            None,
            ended("killed", "pc-1", Ended::Killed),
            TargetState::Killed,
        ),
        (
            "slow",
            &[],
            None,
            ended("slow", "pc-1", Ended::TimedOut),
            TargetState::TimedOut,
        ),
        (
            "late",
            &[],
            Some(secs(30)),
            finished("late", "pc-1", 1),
            TargetState::Failed,
        ),
        (
            "in-time",
            &[],
            Some(secs(31)),
            finished("in-time", "pc-1", 1),
            TargetState::Waiting,
        ),
    ] {
        let mut firing = Firing::of(exec).pcs(["pc-1"]);
        firing.new.pace = retry(on);
        if let Some(retry) = &mut firing.new.pace.retry {
            retry.until = until;
        }
        let change = match change {
            Change::RunFinished(result) => recorded(ExecResult {
                exec_id: Some(id(exec)),
                request_id: request(exec, "pc-1"),
                result_id: Some(run(exec, "pc-1")),
                ..*result
            }),
            other => other,
        };
        world.all([firing.change(), sent(exec, &["pc-1"]), change]).await;
        assert_eq!(world.state(exec, "pc-1").await, wanted, "{exec}");
    }
    // What was given up is not begun anew by a late result.
    world
        .all([
            tried_again("given-up", &["pc-1"]).change(),
            sent("given-up", &["pc-1"]),
            expire_target("given-up", "pc-1", secs(5000)),
            finished("given-up", "pc-1", 1),
        ])
        .await;
    assert_eq!(world.state("given-up", "pc-1").await, TargetState::Failed);
    world.snapshot().await;
}

pub async fn what_is_said_of_an_earlier_attempt_changes_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            tried_again("e-1", &["pc-1"]).change(),
            sent("e-1", &["pc-1"]),
            finished("e-1", "pc-1", 1),
        ])
        .await;
    let before = world.target("e-1", "pc-1").await;
    let late_start = Change::RunStarted {
        event: start_event("e-1", "pc-1"),
        at: secs(25),
    };
    world.change(late_start).await;
    let skip = skipped("e-1", "pc-1", SkipReason::Deadline);
    assert_eq!(world.change(skip).await, Outcome::Superseded);
    assert_eq!(world.target("e-1", "pc-1").await, before);
    world.snapshot().await;
}

pub async fn an_agents_clock_puts_off_no_attempt<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let ahead = |exec: &str| {
        recorded(ExecResult {
            finished_at: secs(86_400),
            ..result(exec, "pc-1", 1)
        })
    };
    world
        .all([
            tried_again("e-1", &["pc-1"]).change(),
            ahead("e-1"),
            let_out("e-1", &[("pc-1", 1)], 20),
        ])
        .await;
    assert_eq!(world.target("e-1", "pc-1").await.due_at, secs(30));
    world.snapshot().await;
}

pub async fn an_attempt_in_a_wave_is_counted_in_it<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waves: [Staged<'_>; 2] = [(0, Some("1"), &["pc-1"]), (0, None, &["pc-2"])];
    let mut firing = staged("e-1", &waves);
    firing.new.pace = retry(&[]);
    world
        .all([
            firing.change(),
            sent("e-1", &["pc-1"]),
            finished("e-1", "pc-1", 1),
        ])
        .await;
    let wave = world.wave("e-1", 0).await;
    assert_eq!((wave.owed, wave.parked, wave.sent_at), (1, 1, Some(secs(0))));
    assert_eq!(
        world.execution("e-1").await.course.judge(secs(25)),
        None,
        "it may still succeed"
    );
    world
        .all([
            let_out("e-1", &[("pc-1", 1)], 22),
            end("e-1", "pc-1", 1, 0, 35),
            judged("e-1", 0, true, 36, 1, 1),
        ])
        .await;
    assert_eq!(world.due("e-1", &["pc-2"]).await, ["pc-2"]);
    world.snapshot().await;
}

pub async fn the_pace_is_as_it_was_after_a_restart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut firing = narrow("e-1", 1, &["pc-1", "pc-2"]);
    firing.new.pace.retry = retry(&[1, 2]).retry;
    world
        .all([
            firing.change(),
            let_out("e-1", &[("pc-1", 0)], 1),
            sent("e-1", &["pc-1"]),
            finished("e-1", "pc-1", 2),
        ])
        .await;
    let (execution, target) = (world.execution("e-1").await, world.target("e-1", "pc-1").await);
    assert_eq!((execution.course.parked, target.attempt), (2, 2));
    let (world, survives) = world.reopened().await;
    if survives {
        assert_eq!(world.execution("e-1").await, execution);
        assert_eq!(world.target("e-1", "pc-1").await, target);
        world.all([let_out("e-1", &[("pc-2", 0), ("pc-1", 1)], 30)]).await;
        assert_eq!(world.out("e-1", &["pc-1", "pc-2"]).await, ["pc-2"]);
        world.snapshot().await;
    }
}
