use std::{num::NonZeroU32, time::Duration};

use kanade_core::Settings;
use kanade_model::{EventStarted, ExecutionStatus, ResultId, Subject, TargetState};
use kanade_ports::{Clock, ExecutionStore};
use uuid::Uuid;

use crate::world::{World, encode, id, next_command};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_execution_of_which_nothing_starts_is_labelled_and_still_deliverable() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world
        .advance_until(HOUR / 4, "it is labelled", async || {
            world.execution(&fired.exec_id).await.status == ExecutionStatus::Expired
        })
        .await;
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-1").await,
        Some(TargetState::Waiting)
    );
    world.started(&command, "pc-1").await;
    assert_eq!(
        world.execution(&fired.exec_id).await.status,
        ExecutionStatus::Running
    );
}

#[tokio::test]
async fn a_target_that_never_starts_expires_after_the_time_to_live() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    next_command(&mut world.commands).await;
    world
        .advance_until(HOUR * 6, "it expires", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Expired)
        })
        .await;
    assert_eq!(
        world.execution(&fired.exec_id).await.status,
        ExecutionStatus::Completed
    );
}

#[tokio::test]
async fn a_run_without_an_end_is_lost_until_its_result_comes() {
    let (world, fired, command) = World::with_a_run().await;
    world
        .advance_until(Duration::from_secs(5), "it is lost", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Lost)
        })
        .await;
    let execution = world.execution(&fired.exec_id).await;
    assert_eq!(
        (execution.status, execution.counts.failure()),
        (ExecutionStatus::Completed, 1)
    );
    world.finished(&command, "pc-1", 0, "late", "").await;
    let execution = world.execution(&fired.exec_id).await;
    assert_eq!((execution.counts.success(), execution.counts.failure()), (1, 0));
}

#[tokio::test]
async fn what_is_too_old_is_removed_in_small_batches() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    world
        .advance_until(HOUR * 24 * 10, "it is removed", async || {
            world.store.execution(&fired.exec_id).await.unwrap().is_none()
        })
        .await;
    let runs = kanade_ports::RunQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(world.store.runs(&runs).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_run_of_an_agent_whose_clock_is_behind_gets_its_time() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    let event = EventStarted {
        result_id: ResultId(Uuid::from_u128(1)),
        request_id: command.request_id,
        exec_id: fired.exec_id.clone(),
        pc_id: id("pc-1"),
        started_at: world.clock.now().minus(HOUR),
        manifest_id: command.id.clone(),
        version: command.version.clone(),
    };
    world
        .durable(&Subject::started(&event.exec_id, &event.pc_id), encode(&event))
        .await;
    let heard_at = world.clock.now();
    world
        .advance_until(Duration::from_secs(5), "it is lost", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Lost)
        })
        .await;
    let took = world.clock.now().since(heard_at);
    // Its timeout is a minute.
    assert!(took >= Duration::from_secs(120), "lost after {took:?}");
}

#[tokio::test]
async fn of_each_job_so_many_executions_are_kept_and_none_that_goes_on_is_removed() {
    let mut world = World::with_settings(Settings {
        keep_per_job: NonZeroU32::new(2),
        ..Settings::default()
    })
    .await;
    world.job("backup").await;
    world.job("other").await;
    let mut fired = vec![world.fire("backup", &["pc-1"]).await.exec_id];
    next_command(&mut world.commands).await;
    let other = world.fire("other", &["pc-1"]).await.exec_id;
    next_command(&mut world.commands).await;
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(1));
        fired.push(world.fire("backup", &["pc-1", "pc-2"]).await.exec_id);
        for pc in ["pc-1", "pc-2"] {
            let command = next_command(&mut world.commands).await;
            world.finished(&command, pc, 0, "out", "").await;
        }
    }
    let kept = async |world: &World| {
        let mut kept = Vec::new();
        for exec in &fired {
            kept.push(world.store.execution(exec).await.unwrap().is_some());
        }
        kept
    };
    let wanted = [true, false, false, false, true, true];
    world
        .advance_until(Duration::from_secs(5), "what is too much is gone", async || {
            kept(&world).await == wanted
        })
        .await;
    world.execution(&other).await;
    let all = kanade_ports::RunQuery {
        limit: 99,
        ..Default::default()
    };
    let runs = world.store.runs(&all).await.unwrap().items;
    assert_eq!(runs.len(), 4, "their runs are gone with them: {runs:?}");
    // The oldest one still runs; it goes when it is over, also after a restart.
    world
        .services
        .kills
        .execution(&fired[0], &crate::world::operator())
        .await
        .unwrap();
    let world = world.restart().await;
    world
        .advance_until(Duration::from_secs(5), "it is gone too", async || {
            kept(&world).await == [false, false, false, false, true, true]
        })
        .await;
}
