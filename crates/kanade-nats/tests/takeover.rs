//! A server that takes over from another one: what is there is used as it is, widened where it is too narrow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use kanade_conformance::within;
use kanade_nats::{ConnectError, Nats, NatsAuth, NatsSettings};
use kanade_ports::{Bucket, CatalogEvent, Durable, Key, Precondition};
use serde_json::{Value, json};
use support::{Server, js};

const SOON: Duration = Duration::from_secs(30);
const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn config(client: &Client, stream: &str) -> Value {
    js(client, &format!("STREAM.INFO.{stream}"), json!({})).await["config"].clone()
}

async fn created(client: &Client, path: &str, body: Value) {
    let answer = js(client, path, body).await;
    assert_eq!(answer.get("error"), None, "{path}");
}

async fn keep(client: &Client, subject: &str, text: &str) {
    let ack = client
        .request(subject.to_owned(), Bytes::copy_from_slice(text.as_bytes()))
        .await
        .unwrap();
    let ack: Value = serde_json::from_slice(&ack.payload).unwrap();
    assert_eq!(ack.get("error"), None, "{subject}");
}

#[tokio::test]
async fn an_empty_server_gets_what_the_contract_names() {
    let server = Server::start().await;
    let _nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    for (stream, subjects, days, per_subject) in [
        ("RESULTS", "results.>", 30, -1),
        ("EVENTS", "events.>", 7, -1),
        ("EXEC", "commands.>", 7, 1),
        ("AUDIT", "audit.>", 0, -1),
        ("INVENTORY", "inventory.>", 90, -1),
        ("KV_jobs", "$KV.jobs.>", 0, 5),
        ("KV_schedules", "$KV.schedules.>", 0, 5),
        ("KV_script_status", "$KV.script_status.>", 0, 5),
        ("KV_script_current", "$KV.script_current.>", 0, 5),
        ("KV_agent_config", "$KV.agent_config.>", 0, 5),
        ("KV_agent_groups", "$KV.agent_groups.>", 0, 5),
        ("KV_agents_state", "$KV.agents_state.>", 0, 1),
    ] {
        let config = config(&client, stream).await;
        assert_eq!(config["subjects"], json!([subjects]), "{stream}");
        assert_eq!(config["max_age"], json!(days * DAY), "{stream}");
        assert_eq!(config["max_msgs_per_subject"], json!(per_subject), "{stream}");
    }
    assert_eq!(
        config(&client, "OBJ_agent_releases").await["allow_rollup_hdrs"],
        json!(true)
    );
    for (stream, consumer) in [
        ("RESULTS", "backend_results_projector"),
        ("EVENTS", "backend_events_projector"),
        ("AUDIT", "backend_audit_projector"),
    ] {
        let info = js(&client, &format!("CONSUMER.INFO.{stream}.{consumer}"), json!({})).await;
        assert_eq!(info["config"]["ack_policy"], json!("explicit"), "{consumer}");
        assert_eq!(info["config"]["deliver_policy"], json!("all"), "{consumer}");
    }
    let streams = js(&client, "STREAM.NAMES", json!({})).await;
    let before = streams["streams"].clone();
    let _again = Nats::connect(server.settings()).await.unwrap();
    assert_eq!(
        js(&client, "STREAM.NAMES", json!({})).await["streams"],
        before,
        "a second server finds everything"
    );
}

#[tokio::test]
async fn what_is_there_is_widened_and_kept() {
    let server = Server::start().await;
    let client = server.stranger().await;
    for stream in [
        json!({"name": "RESULTS", "subjects": ["results.*"], "max_age": 5 * DAY, "description": "theirs"}),
        json!({"name": "EVENTS", "subjects": ["events.>"], "max_age": 30 * DAY}),
        json!({"name": "EXEC", "subjects": ["commands.>"], "max_msgs_per_subject": 3, "max_bytes": 1_000_000}),
        json!({
            "name": "KV_jobs", "subjects": ["$KV.jobs.>"], "max_msgs_per_subject": 2, "allow_rollup_hdrs": true,
            "allow_direct": true, "deny_delete": true, "discard": "new",
        }),
    ] {
        let path = format!("STREAM.CREATE.{}", stream["name"].as_str().unwrap());
        created(&client, &path, stream).await;
    }
    keep(&client, "results.old", "a result").await;
    keep(&client, "$KV.jobs.a/b=c", "a job").await;
    let consumer = "backend_events_projector";
    created(
        &client,
        &format!("CONSUMER.CREATE.EVENTS.{consumer}"),
        json!({"stream_name": "EVENTS", "config": {
            "name": consumer, "durable_name": consumer, "deliver_policy": "new", "ack_policy": "explicit",
            "ack_wait": 1_000_000_000_u64, "filter_subject": "events.started.>",
        }}),
    )
    .await;
    keep(&client, "events.started.e.pc", "before").await;

    let nats = Nats::connect(server.settings()).await.unwrap();
    let results = config(&client, "RESULTS").await;
    assert_eq!(results["subjects"], json!(["results.>"]));
    assert_eq!(results["max_age"], json!(30 * DAY));
    assert_eq!(results["description"], json!("theirs"));
    assert_eq!(
        config(&client, "EVENTS").await["max_age"],
        json!(30 * DAY),
        "longer than we want"
    );
    let exec = config(&client, "EXEC").await;
    assert_eq!(exec["max_msgs_per_subject"], json!(3), "more than we want");
    assert_eq!(exec["max_bytes"], json!(1_000_000), "somebody's wish");
    assert_eq!(config(&client, "KV_jobs").await["max_msgs_per_subject"], json!(5));
    let info = js(&client, &format!("CONSUMER.INFO.EVENTS.{consumer}"), json!({})).await;
    assert_eq!(
        info["config"]["deliver_policy"],
        json!("new"),
        "cannot be changed"
    );
    assert_eq!(info["config"]["filter_subject"], json!("events.>"));
    assert_eq!(info["config"]["ack_wait"], json!(10_000_000_000_u64));

    let job = nats
        .catalog()
        .get(Bucket::Jobs, &key("a/b=c"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(job.value, "a job", "as it was written");
    keep(&client, "events.skipped.e.pc", "after").await;
    let bus = nats.bus();
    for (durable, wanted) in [
        (Durable::Events, vec!["before", "after"]),
        (Durable::Results, vec!["a result"]),
    ] {
        let mut consumer = bus.consume(durable).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < wanted.len() {
            let batch = within(SOON, "what was not acknowledged", consumer.next(9))
                .await
                .unwrap();
            heard.extend(batch.messages().iter().map(|message| message.payload.clone()));
            batch.acknowledge().await.unwrap();
        }
        assert_eq!(heard, wanted, "{durable:?}");
    }
}

#[tokio::test]
async fn documents_of_others_are_read_and_their_deletions_too() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, catalog) = (server.stranger().await, nats.catalog());
    let mut watch = catalog.watch(Bucket::ScriptStatus).await.unwrap();
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));
    keep(&client, "$KV.script_status.backup", "REVOKED").await;
    let Some(CatalogEvent::Put(entry)) = within(SOON, "the write", watch.next()).await else {
        panic!("a document was written");
    };
    assert_eq!((entry.key, entry.value), (key("backup"), Bytes::from("REVOKED")));
    for (operation, rollup) in [("DEL", None), ("PURGE", Some("sub"))] {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", operation);
        if let Some(rollup) = rollup {
            headers.insert("Nats-Rollup", rollup);
        }
        let ack = client
            .request_with_headers("$KV.script_status.backup", headers, Bytes::new())
            .await
            .unwrap();
        assert!(!ack.payload.starts_with(b"{\"error"), "{ack:?}");
        let told = within(SOON, "the deletion", watch.next()).await;
        assert_eq!(told, Some(CatalogEvent::Deleted(key("backup"))), "{operation}");
        assert_eq!(
            catalog.get(Bucket::ScriptStatus, &key("backup")).await.unwrap(),
            None,
            "{operation}"
        );
        assert_eq!(
            catalog.list(Bucket::ScriptStatus).await.unwrap(),
            [],
            "{operation}"
        );
    }
    assert_eq!(
        catalog
            .history(Bucket::ScriptStatus, &key("backup"))
            .await
            .unwrap(),
        [],
        "purged with its versions"
    );
    let again = catalog
        .put(
            Bucket::ScriptStatus,
            &key("backup"),
            "ACTIVE".into(),
            Precondition::Absent,
        )
        .await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn nobody_there_is_said_without_secrets() {
    let settings = NatsSettings {
        // A port that only root can listen on, and nobody does.
        urls: vec!["nats://user:hush@127.0.0.1:1".into()],
        ..NatsSettings::default()
    };
    let error = Nats::connect(settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot connect to NATS at nats://127.0.0.1:1");
    assert!(!format!("{error:?}").contains("hush"));
}

#[tokio::test]
async fn who_is_not_known_is_refused_and_who_is_may_come_in() {
    let Some(server) = Server::with(&["-js", "--auth", "open-sesame"]).await else {
        return;
    };
    let with = |auth| NatsSettings {
        auth,
        ..server.settings()
    };
    for auth in [NatsAuth::None, NatsAuth::Token("hush".into())] {
        let error = Nats::connect(with(auth)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    }
    Nats::connect(with(NatsAuth::Token("open-sesame".into())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_without_jetstream_is_named_as_such() {
    let Some(server) = Server::with(&[]).await else {
        return;
    };
    let error = Nats::connect(server.settings()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error:?}");
}

#[tokio::test]
async fn replicas_that_the_server_cannot_give_stop_the_start() {
    let server = Server::start().await;
    let settings = NatsSettings {
        replicas: 3,
        ..server.settings()
    };
    // One server is no cluster; a cluster of three would be.
    if let Err(error) = Nats::connect(settings).await {
        let ConnectError::Resource { attempt, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(attempt.starts_with("create the stream "), "{attempt}");
    }
}
