//! A broker that a 0.30 server has left behind: ours shows what is there and goes on where the other stopped.

use std::collections::BTreeSet;

use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    stream,
};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Deployment, get, keep, old_agent::now, soon};
use crate::support::Server;

/// The runs that the server before had not recorded, in the order of their messages.
struct Left {
    runs: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_server_left_behind_is_shown_and_each_result_counts_once() {
    let deployment = Deployment::new().await;
    let jetstream = deployment.jetstream().await;
    let left = leave_behind(&jetstream).await;

    let server = deployment.place.serve();
    shows_the_documents(&server).await;
    let wanted: BTreeSet<&str> = left.runs.iter().map(String::as_str).collect();
    soon("what was not acknowledged is recorded", async || {
        results(&server).await.len() >= wanted.len()
    })
    .await;
    soon("the entries of the audit trail are recorded", async || {
        get(&server, "/api/audit?action=exec")
            .await
            .as_array()
            .unwrap()
            .len()
            >= 2
    })
    .await;
    let recorded = results(&server).await;
    assert_eq!(recorded.len(), wanted.len(), "{recorded:?}");
    assert_eq!(
        recorded.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        wanted
    );

    // A server that comes after finds nothing to do.
    assert_eq!(server.stop(), Some(0));
    let server = deployment.place.serve();
    shows_the_documents(&server).await;
    for (stream, consumer) in [
        ("RESULTS", "backend_results_projector"),
        ("EVENTS", "backend_events_projector"),
        ("AUDIT", "backend_audit_projector"),
    ] {
        soon("everything is acknowledged", async || {
            let stream = jetstream.get_stream(stream).await.unwrap();
            let info = stream.consumer_info(consumer).await.unwrap();
            info.num_pending == 0 && info.num_ack_pending == 0
        })
        .await;
    }
    assert_eq!(results(&server).await.len(), wanted.len());
    let audit = get(&server, "/api/audit?action=exec").await;
    assert_eq!(audit.as_array().unwrap().len(), 2, "each once: {audit}");
    assert_eq!(
        get(&server, "/api/dead_letters").await,
        json!([]),
        "all of it is understood"
    );
}

async fn shows_the_documents(server: &Server) {
    let ids = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(&get(server, "/api/jobs").await),
        ["backup", "team/clean=up", "update"]
    );
    assert_eq!(
        ids(&get(server, "/api/schedules").await),
        ["nightly", "on-the-agent"]
    );
    assert_eq!(
        get(server, "/api/scripts/status").await,
        json!({"backup": "ACTIVE", "update": "REVOKED"})
    );
    assert_eq!(
        get(server, "/api/agents/pc.with.dots/groups").await,
        json!({"groups": ["canary", "web"]})
    );
    assert_eq!(
        get(server, "/api/config").await,
        json!({"heartbeat_interval": "15s"})
    );
    let effective = get(server, "/api/agents/pc.with.dots/effective_config").await;
    assert_eq!(effective["effective"]["target_version"], "0.31.0", "{effective}");
}

async fn results(server: &Server) -> Vec<String> {
    let rows = get(server, "/api/results?limit=1000").await;
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row["result_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn leave_behind(jetstream: &Context) -> Left {
    for (name, subject) in [
        ("RESULTS", "results.>"),
        ("EVENTS", "events.>"),
        ("EXEC", "commands.>"),
        ("AUDIT", "audit.>"),
        ("INVENTORY", "inventory.>"),
    ] {
        let config = stream::Config {
            name: name.into(),
            subjects: vec![subject.into()],
            max_messages_per_subject: if name == "EXEC" { 1 } else { -1 },
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await.unwrap();
    }
    documents(jetstream).await;
    let mut runs = Vec::new();
    for number in 0..8 {
        let (subject, result) = result(number);
        runs.push(result["result_id"].as_str().unwrap().to_owned());
        keep(jetstream, &subject, result.to_string()).await;
    }
    // Three were recorded by the server before; two were in its hands when it stopped.
    let consumer = durable(jetstream, "RESULTS", "backend_results_projector", "results.>").await;
    for (number, message) in fetch(&consumer, 5).await.into_iter().enumerate() {
        if number < 3 {
            message.double_ack().await.unwrap();
        }
    }
    let started = json!({
        "result_id": Uuid::new_v4(), "request_id": Uuid::new_v4(), "exec_id": "an-old-one", "pc_id": "pc-1",
        "started_at": now(), "manifest_id": "backup", "version": "1.0.0",
    });
    keep(jetstream, "events.started.an-old-one.pc-1", started.to_string()).await;
    durable(
        jetstream,
        "EVENTS",
        "backend_events_projector",
        "events.started.>",
    )
    .await;
    for target in ["backup", "update"] {
        let entry = json!({
            "actor": "operator", "action": "exec", "target": target, "payload": {"source": "cli"}, "occurred_at": now(),
        });
        keep(
            jetstream,
            &format!("audit.operator.exec.{target}"),
            entry.to_string(),
        )
        .await;
    }
    durable(jetstream, "AUDIT", "backend_audit_projector", "audit.>").await;
    let mut left = runs.split_off(3);
    left.push(started["result_id"].as_str().unwrap().to_owned());
    Left { runs: left }
}

async fn documents(jetstream: &Context) {
    let job = |id: &str| {
        json!({"id": id, "version": "1.0.0", "execute": {"shell": "powershell", "script": "hostname", "timeout": "30s"}})
            .to_string()
    };
    let schedule = |id: &str, runs_on: &str| {
        json!({"id": id, "cron": "0 0 3 * * *", "job_id": "backup", "target": {"all": true}, "runs_on": runs_on})
            .to_string()
    };
    let documents: &[(&str, &[(&str, String)])] = &[
        (
            "jobs",
            &[
                ("backup", job("backup")),
                ("update", job("update")),
                ("team/clean=up", job("team/clean=up")),
            ],
        ),
        (
            "schedules",
            &[
                ("nightly", schedule("nightly", "backend")),
                ("on-the-agent", schedule("on-the-agent", "agent")),
            ],
        ),
        (
            "script_status",
            &[("backup", "ACTIVE".into()), ("update", "REVOKED".into())],
        ),
        ("script_current", &[("backup", "1.0.0".into())]),
        (
            "agent_config",
            &[
                ("global", json!({"heartbeat_interval": "15s"}).to_string()),
                ("groups.canary", json!({"target_version": "0.31.0"}).to_string()),
            ],
        ),
        (
            "agent_groups",
            &[("pc.with.dots", json!({"groups": ["canary", "web"]}).to_string())],
        ),
        ("agents_state", &[]),
    ];
    for (bucket, entries) in documents {
        let config = stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![format!("$KV.{bucket}.>")],
            max_messages_per_subject: if *bucket == "agents_state" { 1 } else { 5 },
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await.unwrap();
        for (key, value) in *entries {
            keep(jetstream, &format!("$KV.{bucket}.{key}"), value.clone()).await;
        }
    }
}

fn result(number: usize) -> (String, Value) {
    let request = Uuid::new_v4();
    let result = json!({
        "result_id": Uuid::new_v4(), "request_id": request, "exec_id": "an-old-one", "pc_id": format!("pc-{number}"),
        "exit_code": 0, "stdout": "PC\r\n", "stderr": "", "started_at": now(), "finished_at": now(),
        "manifest_id": "backup",
    });
    (format!("results.{request}"), result)
}

async fn durable(jetstream: &Context, stream: &str, name: &str, filter: &str) -> Consumer<pull::Config> {
    let config = pull::Config {
        durable_name: Some(name.into()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        filter_subject: filter.into(),
        ..pull::Config::default()
    };
    let stream = jetstream.get_stream(stream).await.unwrap();
    stream.create_consumer(config).await.unwrap()
}

async fn fetch(consumer: &Consumer<pull::Config>, count: usize) -> Vec<jetstream::Message> {
    let messages = consumer.fetch().max_messages(count).messages().await.unwrap();
    messages.take(count).try_collect().await.unwrap()
}
