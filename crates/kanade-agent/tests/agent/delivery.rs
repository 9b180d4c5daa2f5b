//! Messages get out, whatever the bus does.

use std::{sync::atomic::Ordering, time::Duration};

use kanade_memory::BusLimits;
use kanade_model::{Ended, EventStarted, ExecResult};

use crate::world::{World, command, exec_of, until, with};

#[tokio::test]
async fn what_the_bus_does_not_take_is_sent_when_it_is_back() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let commands: Vec<_> = (0..50).map(|_| command("echo done")).collect();
    world.bus.is_down.store(true, Ordering::SeqCst);
    for command in &commands {
        world.send(command).await;
    }
    until(|| world.bus.refused.load(Ordering::SeqCst) > 100).await;
    assert!(world.heard::<ExecResult>("results.").is_empty());
    world.bus.is_down.store(false, Ordering::SeqCst);
    for command in &commands {
        assert_eq!(world.result(command).await.stdout, "done\n");
        world.started(command).await;
    }
}

#[tokio::test]
async fn what_was_not_taken_before_a_stop_is_sent_in_the_next_life_and_only_once() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.flush_within = Duration::from_millis(1);
    let agent = world.agent_with(config.clone()).await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let command = world.here("echo done > ran");
    world.send(&command).await;
    until(|| world.path("ran").exists()).await;
    agent.stop().await;
    assert!(world.heard::<ExecResult>("results.").is_empty());
    world.bus.is_down.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        let agent = world.agent().await;
        world.result(&command).await;
        world.started(&command).await;
        agent.stop().await;
    }
    assert_eq!(world.heard::<ExecResult>("results.").len(), 1);
}

#[tokio::test]
async fn a_stop_waits_until_the_bus_has_everything() {
    let world = World::new().await;
    let agent = world.agent().await;
    let commands: Vec<_> = (0..20).map(|_| command("true")).collect();
    for command in &commands {
        world.send(command).await;
    }
    world.result(&commands[19]).await;
    agent.stop().await;
    let agent = world.agent().await;
    for command in &commands {
        world.result(command).await;
    }
    agent.stop().await;
    assert_eq!(world.heard::<ExecResult>("results.").len(), 20);
}

#[tokio::test]
async fn a_result_that_is_too_large_for_the_bus_is_cut_until_it_fits() {
    let limits = BusLimits {
        max_payload: 20_000,
        ..BusLimits::default()
    };
    let world = World::with_bus_limits(limits).await;
    let _agent = world.agent().await;
    let result = world
        .run(&command(
            "echo first; head -c 300000 /dev/zero | tr '\\0' x; echo last; exit 4",
        ))
        .await;
    assert_eq!(result.exit_code, 4);
    assert!(result.stdout.starts_with("first\n") && result.stdout.ends_with("last\n"));
    let kept = result.stdout.matches('x').count();
    assert!(kept > 1000, "{kept}");
    let expected = 300_000 + "first\nlast\n".len();
    let marker_free = kept + "first\nlast\n".len();
    assert!(
        result
            .stdout
            .contains(&format!("[… {} bytes left out …]", expected - marker_free)),
        "{}",
        result.stdout.len()
    );
}

#[tokio::test]
async fn messages_that_the_bus_refuses_hold_up_no_others_and_are_tried_again_later() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    world.bus.refuses_events.store(true, Ordering::SeqCst);
    let commands: Vec<_> = (0..50)
        .map(|_| with("true", |command| command.timeout_secs = 1_000_000))
        .collect();
    for command in &commands {
        world.send(command).await;
    }
    until(|| {
        clock.advance(Duration::from_secs(1));
        world.heard::<ExecResult>("results.").len() == 50
    })
    .await;
    assert!(world.heard::<EventStarted>("events.").is_empty());
    world.bus.refuses_events.store(false, Ordering::SeqCst);
    until(|| {
        clock.advance(Duration::from_secs(60));
        world.heard::<EventStarted>("events.").len() == 50
    })
    .await;
    assert_eq!(world.heard::<ExecResult>("results.").len(), 50);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_commands_and_kills_arrive() {
    let world = World::new().await;
    let _agent = world.agent().await;
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
    world.bus.cut();
    let long = with("sleep 1000", |command| command.timeout_secs = 600);
    // What is sent while nobody listens is lost; a server sends it again.
    while world.heard::<EventStarted>("events.started.").len() < 2 {
        world.send(&long).await;
        tokio::task::yield_now().await;
    }
    while world.heard::<ExecResult>("results.").len() < 2 {
        world.kill(&exec_of(&long)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(world.result(&long).await.ended, Some(Ended::Killed));
}

#[tokio::test]
async fn a_bus_that_is_away_at_the_start_is_found_later() {
    let world = World::new().await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let agent = world.agent().await;
    world.bus.is_down.store(false, Ordering::SeqCst);
    let command = command("echo found");
    while world.heard::<ExecResult>("results.").is_empty() {
        world.send(&command).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(world.result(&command).await.stdout, "found\n");
    agent.stop().await;
}

#[tokio::test]
async fn what_waits_for_another_attempt_is_sent_as_soon_as_the_connection_stands() {
    let (world, _clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let command = command("echo late");
    world.send(&command).await;
    until(|| world.bus.refused.load(Ordering::SeqCst) > 0).await;
    world.bus.is_down.store(false, Ordering::SeqCst);
    until(|| {
        // The clock stands still, so only this ends a pause; again, since one may begin after it.
        world.bus.reconnect();
        !world.heard::<ExecResult>("results.").is_empty()
    })
    .await;
}
