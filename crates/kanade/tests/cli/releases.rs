//! Releases of the agent, and how the fleet is.

use serde_json::{Value, json};

use crate::double::{Double, Reply};

fn release(version: &str) -> Value {
    json!({
        "version": version, "size": 11_744_051, "digest": "SHA-256=abc=", "modified": "2020-05-01T08:30:00Z"
    })
}

fn published() -> Reply {
    Reply::json(json!({ "version": "0.31.0", "size": 11, "digest": "SHA-256=abc=" }))
}

fn health(status: &str) -> Value {
    json!({
        "status": status, "agents": { "known": 3, "active": 2, "stale": 1 },
        "jetstream": { "all_ok": true, "healthy": 13, "total": 13, "missing": [] },
        "recent_results": { "window_hours": 24, "total": 7, "failed": 1 }, "observed_at": "2026-05-01T08:00:00Z"
    })
}

#[tokio::test]
async fn releases_are_listed_and_deleted() {
    let server = Double::start()
        .await
        .on(
            "GET /api/agents/releases",
            Reply::json(json!([release("0.30.0"), release("0.31.0")])),
        )
        .on("GET /api/agents/releases", Reply::json(json!([])))
        .on("DELETE /api/agents/releases/0.30.0", Reply::done())
        .on(
            "DELETE /api/agents/releases/0.31.0",
            Reply::problem(409, "release `0.31.0` cannot be deleted: agents update to it"),
        );
    let table = server.kanade(&["agent", "releases"]).await.ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("VERSION") && lines[0].ends_with("DIGEST"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("0.30.0")
            && lines[1].contains("11.20 MiB")
            && lines[1].ends_with("SHA-256=abc="),
        "{table}"
    );
    let list = server.kanade(&["-o", "json", "agent", "releases"]).await.json();
    assert_eq!(list, json!([]));
    let told = server
        .kanade(&["agent", "releases", "delete", "0.30.0"])
        .await
        .ok();
    assert_eq!(told, "release 0.30.0 is deleted\n");
    let stderr = server
        .kanade(&["agent", "releases", "delete", "0.31.0"])
        .await
        .fails(1);
    assert!(stderr.contains("agents update to it"), "{stderr}");
}

#[tokio::test]
async fn a_program_is_published_from_its_file() {
    let server = Double::start()
        .await
        .on("POST /api/agents/publish", published())
        .on("POST /api/agents/publish", published())
        .on(
            "POST /api/agents/publish",
            Reply::problem(400, "version: the program does not say which it is"),
        );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade");
    std::fs::write(&path, "the program").unwrap();
    let file = path.to_str().unwrap();
    let ended = server
        .kanade(&["agent", "publish", file, "--version", "0.31.0"])
        .await;
    assert_eq!(ended.stderr, "", "no bar where nobody looks");
    let told = ended.ok();
    assert!(
        told.starts_with("release 0.31.0 is published (11 B, SHA-256=abc=)\n")
            && told.contains("kanade agent rollout 0.31.0"),
        "{told}"
    );
    let sent = server.only("POST");
    let media_type = sent.header("content-type").unwrap();
    assert!(
        media_type.starts_with("multipart/form-data; boundary="),
        "{media_type}"
    );
    let answer = server
        .kanade(&["-o", "json", "agent", "publish", file])
        .await
        .json();
    assert_eq!(answer["digest"], "SHA-256=abc=");
    let stderr = server.kanade(&["agent", "publish", file]).await.fails(2);
    assert!(stderr.contains("does not say which it is"), "{stderr}");
}

#[tokio::test]
async fn what_is_no_file_is_told_before_anything_is_sent() {
    let server = Double::start().await;
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for path in [folder.path(), &missing] {
        let path = path.to_str().unwrap();
        let stderr = server.kanade(&["agent", "publish", path]).await.fails(2);
        assert!(stderr.contains(path), "{stderr}");
    }
    for wrong in [
        &["agent", "publish"][..],
        &["agent", "rollout", "0.31.0"],
        &["agent", "rollout", "--global"],
        &["agent", "rollout", "0.31.0", "--global", "--group", "canary"],
        &["agent", "rollout", "0.31.0", "--global", "--jitter", "soon"],
    ] {
        server.kanade(wrong).await.fails(2);
    }
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[tokio::test]
async fn a_rollout_says_who_updates_to_what() {
    for (arguments, scope, jitter, answered, told) in [
        (
            &["--global", "--jitter", "10m"][..],
            json!({ "type": "global" }),
            Some("10m"),
            json!("10m"),
            "all agents update to 0.31.0, within 10m\n",
        ),
        (
            &["--group", "canary"],
            json!({ "type": "group", "value": "canary" }),
            None,
            Value::Null,
            "the agents of group canary update to 0.31.0\n",
        ),
        (
            &["--pc", "web-1"],
            json!({ "type": "pc", "value": "web-1" }),
            None,
            Value::Null,
            "agent web-1 updates to 0.31.0\n",
        ),
    ] {
        let answer = json!({
            "version": "0.31.0", "scope_key": "x", "scope_label": "x", "jitter": answered
        });
        let server = Double::start()
            .await
            .on("POST /api/agents/rollout", Reply::json(answer));
        let arguments: Vec<&str> = ["agent", "rollout", "0.31.0"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        assert_eq!(server.kanade(&arguments).await.ok(), told);
        let mut wanted = json!({ "version": "0.31.0", "scope": scope });
        if let Some(jitter) = jitter {
            wanted["jitter"] = json!(jitter);
        }
        assert_eq!(server.only("POST").body, wanted);
    }
}

#[tokio::test]
async fn the_health_of_the_fleet_is_also_told_by_the_exit_code() {
    let line = "GET /api/health/fleet";
    let degraded = || {
        Reply::Json(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            health("degraded"),
            Vec::new(),
        )
    };
    let server = Double::start()
        .await
        .on(line, Reply::json(health("ok")))
        .on(line, Reply::json(health("unknown")))
        .on(line, degraded())
        .on(line, degraded());
    let told = server.kanade(&["health"]).await.ok();
    assert!(
        told.contains("2 active, 1 stale") && told.contains("all of 13 are there"),
        "{told}"
    );
    server.kanade(&["health"]).await.ok();
    let ended = server.kanade(&["health"]).await;
    assert!(ended.stdout.contains("degraded"), "{ended:?}");
    ended.fails(1);
    let ended = server.kanade(&["-o", "json", "health"]).await;
    let shown: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((shown, ended.code), (health("degraded"), 1));
}
