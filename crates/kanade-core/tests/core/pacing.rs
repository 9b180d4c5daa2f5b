//! How many agents are at an execution at once, and what is tried again.

use std::sync::atomic::Ordering;

use kanade_model::{Command, ExecutionStatus, FanoutPlan, PcId, Retry, Subject, Target, TargetState, api};
use kanade_ports::{ExecutionStore, Precondition, SendState};

use crate::world::{World, come, id, manifest, next_after_a_while, operator, pass};

async fn job(world: &World, max_parallel: Option<u32>, retry: Option<Retry>) {
    let mut manifest = manifest("backup", "1.0.0");
    manifest.execute.max_parallel = max_parallel;
    manifest.execute.retry = retry;
    let jobs = &world.services.jobs;
    jobs.put(&manifest, Precondition::Any, &operator()).await.unwrap();
}

fn thrice(on: &[i32]) -> Option<Retry> {
    Some(Retry {
        max_attempts: 3,
        backoff: "10s".parse().unwrap(),
        on: on.to_vec(),
    })
}

/// The Commands that come within a few seconds, each with the agent that it is for.
async fn within(world: &mut World, seconds: u32) -> Vec<(PcId, Command)> {
    pass(world, seconds).await;
    let heard = come(&mut world.commands);
    let whose = |subject: &Subject| {
        subject
            .as_str()
            .trim_start_matches("commands.pc.")
            .parse()
            .unwrap()
    };
    heard
        .iter()
        .map(|message| {
            (
                whose(&message.subject),
                serde_json::from_slice(&message.payload).unwrap(),
            )
        })
        .collect()
}

async fn fire_at_everybody(world: &World) -> api::Fired {
    let plan = FanoutPlan {
        target: Target {
            all: true,
            ..Target::default()
        },
        ..FanoutPlan::default()
    };
    let fires = &world.services.fires;
    fires.fire(&id("backup"), &plan, &operator(), None).await.unwrap()
}

async fn shown(world: &World, fired: &api::Fired) -> api::Execution {
    kanade_core::shape::execution(world.execution(&fired.exec_id).await)
}

#[tokio::test]
async fn so_many_agents_are_at_it_at_once_and_those_that_are_there_come_first() {
    let mut world = World::new().await;
    job(&world, Some(2), None).await;
    for pc in ["pc-3", "pc-4", "pc-5"] {
        world.agent(pc).await;
    }
    let fired = world
        .fire("backup", &["pc-1", "pc-2", "pc-3", "pc-4", "pc-5"])
        .await;
    let mut heard = within(&mut world, 2).await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(shown(&world, &fired).await.parked_count, Some(3));
    let mut order: Vec<_> = heard.iter().map(|(pc, _)| pc.to_string()).collect();
    let mut most = heard.len();
    while let Some((pc, command)) = heard.pop() {
        world.agent("pc-5").await;
        world.started(&command, pc.as_str()).await;
        world.finished(&command, pc.as_str(), 0, "", "").await;
        world
            .until("its end is recorded", async || {
                world.target_state(&fired.exec_id, pc.as_str()).await == Some(TargetState::Succeeded)
            })
            .await;
        let next = within(&mut world, 2).await;
        order.extend(next.iter().map(|(pc, _)| pc.to_string()));
        heard.extend(next);
        most = most.max(heard.len());
    }
    assert_eq!(most, 2, "never more than two");
    let mut present = order[..3].to_vec();
    present.sort();
    assert_eq!(present, ["pc-3", "pc-4", "pc-5"], "{order:?}");
    let execution = shown(&world, &fired).await;
    assert_eq!(
        (execution.status, execution.success_count),
        (ExecutionStatus::Completed, 5)
    );
    assert_eq!(execution.parked_count, None);
}

#[tokio::test]
async fn everybody_at_once_is_each_in_turn_where_the_job_says_so() {
    let mut world = World::new().await;
    job(&world, Some(1), None).await;
    for pc in ["pc-1", "pc-2"] {
        world.agent(pc).await;
    }
    let fired = fire_at_everybody(&world).await;
    assert!(
        !fired.subjects.iter().any(|subject| subject == "commands.all"),
        "{fired:?}"
    );
    assert_eq!(within(&mut world, 2).await.len(), 1);
}

#[tokio::test]
async fn a_run_that_failed_is_tried_again_when_its_time_has_come_also_after_a_restart() {
    let mut world = World::new().await;
    job(&world, None, thrice(&[75])).await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let first = next_after_a_while(&mut world).await;
    world.started(&first, "pc-1").await;
    world.finished(&first, "pc-1", 75, "", "try again").await;
    world
        .until("the next attempt waits", async || {
            let target = world.store.target(&fired.exec_id, &id("pc-1")).await.unwrap();
            target.is_some_and(|target| target.attempt == 2)
        })
        .await;
    assert!(within(&mut world, 8).await.is_empty(), "not before ten seconds");
    let mut world = world.restart().await;
    let second = next_after_a_while(&mut world).await;
    assert_ne!(
        second.request_id, first.request_id,
        "an agent runs each request once"
    );
    assert_eq!(second.exec_id, first.exec_id);
    world.finished(&second, "pc-1", 0, "", "").await;
    world
        .until("it is over", async || {
            world.execution(&fired.exec_id).await.is_final()
        })
        .await;
    let execution = shown(&world, &fired).await;
    assert_eq!((execution.success_count, execution.failure_count), (1, 0));
    let runs = world
        .store
        .runs(&kanade_ports::RunQuery {
            limit: 9,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(runs.items.len(), 2, "both are kept");
}

#[tokio::test]
async fn each_of_those_that_heard_one_command_tries_again_by_itself() {
    let mut world = World::new().await;
    job(&world, None, thrice(&[])).await;
    let pcs = ["pc-1", "pc-2", "pc-3"];
    for pc in pcs {
        world.agent(pc).await;
    }
    let fired = fire_at_everybody(&world).await;
    assert_eq!(fired.subjects, ["commands.all"], "one Command for all of them");
    let first = next_after_a_while(&mut world).await;
    for pc in pcs {
        world.finished(&first, pc, 1, "", "").await;
    }
    world
        .until("all have failed once", async || {
            world.execution(&fired.exec_id).await.course.parked == 3
        })
        .await;
    let second = within(&mut world, 12).await;
    let mut whose: Vec<_> = second.iter().map(|(pc, _)| pc.to_string()).collect();
    whose.sort();
    assert_eq!(whose, pcs, "each is asked once more, alone");
    for (pc, command) in &second {
        world.finished(command, pc.as_str(), 0, "", "").await;
    }
    world
        .until("all have succeeded", async || {
            shown(&world, &fired).await.success_count == 3
        })
        .await;
}

#[tokio::test]
async fn what_was_killed_before_its_next_attempt_has_none() {
    let mut world = World::new().await;
    job(&world, Some(1), thrice(&[])).await;
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let first = next_after_a_while(&mut world).await;
    world.finished(&first, "pc-1", 1, "", "").await;
    let second = next_after_a_while(&mut world).await;
    let kills = &world.services.kills;
    kills.execution(&fired.exec_id, &operator()).await.unwrap();
    world.finished(&second, "pc-2", 1, "", "").await;
    world
        .until("it is over", async || {
            world.execution(&fired.exec_id).await.is_final()
        })
        .await;
    assert!(within(&mut world, 60).await.is_empty(), "nothing more goes out");
    let execution = shown(&world, &fired).await;
    assert_eq!(execution.targets[&TargetState::Withdrawn], 1, "{execution:?}");
    assert_eq!(execution.targets[&TargetState::Failed], 1, "{execution:?}");
}

#[tokio::test]
async fn nothing_is_let_out_while_it_is_paused_or_cannot_be_recorded() {
    let mut world = World::new().await;
    job(&world, Some(1), None).await;
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let first = next_after_a_while(&mut world).await;
    let steering = world.services.steering.clone();
    steering.pause(&fired.exec_id, &operator()).await.unwrap();
    world.finished(&first, "pc-1", 0, "", "").await;
    world
        .until("its end is recorded", async || {
            world.execution(&fired.exec_id).await.counts.finished() == 1
        })
        .await;
    assert!(within(&mut world, 10).await.is_empty());
    steering.resume(&fired.exec_id, &operator()).await.unwrap();
    world.store.full.store(true, Ordering::Relaxed);
    assert!(
        within(&mut world, 10).await.is_empty(),
        "what is not recorded is not sent"
    );
    world.store.full.store(false, Ordering::Relaxed);
    let second = next_after_a_while(&mut world).await;
    assert_ne!(second.request_id, first.request_id);
    let sends = world.store.sends(&fired.exec_id).await.unwrap();
    assert!(sends.iter().all(|send| send.state != SendState::Parked));
}
