//! `kanade doctor` on a broker: what it finds before and after a server was there, and without a broker.

use std::process::Output;

use serde_json::{Value, json};

use super::Deployment;
use crate::support::{Host, text};

/// Runs it and gives its exit code and its checks by name.
fn doctor(deployment: &Deployment, server: &str) -> (Option<i32>, Value) {
    let config = deployment.place.path("kanade.toml");
    let Output { status, stdout, .. } = Host::default()
        .kanade()
        .args([
            "doctor",
            "--output",
            "json",
            "--server",
            server,
            "--config",
            text(&config),
        ])
        .output()
        .unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&stdout).unwrap();
    let named = |check: &Value| {
        let name = check["check"].as_str().unwrap().to_owned();
        (name, json!([check["verdict"], check["detail"]]))
    };
    (status.code(), Value::Object(checks.iter().map(named).collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_what_a_broker_has_and_changes_nothing() {
    let deployment = Deployment::new().await;
    let nobody = "http://127.0.0.1:1";
    let (code, checks) = doctor(&deployment, nobody);
    assert_eq!(code, Some(0), "{checks}");
    for check in [
        "stream RESULTS",
        "bucket jobs",
        "object store agent_releases",
        "consumer backend_audit_projector",
    ] {
        assert_eq!(checks[check][0], "warning", "{check}: {checks}");
    }
    assert_eq!(checks["server"][0], "warning", "{checks}");
    let jetstream = deployment.jetstream().await;
    assert!(jetstream.get_stream("RESULTS").await.is_err(), "it only looks");

    let server = deployment.place.serve();
    let (code, checks) = doctor(&deployment, &server.url);
    assert_eq!(code, Some(0), "{checks}");
    for (check, found) in checks.as_object().unwrap() {
        // Nobody has named the monitoring address; how full the disk is, is not ours.
        let wanted = if check == "broker sync" { "warning" } else { "ok" };
        assert!(found[0] == wanted || check == "disk space", "{check}: {found}");
    }
    assert_eq!(server.stop(), Some(0));

    let mut narrow = jetstream
        .get_stream("RESULTS")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    narrow.max_age = std::time::Duration::from_secs(600);
    jetstream.update_stream(&narrow).await.unwrap();
    let (_, checks) = doctor(&deployment, nobody);
    let found = &checks["stream RESULTS"];
    assert_eq!(found[0], "warning");
    assert!(
        found[1]
            .as_str()
            .unwrap()
            .contains("max_age 600000000000 instead of"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_fails_where_the_broker_is_not_there() {
    let mut deployment = Deployment::new().await;
    deployment.place = Deployment::place("nats://127.0.0.1:1");
    let (code, checks) = doctor(&deployment, "http://127.0.0.1:1");
    assert_eq!(code, Some(1), "{checks}");
    assert_eq!(checks["broker"][0], "failed");
    assert!(
        checks["broker"][1]
            .as_str()
            .unwrap()
            .contains("nats://127.0.0.1:1"),
        "{checks}"
    );
    assert_eq!(
        checks["configuration"][0], "ok",
        "one failure hides no other check: {checks}"
    );
}
