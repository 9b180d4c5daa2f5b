//! A thousand agents on one server, and what happens to them when others misbehave.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use kanade_ports::PubSub;
use serde_json::Value;

use crate::{
    scenario::{execution, fire},
    simulated::Simulated,
    support::{DEADLINE, Place, Server, text, until},
};

const AGENTS: usize = 1_000;
const SILENT: usize = 10_000;
const MEGABYTE: u64 = 1 << 20;

fn place(more: &str) -> Place {
    Place::without_agent(
        "sqlite",
        "sqlite",
        &format!("[server]\nbind = '127.0.0.1:0'\n{more}\n[log]\nlevel = 'warn,kanade=info'\n"),
    )
}

fn apply_job(place: &Place, server: &Server) {
    let job = place.write(
        "job.yaml",
        "id: job\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 5m\n  script: sleep 60\n",
    );
    server.ok(&["job", "apply", "-f", text(&job)]);
}

/// Fires at everybody, waits until everybody has it, kills it, and waits until everybody has followed.
async fn fire_and_kill(server: &Server, fleet: &[Simulated]) {
    let exec = fire(server, &["exec", "job", "--all"]);
    let id = exec.parse().unwrap();
    soon("everybody has the Command", || {
        fleet.iter().all(|agent| agent.has_command(&id))
    })
    .await;
    server.ok(&["kill", &exec]);
    soon("everybody has the kill", || {
        fleet.iter().all(|agent| agent.killed_at(&id).is_some())
    })
    .await;
    soon("everybody's result is counted", || {
        let execution = execution(server, &exec);
        execution["status"] == "killed" && execution["targets"]["killed"] == fleet.len()
    })
    .await;
}

async fn soon(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_agents_are_fired_at_and_killed_through_a_crash_of_the_server() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    // A port that is the same after the crash.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let place = Place::without_agent(
        "sqlite",
        "sqlite",
        &format!(
            "[server]\nbind = '{port}'\n[execution]\nresend_after = '1s'\n[log]\nlevel = 'warn,kanade=info'\n"
        ),
    );
    let server = place.serve();
    let begun = Instant::now();
    let fleet = Simulated::fleet(&server.url, AGENTS).await;
    let took = begun.elapsed();
    println!("{AGENTS} agents connected in {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    soon("all of them are known", || known(&server) == AGENTS).await;
    apply_job(&place, &server);
    fire_and_kill(&server, &fleet).await;

    let mut back: Vec<_> = fleet.iter().map(|agent| agent.link.reconnections()).collect();
    server.crash();
    let server = place.serve();
    let reconnected = futures::future::join_all(back.iter_mut().map(futures::StreamExt::next));
    tokio::time::timeout(DEADLINE, reconnected)
        .await
        .expect("everybody finds the server again");
    fire_and_kill(&server, &fleet).await;
    drop(fleet);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_say_nothing_take_little_and_keep_nobody_out() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let place = place("max_connections = 2000\nheader_timeout = '60s'");
    let server = place.serve();
    apply_job(&place, &server);
    let mut fleet = Simulated::fleet(&server.url, 20).await;
    let before = memory(&server);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let silent: Vec<TcpStream> = tokio::task::spawn_blocking(move || {
        (0..SILENT)
            .map(|_| TcpStream::connect(&address).unwrap())
            .collect()
    })
    .await
    .unwrap();
    // Who is here still is, and who comes is let in.
    fleet.push(Simulated::connect(&server.url, "late".parse().unwrap()).await);
    soon("the late one is known", || known(&server) == fleet.len()).await;
    fire_and_kill(&server, &fleet).await;
    let after = memory(&server);
    println!(
        "{SILENT} silent connections: {} MB before, {} MB with them",
        before / MEGABYTE,
        after / MEGABYTE
    );
    assert!(after < before + 64 * MEGABYTE, "{} MB", after / MEGABYTE);
    drop(silent);
    drop(fleet);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_agent_that_may_not_connect_is_told_why_and_goes_on_trying() {
    let place = place(
        "[auth]\nagent_tokens = [{ name = 'web', pc_ids = 'web-*', hash = 'sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae' }]",
    );
    let server = place.serve();
    // The hash is that of `foo`.
    for (id, token, why) in [
        ("web-1", None, "token"),
        ("web-1", Some("bar"), "token"),
        ("db-1", Some("foo"), "db-1"),
    ] {
        let (told, lines) = std::sync::mpsc::channel();
        let mut command = crate::support::Host::default().kanade();
        let data = place.path(&format!("{id}-{}", token.unwrap_or("none")));
        command.args([
            "agent",
            "--server",
            &server.url,
            "--id",
            id,
            "--data",
            text(&data),
        ]);
        if let Some(token) = token {
            command.args(["--token", token]);
        }
        let agent = crate::support::Process::start(command, move |line| drop(told.send(line.to_owned())));
        let line = lines
            .iter()
            .find(|line| line.contains("ERROR"))
            .expect("it says what is wrong");
        assert!(line.contains(why), "{line}");
        assert_eq!(agent.stop(), Some(0));
    }
    let mut command = crate::support::Host::default().kanade();
    let data = place.path("web-2");
    command.args([
        "agent",
        "--server",
        &server.url,
        "--id",
        "web-2",
        "--token",
        "foo",
        "--data",
        text(&data),
    ]);
    let agent = crate::support::Process::start(command, |_| {});
    until("who may is in", || known(&server) == 1);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(server.stop(), Some(0));
}

fn known(server: &Server) -> usize {
    let agents: Value = server.json(&["agent", "list", "--all"]);
    agents.as_array().unwrap().len()
}

/// What a server takes of the machine's memory now, in bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    resident
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        << 10
}
