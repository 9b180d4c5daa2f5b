//! `exec --watch`, `executions show --watch` and `kill`: following an execution to its end.

use serde_json::{Value, json};

use crate::double::{Double, Reply};

#[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
fn execution(status: &str, targets: Value) -> Value {
    let count = |states: &[&str]| -> u64 { states.iter().filter_map(|state| targets[state].as_u64()).sum() };
    let all: u64 = targets
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    let mut execution = json!({
        "exec_id": "e-1", "job_id": "backup", "version": "1", "initiated_by": "ann", "target_count": all,
        "initiated_at": "2026-05-01T08:30:00Z", "success_count": count(&["succeeded"]),
        "failure_count": count(&["failed", "killed", "timed_out", "lost"]), "status": status, "targets": targets
    });
    if status == "completed" {
        execution["finished_at"] = json!("2026-05-01T08:31:20Z");
    }
    execution
}

fn detail(status: &str, targets: Value) -> Reply {
    Reply::json(json!({"execution": execution(status, targets), "results": []}))
}

fn event(status: &str, targets: Value) -> Value {
    let mut event = execution(status, targets);
    event["type"] = json!("execution");
    event
}

fn target(pc: &str, state: &str, exit_code: Option<i32>, receipt: Option<&str>) -> Value {
    json!({
        "pc_id": pc, "state": state, "wave": 0, "due_at": "2026-05-01T08:30:00Z",
        "result_id": exit_code.map(|_| "00000000-0000-0000-0000-000000000001"), "started_at": null,
        "finished_at": null, "exit_code": exit_code, "detail": null, "receipt": receipt
    })
}

fn fired() -> Reply {
    Reply::json(
        json!({"exec_id": "e-1", "job_id": "backup", "version": "1", "target_count": 3, "subjects": []}),
    )
}

const EXEC: [&str; 4] = ["exec", "backup", "--all", "--watch"];

#[tokio::test]
async fn a_fire_is_told_and_not_waited_for() {
    let server = Double::start().await.on("POST /api/exec/backup", fired());
    let told = server
        .kanade(&["exec", "backup", "--group", "lab", "--jitter", "5m"])
        .await
        .ok();
    assert_eq!(told, "execution e-1 of backup 1, aimed at 3 agents\n");
    let post = server.only("POST");
    assert_eq!(post.body, json!({"target": {"groups": ["lab"]}, "jitter": "5m"}));
    assert_eq!(post.header("idempotency-key").map(str::len), Some(36));
    let json = server
        .kanade(&["exec", "backup", "--all", "-o", "json"])
        .await
        .json();
    assert_eq!(json["exec_id"], "e-1");
}

#[tokio::test]
async fn a_fire_whose_answer_is_lost_is_repeated_with_its_key() {
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", Reply::Broken)
        .on("POST /api/exec/backup", fired());
    let ended = server.kanade(&["exec", "backup", "--all"]).await;
    assert!(ended.stderr.contains("asking once more"), "{ended:?}");
    ended.ok();
    let keys: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    server.kanade(&["exec", "backup", "--all"]).await.ok();
    assert_ne!(
        server.requests()[2].header("idempotency-key"),
        Some(keys[0].as_str()),
        "another fire, another key"
    );
}

#[tokio::test]
async fn a_fire_that_is_refused_is_not_repeated() {
    let refusal = "job `backup` is revoked; `kanade unrevoke backup` lets it run again";
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", Reply::problem(409, refusal));
    let stderr = server.kanade(&EXEC).await.fails(1);
    assert_eq!(
        (stderr, server.lines().len()),
        (format!("kanade: {refusal}\n"), 1)
    );
}

#[tokio::test]
async fn watching_ends_well_when_all_have_succeeded() {
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", fired())
        .on(
            "GET /api/executions/e-1",
            detail("pending", json!({"waiting": 3})),
        )
        .on(
            "GET /api/events",
            Reply::Events(vec![
                event("running", json!({"running": 2, "waiting": 1})),
                json!({"type": "weather", "rain": true}),
                event("completed", json!({"succeeded": 3})),
            ]),
        );
    let told = server.kanade(&EXEC).await.ok();
    assert_eq!(
        told,
        "execution e-1 of backup 1, aimed at 3 agents\n3 of 3 succeeded in 1m 20s\n"
    );
    assert!(
        server
            .lines()
            .contains(&"GET /api/events?types=execution&exec_id=e-1".to_owned()),
        "{:?}",
        server.lines()
    );
}

#[tokio::test]
async fn failures_are_told_with_the_last_line_of_stderr() {
    let run = json!({
        "result_id": "00000000-0000-0000-0000-000000000001", "exec_id": "e-1", "pc_id": "pc-2", "exit_code": 3,
        "request_id": "00000000-0000-0000-0000-000000000002", "stdout": "", "stderr": "a warning\n\u{1b}[2Jthe disk is full\n\n",
        "started_at": "2026-05-01T08:30:00Z", "finished_at": "2026-05-01T08:30:01Z", "job_id": "backup", "version": "1"
    });
    let mut refused = target("pc-3", "refused", None, None);
    refused["detail"] = json!("the deadline has passed");
    let targets = "GET /api/executions/e-1/targets";
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", fired())
        .on(
            "GET /api/executions/e-1",
            detail("running", json!({"running": 2, "failed": 1})),
        )
        .on(
            &format!("{targets}?state=failed&limit=100"),
            Reply::json(json!([target("pc-2", "failed", Some(3), None)])),
        )
        .on(
            &format!("{targets}?state=refused&limit=100"),
            Reply::json(json!([refused])),
        )
        .on(
            "GET /api/results/00000000-0000-0000-0000-000000000001",
            Reply::json(run),
        )
        .on(
            "GET /api/events",
            Reply::Events(vec![event(
                "completed",
                json!({"succeeded": 1, "failed": 1, "refused": 1}),
            )]),
        );
    let ended = server.kanade(&EXEC).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "pc-2 failed, exit code 3: [2Jthe disk is full",
            "pc-3 refused: the deadline has passed",
            "1 of 3 succeeded, 1 failed, 1 refused in 1m 20s"
        ]
    );
}

#[tokio::test]
async fn a_server_without_events_is_asked_again_and_again() {
    let server = Double::start()
        .await
        .on(
            "GET /api/executions/e-1",
            detail("running", json!({"running": 1})),
        )
        .on(
            "GET /api/executions/e-1",
            Reply::problem(503, "the store is busy"),
        )
        .on(
            "GET /api/executions/e-1",
            detail("completed", json!({"succeeded": 1})),
        );
    let ended = server.kanade(&["executions", "show", "e-1", "--watch"]).await;
    assert!(
        ended.stderr.contains("the store is busy; trying again"),
        "{ended:?}"
    );
    assert_eq!(ended.ok(), "1 of 1 succeeded in 1m 20s\n");
}

#[tokio::test]
async fn programs_see_one_document_at_the_end() {
    let server = Double::start().await.on("POST /api/exec/backup", fired()).on(
        "GET /api/executions/e-1",
        detail("completed", json!({"succeeded": 1})),
    );
    let json = server
        .kanade(&[&EXEC[..], &["--output", "json"]].concat())
        .await
        .json();
    assert_eq!(json["execution"], execution("completed", json!({"succeeded": 1})));
}

#[tokio::test]
async fn watching_ends_with_its_time_and_says_how_to_go_on() {
    let server = Double::start().await.on("POST /api/exec/backup", fired()).on(
        "GET /api/executions/e-1",
        detail("running", json!({"running": 1})),
    );
    let stderr = server
        .kanade(&[&EXEC[..], &["--watch-timeout", "100ms"]].concat())
        .await
        .fails(1);
    assert!(
        stderr.contains("kanade executions show e-1 --watch") && stderr.contains("kanade kill e-1"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_watch_says_what_goes_on() {
    use crate::double::{DEADLINE, kanade};

    let server = Double::start().await.on(
        "GET /api/executions/e-1",
        detail("running", json!({"running": 1})),
    );
    let child = kanade(["--server", &server.url, "executions", "show", "e-1", "--watch"])
        .spawn()
        .unwrap();
    // Signals are listened for before the first request leaves.
    let asked = async {
        while server.lines().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .expect("the server is asked");
    let pid = child.id().unwrap().to_string();
    assert!(interrupted(&pid).await);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(
        stderr.starts_with("kanade: execution e-1 goes on; ") && stderr.contains("kanade kill e-1"),
        "{stderr}"
    );
}

/// As Ctrl-C does.
#[cfg(unix)]
async fn interrupted(pid: &str) -> bool {
    tokio::process::Command::new("kill")
        .args(["-INT", pid])
        .status()
        .await
        .unwrap()
        .success()
}

#[tokio::test]
async fn watching_what_does_not_exist_fails_at_once() {
    let server = Double::start().await.on(
        "GET /api/executions/e-1",
        Reply::problem(404, "execution `e-1` does not exist"),
    );
    let stderr = server
        .kanade(&["executions", "show", "e-1", "--watch"])
        .await
        .fails(1);
    assert_eq!(stderr, "kanade: execution `e-1` does not exist\n");
}

#[tokio::test]
async fn a_kill_shows_a_receipt_of_each_agent() {
    let targets = json!([
        target("pc-1", "killed", Some(-1), Some("confirmed")),
        target("pc-2", "withdrawn", None, None),
        target("pc-3", "succeeded", Some(0), None)
    ]);
    let server = Double::start()
        .await
        .on("POST /api/executions/e-1/kill", Reply::done())
        .on(
            "GET /api/executions/e-1",
            detail("killed", json!({"killed": 1, "withdrawn": 1, "succeeded": 1})),
        )
        .on("GET /api/executions/e-1/targets", Reply::json(targets));
    let told = server.kanade(&["kill", "e-1", "--watch"]).await.ok();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        "execution e-1: 1 confirmed, 1 withdrawn before it was sent"
    );
    assert!(
        lines[1].starts_with("PC ") && lines[1].contains("RECEIPT"),
        "{told}"
    );
    assert!(
        lines[2].starts_with("pc-1  killed") && lines[3].starts_with("pc-2  withdrawn"),
        "{told}"
    );
    assert_eq!(
        lines.len(),
        4,
        "one that had ended before is no matter of the kill: {told}"
    );
    let json = server.kanade(&["kill", "e-1", "-o", "json"]).await.json();
    assert_eq!(
        (&json[0]["exec_id"], &json[0]["receipt"]),
        (&json!("e-1"), &json!("confirmed"))
    );
}

#[tokio::test]
async fn a_kill_of_a_job_reaches_all_its_executions() {
    let mut other = execution("pending", json!({"waiting": 1}));
    other["exec_id"] = json!("e-2");
    let list = "GET /api/executions?job_id=backup&status=";
    let server = Double::start()
        .await
        .on(
            &format!("{list}running"),
            Reply::json(json!([execution("running", json!({"running": 1}))])),
        )
        .on(&format!("{list}pending"), Reply::json(json!([other])))
        .on(&format!("{list}expired"), Reply::json(json!([])))
        .on("POST /api/jobs/backup/kill", Reply::done())
        .on(
            "GET /api/executions/e-1/targets",
            Reply::json(json!([target("pc-1", "running", None, Some("requested"))])),
        )
        .on(
            "GET /api/executions/e-2/targets",
            Reply::json(json!([target("pc-1", "withdrawn", None, None)])),
        );
    let told = server.kanade(&["kill", "--job", "backup"]).await.ok();
    assert!(told.contains("execution e-1: 1 requested\n"), "{told}");
    assert!(
        told.contains("execution e-2: 1 withdrawn before it was sent\n"),
        "{told}"
    );
    let nothing = Double::start()
        .await
        .on("GET /api/executions", Reply::json(json!([])))
        .on("POST /api/jobs/backup/kill", Reply::done());
    let ended = nothing.kanade(&["kill", "--job", "backup", "--watch"]).await;
    assert_eq!(ended.stderr, "nothing of job backup is pending or running\n");
    ended.ok();
}

#[tokio::test]
async fn a_kill_that_an_agent_does_not_hear_is_a_failure() {
    let unreachable = json!([target("pc-1", "running", None, Some("unreachable"))]);
    let server = Double::start()
        .await
        .on("POST /api/executions/e-1/kill", Reply::done())
        .on(
            "GET /api/executions/e-1",
            detail("running", json!({"running": 1})),
        )
        .on("GET /api/executions/e-1/targets", Reply::json(unreachable));
    let ended = server.kanade(&["kill", "e-1", "--watch"]).await;
    assert!(
        ended.stdout.starts_with("execution e-1: 1 unreachable\n"),
        "{ended:?}"
    );
    assert_eq!(ended.code, 1);
}
