//! What agents of 0.30 report, in every order and shape that is known of them: right rows, right counts, and what cannot be
//! understood is set aside where it can be read.

use async_nats::jetstream::Context;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{
    Deployment, done, get, keep,
    old_agent::{now, reports},
    soon,
};
use crate::support::Server;

const LARGE: usize = 900 << 10;

/// Fires at everybody and gives the Command as it was sent.
async fn fired(deployment: &Deployment, server: &Server) -> Value {
    let mut commands = deployment.client().await.subscribe("commands.all").await.unwrap();
    done(server, "/api/exec/job", &json!({"target": {"all": true}})).await;
    let message = commands.next().await.unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

async fn prepared(deployment: &Deployment) -> (Server, Context) {
    let server = deployment.place.serve();
    let job = json!({"id": "job", "version": "2.0.0", "execute": {"shell": "powershell", "script": "hostname",
        "timeout": "30s"}});
    done(&server, "/api/jobs", &job).await;
    let client = deployment.client().await;
    for pc in ["pc-1", "pc-2"] {
        let heartbeat =
            json!({"pc_id": pc, "at": now(), "agent_version": "0.30.0", "a_field_of_tomorrow": [1]});
        client
            .publish(format!("heartbeat.{pc}"), heartbeat.to_string().into())
            .await
            .unwrap();
    }
    soon("both agents are known", async || {
        get(&server, "/api/agents").await.as_array().unwrap().len() == 2
    })
    .await;
    (server, deployment.jetstream().await)
}

async fn send(jetstream: &Context, report: &Value) {
    let request = report["request_id"].as_str().unwrap();
    keep(jetstream, &format!("results.{request}"), report.to_string()).await;
}

async fn start(jetstream: &Context, event: &Value) {
    let (exec, pc) = (
        event["exec_id"].as_str().unwrap(),
        event["pc_id"].as_str().unwrap(),
    );
    keep(
        jetstream,
        &format!("events.started.{exec}.{pc}"),
        event.to_string(),
    )
    .await;
}

async fn execution(server: &Server, command: &Value) -> Value {
    let exec = command["exec_id"].as_str().unwrap();
    get(server, &format!("/api/executions/{exec}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_results_of_one_broadcast_are_two_runs_whatever_comes_first() {
    let deployment = Deployment::new().await;
    let (server, jetstream) = prepared(&deployment).await;
    let command = fired(&deployment, &server).await;
    let (first_start, first) = reports(&command, "pc-1");
    let (second_start, mut second) = reports(&command, "pc-2");
    second["exit_code"] = json!(3);
    // A result before its start, and a start after its result: the same, from both ends.
    send(&jetstream, &first).await;
    soon("the first result counts", async || {
        execution(&server, &command).await["execution"]["success_count"] == 1
    })
    .await;
    start(&jetstream, &first_start).await;
    start(&jetstream, &second_start).await;
    send(&jetstream, &second).await;
    soon("it is completed", async || {
        execution(&server, &command).await["execution"]["status"] == "completed"
    })
    .await;
    // The late start has been recorded by now, and changed nothing.
    let detail = execution(&server, &command).await;
    assert_eq!(detail["execution"]["success_count"], 1, "{detail}");
    assert_eq!(detail["execution"]["failure_count"], 1, "{detail}");
    let rows = get(&server, "/api/results?job_id=^job$").await;
    let mut rows: Vec<&Value> = rows.as_array().unwrap().iter().collect();
    rows.sort_by_key(|row| row["pc_id"].as_str());
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, result) in rows.iter().zip([&first, &second]) {
        for field in [
            "result_id",
            "request_id",
            "exec_id",
            "pc_id",
            "exit_code",
            "stdout",
        ] {
            assert_eq!(row[field], result[field], "{field}");
        }
        assert_eq!(
            (&row["job_id"], &row["version"]),
            (&json!("job"), &json!("2.0.0"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_without_an_id_that_comes_twice_is_one_run() {
    let deployment = Deployment::new().await;
    let (server, jetstream) = prepared(&deployment).await;
    let command = fired(&deployment, &server).await;
    for pc in ["pc-1", "pc-2"] {
        let (_, mut result) = reports(&command, pc);
        result.as_object_mut().unwrap().remove("result_id");
        result["a_field_of_tomorrow"] = json!({"deep": true});
        send(&jetstream, &result).await;
        send(&jetstream, &result).await;
    }
    soon("it is completed", async || {
        execution(&server, &command).await["execution"]["status"] == "completed"
    })
    .await;
    let detail = execution(&server, &command).await;
    assert_eq!(detail["execution"]["success_count"], 2, "{detail}");
    assert_eq!(detail["results"].as_array().unwrap().len(), 2, "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_reports_are_recorded_and_garbage_is_set_aside() {
    let deployment = Deployment::new().await;
    let (server, jetstream) = prepared(&deployment).await;
    let unknown =
        json!({"id": "theirs", "version": "1", "request_id": uuid::Uuid::new_v4(), "exec_id": "of-nobody"});
    let (_, of_nobody) = reports(&unknown, "pc-9");
    let command = fired(&deployment, &server).await;
    let (_, mut large) = reports(&command, "pc-1");
    large["stdout"] = json!("x".repeat(LARGE));
    keep(&jetstream, "results.x", "{ this is no JSON").await;
    keep(&jetstream, "results.y", &b"\xff\xfe\x00"[..]).await;
    send(&jetstream, &of_nobody).await;
    send(&jetstream, &large).await;
    let run = large["result_id"].as_str().unwrap();
    soon("the large result is recorded", async || {
        execution(&server, &command).await["execution"]["success_count"] == 1
    })
    .await;
    let row = get(&server, &format!("/api/results/{run}")).await;
    assert_eq!(row["stdout"].as_str().map(str::len), Some(LARGE));
    let stranger = of_nobody["result_id"].as_str().unwrap();
    let row = get(&server, &format!("/api/results/{stranger}")).await;
    assert_eq!(
        (&row["exec_id"], &row["pc_id"]),
        (&json!("of-nobody"), &json!("pc-9"))
    );
    let letters = get(&server, "/api/dead_letters").await;
    let subjects: Vec<&Value> = letters
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| &letter["subject"])
        .collect();
    assert_eq!(subjects, ["results.y", "results.x"], "{letters}");
    assert_eq!(letters[1]["payload"], "{ this is no JSON");
    assert!(
        letters[1]["reason"].as_str().unwrap().contains("line 1"),
        "{letters}"
    );
}
