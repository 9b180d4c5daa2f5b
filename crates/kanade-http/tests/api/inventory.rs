use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{NOW, World, has_fields, manifest};

fn hardware(label: &str) -> Value {
    let mut document = manifest("hw");
    document["description"] = json!("hardware");
    document["inventory"] = json!({ "display": [{ "field": "ram", "label": label }], "summary": "{ram}" });
    document
}

async fn world() -> World {
    let world = World::new().await;
    world.job("plain").await;
    world
        .post("/api/jobs")
        .json(&hardware("RAM"))
        .send()
        .await
        .expect(200);
    world
}

#[tokio::test]
async fn jobs_that_collect_facts_are_listed() {
    let world = world().await;
    let jobs = world.get("/api/inventory/jobs").send().await.expect(200);
    assert_eq!(
        jobs,
        json!([{
            "manifest_id": "hw", "description": "hardware", "summary": "{ram}",
            "display": [{ "field": "ram", "label": "RAM" }]
        }])
    );
}

#[tokio::test]
async fn the_newest_facts_of_each_agent_make_a_table() {
    let mut world = world().await;
    world.ran("hw", "pc-2", 0, r#"{"ram": 8}"#).await;
    world.ran("hw", "pc-1", 0, r#"{"ram": 16}"#).await;
    world.ran("hw", "pc-3", 1, r#"{"ram": 99}"#).await;
    world.clock.advance(Duration::from_secs(1));
    world.ran("hw", "pc-1", 0, r#"{"ram": 32}"#).await;
    let table = world.get("/api/inventory/by-job/hw").send().await.expect(200);
    has_fields(&table, &["manifest_id", "display", "summary", "rows"]);
    has_fields(&table["rows"][0], &["pc_id", "facts", "collected_at"]);
    let rows: Vec<(&Value, &Value)> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["pc_id"], &row["facts"]["ram"]))
        .collect();
    assert_eq!(rows, [(&json!("pc-1"), &json!(32)), (&json!("pc-2"), &json!(8))]);
    assert_eq!(table["display"][0]["label"], "RAM");

    let first = world.get("/api/inventory/by-job/hw?limit=1").send().await;
    assert_eq!(first.expect(200)["rows"].as_array().unwrap().len(), 1);
    let second = world.get(&first.next().unwrap()).send().await;
    assert_eq!(second.expect(200)["rows"][0]["pc_id"], "pc-2");
}

#[tokio::test]
async fn facts_keep_the_display_hints_of_their_time() {
    let mut world = world().await;
    world.ran("hw", "pc-1", 0, r#"{"ram": 16}"#).await;
    world
        .post("/api/jobs")
        .json(&hardware("Memory"))
        .send()
        .await
        .expect(200);
    let table = world.get("/api/inventory/by-job/hw").send().await.expect(200);
    assert_eq!(table["display"][0]["label"], "RAM");
    world.delete("/api/jobs/hw").send().await.expect(204);
    let kept = world.get("/api/inventory/by-job/hw").send().await.expect(200);
    assert_eq!(kept, table, "facts outlive their job");
    let facts = world.get("/api/inventory/pc-1").send().await.expect(200);
    assert_eq!(
        facts,
        json!([{
            "job_id": "hw", "facts": { "ram": 16 }, "display": [{ "field": "ram", "label": "RAM" }],
            "summary": "{ram}", "collected_at": NOW, "recorded_at": NOW
        }])
    );
}

#[tokio::test]
async fn a_table_without_facts_is_empty_and_one_of_no_job_is_not_found() {
    let world = world().await;
    let table = world.get("/api/inventory/by-job/hw").send().await.expect(200);
    assert_eq!(
        (&table["rows"], &table["display"][0]["label"]),
        (&json!([]), &json!("RAM"))
    );
    assert_eq!(
        world.get("/api/inventory/by-job/nope").send().await.problem(404),
        "job `nope` does not exist"
    );
    assert_eq!(
        world.get("/api/inventory/pc-9").send().await.expect(200),
        json!([])
    );
}
