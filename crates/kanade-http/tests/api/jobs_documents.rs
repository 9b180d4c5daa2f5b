//! Manifests as bodies: what is read, and what is said about what cannot be.

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{World, manifest};

const YAML: &str = "\
# nightly
id: backup
version: 1.0
execute:
  shell: sh
  script: |
    echo one
    echo two
  timeout: 5m
";

#[tokio::test]
async fn a_manifest_may_be_yaml() {
    let world = World::new().await;
    for media_type in [
        "application/yaml",
        "text/yaml; charset=utf-8",
        "application/x-yaml",
    ] {
        let stored = world
            .post("/api/jobs")
            .text(media_type, YAML)
            .send()
            .await
            .expect(200);
        assert_eq!(stored["version"], "1.0");
    }
    let job = world.get("/api/jobs/backup").send().await.expect(200);
    assert_eq!(job["execute"]["script"], "echo one\necho two\n");
}

#[tokio::test]
async fn an_unknown_field_is_named_wherever_it_stands() {
    let world = World::new().await;
    for (pointer, field) in [
        ("/tiemout", "tiemout"),
        ("/execute/tiemout", "execute.tiemout"),
        ("/inventory/display/0/colour", "inventory.display[0].colour"),
        ("/staleness/max_cache_age", "staleness.max_cache_age"),
    ] {
        let mut document = manifest("backup");
        document["staleness"] = json!({ "mode": "cached" });
        document["inventory"] = json!({ "display": [{ "field": "ram", "label": "RAM" }] });
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = json!("5m");
        for media_type in ["application/json", "application/yaml"] {
            // JSON is YAML.
            let answer = world
                .post("/api/jobs")
                .text(media_type, &document.to_string())
                .send()
                .await;
            assert_eq!(answer.problem(400), format!("unknown field `{field}`"));
            assert_eq!(answer.field(), field);
        }
    }
    let two = json!({ "id": "x", "version": "1", "a": 1, "b": 2, "execute": manifest("x")["execute"] });
    assert_eq!(
        world.post("/api/jobs").json(&two).send().await.problem(400),
        "unknown fields `a`, `b`"
    );
    assert_eq!(
        world.get("/api/jobs").send().await.expect(200),
        json!([]),
        "nothing was stored"
    );
}

#[tokio::test]
async fn a_value_of_a_wrong_type_is_named_with_its_line() {
    let world = World::new().await;
    let json = "{\n  \"id\": \"backup\",\n  \"version\": \"1\",\n  \"execute\": {\n    \"shell\": 7\n  }\n}";
    let answer = world
        .post("/api/jobs")
        .text("application/json", json)
        .send()
        .await;
    let detail = answer.problem(400);
    assert_eq!(answer.field(), "execute.shell");
    assert!(
        detail.starts_with("execute.shell: ") && detail.contains("line 5 column 14"),
        "{detail}"
    );

    let yaml = YAML.replace("shell: sh", "shell: [sh]");
    let answer = world
        .post("/api/jobs")
        .text("application/yaml", &yaml)
        .send()
        .await;
    let detail = answer.problem(400);
    assert_eq!(answer.field(), "execute.shell");
    assert!(
        detail.starts_with("execute.shell: ") && detail.contains("line 5") && detail.contains("column 10"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_value_that_is_not_allowed_is_named_with_what_is() {
    let world = World::new().await;
    for (pointer, value, field, allowed) in [
        ("/id", json!("a/b"), "id", "1 to 128 letters"),
        ("/id", json!(""), "id", "1 to 128 letters"),
        ("/version", json!("one two"), "version", "for example `1.2.0`"),
        (
            "/execute/timeout",
            json!("5 bananas"),
            "execute.timeout",
            "such as `30s`",
        ),
        (
            "/execute/timeout",
            json!("0s"),
            "execute.timeout",
            "at least one second",
        ),
        ("/execute/shell", json!("fish"), "execute.shell", "pwsh"),
        (
            "/execute/script",
            json!(" "),
            "execute.script",
            "a script is wanted",
        ),
        (
            "/staleness",
            json!({ "mode": "strict" }),
            "staleness",
            "max_cache_age",
        ),
    ] {
        let mut document = manifest("backup");
        document["staleness"] = json!({ "mode": "cached" });
        *document.pointer_mut(pointer).unwrap() = value;
        for media_type in ["application/json", "application/yaml"] {
            let answer = world
                .post("/api/jobs")
                .text(media_type, &document.to_string())
                .send()
                .await;
            let detail = answer.problem(400);
            assert!(detail.contains(allowed), "{media_type} {pointer}: {detail}");
            assert_eq!(answer.field(), field, "{media_type} {pointer}: {detail}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let world = World::new().await;
    for gone in ["/id", "/version", "/execute", "/execute/timeout"] {
        let mut document = manifest("backup");
        let (parent, name) = gone.rsplit_once('/').unwrap();
        document
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(name);
        for media_type in ["application/json", "application/yaml"] {
            let detail = world
                .post("/api/jobs")
                .text(media_type, &document.to_string())
                .send()
                .await
                .problem(400);
            assert!(
                detail.contains(&format!("missing field `{name}`")),
                "{media_type}: {detail}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_neither_json_nor_yaml_is_told_where() {
    let world = World::new().await;
    for (media_type, body, told) in [
        ("application/json", "", "not valid JSON"),
        ("application/json", "{\n  \"id\": oops }", "line 2 column"),
        ("application/json", "{} {}", "missing field"),
        ("application/json", "[]", "expected"),
        ("application/yaml", "", "the body cannot be read"),
        ("application/yaml", "id: [unclosed\n", "line"),
        ("application/yaml", "id: a\nid: b\n", "duplicate"),
        ("application/yaml", "a: &a [x]\nb: *nope\n", "line 2"),
    ] {
        let detail = world
            .post("/api/jobs")
            .text(media_type, body)
            .send()
            .await
            .problem(400);
        assert!(detail.contains(told), "{body:?}: {detail}");
    }
    let two = format!("{YAML}\n---\n{YAML}");
    world
        .post("/api/jobs")
        .text("application/yaml", &two)
        .send()
        .await
        .problem(400);
    let trailing = format!("{} x", manifest("backup"));
    let detail = world
        .post("/api/jobs")
        .text("application/json", &trailing)
        .send()
        .await
        .problem(400);
    assert!(detail.contains("trailing characters"), "{detail}");
    let latin1 = Body::from(&b"id: caf\xe9"[..]);
    let call = world
        .post("/api/jobs")
        .header("content-type", "application/yaml")
        .body(latin1);
    assert!(call.send().await.problem(400).contains("UTF-8"));
    assert_eq!(
        world.get("/api/jobs").send().await.expect(200),
        json!([]),
        "nothing was stored"
    );
}

#[tokio::test]
async fn a_yaml_that_would_grow_without_end_is_refused() {
    let world = World::new().await;
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    world
        .post("/api/jobs")
        .text("application/yaml", &bomb)
        .send()
        .await
        .problem(400);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let world = World::new().await;
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ] {
        let answer = world
            .post("/api/jobs")
            .text(media_type, &manifest("x").to_string())
            .send()
            .await;
        assert!(
            answer
                .problem(415)
                .contains("`application/json` or `application/yaml`")
        );
    }
    let without = world
        .post("/api/jobs")
        .body(Body::from(manifest("x").to_string()))
        .send()
        .await;
    without.problem(415);
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_told_the_limit() {
    let world = World::new().await;
    let mut document = manifest("backup");
    document["execute"]["script"] = Value::String("x".repeat(512 << 10));
    let large = document.to_string();
    let announced = world
        .post("/api/jobs")
        .header("content-length", &large.len().to_string())
        .json(&document);
    assert_eq!(
        announced.send().await.problem(413),
        "the body is larger than 512 KiB"
    );

    let chunks = large
        .into_bytes()
        .chunks(4096)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let streamed = Body::from_stream(futures::stream::iter(chunks));
    let call = world
        .post("/api/jobs")
        .header("content-type", "application/json")
        .body(streamed);
    assert_eq!(call.send().await.problem(413), "the body is larger than 512 KiB");

    document["execute"]["script"] = Value::String("x".repeat(500 << 10));
    world.post("/api/jobs").json(&document).send().await.expect(200);
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let world = World::new().await;
    let parts = [Ok(b"{\"id\":".to_vec()), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures::stream::iter(parts));
    let call = world
        .post("/api/jobs")
        .header("content-type", "application/json")
        .body(body);
    assert_eq!(
        call.send().await.problem(400),
        "the body broke off before its end"
    );
}
