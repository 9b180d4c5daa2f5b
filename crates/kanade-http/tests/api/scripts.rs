use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_job_is_revoked_and_allowed_again() {
    let world = World::new().await;
    world.job("backup").await;
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({})
    );
    world.post("/api/scripts/backup/revoke").send().await.expect(204);
    assert_eq!(world.last_audit().await["action"], "script_revoke");
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "backup": "REVOKED" })
    );
    let job = world.get("/api/jobs/backup").send().await.expect(200);
    assert_eq!(job["script_status"], "REVOKED");
    world
        .post("/api/scripts/backup/unrevoke")
        .send()
        .await
        .expect(204);
    assert_eq!(world.last_audit().await["action"], "script_unrevoke");
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "backup": "ACTIVE" })
    );
}

#[tokio::test]
async fn a_job_that_is_not_there_can_be_revoked() {
    let world = World::new().await;
    world.post("/api/scripts/gone/revoke").send().await.expect(204);
    assert_eq!(
        world.get("/api/scripts/status").send().await.expect(200),
        json!({ "gone": "REVOKED" })
    );
}
