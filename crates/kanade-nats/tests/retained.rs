//! What lies on the server for agents that are away: kept, told, removed, and given to nobody else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use kanade_conformance::within;
use kanade_model::{PcId, Subject};
use kanade_nats::{Nats, NatsSettings};
use kanade_ports::{BusErrorKind, MessageId, RetainedCommands, RetainedEvent, Sequence};
use serde_json::{Value, json};
use support::{Proxy, Server, js};

const SOON: Duration = Duration::from_secs(30);

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn pc(text: &str) -> PcId {
    text.parse().unwrap()
}

async fn keep(retained: &dyn RetainedCommands, to: &str, text: &str) -> Sequence {
    let command = Bytes::copy_from_slice(text.as_bytes());
    let id = MessageId(format!("{to} {text}"));
    retained.keep(&subject(to), command, id).await.unwrap()
}

async fn messages(client: &Client) -> Value {
    js(client, "STREAM.INFO.EXEC", json!({})).await["state"]["messages"].clone()
}

async fn consumer(client: &Client, name: &str) -> Value {
    js(client, &format!("CONSUMER.INFO.EXEC.{name}"), json!({})).await
}

/// What agents of 0.30 make at their start.
async fn make_wide(client: &Client, name: &str) {
    let config = json!({
        "durable_name": name, "name": name, "deliver_policy": "last_per_subject", "ack_policy": "explicit",
        "ack_wait": 7_000_000_000_u64, "filter_subject": "commands.>", "replay_policy": "instant",
    });
    let body = json!({"stream_name": "EXEC", "config": config, "action": "create"});
    let made = js(client, &format!("CONSUMER.CREATE.EXEC.{name}"), body).await;
    assert_eq!(made.get("error"), None, "{made}");
}

/// Everything that a consumer has for its agent at the moment, acknowledged.
async fn pull(client: &Client, name: &str) -> Vec<String> {
    let messages = take(client, name).await;
    for message in &messages {
        let reply = message.reply.clone().unwrap();
        client.request(reply, "+ACK".into()).await.unwrap();
    }
    messages
        .iter()
        .map(|message| message.subject.to_string())
        .collect()
}

async fn take(client: &Client, name: &str) -> Vec<async_nats::Message> {
    let inbox = client.new_inbox();
    let mut pulled = client.subscribe(inbox.clone()).await.unwrap();
    let body = json!({"batch": 100, "no_wait": true}).to_string();
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.EXEC.{name}");
    client.publish_with_reply(next, inbox, body.into()).await.unwrap();
    let mut messages = Vec::new();
    loop {
        let message = within(SOON, "an answer", pulled.next()).await.unwrap();
        if message.status.is_some() {
            return messages;
        }
        messages.push(message);
    }
}

async fn told(watch: &mut (impl StreamExt<Item = RetainedEvent> + Unpin)) -> Option<String> {
    let event = within(SOON, "an event", watch.next()).await?;
    Some(match event {
        RetainedEvent::Current => "current".into(),
        RetainedEvent::Kept(kept) => {
            let text = String::from_utf8(kept.payload.to_vec()).unwrap();
            format!("{} {text} {}", kept.subject, kept.sequence)
        }
    })
}

#[tokio::test]
async fn what_is_kept_is_heard_at_once_and_the_newest_of_a_subject_is_retained() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let mut agent = nats
        .bus()
        .subscribe(&subject("commands.pc.a").into())
        .await
        .unwrap();
    let first = keep(&*retained, "commands.pc.a", "one").await;
    let second = keep(&*retained, "commands.pc.a", "two").await;
    assert!(first < second);
    for wanted in ["one", "two"] {
        let heard = within(SOON, "a command", agent.next()).await.unwrap();
        assert_eq!((heard.payload, heard.reply), (Bytes::from(wanted), None));
    }
    assert_eq!(messages(&client).await, 1);
    let again = keep(&*retained, "commands.pc.a", "two").await;
    assert_eq!(
        (again, messages(&client).await),
        (second, json!(1)),
        "the same name"
    );
    let heard = within(SOON, "a command", agent.next()).await.unwrap();
    assert_eq!(heard.payload, "two", "who listens hears it all the same");
}

#[tokio::test]
async fn a_removal_is_of_what_was_meant_and_never_of_a_newer_one() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let first = keep(&*retained, "commands.pc.a", "one").await;
    let other = keep(&*retained, "commands.pc.b", "other").await;
    let second = keep(&*retained, "commands.pc.a", "two").await;
    retained.remove(&subject("commands.pc.a"), first).await.unwrap();
    assert_eq!(messages(&client).await, 2, "it had been replaced");
    retained.remove(&subject("commands.pc.a"), second).await.unwrap();
    assert_eq!(messages(&client).await, 1);
    retained.remove(&subject("commands.pc.a"), second).await.unwrap();
    retained.remove(&subject("commands.pc.b"), other).await.unwrap();
    assert_eq!(messages(&client).await, 0);
}

#[tokio::test]
async fn where_a_stream_keeps_more_of_a_subject_the_older_ones_go_with_the_newest() {
    let server = Server::start().await;
    let client = server.stranger().await;
    let wide = json!({"name": "EXEC", "subjects": ["commands.>"], "max_msgs_per_subject": 3});
    js(&client, "STREAM.CREATE.EXEC", wide).await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let retained = nats.retained();
    for text in ["one", "two"] {
        keep(&*retained, "commands.pc.a", text).await;
    }
    let newest = keep(&*retained, "commands.pc.a", "three").await;
    keep(&*retained, "commands.pc.b", "other").await;
    assert_eq!(messages(&client).await, 4);
    retained.remove(&subject("commands.pc.a"), newest).await.unwrap();
    assert_eq!(
        messages(&client).await,
        1,
        "an agent would be given the next older"
    );
}

#[tokio::test]
async fn a_watch_tells_what_stands_and_then_what_anybody_publishes() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let mut watch = retained.watch().await.unwrap();
    assert_eq!(told(&mut watch).await.unwrap(), "current", "nothing stands");
    keep(&*retained, "commands.pc.a", "old").await;
    let a = keep(&*retained, "commands.pc.a", "new").await;
    let b = keep(&*retained, "commands.group.b", "theirs").await;
    let mut later = retained.watch().await.unwrap();
    for wanted in [
        format!("commands.pc.a new {a}"),
        format!("commands.group.b theirs {b}"),
        "current".into(),
    ] {
        assert_eq!(told(&mut later).await.unwrap(), wanted);
    }
    client.publish("commands.pc.c", "by hand".into()).await.unwrap();
    let c = b.0 + 1;
    assert_eq!(
        told(&mut later).await.unwrap(),
        format!("commands.pc.c by hand {c}")
    );
    // A removal is not told: the watch goes on.
    retained.remove(&subject("commands.pc.a"), a).await.unwrap();
    keep(&*retained, "commands.pc.d", "last").await;
    for wanted in ["old", "new", "theirs", "by hand", "last"] {
        let event = told(&mut watch).await.unwrap();
        assert!(event.contains(wanted), "{event}");
    }
}

#[tokio::test]
async fn a_watch_ends_with_the_connection_and_nothing_is_kept_without_one() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let settings = NatsSettings {
        urls: vec![proxy.url()],
        ..server.settings()
    };
    let nats = Nats::connect(settings).await.unwrap();
    let retained = nats.retained();
    let mut watch = retained.watch().await.unwrap();
    assert_eq!(told(&mut watch).await.unwrap(), "current");
    proxy.keep_cut().await;
    assert_eq!(told(&mut watch).await, None);
    let refused = retained
        .keep(&subject("commands.pc.a"), Bytes::new(), MessageId("x".into()))
        .await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error.kind(), BusErrorKind::Unavailable | BusErrorKind::TimedOut),
        "{error:?}"
    );
    proxy.mend();
    let mut watch = within(SOON, "the connection", async {
        loop {
            if let Ok(watch) = retained.watch().await {
                return watch;
            }
        }
    })
    .await;
    keep(&*retained, "commands.pc.a", "again").await;
    let events = [told(&mut watch).await.unwrap(), told(&mut watch).await.unwrap()];
    assert!(events.iter().any(|event| event.contains("again")), "{events:?}");
}

#[tokio::test]
async fn an_agents_consumer_is_narrowed_and_then_delivers_its_own_only() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let name = "agent_replay_pc_1";
    for to in ["commands.pc.other", "commands.group.x", "commands.pc.pc.1"] {
        keep(&*retained, to, "before").await;
    }
    make_wide(&client, name).await;
    assert_eq!(consumer(&client, name).await["num_pending"], 3);
    retained.admit(&pc("pc.1")).await.unwrap();
    let config = consumer(&client, name).await["config"].clone();
    assert_eq!(
        (&config["filter_subjects"], &config["ack_wait"]),
        (
            &json!(["commands.all", "commands.pc.pc.1"]),
            &json!(7_000_000_000_u64)
        ),
        "and else as it was"
    );
    for to in ["commands.pc.other2", "commands.group.y", "commands.all"] {
        keep(&*retained, to, "after").await;
    }
    assert_eq!(pull(&client, name).await, ["commands.pc.pc.1", "commands.all"]);
    keep(&*retained, "commands.pc.pc.1", "again").await;
    assert_eq!(pull(&client, name).await, ["commands.pc.pc.1"]);

    // What an agent does at its start finds it as it is now.
    let stream = async_nats::jetstream::new(client.clone())
        .get_stream("EXEC")
        .await
        .unwrap();
    let wide = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some(name.into()),
        filter_subject: "commands.>".into(),
        ..Default::default()
    };
    stream.get_or_create_consumer(name, wide).await.unwrap();
    let there = consumer(&client, name).await["config"].clone();
    assert_eq!(there, config);
    retained.admit(&pc("pc.1")).await.unwrap();
    assert_eq!(consumer(&client, name).await["config"], config, "left alone");
}

#[tokio::test]
async fn what_was_delivered_and_not_acknowledged_before_it_was_narrowed_does_not_hold_up_the_rest() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let name = "agent_replay_pc-1";
    keep(&*retained, "commands.pc.other", "theirs").await;
    make_wide(&client, name).await;
    assert_eq!(take(&client, name).await.len(), 1);
    retained.admit(&pc("pc-1")).await.unwrap();
    keep(&*retained, "commands.pc.pc-1", "its own").await;
    assert_eq!(pull(&client, name).await, ["commands.pc.pc-1"]);
}

#[tokio::test]
async fn a_consumer_that_is_missing_is_created_and_gives_what_waits() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    for to in ["commands.pc.pc-1", "commands.pc.pc-2"] {
        keep(&*retained, to, "waits").await;
    }
    retained.admit(&pc("pc-1")).await.unwrap();
    let name = "agent_replay_pc-1";
    let config = consumer(&client, name).await["config"].clone();
    assert_eq!(
        (
            &config["deliver_policy"],
            &config["ack_policy"],
            &config["durable_name"]
        ),
        (&json!("last_per_subject"), &json!("explicit"), &json!(name))
    );
    assert_eq!(pull(&client, name).await, ["commands.pc.pc-1"]);
}

#[tokio::test]
async fn two_agents_whose_ids_make_one_name_do_not_fight_over_it() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    retained.admit(&pc("pc.1")).await.unwrap();
    let before = consumer(&client, "agent_replay_pc_1").await["config"].clone();
    for _ in 0..2 {
        for id in ["pc_1", "pc.1"] {
            retained.admit(&pc(id)).await.unwrap();
        }
    }
    assert_eq!(consumer(&client, "agent_replay_pc_1").await["config"], before);
}

#[tokio::test]
async fn a_restart_of_the_server_loses_nothing_that_is_retained() {
    let Some(mut server) = Server::with(&["-js"]).await else {
        return;
    };
    let nats = Nats::connect(server.settings()).await.unwrap();
    let retained = nats.retained();
    let kept = keep(&*retained, "commands.pc.a", "before").await;
    let mut watch = retained.watch().await.unwrap();
    server.restart(async || {}).await;
    while told(&mut watch).await.is_some() {}
    let mut watch = within(SOON, "the server", async {
        loop {
            if let Ok(watch) = retained.watch().await {
                return watch;
            }
        }
    })
    .await;
    assert_eq!(
        told(&mut watch).await.unwrap(),
        format!("commands.pc.a before {kept}")
    );
    retained.remove(&subject("commands.pc.a"), kept).await.unwrap();
    assert_eq!(messages(&server.stranger().await).await, 0);
}

#[tokio::test]
async fn thousands_are_kept_and_removed_in_a_short_time() {
    const AGENTS: u64 = 2000;
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let (client, retained) = (server.stranger().await, nats.retained());
    let one = async |number: u64| {
        let to = subject(&format!("commands.pc.pc-{number}"));
        let command = Bytes::from(vec![b'x'; 4000]);
        let id = MessageId(number.to_string());
        let kept = retained.keep(&to, command, id).await.unwrap();
        (to, kept)
    };
    let all = futures::stream::iter(0..AGENTS).map(one).buffer_unordered(256);
    let all: Vec<_> = within(SOON, "all to be kept", all.collect()).await;
    assert_eq!(messages(&client).await, AGENTS);
    let removed = futures::stream::iter(&all).for_each_concurrent(64, async |(to, kept)| {
        retained.remove(to, *kept).await.unwrap();
    });
    within(SOON, "all to be removed", removed).await;
    assert_eq!(messages(&client).await, 0);
}
