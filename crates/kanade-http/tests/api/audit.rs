use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{NOW, World, has_fields};

async fn targets(world: &World, query: &str) -> Vec<Value> {
    let listed = world.get(&format!("/api/audit{query}")).send().await.expect(200);
    listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["target"].clone())
        .collect()
}

#[tokio::test]
async fn the_trail_is_listed_newest_first() {
    let world = World::new().await;
    for job in ["alpha", "beta"] {
        world.job(job).await;
    }
    let listed = world.get("/api/audit").send().await.expect(200);
    has_fields(
        &listed[0],
        &["id", "actor", "action", "target", "payload", "occurred_at"],
    );
    assert_eq!(
        (&listed[0]["target"], &listed[0]["actor"]),
        (&json!("beta"), &json!("operator"))
    );
    assert_eq!(listed[1]["occurred_at"], NOW);
    assert!(listed[0]["id"].as_i64() > listed[1]["id"].as_i64());
    assert_eq!(listed[0]["payload"]["version"], "1.0.0");
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    let world = World::new().await;
    world.job("alpha").await;
    world.clock.advance(Duration::from_secs(60));
    world
        .post("/api/scripts/alpha/revoke")
        .header("x-kanade-source", "spa")
        .send()
        .await
        .expect(204);
    world.post("/api/scripts/beta/revoke").send().await.expect(204);
    for (query, found) in [
        ("?action=revoke", &["beta", "alpha"][..]),
        ("?action=^job", &["alpha"]),
        ("?target=bet", &["beta"]),
        ("?payload=%22source%22%3A%22spa%22", &["alpha"]),
        ("?actor=operator&limit=1", &["beta"]),
        ("?actor=oper", &[]),
        ("?since=2026-05-01T08:00:30Z", &["beta", "alpha"]),
    ] {
        assert_eq!(targets(&world, query).await, found, "{query}");
    }
    for field in ["action", "target", "payload"] {
        let answer = world.get(&format!("/api/audit?{field}=(")).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field);
    }
    assert_eq!(
        world
            .get("/api/audit?since=now")
            .send()
            .await
            .problem(400)
            .split(':')
            .next(),
        Some("since")
    );
}

#[tokio::test]
async fn a_source_that_is_not_fit_for_the_trail_is_refused_before_anything_is_done() {
    let world = World::new().await;
    for source in ["", "a\tb", &"x".repeat(65)] {
        let answer = world
            .post("/api/scripts/alpha/revoke")
            .header("x-kanade-source", source)
            .send()
            .await;
        answer.problem(400);
        assert_eq!(answer.field(), "X-Kanade-Source");
    }
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({})
    );
    assert_eq!(targets(&world, "").await, Vec::<Value>::new());
}
