use std::{sync::atomic::Ordering, time::Duration};

use kanade_core::Error;
use kanade_model::{
    ExecId, ExecutionStatus, FanoutPlan, Gate, GateState, HumanDuration, Rollout, Strategy, TargetState,
    Wave, WaveStatus, api,
};
use kanade_ports::{Clock, ExecutionStore, SendState};

use crate::world::{World, come, id, next_after_a_while, next_command, operator, pass};

const SECOND: Duration = Duration::from_secs(1);

/// A wave for a group of one agent of that name: its delay, and what its gate wants within ten minutes.
type Staged<'a> = (&'a str, u64, Option<&'a str>);

async fn fire_in_waves(world: &World, staged: &[Staged<'_>]) -> api::Fired {
    let mut waves = Vec::new();
    for (pc, delay, ratio) in staged {
        world
            .services
            .agents
            .join(&id(pc), &id(pc), &operator())
            .await
            .unwrap();
        waves.push(Wave {
            group: id(pc),
            delay: HumanDuration(Duration::from_secs(*delay)),
            proceed_if: ratio.map(|ratio| Gate {
                success_ratio: ratio.parse().unwrap(),
                within: "10m".parse().unwrap(),
            }),
        });
    }
    let plan = FanoutPlan {
        rollout: Some(Rollout {
            strategy: Strategy::Wave,
            waves,
        }),
        ..FanoutPlan::default()
    };
    let fires = &world.services.fires;
    fires.fire(&id("backup"), &plan, &operator(), None).await.unwrap()
}

async fn shown(world: &World, exec: &ExecId) -> api::Execution {
    kanade_core::shape::execution(world.execution(exec).await)
}

/// Returns once what went out is recorded as sent.
async fn until_sent(world: &World, exec: &ExecId, wave: u32) {
    world
        .until("the wave is sent", async || {
            let sends = world.store.sends(exec).await.unwrap();
            sends
                .iter()
                .filter(|send| send.wave == wave)
                .all(|send| send.state == SendState::Sent)
        })
        .await;
}

#[tokio::test]
async fn a_gate_lets_the_next_wave_out_as_soon_as_enough_have_succeeded() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = fire_in_waves(&world, &[("pc-1", 0, Some("1")), ("pc-2", 0, None)]).await;
    let exec = &fired.exec_id;
    assert_eq!((fired.target_count, fired.subjects.len()), (2, 2));
    let command = next_command(&mut world.commands).await;
    until_sent(&world, exec, 0).await;
    pass(&world, 30).await;
    assert!(come(&mut world.commands).is_empty(), "nothing is decided");
    let waves = shown(&world, exec).await.waves;
    assert_eq!(
        [waves[0].status, waves[1].status],
        [WaveStatus::Sent, WaveStatus::Held]
    );

    world.finished(&command, "pc-1", 0, "", "").await;
    let decided = world.clock.now();
    let next = next_after_a_while(&mut world).await;
    assert_eq!(next.exec_id.as_ref(), Some(exec));
    assert!(
        world.clock.now().since(decided) <= 5 * SECOND,
        "long before its ten minutes"
    );
    until_sent(&world, exec, 1).await;
    world.finished(&next, "pc-2", 0, "", "").await;
    let shown = shown(&world, exec).await;
    assert_eq!(shown.status, ExecutionStatus::Completed);
    assert_eq!(shown.waves[0].gate.as_ref().unwrap().state, GateState::Passed);
    assert_eq!(
        [shown.waves[0].status, shown.waves[1].status],
        [WaveStatus::Done; 2]
    );
    assert_eq!(
        world.audit_actions().await.last().map(String::as_str),
        Some("gate_pass")
    );
}

#[tokio::test]
async fn a_gate_whose_time_is_over_pauses_until_somebody_resumes() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = fire_in_waves(&world, &[("pc-1", 0, Some("1")), ("pc-2", 0, None)]).await;
    let exec = &fired.exec_id;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    until_sent(&world, exec, 0).await;
    let sent_at = world.execution(exec).await.course.waves[0].sent_at.unwrap();
    world
        .advance_until(SECOND, "it is paused", async || {
            world.execution(exec).await.course.pause.is_some()
        })
        .await;
    let waited = world.clock.now().since(sent_at);
    assert!(waited >= 600 * SECOND && waited < 640 * SECOND, "{waited:?}");
    let paused = shown(&world, exec).await;
    assert_eq!(paused.paused_by.as_deref(), Some("gate"));
    assert!(paused.pause_reason.unwrap().contains("0 of 1"));

    // The success comes too late to change that.
    world.finished(&command, "pc-1", 0, "", "").await;
    pass(&world, 60).await;
    assert!(come(&mut world.commands).is_empty());
    assert_eq!(
        shown(&world, exec).await.waves[0].gate.as_ref().unwrap().state,
        GateState::Failed
    );
    world.services.steering.resume(exec, &operator()).await.unwrap();
    assert_eq!(
        next_command(&mut world.commands).await.exec_id.as_ref(),
        Some(exec)
    );
    assert_eq!(
        shown(&world, exec).await.waves[0].gate.as_ref().unwrap().state,
        GateState::Waived
    );
    let actions = world.audit_actions().await;
    assert_eq!(&actions[actions.len() - 2..], ["gate_fail", "execution_resume"]);
}

#[tokio::test]
async fn a_gated_wave_is_due_at_the_later_of_its_delay_and_the_gate() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = fire_in_waves(&world, &[("pc-1", 0, Some("1")), ("pc-2", 300, None)]).await;
    let begun = world.clock.now();
    let command = next_command(&mut world.commands).await;
    until_sent(&world, &fired.exec_id, 0).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    next_after_a_while(&mut world).await;
    let waited = world.clock.now().since(begun);
    assert!(waited >= 300 * SECOND && waited < 310 * SECOND, "{waited:?}");
}

#[tokio::test]
async fn a_gate_is_decided_by_the_server_that_comes_after_a_crash() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = fire_in_waves(&world, &[("pc-1", 0, Some("1")), ("pc-2", 0, None)]).await;
    let exec = fired.exec_id.clone();
    let command = next_command(&mut world.commands).await;
    until_sent(&world, &exec, 0).await;
    // Recorded, and nobody has looked at the gate yet.
    world.finished(&command, "pc-1", 0, "", "").await;
    let mut world = world.restart().await;
    assert_eq!(next_after_a_while(&mut world).await.exec_id, Some(exec.clone()));
    until_sent(&world, &exec, 1).await;
    let mut world = world.restart().await;
    pass(&world, 60).await;
    assert!(come(&mut world.commands).is_empty(), "it goes out once");
    let passes = world.audit_actions().await;
    let passes = passes.iter().filter(|action| *action == "gate_pass").count();
    assert_eq!(passes, 1, "it was decided once");
}

#[tokio::test]
async fn nothing_leaves_while_paused_and_what_was_due_leaves_at_the_resumption() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let exec = &fired.exec_id;
    next_command(&mut world.commands).await;
    until_sent(&world, exec, 0).await;
    world.services.steering.pause(exec, &operator()).await.unwrap();
    world.services.steering.pause(exec, &operator()).await.unwrap();
    // Both agents show life: neither gets what it has not started.
    world.agent("pc-1").await;
    pass(&world, 120).await;
    world.agent("pc-1").await;
    pass(&world, 5).await;
    assert!(come(&mut world.commands).is_empty(), "nothing leaves");
    let mut world = world.restart().await;
    pass(&world, 120).await;
    assert!(come(&mut world.commands).is_empty(), "nor after a restart");
    assert_eq!(shown(&world, exec).await.waves[1].status, WaveStatus::Held);

    world.services.steering.resume(exec, &operator()).await.unwrap();
    assert_eq!(
        next_command(&mut world.commands).await.exec_id.as_ref(),
        Some(exec)
    );
    until_sent(&world, exec, 1).await;
    let again = world.services.steering.resume(exec, &operator()).await;
    assert!(matches!(again, Err(Error::Standing { .. })), "{again:?}");
    let actions = world.audit_actions().await;
    assert_eq!(
        &actions[actions.len() - 3..],
        ["execution_pause", "execution_pause", "execution_resume"]
    );
}

#[tokio::test]
async fn what_is_paused_does_not_expire() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let exec = &fired.exec_id;
    next_command(&mut world.commands).await;
    until_sent(&world, exec, 0).await;
    world.services.steering.pause(exec, &operator()).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    for _ in 0..10 {
        world.clock.advance(day);
        pass(&world, 10).await;
    }
    let execution = world.execution(exec).await;
    assert_eq!(execution.status, ExecutionStatus::Pending);
    for pc in ["pc-1", "pc-2"] {
        assert_eq!(world.target_state(exec, pc).await, Some(TargetState::Waiting));
    }
    world.services.steering.resume(exec, &operator()).await.unwrap();
    next_command(&mut world.commands).await;
    world
        .advance_until(day / 4, "the targets expire", async || {
            world.target_state(exec, "pc-2").await == Some(TargetState::Expired)
        })
        .await;
    let expired = world.store.target(exec, &id("pc-2")).await.unwrap().unwrap();
    assert!(
        expired.finished_at.unwrap().since(expired.due_at) >= 7 * day,
        "their time ran from the resumption"
    );
}

#[tokio::test]
async fn an_abort_withdraws_later_waves_for_good_and_lets_go_on_what_runs() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let exec = &fired.exec_id;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    until_sent(&world, exec, 0).await;
    let mut kills = world.listen("kill.>").await;
    world.services.steering.abort(exec, &operator()).await.unwrap();
    assert_eq!(shown(&world, exec).await.waves[1].status, WaveStatus::Withdrawn);
    let mut world = world.restart().await;
    pass(&world, 200).await;
    assert!(come(&mut world.commands).is_empty(), "it never leaves");
    assert!(come(&mut kills).is_empty(), "nobody is told to end it");
    world.finished(&command, "pc-1", 0, "", "").await;
    let ended = shown(&world, exec).await;
    assert_eq!((ended.status, ended.success_count), (ExecutionStatus::Killed, 1));
    assert!(ended.aborted_at.is_some() && ended.killed_at.is_none());
    let again = world.services.steering.abort(exec, &operator()).await;
    assert!(matches!(again, Err(Error::Standing { .. })), "{again:?}");
}

#[tokio::test]
async fn a_paused_execution_can_be_killed() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let exec = &fired.exec_id;
    next_command(&mut world.commands).await;
    until_sent(&world, exec, 0).await;
    world.services.steering.pause(exec, &operator()).await.unwrap();
    world.services.kills.execution(exec, &operator()).await.unwrap();
    let again = world.services.steering.resume(exec, &operator()).await;
    assert!(matches!(again, Err(Error::Standing { .. })), "{again:?}");
    let mut world = world.restart().await;
    pass(&world, 200).await;
    assert!(come(&mut world.commands).is_empty(), "nothing of it leaves");
    assert_eq!(world.execution(exec).await.status, ExecutionStatus::Killed);
}

#[tokio::test]
async fn a_pause_that_cannot_be_recorded_pauses_nothing() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let exec = &fired.exec_id;
    next_command(&mut world.commands).await;
    until_sent(&world, exec, 0).await;
    world.store.full.store(true, Ordering::SeqCst);
    world
        .services
        .steering
        .pause(exec, &operator())
        .await
        .unwrap_err();
    world.store.full.store(false, Ordering::SeqCst);
    assert_eq!(next_after_a_while(&mut world).await.exec_id.as_ref(), Some(exec));
    let unknown = world.services.steering.pause(&id("none"), &operator()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}
