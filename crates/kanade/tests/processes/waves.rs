//! Waves through crashes: what is due later goes out at its time whatever happens to the server, and what was killed, aborted
//! or paused does not.

use std::time::Duration;

use kanade_model::{ExecutionStatus, GateState, WaveStatus, api};
use serde_json::json;

use crate::support::{Place, Server, text, until};

/// The delay of a later wave: long enough for a crash and a restart before it.
const LATER: &str = "5s";
/// The delay of a wave that goes out after the one that is waited for in vain.
const EVEN_LATER: &str = "8s";

/// A server with an agent in group `one`, and one that is never there in group `two`.
fn begin(kind: &str) -> (Place, Server) {
    let place = Place::new(kind, kind);
    let server = place.serve();
    let job = json!({"id": "quick", "version": "1.0.0",
        "execute": {"shell": "sh", "script": "echo done", "timeout": "30s"}});
    let file = place.write("job.yaml", &job.to_string());
    server.ok(&["job", "apply", "-f", text(&file)]);
    server.ok(&["group", "set", "agent-1", "one"]);
    server.ok(&["group", "set", "agent-2", "two"]);
    (place, server)
}

/// Fires at group `one` now and at group `two` after a while.
fn fire(server: &Server, later: &str, more: &[&str]) -> String {
    let second = format!("two={later}");
    let arguments = [&["exec", "quick", "--wave", "one=0s", "--wave", &second], more].concat();
    server.json(&arguments)["exec_id"].as_str().unwrap().to_owned()
}

fn shown(server: &Server, exec: &str) -> api::Execution {
    let detail = server.json(&["executions", "show", exec]);
    serde_json::from_value(detail["execution"].clone()).unwrap()
}

fn until_wave(server: &Server, exec: &str, wave: usize) -> api::ExecutionWave {
    until("the wave is sent", || {
        shown(server, exec).waves[wave].sent_at.is_some()
    });
    shown(server, exec).waves[wave].clone()
}

fn until_begun(server: &Server, exec: &str) {
    until("the first wave has ended", || {
        shown(server, exec).waves[0].status == WaveStatus::Done
    });
}

/// Returns when a wave that is due after those of before has gone out.
fn until_even_later(server: &Server) {
    let marker = fire(server, EVEN_LATER, &[]);
    until_wave(server, &marker, 1);
}

fn waves_go_out_after_a_crash(kind: &str) {
    let (place, server) = begin(kind);
    let exec = fire(&server, LATER, &[]);
    until_begun(&server, &exec);
    server.crash();
    let server = place.serve();
    let wave = until_wave(&server, &exec, 1);
    let sent_at = wave.sent_at.unwrap();
    assert!(sent_at >= wave.due_at, "not before its time: {wave:?}");
    assert!(
        sent_at.since(wave.due_at) < Duration::from_secs(10),
        "at its time: {wave:?}"
    );
    assert_eq!(wave.status, WaveStatus::Sent, "its agent is not there");
    server.ok(&["executions", "abort", &exec]);
    assert_eq!(server.stop(), Some(0));
}

fn killed_and_aborted_waves_never_go_out(kind: &str) {
    let (place, server) = begin(kind);
    let (killed, aborted) = (fire(&server, LATER, &[]), fire(&server, LATER, &[]));
    until_begun(&server, &killed);
    until_begun(&server, &aborted);
    server.ok(&["kill", &killed]);
    server.ok(&["executions", "abort", &aborted]);
    server.crash();
    let server = place.serve();
    until_even_later(&server);
    for exec in [killed, aborted] {
        let execution = shown(&server, &exec);
        assert_eq!(execution.status, ExecutionStatus::Killed);
        assert_eq!(execution.waves[1].status, WaveStatus::Withdrawn);
        assert_eq!(execution.waves[1].sent_at, None, "it never went out");
        server.fails(1, &["executions", "resume", &exec]);
    }
    assert_eq!(server.stop(), Some(0));
}

fn a_pause_holds_through_a_crash(kind: &str) {
    let (place, server) = begin(kind);
    let exec = fire(&server, LATER, &[]);
    until_begun(&server, &exec);
    server.ok(&["executions", "pause", &exec]);
    server.crash();
    let server = place.serve();
    until_even_later(&server);
    let paused = shown(&server, &exec);
    assert!(paused.paused_at.is_some());
    assert_eq!(
        (paused.waves[1].status, paused.waves[1].sent_at),
        (WaveStatus::Held, None)
    );
    let told = server.ok(&["executions", "resume", &exec]);
    assert!(told.contains("WAVE"), "{told}");
    let wave = until_wave(&server, &exec, 1);
    assert!(
        wave.sent_at.unwrap().since(wave.due_at) < Duration::from_secs(10),
        "at once: {wave:?}"
    );
    assert_eq!(server.stop(), Some(0));
}

fn a_gate_is_decided_after_a_crash(kind: &str) {
    let (place, server) = begin(kind);
    let exec = fire(&server, "0s", &["--proceed-if", "1=50s"]);
    // A crash interrupts what the agents in this process run, which would be a failure of the wave.
    until("the first wave has succeeded", || {
        shown(&server, &exec).success_count >= 1
    });
    server.crash();
    let server = place.serve();
    until_wave(&server, &exec, 1);
    let gate = shown(&server, &exec).waves[0].gate.clone().unwrap();
    assert_eq!(gate.state, GateState::Passed);
    server.crash();
    let server = place.serve();
    assert_eq!(
        shown(&server, &exec).waves[0].gate,
        Some(gate),
        "it stays as it was decided"
    );
    assert_eq!(server.stop(), Some(0));
}

macro_rules! on_both {
    ($($name:ident: $case:ident;)+) => {
        mod sqlite { $(#[test] fn $name() { super::$case("sqlite"); })+ }
        mod redb { $(#[test] fn $name() { super::$case("redb"); })+ }
    };
}

on_both! {
    later_waves_go_out_at_their_time: waves_go_out_after_a_crash;
    what_is_killed_or_aborted_never_goes_out: killed_and_aborted_waves_never_go_out;
    what_is_paused_waits_until_it_is_resumed: a_pause_holds_through_a_crash;
    a_gate_lets_the_next_wave_out_once: a_gate_is_decided_after_a_crash;
}
