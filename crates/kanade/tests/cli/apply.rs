//! `apply`: nothing is sent before everything is right; what is there already is compared, shown, and not overwritten
//! when somebody else has changed it.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::double::{Double, Reply};

const BACKUP: &str = "id: backup\nversion: 1.1.0\nexecute:\n  shell: sh\n  script: |\n    echo one\n    echo two\n  timeout: 30s\n";

fn manifest(version: &str, script: &str) -> Value {
    json!({"id": "backup", "version": version, "execute": {"shell": "sh", "script": script, "timeout": "30s"}})
}

fn job(version: &str, script: &str, status: &str) -> Value {
    let mut job = manifest(version, script);
    job["live"] = json!({"running": 0, "pending": 0});
    job["script_status"] = json!(status);
    job
}

fn stored(id: &str) -> Reply {
    Reply::json(json!({"id": id, "version": "1.1.0", "description": null, "inventory": false}))
}

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> (TempDir, impl Fn(&str) -> String + use<>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path: PathBuf = folder.path().to_owned();
    (folder, move |name: &str| {
        path.join(name).to_str().unwrap().trim_end_matches('/').to_owned()
    })
}

#[tokio::test]
async fn nothing_is_sent_unless_every_document_is_right() {
    let server = Double::start().await;
    let typo = BACKUP
        .replace("timeout: 30s", "timeout: 30s\n  retries: 3")
        .replace("backup", "other");
    let broken = BACKUP
        .replace("shell: sh", "shell: zsh")
        .replace("backup", "third");
    let (_folder, path) = folder(&[("a.yaml", BACKUP), ("b.yaml", &format!("{typo}---\n{broken}"))]);
    let stderr = server
        .kanade(&["job", "apply", "-f", &path("a.yaml"), "-f", &path("b.yaml")])
        .await
        .fails(2);
    let b = path("b.yaml");
    assert!(
        stderr.starts_with("kanade: 2 problems, nothing was sent\n"),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("{b}:9:3: unknown field `execute.retries`\n")),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("{b}:14:10: execute.shell: ")),
        "{stderr}"
    );
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[tokio::test]
async fn yaml_that_is_none_is_told_with_its_place() {
    let server = Double::start().await;
    let ended = server
        .kanade_with(&["job", "apply", "-f", "-"], "id: backup\n  version: 1\n")
        .await;
    let stderr = ended.fails(2);
    assert!(stderr.starts_with("kanade: <stdin>:2:10: "), "{stderr}");
    let stderr = server
        .kanade(&["job", "apply", "-f", "/nowhere/jobs.yaml"])
        .await
        .fails(2);
    assert!(stderr.contains("/nowhere/jobs.yaml"), "{stderr}");
    let ended = server
        .kanade_with(
            &["job", "apply", "-f", "-"],
            "id: s\ncron: 0 0 2 * * *\njob_id: b\n",
        )
        .await;
    assert!(ended.fails(2).contains("`kanade schedule apply` takes it"));
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[tokio::test]
async fn documents_are_created_updated_or_left_alone() {
    let two = format!("{BACKUP}---\n{}", BACKUP.replace("id: backup", "id: fresh"));
    let (_folder, path) = folder(&[
        ("jobs.yaml", &two),
        ("notes.txt", "no job"),
        (
            "same.json",
            &manifest("3", "x").to_string().replace("backup", "same"),
        ),
    ]);
    let same: Value =
        serde_json::from_str(&job("3", "x", "ACTIVE").to_string().replace("backup", "same")).unwrap();
    let server = Double::start()
        .await
        .on(
            "GET /api/jobs/backup",
            Reply::tagged(job("1.0.0", "echo one\necho two\n", "REVOKED"), "7"),
        )
        .on("GET /api/jobs/same", Reply::tagged(same, "9"))
        .on("POST /api/jobs", stored("backup"))
        .on("POST /api/jobs", stored("fresh"));
    let ended = server.kanade(&["job", "apply", "-f", &path("")]).await;
    assert_eq!(
        ended.stdout, "job backup 1.1.0 updated\njob fresh 1.1.0 created\njob same 3 unchanged\n",
        "{ended:?}"
    );
    assert_eq!(
        ended.stderr,
        "warning: job `backup` is revoked: agents do not start it until `kanade unrevoke backup`\n"
    );
    let posts: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.line == "POST /api/jobs")
        .collect();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0].body, manifest("1.1.0", "echo one\necho two\n"));
    assert_eq!(
        (posts[0].header("if-match"), posts[0].header("if-none-match")),
        (Some("\"7\""), None)
    );
    assert_eq!(
        (posts[1].header("if-match"), posts[1].header("if-none-match")),
        (None, Some("*"))
    );
}

#[tokio::test]
async fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let server = Double::start().await.on(
        "GET /api/jobs/backup",
        Reply::tagged(job("1.0.0", "echo one\necho 2\n", "ACTIVE"), "7"),
    );
    let shown = server
        .kanade_with(&["job", "apply", "-f", "-", "--dry-run"], BACKUP)
        .await
        .ok();
    for line in [
        "--- job/backup (stored)",
        "+++ job/backup (given)",
        "-version: \"1.0.0\"",
        "+version: \"1.1.0\"",
        "     echo one",
        "-    echo 2",
        "+    echo two",
        "job backup 1.1.0 would be updated",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line:?} is missing in\n{shown}"
        );
    }
    let json = server
        .kanade_with(&["job", "apply", "-f", "-", "--dry-run", "-o", "json"], BACKUP)
        .await
        .json();
    assert_eq!(
        (json[0]["id"].as_str(), json[0]["change"].as_str()),
        (Some("backup"), Some("updated"))
    );
    assert!(
        json[0]["diff"].as_str().unwrap().contains("+    echo two\n"),
        "{json}"
    );
    assert!(
        server.lines().iter().all(|line| line.starts_with("GET ")),
        "{:?}",
        server.lines()
    );
}

#[tokio::test]
async fn what_somebody_else_has_changed_is_not_overwritten() {
    let server = Double::start()
        .await
        .on(
            "GET /api/jobs/backup",
            Reply::tagged(job("1.0.0", "true", "ACTIVE"), "7"),
        )
        .on(
            "POST /api/jobs",
            Reply::problem(412, "job `backup` was changed since you read it"),
        );
    let two = format!("{BACKUP}---\n{}", BACKUP.replace("id: backup", "id: second"));
    let ended = server
        .kanade_with(&["job", "apply", "-f", "-", "-o", "json"], &two)
        .await;
    assert_eq!(ended.stdout.trim(), "[]", "programs see what was applied");
    let stderr = ended.fails(1);
    assert!(
        stderr.starts_with(
            "kanade: <stdin>:1: job `backup` (1 more not tried): job `backup` was changed since you read it"
        ),
        "{stderr}"
    );
    assert_eq!(server.lines(), ["GET /api/jobs/backup", "POST /api/jobs"]);
}

#[tokio::test]
async fn what_is_shown_can_be_applied_again() {
    let server = Double::start().await.on(
        "GET /api/jobs/backup",
        Reply::tagged(job("1.1.0", "echo one\necho two\n", "ACTIVE"), "7"),
    );
    let shown = server.kanade(&["job", "show", "backup"]).await.ok();
    assert!(shown.starts_with("# active, 0 running, 0 pending\n"), "{shown}");
    let applied = server
        .kanade_with(&["job", "apply", "-f", "-"], &shown)
        .await
        .ok();
    assert_eq!(applied, "job backup 1.1.0 unchanged\n");
}

#[tokio::test]
async fn schedules_are_applied_and_enabled_the_same_way() {
    let nightly = json!({
        "id": "nightly", "cron": "0 0 2 * * *", "job_id": "backup", "target": {"all": true}, "enabled": false,
        "mode": "every_tick", "auto_disable_when_done": false, "runs_on": "backend"
    });
    let server = Double::start()
        .await
        .on("GET /api/schedules/nightly", Reply::tagged(nightly, "4"))
        .on("POST /api/schedules/nightly/enable", Reply::done())
        .on("POST /api/schedules/nightly/disable?cascade=true", Reply::done());
    let text = "id: nightly\ncron: 0 0 2 * * *\njob_id: backup\nenabled: false\ntarget: {all: true}\n";
    let applied = server
        .kanade_with(&["schedule", "apply", "-f", "-"], text)
        .await
        .ok();
    assert_eq!(applied, "schedule nightly (disabled) unchanged\n");
    assert_eq!(
        server.kanade(&["schedule", "enable", "nightly"]).await.ok(),
        "schedule nightly enabled\n"
    );
    let told = server
        .kanade(&["schedule", "disable", "nightly", "--cascade"])
        .await
        .ok();
    assert_eq!(told, "schedule nightly disabled and its job revoked\n");
}
