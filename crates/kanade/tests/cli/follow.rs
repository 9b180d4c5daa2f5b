//! `exec --follow` and `results output`: what runs print, as it comes.

use serde_json::{Value, json};

use crate::double::{Double, Reply};

fn id(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

fn fired() -> Reply {
    Reply::json(
        json!({"exec_id": "e-1", "job_id": "backup", "version": "1", "target_count": 2, "subjects": []}),
    )
}

#[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
fn detail(status: &str, targets: Value, runs: &[(u32, &str)]) -> Reply {
    let all: u64 = targets
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    let runs: Vec<Value> = runs
        .iter()
        .map(|(number, pc)| {
            json!({"result_id": id(*number), "request_id": id(99), "pc_id": pc, "exit_code": null,
                "started_at": "2026-05-01T08:30:00Z", "finished_at": null})
        })
        .collect();
    let mut execution = json!({
        "exec_id": "e-1", "job_id": "backup", "version": "1", "initiated_by": "ann", "target_count": all,
        "initiated_at": "2026-05-01T08:30:00Z", "success_count": targets["succeeded"].as_u64().unwrap_or(0),
        "failure_count": targets["failed"].as_u64().unwrap_or(0), "status": status, "targets": targets
    });
    if status == "completed" {
        execution["finished_at"] = json!("2026-05-01T08:31:20Z");
    }
    Reply::json(json!({"execution": execution, "results": runs}))
}

fn output(stream: &str, text: &str, dropped: u64) -> Value {
    json!({"type": "output", "seq": 0, "stream": stream, "text": text, "dropped": dropped})
}

fn end(number: u32, state: &str, exit_code: i32, complete: bool) -> Value {
    json!({"type": "end", "result_id": id(number), "state": state, "exit_code": exit_code,
        "finished_at": "2026-05-01T08:31:20Z", "complete": complete})
}

fn of_run(number: u32) -> String {
    format!("GET /api/results/{}/output", id(number))
}

#[tokio::test]
async fn each_line_of_several_runs_says_whose_it_is_and_the_end_says_how_they_went() {
    let execution = "GET /api/executions/e-1";
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", fired())
        .on("GET /api/events", Reply::Events(Vec::new()))
        .on(execution, detail("pending", json!({"waiting": 2}), &[]))
        .on(
            execution,
            detail("running", json!({"running": 1, "waiting": 1}), &[(1, "web-1")]),
        )
        .on(
            execution,
            detail(
                "completed",
                json!({"succeeded": 1, "failed": 1}),
                &[(2, "web-2"), (1, "web-1")],
            ),
        )
        .on(
            &of_run(1),
            Reply::Events(vec![
                output("stdout", "one\ntw", 0),
                output("stderr", "careful\n", 0),
                output("stdout", "o\n", 0),
                end(1, "succeeded", 0, true),
            ]),
        )
        .on(
            &of_run(2),
            Reply::Events(vec![
                output("stdout", "begun", 0),
                output("stdout", "and on\n", 70_000),
                end(2, "failed", 3, false),
            ]),
        );
    let ended = server.kanade(&["exec", "backup", "--all", "--follow"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let of = |pc: &str, text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with(pc));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(of("web-1", &ended.stdout), ["web-1 | one", "web-1 | two"]);
    assert_eq!(of("web-2", &ended.stdout), ["web-2 | begun", "web-2 | and on"]);
    assert_eq!(ended.stdout.lines().count(), 4, "{ended:?}");
    assert_eq!(of("web-1", &ended.stderr), ["web-1 | careful"]);
    assert_eq!(
        of("web-2", &ended.stderr),
        [
            "web-2: [… 70000 bytes left out …]".to_owned(),
            format!(
                "web-2: some of the output is not here; `kanade results show {}` has what is kept",
                id(2)
            ),
            "web-2 failed, exit code 3".to_owned(),
        ]
    );
    assert!(
        ended
            .stderr
            .starts_with("execution e-1 of backup 1, aimed at 2 agents\n")
    );
    assert!(
        ended.stderr.ends_with("1 of 2 succeeded, 1 failed in 1m 20s\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn one_run_is_printed_as_it_comes_and_as_lines_of_json_for_programs() {
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", fired())
        .on("GET /api/events", Reply::Events(Vec::new()))
        .on(
            "GET /api/executions/e-1",
            detail("completed", json!({"succeeded": 1}), &[(1, "web-1")]),
        )
        .on(
            &of_run(1),
            Reply::Events(vec![
                output("stdout", "no line end", 0),
                end(1, "succeeded", 0, true),
            ]),
        );
    let arguments = ["exec", "backup", "--pc", "web-1", "--follow"];
    assert_eq!(server.kanade(&arguments).await.ok(), "no line end");
    let told = server
        .kanade(&[&arguments[..], &["-o", "json"]].concat())
        .await
        .ok();
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["output", "end", "execution"]);
    assert_eq!(
        (&lines[0]["pc_id"], &lines[0]["text"]),
        (&json!("web-1"), &json!("no line end"))
    );
    assert_eq!(lines[2]["success_count"], 1);
}

#[tokio::test]
async fn the_output_of_a_run_goes_to_where_it_belongs() {
    let run = |state: &str, stdout: &str| {
        Reply::json(json!({
            "result_id": id(1), "exec_id": "e-1", "pc_id": "web-1", "request_id": id(2), "stdout": stdout,
            "exit_code": null, "stderr": "oops\n", "started_at": "2026-05-01T08:30:00Z", "finished_at": null,
            "job_id": "backup", "version": "1", "state": state
        }))
    };
    let path = format!("GET /api/results/{}", id(1));
    let server = Double::start().await.on(&path, run("failed", "out")).on(
        &of_run(1),
        Reply::Events(vec![output("stderr", "oops\n", 0), end(1, "killed", -1, true)]),
    );
    let ended = server.kanade(&["results", "output", &id(1)]).await;
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "out", "oops\n")
    );
    let followed = server.kanade(&["results", "output", &id(1), "--follow"]).await;
    assert_eq!(followed.stdout, "");
    assert_eq!(followed.fails(1), "oops\nweb-1 killed, exit code -1\n");

    let server = Double::start().await.on(&path, run("running", ""));
    let ended = server.kanade(&["results", "output", &id(1)]).await;
    assert!(ended.stderr.contains("--follow"), "{ended:?}");
    let refused = server
        .kanade(&["results", "output", &id(1), "--follow"])
        .await
        .fails(1);
    assert!(refused.contains("there is nothing at"), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_reader_says_what_goes_on_and_how_to_end_it() {
    use crate::double::{DEADLINE, kanade};

    let run = json!({
        "result_id": id(1), "exec_id": "e-1", "pc_id": "web-1", "request_id": id(2), "stdout": "", "exit_code": null,
        "stderr": "", "started_at": "2026-05-01T08:30:00Z", "finished_at": null, "job_id": "backup", "version": "1",
        "state": "running"
    });
    let server = Double::start()
        .await
        .on("POST /api/exec/backup", fired())
        .on("GET /api/events", Reply::Events(Vec::new()))
        .on(
            "GET /api/executions/e-1",
            detail("running", json!({"running": 1}), &[(1, "web-1")]),
        )
        .on(&format!("GET /api/results/{}", id(1)), Reply::json(run))
        .on(&of_run(1), Reply::Events(vec![output("stdout", "begun\n", 0)]));
    for (arguments, goes_on) in [
        (
            &["exec", "backup", "--all", "--follow"][..],
            "execution e-1 goes on".to_owned(),
        ),
        (
            &["results", "output", &id(1), "--follow"],
            format!("run {} goes on", id(1)),
        ),
    ] {
        let before = server.lines().len();
        let child = kanade(["--server", &server.url].iter().chain(arguments))
            .spawn()
            .unwrap();
        // Signals are listened for before the output is asked for.
        let asked = async {
            while !server.lines()[before..].contains(&of_run(1)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asked)
            .await
            .expect("the output is asked for");
        let pid = child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await;
        assert!(sent.unwrap().success());
        let ended = tokio::time::timeout(DEADLINE, child.wait_with_output())
            .await
            .expect("it ends");
        let ended = ended.unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(130), "{stderr}");
        assert!(
            stderr.contains(&goes_on) && stderr.contains("kanade kill e-1"),
            "{stderr}"
        );
    }
    assert!(
        server.lines().iter().all(|line| !line.contains("/kill")),
        "{:?}",
        server.lines()
    );
}
