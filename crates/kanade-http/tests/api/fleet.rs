//! How the fleet is, and what is on its broker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use kanade_core::Abilities;
use kanade_http::HttpSettings;
use kanade_model::Heartbeat;
use kanade_ports::{
    BusError, BusErrorKind, Change, ChangeSet, Clock, ErrorKind, ExecutionStore, Resource, ResourceKind,
    Resources,
};
use serde_json::{Value, json};

use crate::world::{World, has_fields, id};

/// A broker in the test's hand: what is missing there, or that it does not answer.
#[derive(Default)]
struct Broker(Mutex<Option<Vec<&'static str>>>);

impl Broker {
    fn lacks(&self, missing: &[&'static str]) {
        *self.0.lock().unwrap() = Some(missing.to_vec());
    }
}

#[async_trait]
impl Resources for Broker {
    async fn list(&self) -> Result<Vec<Resource>, BusError> {
        let missing = self.0.lock().unwrap().clone();
        let missing = missing
            .ok_or_else(|| BusError::new(BusErrorKind::TimedOut, "list the streams").because("secret"))?;
        let resource = |(kind, name): (ResourceKind, &'static str)| Resource {
            kind,
            name: name.into(),
            exists: !missing.contains(&name),
        };
        let wanted = [
            (ResourceKind::Stream, "RESULTS"),
            (ResourceKind::Stream, "EVENTS"),
            (ResourceKind::Bucket, "jobs"),
            (ResourceKind::ObjectStore, "agent_releases"),
        ];
        Ok(wanted.into_iter().map(resource).collect())
    }
}

async fn with_broker() -> (World, Arc<Broker>) {
    let broker = Arc::<Broker>::default();
    broker.lacks(&[]);
    let abilities = Abilities {
        resources: Some(broker.clone()),
        ..Abilities::default()
    };
    (World::able(HttpSettings::default(), abilities).await, broker)
}

async fn health(world: &World, status: u16) -> Value {
    world.get("/api/health/fleet").send().await.expect(status)
}

/// An agent that was last heard of now.
async fn heard(world: &World, pc: &str) {
    let at = world.clock.now();
    let heartbeat = Heartbeat {
        pc_id: id(pc),
        // Its own clock is wrong.
        at: at.minus(Duration::from_secs(3600)),
        agent_version: "0.30.0".into(),
        hostname: None,
        os_family: None,
    };
    let seen = ChangeSet::of(Change::AgentSeen { heartbeat, at });
    world.store.apply(&[seen]).await.unwrap();
}

/// The next answer is a new one.
fn later(world: &World) {
    world.clock.advance(Duration::from_secs(5));
}

#[tokio::test]
async fn a_fleet_is_unknown_then_well_then_degraded_when_all_are_silent() {
    let world = World::new().await;
    let unknown = health(&world, 200).await;
    has_fields(
        &unknown,
        &["status", "agents", "jetstream", "recent_results", "observed_at"],
    );
    assert_eq!(unknown["status"], "unknown");
    assert_eq!(unknown["agents"], json!({ "known": 0, "active": 0, "stale": 0 }));
    assert_eq!(
        unknown["jetstream"],
        json!({ "all_ok": true, "healthy": 0, "total": 0, "missing": [] })
    );
    assert_eq!(unknown["observed_at"], "2026-05-01T08:00:00Z");

    heard(&world, "pc-1").await;
    world.clock.advance(Duration::from_secs(120));
    heard(&world, "pc-2").await;
    let well = health(&world, 200).await;
    assert_eq!(well["status"], "ok");
    assert_eq!(well["agents"], json!({ "known": 2, "active": 2, "stale": 0 }));
    later(&world);
    let well = health(&world, 200).await;
    assert_eq!(
        well["agents"],
        json!({ "known": 2, "active": 1, "stale": 1 }),
        "after two minutes"
    );
    assert_eq!(well["status"], "ok");
    world.clock.advance(Duration::from_secs(120));
    let silent = health(&world, 503).await;
    assert_eq!(
        (&silent["status"], &silent["agents"]["active"]),
        (&json!("degraded"), &json!(0))
    );
}

#[tokio::test]
async fn recent_runs_are_counted_by_how_they_went() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.ran("backup", "pc-1", 0, "").await;
    world.clock.advance(Duration::from_secs(20 * 3600));
    world.ran("backup", "pc-1", 0, "").await;
    world.ran("backup", "pc-1", 3, "").await;
    world.fire("backup", &["pc-1"]).await;
    let command = world.command().await;
    world.started(&command, "pc-1").await;
    let recent = health(&world, 200).await;
    let recent = recent["recent_results"].clone();
    assert_eq!(recent, json!({ "window_hours": 24, "total": 3, "failed": 1 }));
    world.clock.advance(Duration::from_secs(5 * 3600));
    let answer = world.get("/api/health/fleet").send().await;
    let recent: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(recent["recent_results"]["total"], 2, "the oldest is too old");
}

#[tokio::test]
async fn an_answer_is_told_again_for_a_few_seconds() {
    let world = World::new().await;
    health(&world, 200).await;
    heard(&world, "pc-1").await;
    world.clock.advance(Duration::from_secs(4));
    let again = health(&world, 200).await;
    assert_eq!(
        (&again["agents"]["known"], &again["observed_at"]),
        (&json!(0), &json!("2026-05-01T08:00:00Z"))
    );
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(health(&world, 200).await["agents"]["known"], 1);
}

#[tokio::test]
async fn what_the_broker_lacks_degrades_the_fleet() {
    let (world, broker) = with_broker().await;
    heard(&world, "pc-1").await;
    let well = health(&world, 200).await;
    assert_eq!(
        well["jetstream"],
        json!({ "all_ok": true, "healthy": 4, "total": 4, "missing": [] })
    );
    broker.lacks(&["jobs", "EVENTS"]);
    later(&world);
    let degraded = health(&world, 503).await;
    assert_eq!(degraded["status"], "degraded");
    assert_eq!(
        degraded["jetstream"],
        json!({ "all_ok": false, "healthy": 2, "total": 4, "missing": ["EVENTS", "jobs"] })
    );
    *broker.0.lock().unwrap() = None;
    later(&world);
    let silent = health(&world, 503).await;
    assert_eq!(silent["status"], "degraded");
    assert_eq!(silent["jetstream"]["all_ok"], false);
    let told = silent["jetstream"]["error"].as_str().unwrap();
    assert!(
        told.contains("list the streams") && !told.contains("secret"),
        "{told}"
    );
}

#[tokio::test]
async fn what_is_on_the_broker_is_listed_by_kind() {
    let (world, broker) = with_broker().await;
    broker.lacks(&["EVENTS"]);
    let status = world.get("/api/jetstream/status").send().await.expect(200);
    assert_eq!(
        status,
        json!({
            "streams": [{ "name": "RESULTS", "exists": true }, { "name": "EVENTS", "exists": false }],
            "kv_buckets": [{ "name": "jobs", "exists": true }],
            "object_stores": [{ "name": "agent_releases", "exists": true }]
        })
    );
    *broker.0.lock().unwrap() = None;
    world.get("/api/jetstream/status").send().await.problem(503);
}

#[tokio::test]
async fn a_deployment_without_a_broker_has_nothing_on_it() {
    let world = World::new().await;
    let status = world.get("/api/jetstream/status").send().await.expect(200);
    assert_eq!(
        status,
        json!({ "streams": [], "kv_buckets": [], "object_stores": [] })
    );
}

#[tokio::test]
async fn a_fleet_whose_records_cannot_be_read_is_a_problem() {
    let world = World::new().await;
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    world.get("/api/health/fleet").send().await.problem(503);
    world.store.fail_reads(None);
    health(&world, 200).await;
}
