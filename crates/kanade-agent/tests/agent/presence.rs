//! Heartbeats, pings, and the log.

use std::{io::Write, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_agent::LogTail;
use kanade_memory::ManualClock;
use kanade_model::{Heartbeat, Subject, Timestamp};
use kanade_ports::{Bucket, Bus, PubSub, Subscription};

use crate::world::{World, pc_id, until};

async fn heartbeats(world: &World) -> Subscription {
    world
        .bus
        .inner
        .subscribe(&"heartbeat.>".parse().unwrap())
        .await
        .unwrap()
}

async fn next(heartbeats: &mut Subscription) -> Heartbeat {
    let message = tokio::time::timeout(Duration::from_secs(30), heartbeats.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(message.subject, Subject::heartbeat(&pc_id()));
    serde_json::from_slice(&message.payload).unwrap()
}

#[tokio::test]
async fn a_heartbeat_comes_at_the_start_and_after_each_interval() {
    let (world, clock) = World::with_manual_clock().await;
    let mut heard = heartbeats(&world).await;
    let mut config = world.config();
    config.hostname = Some("host".into());
    config.agent_version = "1.2.3".into();
    let _agent = world.agent_with(config).await;
    let first = next(&mut heard).await;
    assert_eq!(
        (first.at, first.agent_version.as_str()),
        (world.clock.now(), "1.2.3")
    );
    assert_eq!(
        (first.hostname.as_deref(), first.os_family.as_deref()),
        (Some("host"), Some(std::env::consts::OS))
    );
    for _ in 0..3 {
        clock.sleepers(1).await;
        clock.advance(Duration::from_secs(30));
        assert_eq!(next(&mut heard).await.at, world.clock.now());
    }
}

#[tokio::test]
async fn a_heartbeat_follows_a_lost_connection_at_once() {
    let (world, clock) = World::with_manual_clock().await;
    let mut heard = heartbeats(&world).await;
    let _agent = world.agent().await;
    next(&mut heard).await;
    for _ in 0..2 {
        clock.sleepers(1).await;
        world.bus.reconnect();
        assert_eq!(
            next(&mut heard).await.at,
            world.clock.now(),
            "without waiting for its time"
        );
    }
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_sent_is_tried_again_soon() {
    let (world, clock) = World::with_manual_clock().await;
    let mut heard = heartbeats(&world).await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let _agent = world.agent().await;
    let started = world.clock.now();
    clock.sleepers(1).await;
    world.bus.is_down.store(false, Ordering::SeqCst);
    until(|| {
        clock.advance(Duration::from_millis(10));
        heard.next().now_or_never().is_some()
    })
    .await;
    let waited = world.clock.now().since(started);
    assert!(
        waited < Duration::from_secs(30),
        "without waiting for its interval: {waited:?}"
    );
}

#[tokio::test]
async fn the_interval_follows_the_configuration_of_the_agent_and_its_groups() {
    let (world, clock) = World::with_manual_clock().await;
    world
        .set(Bucket::AgentConfig, "global", r#"{"heartbeat_interval": "1h"}"#)
        .await;
    world
        .set(
            Bucket::AgentConfig,
            "groups.night",
            r#"{"heartbeat_interval": "2h"}"#,
        )
        .await;
    world
        .set(
            Bucket::AgentConfig,
            "groups.other",
            r#"{"heartbeat_interval": "1s"}"#,
        )
        .await;
    world
        .set(Bucket::AgentGroups, "pc-1", r#"{"groups": ["night"]}"#)
        .await;
    world
        .set(Bucket::AgentGroups, "pc-2", r#"{"groups": ["other"]}"#)
        .await;
    let mut heard = heartbeats(&world).await;
    let _agent = world.agent().await;
    next(&mut heard).await;
    every(&clock, &mut heard, 30 * MINUTE, 120 * MINUTE).await;
    world
        .set(
            Bucket::AgentConfig,
            "pcs.pc-1",
            r#"{"heartbeat_interval": "10m"}"#,
        )
        .await;
    every(&clock, &mut heard, 5 * MINUTE, 10 * MINUTE).await;
    // What cannot be understood says nothing, so the group decides again.
    world.set(Bucket::AgentConfig, "pcs.pc-1", "no JSON").await;
    every(&clock, &mut heard, 30 * MINUTE, 120 * MINUTE).await;
}

const MINUTE: Duration = Duration::from_secs(60);

/// Waits until heartbeats come at `interval`, while the clock moves in steps.
async fn every(clock: &ManualClock, heard: &mut Subscription, step: Duration, interval: Duration) {
    let waiting = async {
        let mut last: Option<Timestamp> = None;
        loop {
            clock.advance(step);
            // Who was woken has said what there was to say when it sleeps again.
            clock.sleepers(1).await;
            if let Some(Some(message)) = heard.next().now_or_never() {
                let at = serde_json::from_slice::<Heartbeat>(&message.payload).unwrap().at;
                if last.replace(at).is_some_and(|last| at.since(last) == interval) {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("the interval is kept");
}

#[tokio::test]
async fn a_ping_is_answered_and_everybody_hears_the_heartbeat() {
    let world = World::new().await;
    let mut heard = heartbeats(&world).await;
    let _agent = world.agent().await;
    next(&mut heard).await;
    let answer = world
        .bus
        .inner
        .request(&Subject::ping(&pc_id()), Bytes::new(), Duration::from_secs(30))
        .await
        .unwrap();
    let answer: Heartbeat = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer.pc_id, pc_id());
    assert_eq!(next(&mut heard).await, answer);
}

#[tokio::test]
async fn the_end_of_the_log_is_answered() {
    let world = World::new().await;
    let mut config = world.config();
    let log = LogTail::default();
    config.log = log.clone();
    let _agent = world.agent_with(config).await;
    for number in 1..=600 {
        writeln!(log.clone(), "line {number}").unwrap();
    }
    let ask = async |request: &'static str| {
        let subject = Subject::logs_fetch(&pc_id());
        let answer = world
            .bus
            .inner
            .request(&subject, request.into(), Duration::from_secs(30))
            .await
            .unwrap();
        String::from_utf8(answer.into()).unwrap()
    };
    assert_eq!(ask(r#"{"tail_lines": 2}"#).await, "line 599\nline 600\n");
    assert_eq!(ask("").await.lines().count(), 500, "500 unless told");
    assert_eq!(ask(r#"{"tail_lines": 4294967295}"#).await.lines().count(), 600);
}
