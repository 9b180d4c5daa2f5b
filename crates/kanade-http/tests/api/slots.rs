//! What schedules did and will do, over HTTP.

use kanade_ports::{Bucket, ExecutionStore};
use serde_json::{Value, json};

use crate::world::{World, id};

async fn scheduled() -> World {
    let world = World::new().await;
    world.job("backup").await;
    let hourly = json!({
        "id": "hourly", "cron": "0 0 * * * *", "job_id": "backup", "target": {"pcs": ["pc-1"]},
        "timezone": "Asia/Kolkata", "overlap": "skip", "catch_up": "2h"
    });
    world
        .post("/api/schedules")
        .json(&hourly)
        .send()
        .await
        .expect(200);
    world
        .until("the schedule is taken up", async || {
            world.store.cursor(&id("hourly")).await.unwrap().is_some()
        })
        .await;
    world
}

impl World {
    async fn slots(&self) -> Vec<Value> {
        let slots = self.get("/api/schedules/hourly/slots").send().await.expect(200);
        slots.as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn a_schedule_shows_when_it_is_due_next() {
    let world = scheduled().await;
    let ahead = world
        .get("/api/schedules/hourly/preview?n=2")
        .send()
        .await
        .expect(200);
    let slots = [&ahead[0]["slot"], &ahead[1]["slot"]];
    // Kolkata is half an hour off.
    assert_eq!(
        slots,
        [&json!("2026-05-01T08:30:00Z"), &json!("2026-05-01T09:30:00Z")]
    );
    assert_eq!(ahead[0]["local"], "2026-05-01T14:00:00+05:30");
    let shown = world.get("/api/schedules/hourly").send().await.expect(200);
    assert_eq!(shown["next"], ahead[0]["slot"]);
    assert_eq!(
        world.get("/api/schedules/upcoming?n=2").send().await.expect(200),
        ahead,
        "it is the only one"
    );
    let span = "/api/schedules/upcoming?from=2026-06-01T00:00:00Z&until=2026-06-01T01:00:00Z";
    assert_eq!(
        world.get(span).send().await.expect(200)[0]["slot"],
        "2026-06-01T00:30:00Z"
    );

    for (path, field) in [
        ("/api/schedules/hourly/preview?n=0", "n"),
        ("/api/schedules/hourly/preview?n=x", "n"),
        (
            "/api/schedules/upcoming?from=2026-06-01T00:00:00Z&until=2026-05-01T01:00:00Z",
            "until",
        ),
        ("/api/schedules/upcoming?from=tomorrow", "from"),
    ] {
        let answer = world.get(path).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{path}");
    }
    world
        .get("/api/schedules/nobody/preview")
        .send()
        .await
        .problem(404);
}

#[tokio::test]
async fn slots_that_came_are_listed_with_their_executions() {
    let world = scheduled().await;
    world.clock.set("2026-05-01T08:30:00Z".parse().unwrap());
    world
        .until("it has fired", async || world.slots().await.len() == 1)
        .await;
    let slot = world.slots().await.remove(0);
    assert_eq!(
        (&slot["state"], &slot["slot"]),
        (&json!("fired"), &json!("2026-05-01T08:30:00Z"))
    );
    let exec = slot["exec_id"].as_str().unwrap();
    let execution = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    assert_eq!(execution["execution"]["initiated_by"], "schedule:hourly");
    let none = world.get("/api/schedules/nobody/slots").send().await.expect(200);
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn a_schedule_is_enabled_triggered_and_made_up_for_by_request() {
    let world = scheduled().await;
    let empty = world.post("/api/schedules/hourly/disable").send().await;
    empty.expect(204);
    world
        .post("/api/schedules/hourly/enable")
        .send()
        .await
        .expect(204);
    assert_eq!(world.last_audit().await["action"], "schedule_enable");

    let fired = world
        .post("/api/schedules/hourly/trigger")
        .send()
        .await
        .expect(200);
    assert_eq!(fired["job_id"], "backup");
    assert_eq!(world.last_audit().await["action"], "schedule_trigger");
    assert!(world.slots().await.is_empty(), "it is not a slot");

    let past = json!({"from": "2026-05-01T05:00:00Z", "until": "2026-05-01T07:00:00Z"});
    let backfill = || world.post("/api/schedules/hourly/backfill").json(&past);
    let settled = backfill().send().await.expect(200);
    let states: Vec<_> = settled
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["state"].clone())
        .collect();
    assert_eq!(states, ["fired", "fired"]);
    assert_eq!(
        backfill().send().await.expect(200),
        settled,
        "nothing fires twice"
    );
    let coming = json!({"from": "2026-05-01T05:00:00Z", "until": "2026-06-01T07:00:00Z"});
    let refused = world
        .post("/api/schedules/hourly/backfill")
        .json(&coming)
        .send()
        .await;
    refused.problem(400);
    assert_eq!(refused.field(), "until");
    for action in ["enable", "trigger"] {
        let path = format!("/api/schedules/nobody/{action}");
        world.post(&path).send().await.problem(404);
    }
}

#[tokio::test]
async fn a_freeze_is_set_shown_and_cleared() {
    let world = scheduled().await;
    assert_eq!(world.get("/api/freeze").send().await.expect(200), Value::Null);
    let freeze = json!({"reason": "network works", "until": "2026-05-01T12:00:00Z"});
    let set = world.put("/api/freeze").json(&freeze).send().await.expect(200);
    assert_eq!(set["by"], "operator");
    assert_eq!(world.get("/api/freeze").send().await.expect(200), set);
    assert_eq!(world.last_audit().await["action"], "freeze_set");
    let ahead = world
        .get("/api/schedules/hourly/preview?n=5")
        .send()
        .await
        .expect(200);
    assert_eq!(ahead[3]["frozen"], "network works");
    assert!(ahead[4].get("frozen").is_none(), "it is over then");

    for (field, value) in [("until", json!("2026-04-01T00:00:00Z")), ("reason", json!(""))] {
        let mut wrong = freeze.clone();
        wrong[field] = value;
        let answer = world.put("/api/freeze").json(&wrong).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field);
    }
    world.delete("/api/freeze").send().await.expect(204);
    world.delete("/api/freeze").send().await.expect(204);
    assert_eq!(world.get("/api/freeze").send().await.expect(200), Value::Null);
}

#[tokio::test]
async fn what_cannot_be_read_is_listed_with_what_is_wrong() {
    let world = scheduled().await;
    // Written past this server.
    let bad_zone = json!({
        "id": "bad-zone", "cron": "0 0 * * * *", "job_id": "backup", "target": {"all": true}, "timezone": "Mars/Olympus"
    });
    let bad_cron = json!({"id": "bad-cron", "cron": "often", "job_id": "backup", "target": {"all": true}});
    for (key, document) in [
        ("bad-zone", &bad_zone),
        ("bad-cron", &bad_cron),
        ("text", &json!("text")),
    ] {
        world.document(Bucket::Schedules, key, document).await;
    }
    world
        .until("all are listed", async || {
            let listed = world.get("/api/schedules").send().await.expect(200);
            listed.as_array().unwrap().len() == 4
        })
        .await;
    let listed = world.get("/api/schedules").send().await.expect(200);
    let told: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["id"].as_str().unwrap(),
                one["problem"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        ["bad-cron", "bad-zone", "hourly", "text"]
    );
    assert!(told[0].1.contains("six fields"), "{told:?}");
    assert!(told[1].1.contains("Mars/Olympus"), "{told:?}");
    assert_eq!(told[2].1, "");
    // What readers of lists want of each item is there.
    assert_eq!(
        (&listed[1]["cron"], &listed[1]["enabled"]),
        (&json!(""), &json!(false))
    );
    let page = world.get("/api/schedules?limit=3").send().await;
    let rest = world.get(&page.next().unwrap()).send().await.expect(200);
    assert_eq!(rest[0]["id"], "text");
}
