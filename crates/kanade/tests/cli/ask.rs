//! Commands that ask an agent or change what holds for it: run, ping, logs, groups, configuration, inventory.

use serde_json::{Value, json};

use crate::double::{Double, Reply};

fn result(exit_code: i32, stdout: &str, stderr: &str) -> Reply {
    Reply::json(json!({
        "request_id": "00000000-0000-0000-0000-000000000001", "pc_id": "pc-1", "exit_code": exit_code,
        "stdout": stdout, "stderr": stderr, "started_at": "2026-05-01T08:30:00Z",
        "finished_at": "2026-05-01T08:30:01Z"
    }))
}

fn agent(os_family: Option<&str>) -> Reply {
    Reply::json(json!({
        "pc_id": "pc-1", "hostname": "desk", "os_family": os_family, "agent_version": "0.30.0",
        "last_heartbeat": "2026-05-01T08:30:00Z", "updated_at": "2026-05-01T08:30:00Z"
    }))
}

#[tokio::test]
async fn a_script_prints_what_it_prints_and_its_exit_code_is_told() {
    let server = Double::start()
        .await
        .on("GET /api/agents/pc-1", agent(Some("linux")))
        .on("POST /api/run", result(0, "no newline at the end", "a warning\n"))
        .on("POST /api/run", result(3, "", "oops\n"));
    let ended = server
        .kanade(&[
            "run",
            "--pc",
            "pc-1",
            "--timeout",
            "90s",
            "--",
            "echo",
            "-n",
            "$HOME",
        ])
        .await;
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "no newline at the end", "a warning\n")
    );
    let post = server.only("POST");
    let wanted = json!({"pc_id": "pc-1", "script": "echo -n $HOME", "shell": "sh", "timeout_secs": 90});
    assert_eq!(post.body, wanted);
    let stderr = server
        .kanade_with(&["run", "--pc", "pc-1", "-f", "-"], "line 1\nline 2\n")
        .await
        .fails(1);
    assert_eq!(stderr, "oops\nkanade: the script failed on pc-1, exit code 3\n");
    assert_eq!(
        server.requests().last().unwrap().body["script"],
        "line 1\nline 2\n"
    );
}

#[tokio::test]
async fn the_shell_is_the_one_the_agent_has() {
    for (os_family, arguments, shell) in [
        (Some("windows"), &[][..], Some("powershell")),
        (Some("macos"), &[], Some("sh")),
        (None, &[], None),
        (Some("linux"), &["--shell", "bash"], Some("bash")),
    ] {
        let server = Double::start()
            .await
            .on("GET /api/agents/pc-1", agent(os_family))
            .on("POST /api/run", result(0, "", ""));
        server
            .kanade(&[&["run", "--pc", "pc-1"], arguments, &["--", "x"]].concat())
            .await
            .ok();
        assert_eq!(
            server.only("POST").body.get("shell").and_then(Value::as_str),
            shell,
            "{os_family:?}"
        );
    }
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_a_failure() {
    let server = Double::start()
        .await
        .on(
            "POST /api/agents/pc-1/ping?wait_secs=10",
            Reply::problem(408, "agent `pc-1` gave no sign of life within 10s"),
        )
        .on(
            "GET /api/agents/pc-1/logs?tail=50",
            Reply::problem(502, "agent `pc-1` is not connected"),
        );
    let stderr = server.kanade(&["ping", "pc-1", "--wait", "10s"]).await.fails(1);
    assert_eq!(stderr, "kanade: agent `pc-1` gave no sign of life within 10s\n");
    let stderr = server
        .kanade(&["agent", "logs", "pc-1", "--tail", "50"])
        .await
        .fails(1);
    assert_eq!(stderr, "kanade: agent `pc-1` is not connected\n");
}

#[tokio::test]
async fn an_agent_that_answers_is_shown() {
    let heartbeat =
        json!({"pc_id": "pc-1", "at": "2026-05-01T08:30:00Z", "agent_version": "0.30.0", "hostname": "desk"});
    let server = Double::start()
        .await
        .on(
            "POST /api/agents/pc-1/ping?wait_secs=45",
            Reply::json(json!({"heartbeat": heartbeat})),
        )
        .on(
            "GET /api/agents/pc-1/logs?tail=500",
            Reply::Text("line 1\nline 2\n"),
        );
    let told = server.kanade(&["ping", "pc-1"]).await.ok();
    assert!(
        told.starts_with("pc-1 is alive: agent 0.30.0 on desk, answered within "),
        "{told}"
    );
    assert_eq!(
        server.kanade(&["agent", "logs", "pc-1"]).await.ok(),
        "line 1\nline 2\n"
    );
}

#[tokio::test]
async fn groups_are_shown_as_they_are_after_the_change() {
    let groups = |names: &[&str]| Reply::json(json!({"groups": names}));
    let server = Double::start()
        .await
        .on("GET /api/agents/pc-1/groups", groups(&["lab"]))
        .on("PUT /api/agents/pc-1/groups", groups(&["a", "b"]))
        .on("POST /api/agents/pc-1/groups", groups(&["a", "b", "c"]))
        .on("DELETE /api/agents/pc-1/groups/a%2Fb", groups(&[]));
    for (arguments, told) in [
        (&["list", "pc-1"][..], "pc-1 is in lab\n"),
        (&["set", "pc-1", "b", "a"], "pc-1 is in a, b\n"),
        (&["add", "pc-1", "c"], "pc-1 is in a, b, c\n"),
        (&["remove", "pc-1", "a/b"], "pc-1 is in no group\n"),
    ] {
        assert_eq!(server.kanade(&[&["group"], arguments].concat()).await.ok(), told);
    }
    assert_eq!(server.only("PUT").body, json!({"groups": ["b", "a"]}));
    assert_eq!(server.only("POST").body, json!({"group": "c"}));
}

#[tokio::test]
async fn a_setting_changes_its_own_key_of_what_was_read() {
    let scope = json!({"target_version": "0.30.0", "heartbeat_interval": "30s"});
    let changed = json!({"target_version": "0.30.0", "heartbeat_interval": "1m"});
    let server = Double::start()
        .await
        .on("GET /api/groups/lab/config", Reply::tagged(scope, "3"))
        .on("PUT /api/groups/lab/config", Reply::json(changed.clone()))
        .on("DELETE /api/pcs/pc-1/config", Reply::done())
        .on("PUT /api/config", Reply::json(json!({})));
    let told = server
        .kanade(&["config", "set", "--group", "lab", "heartbeat_interval=1m"])
        .await
        .ok();
    assert_eq!(told, "target_version      0.30.0\nheartbeat_interval  1m\n");
    let put = server.only("PUT");
    assert_eq!((&put.body, put.header("if-match")), (&changed, Some("\"3\"")));
    assert_eq!(
        server.kanade(&["config", "unset", "--pc", "pc-1"]).await.ok(),
        "nothing is set\n"
    );
    server.kanade(&["config", "unset"]).await.ok();
    let lines = server.lines();
    assert!(
        lines.ends_with(&["DELETE /api/pcs/pc-1/config".into(), "PUT /api/config".into()]),
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_holds_for_an_agent_comes_with_its_warnings() {
    let effective =
        json!({"target_version": null, "target_version_jitter": "0s", "heartbeat_interval": "10s"});
    let config = json!({"pc_id": "pc-1", "effective": effective, "warnings": ["groups a, b all set it"]});
    let server = Double::start().await.on(
        "GET /api/agents/pc-1/effective_config",
        Reply::json(config.clone()),
    );
    let ended = server.kanade(&["config", "effective", "pc-1"]).await;
    assert!(ended.stdout.contains("heartbeat_interval     10s\n"), "{ended:?}");
    assert_eq!(ended.stderr, "warning: groups a, b all set it\n");
    assert_eq!(
        server
            .kanade(&["config", "effective", "pc-1", "-o", "json"])
            .await
            .json(),
        config
    );
}

#[tokio::test]
async fn facts_are_shown_in_the_columns_of_their_job() {
    let display = json!([{"field": "ram", "label": "Memory", "type": "bytes"}]);
    let row = |pc: &str| json!({"pc_id": pc, "facts": {"ram": 2048}, "collected_at": "2026-05-01T08:30:00Z"});
    let table =
        |pc: &str| json!({"manifest_id": "hw", "display": display, "summary": null, "rows": [row(pc)]});
    let server = Double::start()
        .await
        .on("GET /api/inventory/by-job/hw", Reply::page(table("pc-1"), "n"))
        .on(
            "GET /api/inventory/by-job/hw?cursor=n",
            Reply::json(table("pc-2")),
        );
    let shown = server.kanade(&["inventory", "job", "hw"]).await.ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        (lines[0], lines.len()),
        ("PC    MEMORY   COLLECTED", 3),
        "{shown}"
    );
    assert!(lines[2].starts_with("pc-2  2.0 KiB  "), "{shown}");
}
