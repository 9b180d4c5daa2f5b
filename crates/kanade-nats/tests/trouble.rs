//! Lost answers, cut lines, servers that go away and come back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use kanade_conformance::within;
use kanade_model::{Pattern, Subject};
use kanade_nats::{Nats, NatsSettings};
use kanade_ports::{
    Bucket, Bus, BusErrorKind, CatalogEvent, Durable, ErrorKind, Key, Message, MessageId, Precondition,
    Subscription,
};
use serde_json::json;
use support::{Proxy, Server, js};

const SOON: Duration = Duration::from_secs(60);

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8(message.payload.to_vec()).unwrap())
        .collect()
}

async fn heard(subscription: &mut Subscription) -> String {
    let message = within(SOON, "a message", subscription.next()).await.unwrap();
    texts(&[message]).remove(0)
}

/// Sends as an outbox does: again and again, under the same name, until it is kept.
async fn send_until_kept(bus: &dyn Bus, to: &str, text: &str) {
    loop {
        let sent = bus
            .publish_durable(
                &subject(to),
                Bytes::copy_from_slice(text.as_bytes()),
                MessageId(text.into()),
            )
            .await;
        match sent {
            Ok(()) => return,
            Err(error) => assert!(
                matches!(error.kind(), BusErrorKind::Unavailable | BusErrorKind::TimedOut),
                "{error:?}"
            ),
        }
    }
}

/// A server, and a connection to it over a line that can be cut.
async fn line() -> (Server, Proxy, Nats) {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let settings = NatsSettings {
        urls: vec![proxy.url()],
        ..server.settings()
    };
    let nats = Nats::connect(settings).await.unwrap();
    (server, proxy, nats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_loses_nothing_and_doubles_nothing() {
    const MESSAGES: usize = 400;
    let Some(mut server) = Server::with(&["-js"]).await else {
        return;
    };
    let nats = Nats::connect(server.settings()).await.unwrap();
    let kept = Arc::new(AtomicUsize::new(0));
    let sending = {
        let (bus, kept) = (nats.bus(), Arc::clone(&kept));
        tokio::spawn(async move {
            futures::stream::iter(0..MESSAGES)
                .for_each_concurrent(8, |number| {
                    let (bus, kept) = (&bus, &kept);
                    async move {
                        send_until_kept(&**bus, "results.r", &number.to_string()).await;
                        kept.fetch_add(1, Ordering::SeqCst);
                    }
                })
                .await;
        })
    };
    let reading = {
        let mut consumer = nats.bus().consume(Durable::Results).await.unwrap();
        tokio::spawn(async move {
            let mut numbers = BTreeSet::new();
            while numbers.len() < MESSAGES {
                let batch = consumer.next(16).await.unwrap();
                numbers.extend(texts(batch.messages()));
                // What was not acknowledged comes again.
                let _ = batch.acknowledge().await;
            }
        })
    };
    for part in [1, 2, 3] {
        let reached = async {
            while kept.load(Ordering::SeqCst) < part * MESSAGES / 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(SOON, "a part of the messages", reached).await;
        server.restart(async || {}).await;
    }
    within(SOON, "every message to be kept", sending).await.unwrap();
    within(SOON, "every message to be read", reading).await.unwrap();
    let info = js(&server.stranger().await, "STREAM.INFO.RESULTS", json!({})).await;
    assert_eq!(
        info["state"]["messages"],
        json!(MESSAGES),
        "each is there once, however often it was sent"
    );
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_neither_refused_nor_made_twice() {
    let (_server, proxy, nats) = line().await;
    let catalog = nats.catalog();
    let name = key("backup");
    let mut losses = 0;
    let mut revision = None;
    for (when, value) in [
        (Precondition::Absent, "created"),
        (Precondition::Any, "overwritten"),
        (Precondition::At(kanade_ports::Revision(0)), "changed"),
    ] {
        let when = match (when, revision) {
            (Precondition::At(_), Some(revision)) => Precondition::At(revision),
            (when, _) => when,
        };
        proxy.lose_the_answer_to(value);
        let written = catalog.put(Bucket::Jobs, &name, value.into(), when).await;
        losses += 1;
        assert_eq!(proxy.lost(), losses, "the answer to {value} was lost");
        revision = Some(written.unwrap());
        let entry = catalog.get(Bucket::Jobs, &name).await.unwrap().unwrap();
        assert_eq!(
            (Some(entry.revision), entry.value),
            (revision, Bytes::from(value))
        );
    }
    let versions = catalog.history(Bucket::Jobs, &name).await.unwrap();
    let values: Vec<_> = versions.iter().map(|entry| entry.value.clone()).collect();
    assert_eq!(
        values,
        ["changed", "overwritten", "created"],
        "each was written once"
    );
    proxy.lose_the_answer_to("KV-Operation: DEL");
    catalog
        .delete(Bucket::Jobs, &name, Precondition::Any)
        .await
        .unwrap();
    assert_eq!(proxy.lost(), 4);
    assert_eq!(catalog.get(Bucket::Jobs, &name).await.unwrap(), None);
}

#[tokio::test]
async fn a_durable_message_whose_answer_is_lost_is_kept_once() {
    let (server, proxy, nats) = line().await;
    let bus = nats.bus();
    proxy.lose_the_answer_to("only-once");
    let sent = bus
        .publish_durable(&subject("results.r"), "only-once".into(), MessageId("a".into()))
        .await;
    assert_eq!(
        sent.map_err(|error| error.kind()),
        Err(BusErrorKind::TimedOut),
        "nobody knows"
    );
    bus.publish_durable(&subject("results.r"), "only-once".into(), MessageId("a".into()))
        .await
        .unwrap();
    let info = js(&server.stranger().await, "STREAM.INFO.RESULTS", json!({})).await;
    assert_eq!(info["state"]["messages"], json!(1));
}

#[tokio::test]
async fn a_cut_line_is_made_good_and_told() {
    let (server, proxy, nats) = line().await;
    let bus = nats.bus();
    let other = Nats::connect(server.settings()).await.unwrap().bus();
    let mut restored = bus.reconnections();
    let mut before = bus.subscribe(&pattern("heartbeat.>")).await.unwrap();
    proxy.keep_cut().await;
    let lost = bus.publish(&subject("heartbeat.pc"), "lost".into()).await;
    assert_eq!(
        lost.map_err(|error| error.kind()),
        Err(BusErrorKind::Unavailable),
        "at once, and it is not sent later"
    );
    let mut meanwhile = bus.subscribe(&pattern("kill.*")).await.unwrap();
    other
        .publish(&subject("heartbeat.pc"), "missed".into())
        .await
        .unwrap();
    other.flush().await.unwrap();
    let late = bus
        .publish_durable(&subject("results.r"), "late".into(), MessageId("late".into()))
        .await;
    assert_eq!(late.map_err(|error| error.kind()), Err(BusErrorKind::Unavailable));
    let unread = nats.catalog().get(Bucket::Jobs, &key("x")).await;
    assert_eq!(unread.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    proxy.mend();
    within(SOON, "the line to stand again", restored.next())
        .await
        .unwrap();
    other
        .publish(&subject("heartbeat.pc"), "heard".into())
        .await
        .unwrap();
    other
        .publish(&subject("kill.e"), "also heard".into())
        .await
        .unwrap();
    assert_eq!(
        heard(&mut before).await,
        "heard",
        "a subscription outlives its connection"
    );
    assert_eq!(
        heard(&mut meanwhile).await,
        "also heard",
        "one that was made without a connection stands too"
    );
    send_until_kept(&*bus, "results.r", "late").await;
}

#[tokio::test]
async fn a_watch_ends_with_its_connection() {
    let (_server, proxy, nats) = line().await;
    let catalog = nats.catalog();
    catalog
        .put(Bucket::Jobs, &key("a"), "1".into(), Precondition::Any)
        .await
        .unwrap();
    let mut watch = catalog.watch(Bucket::Jobs).await.unwrap();
    assert!(matches!(watch.next().await, Some(CatalogEvent::Put(_))));
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));
    proxy.cut();
    assert_eq!(within(SOON, "the end of the watch", watch.next()).await, None);
    let mut again = catalog.watch(Bucket::Jobs).await.unwrap();
    assert!(
        matches!(again.next().await, Some(CatalogEvent::Put(_))),
        "what stands is told again"
    );
}

#[tokio::test]
async fn a_watch_that_the_server_forgot_ends() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let mut watch = nats.catalog().watch(Bucket::Jobs).await.unwrap();
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));
    let client = server.stranger().await;
    let names = js(&client, "CONSUMER.NAMES.KV_jobs", json!({})).await;
    let consumer = names["consumers"][0].as_str().unwrap();
    js(&client, &format!("CONSUMER.DELETE.KV_jobs.{consumer}"), json!({})).await;
    assert_eq!(
        within(SOON, "the end of the watch", watch.next()).await,
        None,
        "silence is noticed"
    );
}

#[tokio::test]
async fn a_watch_that_was_left_leaves_nothing_on_the_server() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let watch = nats.catalog().watch(Bucket::Jobs).await.unwrap();
    let client = server.stranger().await;
    let consumers = async || js(&client, "CONSUMER.NAMES.KV_jobs", json!({})).await["total"].clone();
    assert_eq!(consumers().await, json!(1));
    drop(watch);
    let gone = async {
        while consumers().await != json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(Duration::from_secs(5), "its consumer to go", gone).await;
}

#[tokio::test]
async fn a_consumption_goes_on_after_a_cut() {
    let (server, proxy, nats) = line().await;
    let other = Nats::connect(server.settings()).await.unwrap().bus();
    let mut consumer = nats.bus().consume(Durable::Results).await.unwrap();
    let mut restored = nats.bus().reconnections();
    send_until_kept(&*other, "results.r", "one").await;
    let in_hand = within(SOON, "a batch", consumer.next(9)).await.unwrap();
    assert_eq!(texts(in_hand.messages()), ["one"]);
    proxy.cut();
    send_until_kept(&*other, "results.r", "two").await;
    within(SOON, "the line to stand again", restored.next())
        .await
        .unwrap();
    in_hand.acknowledge().await.unwrap();
    let batch = within(SOON, "the next batch", consumer.next(9)).await.unwrap();
    assert_eq!(texts(batch.messages()), ["two"], "nothing of before");
    batch.acknowledge().await.unwrap();
    let info = js(
        &server.stranger().await,
        "CONSUMER.INFO.RESULTS.backend_results_projector",
        json!({}),
    )
    .await;
    assert_eq!(
        (&info["num_ack_pending"], &info["num_pending"]),
        (&json!(0), &json!(0)),
        "all is acknowledged"
    );
}

#[tokio::test]
async fn what_is_in_hand_is_nobody_elses_however_long_it_takes() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let other = Nats::connect(server.settings()).await.unwrap();
    let mut consumer = nats.bus().consume(Durable::Results).await.unwrap();
    send_until_kept(&*nats.bus(), "results.r", "one").await;
    // Not more than there is: it would come here again, and be known.
    let in_hand = within(SOON, "a batch", consumer.next(1)).await.unwrap();
    let mut elsewhere = other.bus().consume(Durable::Results).await.unwrap();
    // Longer than the server's own patience.
    let given = tokio::time::timeout(Duration::from_secs(14), elsewhere.next(9)).await;
    assert!(given.is_err(), "it was given to another one too");
    drop(in_hand);
    drop(consumer);
    let batch = within(SOON, "what was given back", elsewhere.next(9))
        .await
        .unwrap();
    assert_eq!(texts(batch.messages()), ["one"]);
}

#[tokio::test]
async fn a_consumer_that_was_removed_is_made_again() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let bus = nats.bus();
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let client = server.stranger().await;
    js(
        &client,
        "CONSUMER.DELETE.RESULTS.backend_results_projector",
        json!({}),
    )
    .await;
    let failed = within(SOON, "the reader to be told", consumer.next(9)).await;
    assert_eq!(
        failed.map(|_| ()).map_err(|error| error.kind()),
        Err(BusErrorKind::Unavailable)
    );
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    send_until_kept(&*bus, "results.r", "one").await;
    let batch = within(SOON, "a batch", consumer.next(9)).await.unwrap();
    assert_eq!(texts(batch.messages()), ["one"]);
}

#[tokio::test]
async fn closing_sends_what_is_left_and_ends_everything() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let other = Nats::connect(server.settings()).await.unwrap().bus();
    let mut hearing = other.subscribe(&pattern("order.>")).await.unwrap();
    let bus = nats.bus();
    let mut own = bus.subscribe(&pattern("order.>")).await.unwrap();
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let mut watch = nats.catalog().watch(Bucket::Jobs).await.unwrap();
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));
    for number in 0..100 {
        bus.publish(&subject("order.x"), number.to_string().into())
            .await
            .unwrap();
    }
    nats.close().await;
    for number in 0..100 {
        assert_eq!(heard(&mut hearing).await, number.to_string());
    }
    let ended = async { while own.next().await.is_some() {} };
    within(SOON, "the end of its subscription", ended).await;
    assert_eq!(within(SOON, "the end of its watch", watch.next()).await, None);
    for _ in 0..2 {
        let next = within(SOON, "the end of its consumption", consumer.next(9)).await;
        assert_eq!(
            next.map(drop).map_err(|error| error.kind()),
            Err(BusErrorKind::Unavailable)
        );
    }
    assert!(!nats.is_connected());
    let refused = bus.publish(&subject("order.x"), "late".into()).await;
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(BusErrorKind::Unavailable)
    );
}

#[tokio::test]
async fn what_no_stream_keeps_is_kept_by_whoever_listens() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let bus = nats.bus();
    let send = async |to: &str, id: &str| {
        let sent = bus
            .publish_durable(&subject(to), "x".into(), MessageId(id.into()))
            .await;
        sent.map_err(|error| error.kind())
    };
    assert_eq!(
        send("kill.e", "1").await,
        Err(BusErrorKind::Unavailable),
        "nobody has it"
    );
    let mut kills = bus.subscribe(&pattern("kill.*")).await.unwrap();
    assert_eq!(send("kill.e", "2").await, Ok(()));
    let message = within(SOON, "the message", kills.next()).await.unwrap();
    assert_eq!(
        (message.payload, message.reply),
        (Bytes::from("x"), None),
        "it asks for no answer"
    );
    let client = server.stranger().await;
    js(&client, "STREAM.DELETE.RESULTS", json!({})).await;
    let _listening = bus.subscribe(&pattern("results.>")).await.unwrap();
    assert_eq!(
        send("results.r", "3").await,
        Err(BusErrorKind::TimedOut),
        "a listener is not the stream that should have it"
    );
}
