use kanade_ports::{Bucket, ErrorKind};
use serde_json::{Value, json};

use crate::world::{World, has_fields, id, manifest};

#[tokio::test]
async fn jobs_are_listed_by_id_with_their_fields_at_the_root() {
    let world = World::new().await;
    for job in ["beta", "alpha"] {
        world.job(job).await;
    }
    let full = json!({
        "id": "full", "version": "2", "description": "everything", "require_approval": true,
        "execute": { "shell": "pwsh", "script": "x", "timeout": "1h 5m", "run_as": "user", "cwd": "C:\\" },
        "inventory": { "display": [{ "field": "ram", "label": "RAM", "type": "bytes" }], "summary": "ram" },
        "staleness": { "mode": "strict", "max_cache_age": "5m" }
    });
    world.post("/api/jobs").json(&full).send().await.expect(200);

    let listed = world.get("/api/jobs").send().await;
    assert_eq!(listed.next(), None);
    let listed = listed.expect(200);
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["alpha", "beta", "full"]);
    has_fields(&listed[0], &["id", "version", "execute", "live", "script_status"]);
    has_fields(&listed[0]["live"], &["running", "pending"]);
    let mut plain = listed[2].clone();
    plain.as_object_mut().unwrap().remove("live");
    plain.as_object_mut().unwrap().remove("script_status");
    assert_eq!(plain, full, "no field of a manifest is lost");
}

#[tokio::test]
async fn a_list_counts_what_is_live() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.fire("backup", &["pc-1"]).await;
    let command = world.command().await;
    let live = async |world: &World| world.get("/api/jobs").send().await.expect(200)[0]["live"].clone();
    assert_eq!(live(&world).await, json!({ "running": 0, "pending": 1 }));
    world.started(&command, "pc-1").await;
    assert_eq!(live(&world).await, json!({ "running": 1, "pending": 0 }));
    world.finished(&command, "pc-1", 0, "").await;
    assert_eq!(live(&world).await, json!({ "running": 0, "pending": 0 }));
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    assert_eq!(
        live(&world).await,
        json!({ "running": 0, "pending": 0 }),
        "zeros when they cannot be counted"
    );
}

#[tokio::test]
async fn a_job_that_is_stored_answers_its_summary_and_leaves_one_audit_entry() {
    let world = World::new().await;
    let call = world
        .post("/api/jobs")
        .json(&manifest("backup"))
        .header("x-kanade-source", "cli");
    let stored = call.send().await.expect(200);
    assert_eq!(
        stored,
        json!({ "id": "backup", "version": "1.0.0", "description": null, "inventory": false })
    );
    let audit = world.get("/api/audit").send().await.expect(200);
    assert_eq!(audit.as_array().unwrap().len(), 1);
    assert_eq!(audit[0]["action"], "job_upsert");
    assert_eq!(audit[0]["target"], "backup");
    assert_eq!(audit[0]["payload"]["source"], "cli");
}

#[tokio::test]
async fn a_job_and_its_versions_can_be_read() {
    let world = World::new().await;
    world.job("backup").await;
    let newer = json!({ "version": "1.1.0", "description": "newer" });
    let mut document = manifest("backup");
    document
        .as_object_mut()
        .unwrap()
        .extend(newer.as_object().unwrap().clone());
    world.post("/api/jobs").json(&document).send().await.expect(200);

    let job = world.get("/api/jobs/backup").send().await.expect(200);
    has_fields(
        &job,
        &["id", "version", "description", "execute", "live", "script_status"],
    );
    assert_eq!(
        (&job["version"], &job["script_status"]),
        (&json!("1.1.0"), &json!("ACTIVE"))
    );

    let history = world.get("/api/jobs/backup/history").send().await.expect(200);
    has_fields(&history[0], &["revision", "manifest"]);
    let versions: Vec<&Value> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|version| &version["manifest"]["version"])
        .collect();
    assert_eq!(versions, ["1.1.0", "1.0.0"]);

    world.delete("/api/jobs/backup").send().await.expect(204);
    world.get("/api/jobs/backup").send().await.problem(404);
    let kept = world.get("/api/jobs/backup/history").send().await.expect(200);
    assert_eq!(kept.as_array().unwrap().len(), 2, "history outlives its job");
}

#[tokio::test]
async fn a_job_that_is_not_there_is_named() {
    let world = World::new().await;
    for path in ["/api/jobs/nope", "/api/jobs/nope/history"] {
        assert_eq!(
            world.get(path).send().await.problem(404),
            "job `nope` does not exist"
        );
    }
    assert_eq!(
        world.delete("/api/jobs/nope").send().await.problem(404),
        "job `nope` does not exist"
    );
}

#[tokio::test]
async fn ids_of_an_existing_fleet_may_hold_slashes() {
    let mut world = World::new().await;
    world.document(Bucket::Jobs, "a/b=c", &manifest("a/b=c")).await;
    let path = "/api/jobs/a%2Fb%3Dc";
    assert_eq!(world.get(path).send().await.expect(200)["id"], "a/b=c");
    let plan = json!({ "target": { "pcs": ["pc-1"] } });
    let fired = world
        .post("/api/exec/a%2Fb=c")
        .json(&plan)
        .send()
        .await
        .expect(200);
    assert_eq!(fired["job_id"], "a/b=c");
    assert_eq!(world.command().await.id, id("a/b=c"));
    world.post(&format!("{path}/kill")).send().await.expect(204);
    world.post("/api/scripts/a%2Fb=c/revoke").send().await.expect(204);
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "a/b=c": "REVOKED" })
    );
    world.delete(path).send().await.expect(204);
}

#[tokio::test]
async fn a_job_that_a_schedule_needs_is_not_deleted() {
    let world = World::new().await;
    world.job("backup").await;
    let nightly =
        json!({ "id": "nightly", "cron": "0 0 2 * * *", "job_id": "backup", "target": { "all": true } });
    world
        .post("/api/schedules")
        .json(&nightly)
        .send()
        .await
        .expect(200);
    assert_eq!(
        world.delete("/api/jobs/backup").send().await.problem(409),
        "job `backup` is referenced by schedule `nightly`; remove the schedule first"
    );
    let job = world.get("/api/jobs/backup").send().await.expect(200);
    assert_eq!(
        job["script_status"], "ACTIVE",
        "a refused deletion revokes nothing"
    );

    world.delete("/api/schedules/nightly").send().await.expect(204);
    let deleted = world.delete("/api/jobs/backup").send().await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
    assert_eq!(world.last_audit().await["action"], "job_delete");
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "backup": "REVOKED" })
    );
}

#[tokio::test]
async fn a_deletion_that_stops_halfway_says_so_and_what_to_do() {
    let world = World::new().await;
    world.job("backup").await;
    world.catalog.fail_deletions(ErrorKind::Unavailable);
    let detail = world.delete("/api/jobs/backup").send().await.problem(503);
    assert!(
        detail.contains("revoked") && detail.contains("kanade unrevoke backup"),
        "{detail}"
    );
    assert_eq!(
        world.last_audit().await["action"],
        "job_delete_failed_post_revoke"
    );
}

#[tokio::test]
async fn a_kill_reaches_everything_of_the_job_that_is_not_final() {
    let mut world = World::new().await;
    world.job("backup").await;
    let waiting = world.fire("backup", &["pc-1"]).await;
    world.command().await;
    let done = world.fire("backup", &["pc-1"]).await;
    let command = world.command().await;
    world.finished(&command, "pc-1", 0, "").await;

    world.post("/api/jobs/backup/kill").send().await.expect(204);
    let execution = async |exec: &str| {
        let path = format!("/api/executions/{exec}");
        world.get(&path).send().await.expect(200)["execution"].clone()
    };
    assert_eq!(execution(&waiting).await["killed_by"], "operator");
    assert_eq!(execution(&done).await.get("killed_by"), None);
    assert_eq!(
        world.last_audit().await["payload"]["executions"],
        json!([waiting])
    );
}

#[tokio::test]
async fn a_kill_of_nothing_is_fine() {
    let world = World::new().await;
    world.post("/api/jobs/nope/kill").send().await.expect(204);
    assert_eq!(world.last_audit().await["action"], "job_kill");
}
