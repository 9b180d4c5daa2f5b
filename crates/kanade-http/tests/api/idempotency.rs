//! `Idempotency-Key` on a fire.

use kanade_http::{Auth, HttpSettings, NamedToken};
use serde_json::{Value, json};

use crate::world::{Call, World};

fn fire(world: &World, job: &str, pc: &str, key: &str) -> Call {
    let plan = json!({ "target": { "pcs": [pc] } });
    world
        .post(&format!("/api/exec/{job}"))
        .json(&plan)
        .header("idempotency-key", key)
}

#[tokio::test]
async fn a_repetition_answers_the_same_and_fires_nothing() {
    let mut world = World::new().await;
    world.job("backup").await;
    let first = fire(&world, "backup", "pc-1", "k-1").send().await;
    let fired = first.expect(200);
    assert_eq!(first.header("idempotency-replayed"), None);
    world.command().await;

    let again = fire(&world, "backup", "pc-1", "k-1").send().await;
    assert_eq!(again.expect(200), fired);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(
        world
            .get("/api/executions")
            .send()
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(world.commands_so_far(), 0);
    let audit = world.get("/api/audit?action=^exec$").send().await.expect(200);
    assert_eq!(audit.as_array().unwrap().len(), 1, "nothing was done twice");
}

#[tokio::test]
async fn of_requests_at_once_with_one_key_exactly_one_fires() {
    let world = World::new().await;
    world.job("backup").await;
    let calls = (0..16).map(|_| fire(&world, "backup", "pc-1", "k-1").send());
    let answers = futures::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.expect(200)["exec_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    let new = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_none())
        .count();
    assert_eq!(new, 1);
}

#[tokio::test]
async fn a_key_that_comes_with_another_request_is_refused() {
    let world = World::new().await;
    world.job("backup").await;
    fire(&world, "backup", "pc-1", "k-1").send().await.expect(200);
    assert_eq!(
        fire(&world, "backup", "pc-2", "k-1").send().await.problem(422),
        "idempotency key `k-1` was used for a different request; use a new key"
    );
    // What means the same is the same request.
    let plan = json!({ "target": { "groups": [], "pcs": ["pc-1"], "all": false } });
    let same = world
        .post("/api/exec/backup")
        .json(&plan)
        .header("idempotency-key", "k-1")
        .send()
        .await;
    assert_eq!(same.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn callers_and_jobs_do_not_share_keys() {
    let token = |name: &str| NamedToken {
        name: name.into(),
        token: format!("{name}-token"),
    };
    let auth = Auth::Tokens(vec![token("ann"), token("bob")]);
    let world = World::with(HttpSettings {
        auth,
        ..HttpSettings::default()
    })
    .await;
    let ann = ("authorization", "Bearer ann-token");
    for job in ["backup", "update"] {
        let call = world.post("/api/jobs").json(&crate::world::manifest(job));
        call.header(ann.0, ann.1).send().await.expect(200);
    }
    let fired = async |job: &str, token: &str| -> Value {
        let call = fire(&world, job, "pc-1", "k-1").header("authorization", &format!("Bearer {token}"));
        call.send().await.expect(200)["exec_id"].clone()
    };
    let first = fired("backup", "ann-token").await;
    assert_eq!(fired("backup", "ann-token").await, first);
    assert_ne!(fired("backup", "bob-token").await, first);
    assert_ne!(fired("update", "ann-token").await, first);
}

#[tokio::test]
async fn a_key_must_be_printable_and_not_too_long() {
    let world = World::new().await;
    world.job("backup").await;
    fire(&world, "backup", "pc-1", &"k".repeat(255))
        .send()
        .await
        .expect(200);
    for key in [String::new(), "k".repeat(256), "tab\there".into()] {
        let answer = fire(&world, "backup", "pc-1", &key).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), "Idempotency-Key", "{key:?}");
    }
    let two = fire(&world, "backup", "pc-1", "a")
        .header("idempotency-key", "b")
        .send()
        .await;
    two.problem(400);
}
