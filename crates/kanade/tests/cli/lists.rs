//! Lists: as tables, as JSON, page after page, and into a pipe that nobody reads to its end.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::double::{Double, Reply, kanade};

fn execution(n: u32) -> Value {
    json!({
        "exec_id": format!("e-{n}"), "job_id": "backup", "version": "1", "initiated_by": "ann", "target_count": 2,
        "initiated_at": "2026-05-01T08:30:00Z", "success_count": 1, "failure_count": 1, "status": "completed",
        "targets": {"succeeded": 1, "failed": 1}
    })
}

fn run(n: u32) -> Value {
    json!({
        "result_id": format!("00000000-0000-0000-0000-{n:012}"), "exec_id": null, "pc_id": "pc-1", "exit_code": 0,
        "request_id": "00000000-0000-0000-0000-000000000002", "stdout": "x".repeat(100), "stderr": "",
        "started_at": "2026-05-01T08:30:00Z", "finished_at": "2026-05-01T08:30:01Z", "job_id": null, "version": null,
        "state": "succeeded"
    })
}

async fn three_executions() -> Double {
    let rest = json!([execution(3)]);
    Double::start()
        .await
        .on(
            "GET /api/executions?limit=1000",
            Reply::page(json!([execution(1), execution(2)]), "n"),
        )
        .on(
            "GET /api/executions?limit=1000&cursor=n",
            Reply::json(rest.clone()),
        )
        .on(
            "GET /api/executions?limit=3",
            Reply::page(json!([execution(1), execution(2)]), "n"),
        )
        .on("GET /api/executions?limit=3&cursor=n", Reply::json(rest))
}

#[tokio::test]
async fn a_list_for_programs_is_a_json_array_of_what_the_api_says() {
    let server = three_executions().await;
    let all = server
        .kanade(&["-o", "json", "executions", "list", "--all"])
        .await
        .json();
    assert_eq!(all, json!([execution(1), execution(2), execution(3)]));
    let two = server
        .kanade(&["executions", "list", "--limit", "2", "--output", "json"])
        .await
        .json();
    assert_eq!(two, json!([execution(1), execution(2)]));
}

#[tokio::test]
async fn a_list_for_people_says_when_there_is_more() {
    let server = three_executions().await;
    let ended = server.kanade(&["executions", "list", "--limit", "2"]).await;
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("EXECUTION  JOB"), "{lines:?}");
    assert!(lines[1].contains("1/2 succeeded, 1 failed"), "{lines:?}");
    assert!(
        ended.stderr.contains("more follow") && ended.stderr.contains("--all"),
        "{ended:?}"
    );
    let ended = server.kanade(&["executions", "list", "--all"]).await;
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (4, ""));
}

#[tokio::test]
async fn an_empty_list_is_an_empty_array_or_a_remark() {
    let server = Double::start().await.on("GET /api/audit", Reply::json(json!([])));
    assert_eq!(server.kanade(&["audit", "-o", "json"]).await.json(), json!([]));
    let ended = server.kanade(&["audit"]).await;
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("", "nothing to show\n")
    );
}

#[tokio::test]
async fn filters_are_sent_as_the_api_names_them() {
    let server = Double::start()
        .await
        .on("GET /api/results", Reply::json(json!([])));
    let filters = [
        "--pc", "^a$", "--job", "b", "--exec", "c", "--stdout", "d", "--stderr", "e", "--status", "failure",
    ];
    let since = ["--since", "2026-05-01T08:30:00Z", "--limit", "7"];
    server
        .kanade(&[&["results", "list"], &filters[..], &since].concat())
        .await
        .ok();
    assert_eq!(
        server.lines(),
        [
            "GET /api/results?pc_id=%5Ea%24&job_id=b&exec_id=c&stdout=d&stderr=e&status=failure\
             &since=2026-05-01T08%3A30%3A00Z&limit=8"
        ]
    );
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    // Far more than a pipe holds, so that the command must notice.
    let page: Vec<Value> = (0..1000).map(run).collect();
    let mut server = Double::start().await;
    for n in 0..20 {
        let line = if n == 0 {
            "GET /api/results?limit=1000".into()
        } else {
            format!("GET /api/results?limit=1000&cursor=p{n}")
        };
        server = server.on(&line, Reply::page(json!(page), &format!("p{}", n + 1)));
    }
    server = server.on("GET /api/results?limit=1000&cursor=p20", Reply::json(json!([])));
    for format in ["table", "json"] {
        let arguments = [
            "--server",
            &server.url,
            "results",
            "list",
            "--all",
            "--output",
            format,
        ];
        let mut child = kanade(arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).await.unwrap();
        drop(stdout);
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .await
            .unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(0), "{format}: {stderr}");
        assert_eq!(stderr, "", "{format}");
        assert!(
            first.starts_with(if format == "json" { "[" } else { "RESULT" }),
            "{first}"
        );
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_list_is_a_failure() {
    let server = Double::start()
        .await
        .on(
            "GET /api/executions?limit=1000",
            Reply::page(json!([execution(1)]), "n"),
        )
        .on(
            "GET /api/executions?limit=1000&cursor=n",
            Reply::problem(503, "the store is away"),
        );
    for format in ["table", "json"] {
        let ended = server
            .kanade(&["executions", "list", "--all", "-o", format])
            .await;
        assert_eq!(ended.fails(1), "kanade: the store is away\n");
    }
}
