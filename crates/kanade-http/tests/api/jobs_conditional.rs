//! Entity tags and the conditions that depend on them.

use serde_json::json;

use crate::world::{World, manifest};

#[tokio::test]
async fn a_reader_that_has_the_newest_version_is_not_sent_it_again() {
    let world = World::new().await;
    let stored = world.post("/api/jobs").json(&manifest("backup")).send().await;
    let tag = stored.header("etag").unwrap().to_owned();
    let read = world.get("/api/jobs/backup").send().await;
    assert_eq!(read.header("etag"), Some(tag.as_str()));
    assert!(tag.starts_with('"') && tag.ends_with('"'));

    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".into(),
    ] {
        let answer = world
            .get("/api/jobs/backup")
            .header("if-none-match", &known)
            .send()
            .await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{known}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    world
        .get("/api/jobs/backup")
        .header("if-none-match", "\"0\"")
        .send()
        .await
        .expect(200);
    world
        .get("/api/jobs/backup")
        .header("if-none-match", "oops")
        .send()
        .await
        .problem(400);

    world.job("backup").await;
    let newer = world
        .get("/api/jobs/backup")
        .header("if-none-match", &tag)
        .send()
        .await;
    newer.expect(200);
    assert_ne!(
        newer.header("etag"),
        Some(tag.as_str()),
        "every write has a tag of its own"
    );
}

#[tokio::test]
async fn a_write_that_expects_another_version_is_not_made() {
    let world = World::new().await;
    let first = world.post("/api/jobs").json(&manifest("backup")).send().await;
    let first = first.header("etag").unwrap().to_owned();
    let put = |condition: (&'static str, String)| {
        let call = world.post("/api/jobs").json(&manifest("backup"));
        call.header(condition.0, &condition.1)
    };
    let second = put(("if-match", first.clone())).send().await;
    second.expect(200);
    let second = second.header("etag").unwrap().to_owned();

    let stale = put(("if-match", first)).send().await.problem(412);
    assert_eq!(
        stale,
        "job `backup` was changed since you read it; read it again and repeat your change"
    );
    put(("if-match", format!("W/{second}"))).send().await.problem(412);
    put(("if-match", "\"of another server\"".into()))
        .send()
        .await
        .problem(412);
    let exists = put(("if-none-match", "*".into())).send().await.problem(412);
    assert_eq!(exists, "If-None-Match: the document exists already");
    put(("if-match", "*".into())).send().await.expect(200);
}

#[tokio::test]
async fn a_condition_on_a_job_that_is_not_there_is_judged_too() {
    let world = World::new().await;
    let put = |name: &'static str, value: &'static str| {
        world
            .post("/api/jobs")
            .json(&manifest("backup"))
            .header(name, value)
    };
    put("if-match", "\"7\"").send().await.problem(412);
    let missing = put("if-match", "*").send().await.problem(412);
    assert_eq!(missing, "If-Match: the document does not exist");
    assert_eq!(world.get("/api/jobs").send().await.expect(200), json!([]));
    put("if-none-match", "*").send().await.expect(200);
}

#[tokio::test]
async fn a_deletion_can_depend_on_the_version() {
    let world = World::new().await;
    world.job("backup").await;
    let stale = world.get("/api/jobs/backup").send().await;
    let stale = stale.header("etag").unwrap().to_owned();
    world.job("backup").await;
    world
        .delete("/api/jobs/backup")
        .header("if-match", &stale)
        .send()
        .await
        .problem(412);
    let job = world.get("/api/jobs/backup").send().await;
    assert_eq!(
        job.expect(200)["script_status"],
        "ACTIVE",
        "a refused deletion revokes nothing"
    );
    let current = job.header("etag").unwrap().to_owned();
    world
        .delete("/api/jobs/backup")
        .header("if-match", &current)
        .send()
        .await
        .expect(204);
}

#[tokio::test]
async fn a_condition_that_makes_no_sense_is_told() {
    let world = World::new().await;
    world.job("backup").await;
    let put = |conditions: &[(&str, &str)]| {
        let call = world.post("/api/jobs").json(&manifest("backup"));
        conditions
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value))
    };
    for (conditions, field) in [
        (&[("if-match", "7")][..], "If-Match"),
        (&[("if-match", "\"1\", \"2\"")], "If-Match"),
        (&[("if-none-match", "\"1\"")], "If-None-Match"),
        (&[("if-match", "*"), ("if-none-match", "*")], "If-Match"),
    ] {
        let answer = put(conditions).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{conditions:?}");
    }
    let answer = world
        .delete("/api/jobs/backup")
        .header("if-none-match", "*")
        .send()
        .await;
    answer.problem(400);
    assert_eq!(answer.field(), "If-None-Match");
}
