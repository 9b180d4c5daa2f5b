//! What agents and command lines of 0.30 do that a server must know of, each with an agent that does so.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Deployment, done, get,
    old_agent::{Habits, OldAgent},
    soon,
};
use crate::support::Server;

const EXEC: &str = "/api/exec/job";

/// A server with one agent of these habits and a job for it.
async fn world(habits: Habits) -> (Deployment, Server, OldAgent) {
    let deployment = Deployment::with("lost_grace = '1s'\n").await;
    let server = deployment.place.serve();
    let job = json!({"id": "job", "version": "1.0.0", "execute": {"shell": "powershell", "script": "hostname",
        "timeout": "2s"}});
    done(&server, "/api/jobs", &job).await;
    let agent = OldAgent::with(&deployment.broker.url(), "pc-1", habits).await;
    soon("the agent is known", async || {
        get(&server, "/api/agents").await.as_array().unwrap().len() == 1
    })
    .await;
    (deployment, server, agent)
}

async fn fire(server: &Server) -> String {
    let fired = done(server, EXEC, &json!({"target": {"pcs": ["pc-1"]}})).await;
    fired["exec_id"].as_str().unwrap().to_owned()
}

async fn execution(server: &Server, exec: &str) -> Value {
    get(server, &format!("/api/executions/{exec}")).await["execution"].clone()
}

async fn target(server: &Server, exec: &str) -> Value {
    get(server, &format!("/api/executions/{exec}/targets")).await[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_the_jitter_is_repeated_until_the_agent_can_hear_it() {
    let (_deployment, server, agent) = world(Habits {
        jitter: Duration::from_secs(1),
        runs_for: Duration::from_secs(600),
        ..Habits::default()
    })
    .await;
    let exec = fire(&server).await;
    soon("the agent waits out its jitter", async || {
        agent.heard().contains_key(&exec)
    })
    .await;
    assert!(!agent.runs().contains_key(&exec), "it cannot hear a kill yet");
    done(&server, &format!("/api/executions/{exec}/kill"), &json!({})).await;
    soon("the kill ends it", async || {
        execution(&server, &exec).await["status"] == "killed"
    })
    .await;
    let target = target(&server, &exec).await;
    assert_eq!(
        (&target["state"], &target["receipt"]),
        (&json!("killed"), &json!("confirmed")),
        "{target}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_and_a_revoke_by_the_old_command_line_are_learned_from_the_broker() {
    let (deployment, server, agent) = world(Habits {
        runs_for: Duration::from_secs(600),
        ..Habits::default()
    })
    .await;
    let exec = fire(&server).await;
    soon("it runs", async || agent.runs().contains_key(&exec)).await;
    let client = deployment.client().await;
    client.publish(format!("kill.{exec}"), "".into()).await.unwrap();
    client.flush().await.unwrap();
    soon("the kill is recorded and the run has ended", async || {
        let execution = execution(&server, &exec).await;
        execution["status"] == "killed" && !execution["killed_at"].is_null()
    })
    .await;
    let jetstream = deployment.jetstream().await;
    super::keep(&jetstream, "$KV.script_status.job", "REVOKED").await;
    super::keep(&jetstream, "$KV.agent_groups.pc-1", r#"{"groups":["web"]}"#).await;
    soon("both are shown", async || {
        get(&server, "/api/scripts/status").await["job"] == "REVOKED"
            && get(&server, "/api/agents/pc-1/groups").await["groups"] == json!(["web"])
    })
    .await;
    let refused = super::post(&server, EXEC, &json!({"target": {"pcs": ["pc-1"]}})).await;
    assert!(refused.status().is_client_error(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_heartbeats_overtake_leads_to_a_repetition_that_the_agent_drops() {
    let (_deployment, server, agent) = world(Habits {
        reports_after: Duration::from_secs(4),
        ..Habits::default()
    })
    .await;
    let exec = fire(&server).await;
    soon("it is sent again, since nothing was heard of it", async || {
        agent.heard().get(&exec).is_some_and(|times| *times > 1)
    })
    .await;
    soon("it is completed", async || {
        execution(&server, &exec).await["status"] == "completed"
    })
    .await;
    assert_eq!(agent.runs()[&exec], 1, "the repetition has the same request id");
    let execution = execution(&server, &exec).await;
    assert_eq!(execution["success_count"], 1, "{execution}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_a_result_is_lost_when_its_time_is_over() {
    let (_deployment, server, _agent) = world(Habits {
        never_ends: true,
        ..Habits::default()
    })
    .await;
    let exec = fire(&server).await;
    soon("it is lost", async || {
        execution(&server, &exec).await["status"] == "completed"
    })
    .await;
    let execution = execution(&server, &exec).await;
    assert_eq!(execution["failure_count"], 1, "{execution}");
    assert_eq!(target(&server, &exec).await["state"], "lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_agent_would_drop_without_a_word_is_refused_at_the_fire() {
    let (_deployment, server, agent) = world(Habits::default()).await;
    let job = json!({"id": "job", "version": "2.0.0", "execute": {"shell": "bash", "script": "hostname", "timeout": "2s"}});
    done(&server, "/api/jobs", &job).await;
    let refused = super::post(&server, EXEC, &json!({"target": {"pcs": ["pc-1"]}})).await;
    assert_eq!(refused.status(), 400);
    let why = refused.text().await.unwrap();
    assert!(why.contains("0.30.0") && why.contains("bash"), "{why}");
    assert!(agent.heard().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_away_gets_every_execution_it_has_missed() {
    let (deployment, server, agent) = world(Habits::default()).await;
    drop(agent);
    // On one subject the broker keeps the newest only.
    let mut fired = Vec::new();
    for _ in 0..3 {
        fired.push(fire(&server).await);
    }
    let agent = OldAgent::start(&deployment.broker.url(), "pc-1").await;
    soon("all of them have run", async || {
        let runs = agent.runs();
        fired.iter().all(|exec| runs.contains_key(exec))
    })
    .await;
    for exec in fired {
        soon("it is completed", async || {
            execution(&server, &exec).await["status"] == "completed"
        })
        .await;
        assert_eq!(agent.runs()[&exec], 1);
    }
}
