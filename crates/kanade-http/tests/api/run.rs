use std::time::Duration;

use kanade_model::{Shell, Subject};
use kanade_ports::PubSub;
use serde_json::json;

use crate::world::{World, encode, has_fields, id};

#[tokio::test]
async fn a_script_runs_on_one_agent_while_the_caller_waits() {
    let mut world = World::new().await;
    let request =
        json!({ "pc_id": "pc-1", "script": "uname", "shell": "sh", "timeout_secs": 5, "exec_id": "mine" });
    let running = tokio::spawn(world.post("/api/run").json(&request).send());
    let command = world.command().await;
    assert_eq!((command.shell, command.timeout_secs), (Shell::Sh, 5));
    assert_eq!(
        (command.exec_id.clone(), command.script.as_str()),
        (Some(id("mine")), "uname")
    );
    let result = world.result(&command, "pc-1", 0, "Linux\n");
    world
        .durable(&Subject::result(command.request_id), encode(&result))
        .await;
    let answer = running.await.unwrap().expect(200);
    has_fields(
        &answer,
        &[
            "result_id",
            "request_id",
            "exec_id",
            "pc_id",
            "exit_code",
            "stdout",
            "stderr",
            "started_at",
            "finished_at",
            "manifest_id",
        ],
    );
    assert_eq!(answer["stdout"], "Linux\n");
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["target"]),
        (&json!("run"), &json!("pc-1"))
    );
}

#[tokio::test]
async fn a_script_that_does_not_end_is_given_up_ten_seconds_after_its_timeout() {
    let mut world = World::new().await;
    let request = json!({ "pc_id": "pc-1", "script": "sleep 99" });
    let running = tokio::spawn(world.post("/api/run").json(&request).send());
    let command = world.command().await;
    assert_eq!(
        (command.shell, command.timeout_secs),
        (Shell::Powershell, 60),
        "the defaults of the contract"
    );
    world
        .until("the run has ended", async || {
            world.clock.advance(Duration::from_secs(5));
            running.is_finished()
        })
        .await;
    assert_eq!(
        running.await.unwrap().problem(408),
        "agent `pc-1` sent no result within 70s"
    );
}

#[tokio::test]
async fn a_run_that_is_not_valid_is_refused() {
    let mut world = World::new().await;
    for (field, value) in [
        ("shell", json!("fish")),
        ("timeout_secs", json!(0)),
        ("timeout_secs", json!(-5)),
        ("timeout_secs", json!("60")),
        ("pc_id", json!("a b")),
        ("exec_id", json!("a b")),
        ("script", json!(null)),
        ("jitter_secs", json!("5s")),
    ] {
        let mut request = json!({ "pc_id": "pc-1", "script": "true" });
        request[field] = value.clone();
        let answer = world.post("/api/run").json(&request).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{field} {value}");
    }
    assert_eq!(world.commands_so_far(), 0);
}

#[tokio::test]
async fn a_script_that_no_message_can_carry_is_too_large() {
    let world = World::new().await;
    // Escaped, it takes more than the script itself.
    let request = json!({ "pc_id": "pc-1", "script": "\u{1}".repeat(500 << 10), "shell": "sh" });
    world.post("/api/run").json(&request).send().await.problem(413);
    let _listening = world.bus.subscribe(&"commands.>".parse().unwrap()).await.unwrap();
    let body = json!({ "pc_id": "pc-1", "script": "x".repeat(3 << 20) });
    assert_eq!(
        world.post("/api/run").json(&body).send().await.problem(413),
        "the body is larger than 2 MiB"
    );
}
