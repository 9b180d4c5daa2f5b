//! Load, time and bugs.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use kanade_http::HttpSettings;
use kanade_ports::PubSub;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_panic_is_a_problem_and_the_server_goes_on() {
    let world = World::new().await;
    let detail = world.get("/api/inventory/panic").send().await.problem(500);
    assert!(!detail.contains("asked to panic"), "{detail}");
    world.get("/api/inventory/pc-1").send().await.expect(200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_again_but_not_those_who_look_after_the_server() {
    let settings = HttpSettings {
        max_requests: 1,
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    world.store.hold_letters();
    let held = tokio::spawn(world.get("/api/dead_letters").send());
    world
        .until("the only place is taken", async || {
            world.get("/api/jobs").send().await.status == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
    let shed = world.get("/api/jobs").send().await;
    assert!(shed.problem(503).contains("too many requests"));
    assert_eq!(shed.header("retry-after"), Some("5"));
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(world.get(path).send().await.status, StatusCode::OK);
    }
    world.store.letters.add_permits(1);
    held.await.unwrap().expect(200);
    world.get("/api/jobs").send().await.expect(200);
}

#[tokio::test]
async fn those_who_wait_for_an_agent_do_not_keep_others_out() {
    let settings = HttpSettings {
        max_waiting: 1,
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    let mut pings = world.bus.subscribe(&"ping.>".parse().unwrap()).await.unwrap();
    let waiting = tokio::spawn(world.post("/api/agents/pc-1/ping").send());
    futures::StreamExt::next(&mut pings).await.unwrap();
    world.post("/api/agents/pc-2/ping").send().await.problem(503);
    world.get("/api/agents/pc-2/logs").send().await.problem(503);
    world.get("/api/jobs").send().await.expect(200);
    world.say_hello("pc-1").await;
    waiting.await.unwrap().expect(200);
    world.get("/api/agents/pc-2/logs").send().await.problem(502);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_given_up() {
    let world = World::new().await;
    world.store.hold_letters();
    let detail = world.get("/api/dead_letters").send().await.problem(503);
    assert!(detail.contains("within 30s"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_an_agent_may_take_longer() {
    let mut world = World::new().await;
    let request = json!({ "pc_id": "pc-1", "script": "sleep 45", "timeout_secs": 60 });
    let running = tokio::spawn(world.post("/api/run").json(&request).send());
    let command = world.command().await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    world.finished(&command, "pc-1", 0, "").await;
    running.await.unwrap().expect(200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let world = World::new().await;
    for path in ["/api/jobs", "/api/run"] {
        let call = world.post(path).header("content-type", "application/json");
        let silent = futures::stream::pending::<Result<Bytes, Infallible>>();
        let answer = call.body(Body::from_stream(silent)).send().await;
        assert_eq!(answer.problem(408), "the body did not arrive within 15s");
    }
}

#[tokio::test]
async fn a_change_is_finished_and_noted_when_its_caller_goes_away() {
    let world = World::new().await;
    let (router, request) = world.post("/api/scripts/backup/revoke").build();
    let mut call = Box::pin(tower::ServiceExt::oneshot(router, request));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    world
        .until("the change is noted", async || {
            let audit = world
                .get("/api/audit?action=script_revoke")
                .send()
                .await
                .expect(200);
            audit.as_array().unwrap().len() == 1
        })
        .await;
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "backup": "REVOKED" })
    );
}
