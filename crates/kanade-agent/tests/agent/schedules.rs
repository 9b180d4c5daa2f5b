//! Schedules that the agent ticks itself, in days of a clock that the test moves.

use std::time::Duration;

use kanade_agent::Agent;
use kanade_memory::ManualClock;
use kanade_model::{ExecId, ExecResult, Timestamp};
use kanade_ports::{Bucket, Catalog, Precondition};
use serde_json::{Value, json};

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A world with the job `backup`, and the clock at 2026-05-01T08:30.
async fn world() -> (World, ManualClock) {
    let (world, clock) = World::with_manual_clock().await;
    job(&world, "1", "echo done").await;
    (world, clock)
}

async fn job(world: &World, version: &str, script: &str) {
    let document = json!({
        "id": "backup", "version": version, "execute": {"shell": "sh", "script": script, "timeout": "1m"}
    });
    world.set(Bucket::Jobs, "backup", &document.to_string()).await;
}

fn schedule(change: &Value) -> String {
    let mut document = json!({
        "id": "often", "cron": "0 0 */6 * * *", "job_id": "backup", "target": {"all": true}, "runs_on": "agent"
    });
    for (key, value) in change.as_object().unwrap() {
        document[key] = value.clone();
    }
    document.to_string()
}

/// Sets a schedule and waits until the agent has taken it in: what it has kept it goes by.
async fn set(world: &World, text: &str) {
    world.set(Bucket::Schedules, "often", text).await;
    kept(world, |kept| kept["documents"]["schedules"]["often"] == text).await;
}

async fn kept(world: &World, holds: impl Fn(&Value) -> bool) {
    let path = world.folder.join("agent/schedules.json");
    let holding = async {
        loop {
            let text = std::fs::read(&path).unwrap_or_default();
            if serde_json::from_slice(&text).is_ok_and(|kept| holds(&kept)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), holding)
        .await
        .expect("the agent keeps it");
}

async fn ran(world: &World, slot: &str) -> ExecResult {
    let exec_id = ExecId::of_slot(&"often".parse().unwrap(), at(slot));
    world
        .hear("results.", |result: &ExecResult| {
            result.exec_id.as_ref() == Some(&exec_id)
        })
        .await
}

fn runs(world: &World) -> usize {
    world.heard::<ExecResult>("results.").len()
}

async fn restarted(world: &World, agent: Agent) -> Agent {
    agent.stop().await;
    world.agent().await
}

#[tokio::test]
async fn two_days_of_slots_run_once_each_and_none_is_made_up_for() {
    let (world, clock) = world().await;
    let mut agent = world.agent().await;
    set(&world, &schedule(&json!({}))).await;
    let mut slots = 0;
    for slot in [
        "2026-05-01T12:00:00Z",
        "2026-05-01T18:00:00Z",
        "2026-05-02T00:00:00Z",
    ] {
        clock.set(at(slot));
        let result = ran(&world, slot).await;
        assert_eq!((result.stdout.as_str(), result.exit_code), ("done\n", 0));
        assert_eq!(result.manifest_id, Some("backup".parse().unwrap()));
        slots += 1;
        // The second of the slot is not over: the next life begins in it.
        agent = restarted(&world, agent).await;
    }
    agent.stop().await;
    clock.set(at("2026-05-02T08:00:00Z"));
    let agent = world.agent().await;
    for slot in ["2026-05-02T12:00:00Z", "2026-05-02T18:00:00Z"] {
        clock.set(at(slot));
        ran(&world, slot).await;
        slots += 1;
    }
    agent.stop().await;
    assert_eq!(runs(&world), slots, "06:00 passed while it did not run");
}

#[tokio::test]
async fn slots_follow_the_clocks_of_their_time_zone() {
    let (world, clock) = world().await;
    clock.set(at("2026-10-24T12:00:00Z"));
    let agent = world.agent().await;
    set(
        &world,
        &schedule(&json!({"cron": "0 30 8 * * *", "timezone": "Europe/Berlin"})),
    )
    .await;
    // Clocks are put back in the night before the 25th.
    for slot in ["2026-10-25T07:30:00Z", "2026-10-26T07:30:00Z"] {
        clock.set(at(slot));
        ran(&world, slot).await;
    }
    agent.stop().await;
    assert_eq!(runs(&world), 2);
}

#[tokio::test]
async fn an_agent_ticks_without_its_server_also_after_a_restart() {
    let (world, clock) = world().await;
    let agent = world.agent().await;
    set(&world, &schedule(&json!({}))).await;
    kept(&world, |kept| kept["documents"]["jobs"]["backup"].is_string()).await;
    agent.stop().await;
    // The next life has a catalog that knows nothing and never answers.
    let agent = world.agent_without_catalog().await;
    for slot in ["2026-05-01T12:00:00Z", "2026-05-01T18:00:00Z"] {
        clock.set(at(slot));
        // It waits a while for the catalog.
        let time_goes_on = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                clock.advance(Duration::from_secs(1));
            }
        };
        tokio::select! {
            _ = ran(&world, slot) => {}
            () = time_goes_on => {}
        }
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_disabled_or_deleted_schedule_and_a_revoked_job_do_not_run() {
    let (world, clock) = world().await;
    let agent = world.agent().await;
    set(&world, &schedule(&json!({}))).await;
    clock.set(at("2026-05-01T12:00:00Z"));
    ran(&world, "2026-05-01T12:00:00Z").await;
    set(&world, &schedule(&json!({"enabled": false}))).await;
    clock.advance(6 * HOUR);
    set(&world, &schedule(&json!({}))).await;
    world.set(Bucket::ScriptStatus, "backup", "REVOKED").await;
    kept(&world, |kept| {
        kept["documents"]["script_status"]["backup"] == "REVOKED"
    })
    .await;
    clock.set(at("2026-05-02T00:00:00Z"));
    let skipped: kanade_model::EventSkipped = world.hear("events.skipped.", |_| true).await;
    assert_eq!(skipped.reason, kanade_model::SkipReason::Revoked);
    world.set(Bucket::ScriptStatus, "backup", "ACTIVE").await;
    let key = "often".parse().unwrap();
    world
        .catalog
        .delete(Bucket::Schedules, &key, Precondition::Any)
        .await
        .unwrap();
    kept(&world, |kept| kept["documents"]["schedules"]["often"].is_null()).await;
    clock.set(at("2026-05-02T06:00:00Z"));
    set(&world, &schedule(&json!({}))).await;
    clock.set(at("2026-05-02T12:00:00Z"));
    ran(&world, "2026-05-02T12:00:00Z").await;
    agent.stop().await;
    assert_eq!(runs(&world), 2);
}

#[tokio::test]
async fn the_newest_version_runs_whatever_was_fired_last() {
    let (world, clock) = world().await;
    world.set(Bucket::ScriptCurrent, "backup", "1").await;
    let agent = world.agent().await;
    set(&world, &schedule(&json!({}))).await;
    job(&world, "2", "echo two").await;
    clock.set(at("2026-05-01T12:00:00Z"));
    assert_eq!(ran(&world, "2026-05-01T12:00:00Z").await.stdout, "two\n");
    agent.stop().await;
}

#[tokio::test]
async fn once_per_pc_runs_until_it_has_succeeded_and_remembers_that() {
    let (world, clock) = world().await;
    job(&world, "1", "exit 1").await;
    let mut agent = world.agent().await;
    set(
        &world,
        &schedule(&json!({"mode": "once_per_pc", "cooldown": "13h"})),
    )
    .await;
    clock.set(at("2026-05-01T12:00:00Z"));
    assert_eq!(ran(&world, "2026-05-01T12:00:00Z").await.exit_code, 1);
    job(&world, "2", "true").await;
    clock.set(at("2026-05-01T18:00:00Z"));
    assert_eq!(ran(&world, "2026-05-01T18:00:00Z").await.exit_code, 0);
    for slot in ["2026-05-02T00:00:00Z", "2026-05-02T06:00:00Z"] {
        agent = restarted(&world, agent).await;
        clock.set(at(slot));
    }
    clock.set(at("2026-05-02T12:00:00Z"));
    ran(&world, "2026-05-02T12:00:00Z").await;
    agent.stop().await;
    assert_eq!(runs(&world), 3, "nothing within the cooldown");
    assert_eq!(world.clock.now(), at("2026-05-02T12:00:00Z"));
}
