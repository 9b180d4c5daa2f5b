use std::sync::Arc;

use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_http::HttpSettings;
use kanade_memory::SeededIds;
use kanade_model::Caller;
use serde_json::{Value, json};

use crate::world::{World, has_fields};

fn nightly() -> Value {
    json!({ "id": "nightly", "cron": "0 30 2 * * *", "job_id": "backup", "target": { "all": true } })
}

async fn world() -> World {
    let world = World::new().await;
    world.job("backup").await;
    world
}

#[tokio::test]
async fn a_schedule_is_stored_read_and_deleted() {
    let world = world().await;
    let stored = world.post("/api/schedules").json(&nightly()).send().await;
    let tag = stored.header("etag").unwrap().to_owned();
    assert_eq!(
        stored.expect(200),
        json!({ "id": "nightly", "cron": "0 30 2 * * *", "enabled": true, "job_id": "backup" })
    );
    assert_eq!(world.last_audit().await["action"], "schedule_upsert");

    let read = world.get("/api/schedules/nightly").send().await;
    assert_eq!(read.header("etag"), Some(tag.as_str()));
    let full = json!({
        "id": "nightly", "cron": "0 30 2 * * *", "job_id": "backup", "target": { "all": true },
        "mode": "every_tick", "auto_disable_when_done": false, "runs_on": "backend", "enabled": true,
        "next": "2026-05-02T02:30:00Z"
    });
    assert_eq!(read.expect(200), full);
    assert_eq!(
        world.get("/api/schedules").send().await.expect(200),
        json!([full])
    );
    let known = world
        .get("/api/schedules/nightly")
        .header("if-none-match", &tag)
        .send()
        .await;
    known.expect(304);

    world.delete("/api/schedules/nightly").send().await.expect(204);
    assert_eq!(world.last_audit().await["action"], "schedule_delete");
    assert_eq!(world.get("/api/schedules").send().await.expect(200), json!([]));
    for answer in [
        world.get("/api/schedules/nightly").send().await,
        world.delete("/api/schedules/nightly").send().await,
        world.post("/api/schedules/nightly/disable").send().await,
    ] {
        assert_eq!(answer.problem(404), "schedule `nightly` does not exist");
    }
}

#[tokio::test]
async fn a_schedule_with_every_field_survives() {
    let world = world().await;
    let full = json!({
        "id": "weekly", "cron": "0 0 3 * * 7", "job_id": "backup", "target": { "groups": ["lab"], "pcs": ["pc-1"] },
        "rollout": { "strategy": "wave", "waves": [{ "group": "lab", "delay": "10m" }] },
        "jitter": "30s", "deadline_at": "2026-06-01T00:00:00Z", "mode": "once_per_pc", "cooldown": "1day",
        "auto_disable_when_done": true, "starting_deadline": "5m", "runs_on": "agent", "enabled": false, "timezone": "Europe/Berlin",
        "overlap": "buffer_one", "catch_up": "1h"
    });
    world.post("/api/schedules").json(&full).send().await.expect(200);
    assert_eq!(world.get("/api/schedules/weekly").send().await.expect(200), full);
    let yaml = "id: y\ncron: '0 0 3 * * 7'\njob_id: backup\ntarget: { groups: [lab] }\ncooldown: 1day\n";
    world
        .post("/api/schedules")
        .text("application/yaml", yaml)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_schedule_that_is_not_valid_is_refused_with_the_field() {
    let world = world().await;
    for (field, value, told) in [
        ("id", json!("a/b"), "1 to 128 letters"),
        ("cron", json!("* * * * *"), "six fields are wanted"),
        ("job_id", json!("nope"), "the id of a job in the catalog"),
        ("mode", json!("sometimes"), "once_per_pc"),
        ("cooldown", json!("a while"), "such as `30s`"),
        ("target", json!({}), "must name somebody"),
        ("timezone", json!("Mars/Olympus"), "an IANA time zone is wanted"),
        ("overlap", json!("sometimes"), "kill_previous"),
        ("catch_up", json!("60days"), "30 days at most"),
        ("zone", json!("UTC"), "unknown field `zone`"),
    ] {
        let mut document = nightly();
        document[field] = value;
        let answer = world.post("/api/schedules").json(&document).send().await;
        let detail = answer.problem(400);
        assert!(detail.contains(told), "{field}: {detail}");
        assert_eq!(answer.field(), field, "{detail}");
    }
    let mut nested = nightly();
    nested["target"]["pc"] = json!(["x"]);
    let answer = world.post("/api/schedules").json(&nested).send().await;
    assert_eq!(answer.problem(400), "unknown field `target.pc`");
    assert_eq!(world.get("/api/schedules").send().await.expect(200), json!([]));
}

#[tokio::test]
async fn writes_and_deletions_can_depend_on_the_version() {
    let world = world().await;
    let put = || world.post("/api/schedules").json(&nightly());
    put().header("if-match", "*").send().await.problem(412);
    let first = put().header("if-none-match", "*").send().await;
    let first = first.header("etag").unwrap().to_owned();
    put().header("if-none-match", "*").send().await.problem(412);
    put().header("if-match", &first).send().await.expect(200);
    put().header("if-match", &first).send().await.problem(412);
    world
        .delete("/api/schedules/nightly")
        .header("if-match", &first)
        .send()
        .await
        .problem(412);
    world
        .delete("/api/schedules/nightly")
        .header("if-match", "*")
        .send()
        .await
        .expect(204);
}

#[tokio::test]
async fn a_schedule_that_is_disabled_fires_no_more() {
    let world = world().await;
    world
        .post("/api/schedules")
        .json(&nightly())
        .send()
        .await
        .expect(200);
    let disabled = world.post("/api/schedules/nightly/disable").send().await;
    assert_eq!((disabled.status.as_u16(), disabled.body.len()), (204, 0));
    let schedule = world.get("/api/schedules/nightly").send().await.expect(200);
    assert_eq!(schedule["enabled"], false);
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({})
    );
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["payload"]["cascade"]),
        (&json!("schedule_disable"), &json!(false))
    );
}

#[tokio::test]
async fn disabling_with_cascade_also_revokes_the_job() {
    let world = world().await;
    world
        .post("/api/schedules")
        .json(&nightly())
        .send()
        .await
        .expect(200);
    let answer = world
        .post("/api/schedules/nightly/disable?cascade=yes")
        .send()
        .await;
    answer.problem(400);
    assert_eq!(answer.field(), "cascade");
    world
        .post("/api/schedules/nightly/disable?cascade=true")
        .send()
        .await
        .expect(204);
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "backup": "REVOKED" })
    );
}

#[tokio::test]
async fn a_summary_has_exactly_the_fields_of_the_contract() {
    let world = world().await;
    let stored = world
        .post("/api/schedules")
        .json(&nightly())
        .send()
        .await
        .expect(200);
    has_fields(&stored, &["id", "cron", "enabled", "job_id"]);
}

/// The API of another server on the same store and catalog, which other servers share.
async fn on_a_shared_catalog(world: &mut World) -> Running {
    let ports = Ports {
        store: world.store.clone(),
        catalog: world.catalog.clone(),
        bus: world.bus.clone(),
        clock: Arc::new(world.clock.clone()),
        ids: Arc::new(SeededIds::new(2)),
        abilities: Abilities::default(),
    };
    let settings = Settings {
        history_required: true,
        ..Settings::default()
    };
    let (services, running) = Services::start(ports, settings).await;
    world.router = kanade_http::router(services.clone(), HttpSettings::default());
    world.services = services;
    running
}

#[tokio::test]
async fn a_schedule_that_is_held_is_shown_with_the_reason_until_it_is_not() {
    let mut world = world().await;
    let mut once = nightly();
    once["id"] = json!("once");
    once["mode"] = json!("once_per_pc");
    for document in [&once, &nightly()] {
        world
            .post("/api/schedules")
            .json(document)
            .send()
            .await
            .expect(200);
    }
    let unheld = world.get("/api/schedules").send().await.expect(200);
    assert!(
        unheld
            .as_array()
            .unwrap()
            .iter()
            .all(|schedule| schedule.get("held").is_none())
    );

    let _running = on_a_shared_catalog(&mut world).await;
    let listed = world.get("/api/schedules").send().await.expect(200);
    assert!(listed[0].get("held").is_none(), "it fires at each tick: {listed}");
    let reason = listed[1]["held"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("--start-fresh") && reason.contains("kanade import"),
        "{reason}"
    );
    let shown = world.get("/api/schedules/once").send().await.expect(200);
    assert_eq!(shown, listed[1]);
    let mut without = shown.clone();
    without.as_object_mut().unwrap().remove("held");
    assert_eq!(without, unheld[1], "everything else is as it was");

    let schedules = &world.services.schedules;
    assert!(schedules.start_fresh(&Caller::operator()).await.unwrap());
    assert_eq!(world.get("/api/schedules").send().await.expect(200), unheld);
}

#[tokio::test]
async fn what_is_shown_of_a_held_schedule_is_not_a_document_to_store() {
    let world = world().await;
    let mut document = nightly();
    document["held"] = json!({"reason": "x"});
    let answer = world.post("/api/schedules").json(&document).send().await;
    assert_eq!(answer.problem(400), "unknown field `held`");
}
