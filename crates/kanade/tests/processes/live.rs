//! What a script prints is told while it runs: to whoever follows it on the command line, with agents near and far.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
    sync::mpsc,
    thread,
};

use serde_json::json;

use crate::support::{DEADLINE, Host, Place, Process, Server, text, until};

#[test]
fn of_an_agent_in_the_server() {
    let place = Place::new("redb", "redb");
    let server = place.serve();
    a_run_is_followed(&server, &place, "agent-1");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn of_an_agent_at_the_gateway() {
    let place = Place::without_agent("sqlite", "sqlite", "[server]\nbind = '127.0.0.1:0'\n");
    let server = place.serve();
    let data = place.path("agent");
    let mut command = Host::default().kanade();
    command.args([
        "agent",
        "--server",
        &server.url,
        "--id",
        "web-1",
        "--data",
        text(&data),
    ]);
    let _agent = Process::start(command, |_| {});
    a_run_is_followed(&server, &place, "web-1");
    assert_eq!(server.stop(), Some(0));
}

/// Fires a job, reads what it prints while it goes on, lets it end, and reads the rest.
pub(crate) fn a_run_is_followed(server: &Server, place: &Place, pc: &str) {
    let script = "echo begun; echo careful >&2; until [ -e go ]; do sleep 0.05; done; echo over; exit 3";
    let job = json!({"id": "long", "version": "1.0.0", "execute": {
        "shell": "sh", "script": script, "timeout": "10m", "cwd": text(&place.path("")),
    }});
    let file = place.write("long.json", &job.to_string());
    server.ok(&["job", "apply", "-f", text(&file)]);
    until("the agent is known", || {
        !server.json(&["agent", "list"]).as_array().unwrap().is_empty()
    });
    let mut command = Host::default().kanade();
    command.args(["--server", &server.url, "exec", "long", "--pc", pc, "--follow"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut following = command.spawn().unwrap();
    let (said, lines) = mpsc::channel();
    let stdout = BufReader::new(following.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            drop(said.send(line));
        }
    });
    // The script waits for this test, so what comes now comes while it runs.
    assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), "begun");
    let runs = server.json(&["results", "list", "--status", "running"]);
    let run = runs[0]["result_id"].as_str().unwrap().to_owned();
    place.write("go", "");
    assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), "over");
    let mut stderr = String::new();
    following
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(following.wait().unwrap().code(), Some(1), "{stderr}");
    let said: Vec<&str> = stderr.lines().collect();
    let [_, "careful", failed, counts] = said[..] else {
        panic!("{stderr}")
    };
    assert_eq!(failed, format!("{pc} failed, exit code 3"));
    assert!(counts.starts_with("0 of 1 succeeded, 1 failed"), "{counts}");

    // Afterwards the stored output is told in the same way.
    let output = server.cli(&["results", "output", &run, "--follow"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "begun\nover\n");
    assert_eq!(output.status.code(), Some(1));
}
