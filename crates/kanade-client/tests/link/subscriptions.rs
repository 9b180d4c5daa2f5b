//! Subscriptions outlive connections.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_client::LinkState;
use kanade_ports::{
    BusErrorKind, MessageId, PubSub,
    frame::{Call, ServerFrame},
};

use crate::server::{Server, pattern, quick, soon, subject, until};

#[tokio::test]
async fn what_was_subscribed_without_a_connection_stands_before_anything_else_is_sent() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut kills = soon(link.subscribe(&pattern("kill.>"))).await.unwrap();
    let _commands = soon(link.subscribe(&pattern("commands.all"))).await.unwrap();
    let publisher = Arc::clone(&link);
    let publishing = tokio::spawn(async move {
        let id = MessageId("m-1".into());
        publisher
            .publish_durable(&subject("results.r-1"), Bytes::from("{}"), id)
            .await
    });
    let mut peer = server.accept().await;
    let first = peer.subscription("kill.>").await;
    let second = peer.subscription("commands.all").await;
    peer.done(second).await;
    peer.nothing_came().await;
    assert_ne!(
        *link.state().borrow(),
        LinkState::Connected,
        "one is not answered yet"
    );
    peer.message(first, "kill.e-1", b"now").await;
    peer.done(first).await;
    let (frame, payload) = peer.call().await;
    let message = "m-1".into();
    let subject = subject("results.r-1");
    assert_eq!(frame.call, Call::PublishDurable { subject, message });
    assert_eq!(payload, "{}");
    assert_eq!(*link.state().borrow(), LinkState::Connected);
    peer.done(frame.id).await;
    soon(publishing).await.unwrap().unwrap();
    let heard = soon(kills.next()).await.unwrap();
    assert_eq!(
        (heard.subject.as_str(), &heard.payload[..]),
        ("kill.e-1", &b"now"[..])
    );
}

#[tokio::test]
async fn subscriptions_stand_again_in_their_order_before_the_reconnection_is_told() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut reconnections = link.reconnections();
    let mut peer = server.accept().await;
    until(&link, |state| *state == LinkState::Connected).await;
    let patterns = ["kill.>", "commands.all", "commands.pc.web-1", "logs.fetch.web-1"];
    let mut subscriptions = Vec::new();
    for wanted in patterns {
        let subscriber = Arc::clone(&link);
        let subscribing = tokio::spawn(async move { subscriber.subscribe(&pattern(wanted)).await });
        let id = peer.subscription(wanted).await;
        peer.done(id).await;
        subscriptions.push(soon(subscribing).await.unwrap().unwrap());
    }
    assert!(
        reconnections.next().now_or_never().is_none(),
        "the first connection is none"
    );
    drop(peer);
    for times in 0..2 {
        let mut peer = server.accept().await;
        let mut ids = Vec::new();
        for wanted in patterns {
            ids.push(peer.subscription(wanted).await);
        }
        peer.nothing_came().await;
        assert!(
            reconnections.next().now_or_never().is_none(),
            "no subscription stands yet"
        );
        for id in &ids {
            peer.done(*id).await;
        }
        soon(reconnections.next()).await.unwrap();
        let publisher = Arc::clone(&link);
        let beat =
            tokio::spawn(async move { publisher.publish(&subject("heartbeat.web-1"), Bytes::new()).await });
        let (frame, _) = peer.call().await;
        assert!(matches!(frame.call, Call::Publish { .. }));
        peer.done(frame.id).await;
        soon(beat).await.unwrap().unwrap();
        peer.message(ids[2], "commands.pc.web-1", format!("{times}").as_bytes())
            .await;
        let heard = soon(subscriptions[2].next()).await.unwrap();
        assert_eq!(heard.payload, format!("{times}"), "under the new id");
    }
}

#[tokio::test]
async fn reconnections_that_nobody_reads_are_told_as_one() {
    let server = Server::start().await;
    let (link, peer) = server.connected(quick()).await;
    let (mut early, mut also) = (link.reconnections(), link.reconnections());
    drop(peer);
    for _ in 0..3 {
        let peer = server.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
        drop(peer);
        until(&link, |state| *state != LinkState::Connected).await;
    }
    let mut late = link.reconnections();
    for told in [&mut early, &mut also] {
        soon(told.next()).await.unwrap();
        assert!(told.next().now_or_never().is_none());
    }
    assert!(late.next().now_or_never().is_none(), "from now on");
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_not_made_again() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let subscriber = Arc::clone(&link);
    let subscribing = tokio::spawn(async move { subscriber.subscribe(&pattern("results.>")).await });
    let id = peer.subscription("results.>").await;
    peer.failed(id, BusErrorKind::Refused).await;
    let error = soon(subscribing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Refused);
    peer.nothing_came().await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.nothing_came().await;
    until(&link, |state| *state == LinkState::Connected).await;
}

#[tokio::test]
async fn a_subscription_under_which_the_connection_is_lost_stands_on_the_next_one() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let subscriber = Arc::clone(&link);
    let subscribing = tokio::spawn(async move { subscriber.subscribe(&pattern("kill.>")).await });
    peer.subscription("kill.>").await;
    drop(peer);
    let mut kills = soon(subscribing).await.unwrap().unwrap();
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    peer.message(id, "kill.e-1", b"").await;
    soon(kills.next()).await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_is_not_taken_again_ends_and_the_others_go_on() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut commands = link.subscribe(&pattern("commands.all")).await.unwrap();
    let mut peer = server.accept().await;
    let (refused, taken) = (
        peer.subscription("kill.>").await,
        peer.subscription("commands.all").await,
    );
    peer.failed(refused, BusErrorKind::Refused).await;
    peer.done(taken).await;
    assert!(soon(kills.next()).await.is_none());
    until(&link, |state| *state == LinkState::Connected).await;
    peer.message(taken, "commands.all", b"").await;
    soon(commands.next()).await.unwrap();
    drop(peer);
    let mut peer = server.accept().await;
    peer.subscription("commands.all").await;
    peer.nothing_came().await;
}

#[tokio::test]
async fn a_subscription_that_the_server_ends_ends_after_what_was_told() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    peer.message(id, "kill.e-1", b"").await;
    peer.tell(ServerFrame::Ended { of: id }, b"").await;
    assert!(soon(kills.next()).await.is_some());
    assert!(soon(kills.next()).await.is_none());
    drop(kills);
    peer.nothing_came().await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.nothing_came().await;
}

#[tokio::test]
async fn a_subscription_that_is_dropped_is_ended_at_the_server() {
    let server = Server::start().await;
    let link = server.link(quick());
    let kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let never = link.subscribe(&pattern("commands.all")).await.unwrap();
    drop(never);
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    until(&link, |state| *state == LinkState::Connected).await;
    drop(kills);
    peer.end_of(id).await;
    peer.message(id, "kill.e-1", b"too late").await;
    peer.nothing_came().await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.nothing_came().await;
}

#[tokio::test]
async fn a_subscription_that_is_given_up_while_it_is_made_is_ended_at_the_server() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let subscriber = Arc::clone(&link);
    let subscribing = tokio::spawn(async move { subscriber.subscribe(&pattern("kill.>")).await });
    let id = peer.subscription("kill.>").await;
    subscribing.abort();
    assert!(soon(subscribing).await.unwrap_err().is_cancelled());
    peer.end_of(id).await;
    assert_eq!(link.calls_in_flight(), 0);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_misses_messages_and_holds_up_nobody() {
    let server = Server::start().await;
    let link = server.link(quick());
    let slow = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut quick = link.subscribe(&pattern("commands.all")).await.unwrap();
    let mut peer = server.accept().await;
    let ids = [
        peer.subscription("kill.>").await,
        peer.subscription("commands.all").await,
    ];
    for id in ids {
        peer.done(id).await;
    }
    for _ in 0..1024 + 7 {
        peer.message(ids[0], "kill.e-1", b"").await;
    }
    peer.message(ids[1], "commands.all", b"").await;
    soon(quick.next()).await.unwrap();
    assert_eq!(link.dropped(), 7);
    drop(link);
    assert_eq!(soon(slow.count()).await, 1024);
}

#[tokio::test]
async fn what_is_told_to_nobody_is_passed_over() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    peer.message(4711, "kill.e-1", b"").await;
    peer.done(4711).await;
    peer.tell(ServerFrame::Ended { of: 4711 }, b"").await;
    peer.tell(ServerFrame::Unknown, b"of a newer server").await;
    peer.nothing_came().await;
    assert_eq!(*link.state().borrow(), LinkState::Connected);
}

#[tokio::test]
async fn a_server_that_does_not_answer_subscriptions_is_left() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.connect = Duration::from_secs(1);
    let link = server.link(timing);
    let _kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut peer = server.accept().await;
    peer.subscription("kill.>").await;
    assert_eq!(peer.closed().await, Some(1008));
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    until(&link, |state| *state == LinkState::Connected).await;
}
