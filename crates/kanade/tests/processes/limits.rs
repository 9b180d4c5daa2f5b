//! What a server does with too much, and with what it cannot use: endless output, taken ports, data that is not its own.

use std::process::Command;

use crate::support::{Place, text, until};
use serde_json::Value;

const MEGABYTE: u64 = 1 << 20;

#[test]
fn endless_output_is_cut_and_memory_stays_small() {
    let place = Place::new("sqlite", "sqlite");
    let server = place.serve();
    let noisy = place.write(
        "noisy.yaml",
        "id: noisy\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 5s\n  script: yes 'again and again'\n",
    );
    server.ok(&["job", "apply", "-f", text(&noisy)]);
    until("the agent is known", || {
        !server.json(&["agent", "list"]).as_array().unwrap().is_empty()
    });
    // Several at once, on both outputs.
    for _ in 0..4 {
        server.ok(&["exec", "noisy", "--all"]);
    }
    let runs = || {
        server
            .json(&["results", "list", "--job", "^noisy$"])
            .as_array()
            .unwrap()
            .clone()
    };
    let finished = |run: &Value| !run["finished_at"].is_null();
    until("all four have ended", || {
        runs().len() == 4 && runs().iter().all(finished)
    });
    for run in runs() {
        let stdout = run["stdout"].as_str().unwrap();
        assert_eq!(run["state"], "timed_out");
        assert!(stdout.len() < 300 << 10, "{} bytes were kept", stdout.len());
        assert!(stdout.starts_with("again and again\n"));
        assert!(
            stdout.contains("left out"),
            "it says that something is missing: {}",
            &stdout[..0]
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    println!("server and agent took {} MB at most", peak / MEGABYTE);
    assert!(peak < 128 * MEGABYTE, "{} MB", peak / MEGABYTE);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn what_cannot_be_used_stops_the_start_with_one_line() {
    let first = Place::new("sqlite", "sqlite");
    let server = first.serve();
    let address = server.url.strip_prefix("http://").unwrap();
    let refused = |bind: &str, place: &Place, file: &str| {
        let config = place.path(file);
        let output = Command::new(env!("CARGO_BIN_EXE_kanade"))
            .env("KANADE_SERVER__BIND", bind)
            .args(["serve", "--config", text(&config)])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        stderr.lines().last().unwrap().to_owned()
    };
    let other = Place::new("sqlite", "sqlite");
    let line = refused(address, &other, "kanade.toml");
    assert!(line.contains(address) && line.contains("port"), "{line}");
    let line = refused("127.0.0.1:0", &first, "kanade.toml");
    assert!(
        line.contains("kanade.db") && line.contains("another"),
        "the file is in use: {line}"
    );
    let line = refused("127.0.0.1:0", &first, "missing.toml");
    assert!(
        line.contains("missing.toml: there is no such configuration file"),
        "{line}"
    );
    for (kind, name) in [("sqlite", "kanade.db"), ("redb", "kanade.redb")] {
        let place = Place::new(kind, kind);
        std::fs::create_dir(place.path("data")).unwrap();
        let file = place.path("data").join(name);
        let before = "this is somebody's diary and no database".repeat(500);
        std::fs::write(&file, &before).unwrap();
        let line = refused("127.0.0.1:0", &place, "kanade.toml");
        assert!(line.contains(name), "{line}");
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            before,
            "it was not touched"
        );
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let place = Place::new("redb", "sqlite");
    let config = place.path("kanade.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_kanade"))
        .env(
            "KANADE_AUTH__JWT_SECRET",
            "a-secret-that-nobody-may-ever-see-here",
        )
        .args(["config", "show", "--config", text(&config)])
        .output()
        .unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("kind = \"redb\"") && shown.contains("jwt_secret = \"***\""),
        "{shown}"
    );
    assert!(!shown.contains("nobody"), "{shown}");
}
