//! Releases of the agent: publishing as a form, looking, deleting, rolling out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::StatusCode;
use kanade_http::HttpSettings;
use kanade_ports::{Bucket, ErrorKind};
use serde_json::{Value, json};

use crate::world::{Call, World, has_fields};

const BOUNDARY: &str = "kanade-boundary";
/// The hash of `abc`.
const ABC: &str = "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=";

/// A form as clients write it: the name of each field, and its value.
fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if *name == "file" {
            "; filename=\"kanade\"\r\nContent-Type: application/octet-stream"
        } else {
            ""
        };
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(*value);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn publish(world: &World, body: impl Into<Body>) -> Call {
    let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
    world
        .post("/api/agents/publish")
        .header("content-type", &media_type)
        .body(body.into())
}

async fn published(world: &World, version: &str, program: &[u8]) {
    let body = form(&[("version", version.as_bytes()), ("file", program)]);
    publish(world, body).send().await.expect(200);
}

async fn listed(world: &World) -> Vec<String> {
    let list = world.get("/api/agents/releases").send().await.expect(200);
    let names = list.as_array().unwrap().iter();
    names
        .map(|release| release["version"].as_str().unwrap().to_owned())
        .collect()
}

async fn audited(world: &World) -> usize {
    let entries = world.get("/api/audit?limit=1000").send().await.expect(200);
    entries.as_array().unwrap().len()
}

#[tokio::test]
async fn a_published_program_is_listed_and_comes_back() {
    let world = World::new().await;
    assert_eq!(listed(&world).await, [""; 0]);
    let body = form(&[("file", b"abc"), ("version", b" 0.31.0 ")]);
    let answer = publish(&world, body).send().await.expect(200);
    assert_eq!(answer, json!({ "version": "0.31.0", "size": 3, "digest": ABC }));
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["target"]),
        (&json!("release_publish"), &json!("0.31.0"))
    );
    assert_eq!(audit["payload"], json!({ "size": 3, "digest": ABC }));
    let list = world.get("/api/agents/releases").send().await.expect(200);
    has_fields(&list[0], &["version", "size", "digest", "modified"]);
    assert_eq!(list[0]["modified"], "2026-05-01T08:00:00Z");
    let program = world.get("/api/agents/releases/0.31.0").send().await;
    assert_eq!((program.status, program.text()), (StatusCode::OK, "abc"));
    assert_eq!(
        program.header("repr-digest"),
        Some("sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:")
    );
    assert_eq!(program.header("content-length"), Some("3"));
    assert_eq!(program.header("content-type"), Some("application/octet-stream"));
    let detail = world.get("/api/agents/releases/9").send().await.problem(404);
    assert_eq!(detail, "release `9` does not exist");
}

#[tokio::test]
async fn a_form_that_lacks_something_is_told_what() {
    let world = World::new().await;
    let long = vec![b'x'; 2000];
    for (fields, field, told) in [
        (&[("version", &b"1"[..])][..], "file", "no field"),
        (&[("version", b"1"), ("file", b"")], "file", "empty"),
        (&[("file", b"abc")], "version", "VERSIONINFO"),
        (&[("file", b"abc"), ("version", b"")], "version", "VERSIONINFO"),
        (
            &[("file", b"abc"), ("version", b"../1")],
            "version",
            "1 to 64 letters",
        ),
        (&[("file", b"abc"), ("version", &long)], "version", "1024 bytes"),
        (&[("file", b"abc"), ("file", b"abc")], "file", "twice"),
        (
            &[("version", b"1"), ("version", b"2"), ("file", b"abc")],
            "version",
            "twice",
        ),
        (&[], "file", "no field"),
    ] {
        let answer = publish(&world, form(fields)).send().await;
        let detail = answer.problem(400);
        assert!(detail.contains(told), "{detail}");
        assert_eq!(answer.field(), field, "{detail}");
    }
    let body = form(&[("comment", b"hello"), ("version", b"1"), ("file", b"abc")]);
    publish(&world, body).send().await.expect(200);
    assert_eq!(audited(&world).await, 1, "only what was done leaves an entry");
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let world = World::new().await;
    let call = || world.post("/api/agents/publish");
    for media_type in ["application/json", "multipart/form-data", "text/plain"] {
        call().text(media_type, "{}").send().await.problem(415);
    }
    call().send().await.problem(415);
    let whole = form(&[("version", b"1"), ("file", b"abcdefgh")]);
    for cut in [0, 10, whole.len() / 2, whole.len() - 12] {
        let detail = publish(&world, whole[..cut].to_vec()).send().await.problem(400);
        assert!(detail.contains("broke off"), "{cut}: {detail}");
    }
    let broken = stream::iter([
        Ok(Bytes::from(whole[..whole.len() - 12].to_vec())),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ]);
    publish(&world, Body::from_stream(broken))
        .send()
        .await
        .problem(400);
    assert_eq!(listed(&world).await, [""; 0]);
    assert_eq!(audited(&world).await, 0);
}

#[tokio::test]
async fn a_program_that_is_too_large_is_refused() {
    let settings = HttpSettings {
        upload_limit: 100_000,
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    published(&world, "1", &vec![0; 100_000]).await;
    for size in [100_001, 300_000] {
        let body = form(&[("version", b"2"), ("file", &vec![0; size])]);
        let detail = publish(&world, body).send().await.problem(413);
        assert!(detail.contains("100000 bytes"), "{detail}");
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let taking = Arc::clone(&taken);
    let body = stream::repeat_with(move || {
        taking.fetch_add(4096, Ordering::SeqCst);
        Ok::<_, io::Error>(Bytes::from_static(&[0; 4096]))
    });
    let announced = publish(&world, Body::from_stream(body.take(60))).header("content-length", "245760");
    announced.send().await.problem(413);
    assert_eq!(
        taken.load(Ordering::SeqCst),
        245_760,
        "a sender hears the answer once it has sent all"
    );
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[0; 4096])));
    let head = form(&[("version", b"2"), ("file", b"")]);
    let head = Bytes::from(head[..head.len() - BOUNDARY.len() - 8].to_vec());
    let body = stream::iter([Ok(head)]).chain(endless);
    publish(&world, Body::from_stream(body)).send().await.problem(413);
    assert_eq!(listed(&world).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_on_is_given_up() {
    let world = World::new().await;
    let head = form(&[("version", b"2"), ("file", b"abc")]);
    let head = Bytes::from(head[..head.len() - BOUNDARY.len() - 8].to_vec());
    let body = stream::iter([Ok::<_, io::Error>(head)]).chain(stream::pending());
    let answer = publish(&world, Body::from_stream(body)).send().await;
    assert!(answer.problem(408).contains("within 15s"));
}

#[tokio::test]
async fn the_same_program_may_be_published_again_and_another_one_replaces_it() {
    let world = World::new().await;
    published(&world, "1", b"abc").await;
    published(&world, "1", b"abc").await;
    assert_eq!(audited(&world).await, 2, "each request leaves an entry");
    published(&world, "1", b"other").await;
    let program = world.get("/api/agents/releases/1").send().await;
    assert_eq!(program.text(), "other");
    assert_eq!(listed(&world).await, ["1"]);
}

#[tokio::test]
async fn a_rollout_sets_the_version_of_its_scope_and_leaves_the_rest() {
    let world = World::new().await;
    published(&world, "0.31.0", b"abc").await;
    world
        .put("/api/groups/canary/config")
        .json(&json!({ "heartbeat_interval": "10s", "target_version_jitter": "1h" }))
        .send()
        .await
        .expect(200);
    for (scope, jitter, key, label, shown, path, stored) in [
        (
            json!({ "type": "global" }),
            Some("10m"),
            "global",
            "global",
            json!("10m"),
            "/api/config",
            json!({ "target_version": "0.31.0", "target_version_jitter": "10m" }),
        ),
        (
            json!({ "type": "group", "value": "canary" }),
            None,
            "groups.canary",
            "group canary",
            json!("1h"),
            "/api/groups/canary/config",
            json!({ "target_version": "0.31.0", "target_version_jitter": "1h", "heartbeat_interval": "10s" }),
        ),
        (
            json!({ "type": "pc", "value": "pc.1" }),
            None,
            "pcs.pc.1",
            "pc pc.1",
            Value::Null,
            "/api/pcs/pc.1/config",
            json!({ "target_version": "0.31.0" }),
        ),
    ] {
        let before = audited(&world).await;
        let request = json!({ "version": "0.31.0", "scope": scope, "jitter": jitter });
        let answer = world.post("/api/agents/rollout").json(&request).send().await;
        let wanted = json!({ "version": "0.31.0", "scope_key": key, "scope_label": label, "jitter": shown });
        assert_eq!(answer.expect(200), wanted);
        assert_eq!(world.get(path).send().await.expect(200), stored);
        let audit = world.last_audit().await;
        assert_eq!(
            (&audit["action"], &audit["target"]),
            (&json!("rollout"), &json!(key))
        );
        assert_eq!(audit["payload"], json!({ "version": "0.31.0", "jitter": shown }));
        assert_eq!(audited(&world).await, before + 1);
    }
}

#[tokio::test]
async fn a_rollout_of_nothing_or_to_nobody_is_refused() {
    let world = World::new().await;
    published(&world, "1", b"abc").await;
    let before = audited(&world).await;
    let call = |body: Value| world.post("/api/agents/rollout").json(&body).send();
    let detail = call(json!({ "version": "2", "scope": { "type": "global" } }))
        .await
        .problem(404);
    assert_eq!(detail, "release `2` does not exist");
    for body in [
        json!({ "version": "1" }),
        json!({ "version": "1", "scope": { "type": "all" } }),
        json!({ "version": "1", "scope": { "type": "group" } }),
        json!({ "version": "1", "scope": { "type": "group", "value": "" } }),
        json!({ "version": "1", "scope": { "type": "group", "value": "a/b" } }),
        json!({ "version": "1", "scope": { "type": "pc", "value": "a b" } }),
        json!({ "version": "1", "scope": { "type": "global" }, "jitter": "soon" }),
    ] {
        call(body.clone()).await.problem(400);
    }
    world.post("/api/agents/rollout").send().await.problem(415);
    assert_eq!(audited(&world).await, before);
    let config = world.get("/api/config").send().await.expect(200);
    assert_eq!(config, json!({}));
}

#[tokio::test]
async fn a_release_that_agents_update_to_is_neither_deleted_nor_replaced() {
    let world = World::new().await;
    published(&world, "1", b"abc").await;
    for (path, scope) in [
        ("/api/config", "the global configuration"),
        ("/api/groups/canary/config", "the configuration of group `canary`"),
        ("/api/pcs/pc-1/config", "the configuration of agent `pc-1`"),
    ] {
        let set = |version: &str| {
            let config = json!({ "target_version": version });
            world.put(path).json(&config).send()
        };
        set("1").await.expect(200);
        let before = audited(&world).await;
        let detail = world.delete("/api/agents/releases/1").send().await.problem(409);
        assert!(
            detail.contains(scope) && detail.contains("roll out another version"),
            "{detail}"
        );
        let other = form(&[("version", b"1"), ("file", b"other")]);
        let detail = publish(&world, other).send().await.problem(409);
        assert!(
            detail.contains(scope) && detail.contains("a version of their own"),
            "{detail}"
        );
        assert_eq!(audited(&world).await, before, "what was refused leaves no entry");
        published(&world, "1", b"abc").await;
        set("2").await.expect(200);
    }
    world.delete("/api/agents/releases/1").send().await.expect(204);
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["target"]),
        (&json!("release_delete"), &json!("1"))
    );
    let detail = world.delete("/api/agents/releases/1").send().await.problem(404);
    assert_eq!(detail, "release `1` does not exist");
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_publication_whose_entry_cannot_be_written_answers_an_error() {
    let world = World::new().await;
    world.store.fail_writes(Some(ErrorKind::Unavailable));
    let body = form(&[("version", b"1"), ("file", b"abc")]);
    publish(&world, body).send().await.problem(503);
    world.store.fail_writes(None);
    published(&world, "1", b"abc").await;
    assert_eq!(audited(&world).await, 1);
}

#[tokio::test]
async fn more_publications_at_once_than_allowed_are_told_to_try_again() {
    let settings = HttpSettings {
        max_uploads: 1,
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    let (asked, waits) = tokio::sync::oneshot::channel::<()>();
    let waiting = stream::once(async move {
        asked.send(()).unwrap();
        Ok::<_, io::Error>(Bytes::from_static(b"--"))
    });
    let (router, request) = publish(&world, Body::from_stream(waiting.chain(stream::pending()))).build();
    let first = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    tokio::time::timeout(Duration::from_secs(20), waits)
        .await
        .unwrap()
        .unwrap();
    let body = form(&[("version", b"1"), ("file", b"abc")]);
    let answer = publish(&world, body).send().await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(world.get("/api/agents/releases").send().await.status, 200);
    first.abort();
}

#[tokio::test]
async fn an_unreadable_configuration_hides_no_other() {
    let world = World::new().await;
    published(&world, "1", b"abc").await;
    world
        .document(Bucket::AgentConfig, "groups.odd", &json!(["not", "one"]))
        .await;
    world
        .document(Bucket::AgentConfig, "pcs.pc-1", &json!({ "target_version": "1" }))
        .await;
    let detail = world.delete("/api/agents/releases/1").send().await.problem(409);
    assert!(detail.contains("agent `pc-1`"), "{detail}");
}
