//! What is wrong with a command or its surroundings is told in one line, with the exit code that belongs to it.

use serde_json::json;
use tokio::net::TcpListener;

use crate::double::{Double, Reply, kanade};

#[tokio::test]
async fn a_server_that_is_not_there_is_told_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = kanade(["--server", &url, "job", "list"]).output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with(&format!(
            "kanade: no kanade server answers at {url}; is `kanade serve` running?"
        )),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_wrong_command_is_a_failure_of_usage() {
    let server = Double::start().await;
    for (arguments, told) in [
        (&["job", "lst"][..], "list"),
        (&["exec", "backup"], "--all"),
        (&["exec", "backup", "--all", "--jitter", "5"], "duration"),
        (&["kill"], "--job"),
        (&["run", "--pc", "pc-1"], "SCRIPT"),
        (&["results", "list", "--since", "yesterday"], "90m"),
        (&["executions", "list", "--status", "done"], "completed"),
        (&["config", "set", "speed=fast"], "heartbeat_interval"),
        (&["job", "list", "--limit", "0"], "--limit"),
    ] {
        let stderr = server.kanade(arguments).await.fails(2);
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    assert!(
        server.lines().is_empty(),
        "nothing was sent: {:?}",
        server.lines()
    );
}

#[tokio::test]
async fn an_address_that_is_none_is_told_with_an_example() {
    let output = kanade(["--server", "localhost:8080", "job", "list"])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("http://127.0.0.1:8080"), "{stderr}");
}

#[tokio::test]
async fn what_the_server_refuses_as_wrong_is_a_failure_of_usage_and_all_else_is_not() {
    let server = Double::start()
        .await
        .on(
            "GET /api/results",
            Reply::problem(400, "stdout: `(` is not valid: a regular expression is wanted"),
        )
        .on(
            "DELETE /api/jobs/backup",
            Reply::problem(409, "job `backup` is referenced by schedule `nightly`"),
        );
    let stderr = server
        .kanade(&["results", "list", "--stdout", "("])
        .await
        .fails(2);
    assert_eq!(
        stderr,
        "kanade: stdout: `(` is not valid: a regular expression is wanted\n"
    );
    let stderr = server.kanade(&["job", "delete", "backup"]).await.fails(1);
    assert_eq!(
        stderr,
        "kanade: job `backup` is referenced by schedule `nightly`\n"
    );
    let stderr = server.kanade(&["executions", "show", "e-1"]).await.fails(1);
    assert!(stderr.contains("/api/executions/e-1"), "{stderr}");
}

#[tokio::test]
async fn the_token_comes_from_an_option_a_file_or_the_environment() {
    let server = Double::start().await.on("GET /api/jobs", Reply::json(json!([])));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let path = file.path().to_str().unwrap();
    server.kanade(&["job", "list", "--token", "given"]).await.ok();
    server.kanade(&["job", "list", "--token-file", path]).await.ok();
    for (variable, arguments) in [
        ("from-env", vec![]),
        ("from-env", vec!["--token-file", path]),
        ("", vec![]),
    ] {
        let arguments = ["--server", &server.url, "job", "list"]
            .into_iter()
            .chain(arguments);
        let output = kanade(arguments)
            .env("KANADE_TOKEN", variable)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    let sent: Vec<_> = sent.iter().map(Option::as_deref).collect();
    assert_eq!(
        sent,
        [
            Some("Bearer given"),
            Some("Bearer from-file"),
            Some("Bearer from-env"),
            Some("Bearer from-file"),
            None
        ]
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("x-kanade-source") == Some("cli"))
    );
    server
        .kanade(&["job", "list", "--token-file", "/nowhere/token"])
        .await
        .fails(2);
}

#[tokio::test]
async fn a_missing_token_is_told_with_where_it_goes() {
    let server = Double::start()
        .await
        .on("GET /api/jobs", Reply::problem(401, "a bearer token is wanted"));
    let stderr = server.kanade(&["job", "list"]).await.fails(1);
    assert!(
        stderr.starts_with("kanade: a bearer token is wanted; ") && stderr.contains("--token-file"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_completion_script_is_printed_without_a_server() {
    for shell in ["bash", "zsh", "fish"] {
        let output = kanade(["completions", shell]).output().await.unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("dead-letters"),
            "{shell}: {}",
            script.len()
        );
    }
}

#[tokio::test]
async fn nothing_is_coloured_where_nobody_looks() {
    let jobs = json!([{
        "id": "backup", "version": "1", "execute": {"shell": "sh", "script": "true", "timeout": "30s"},
        "live": {"running": 0, "pending": 0}, "script_status": "ACTIVE"
    }]);
    let server = Double::start().await.on("GET /api/jobs", Reply::json(jobs));
    let shown = server.kanade(&["job", "list"]).await.ok();
    assert_eq!(
        shown,
        "JOB     VERSION  STATUS  RUNNING  PENDING  DESCRIPTION\nbackup  1        active  0        0        -\n"
    );
    let stderr = server.kanade(&["job", "show", "other"]).await.fails(1);
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}
