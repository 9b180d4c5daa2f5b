//! Connections that break, in every way a connection can.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use kanade_client::LinkState;
use kanade_ports::{
    Bucket, BusErrorKind, CatalogReader, ErrorKind, MessageId, PubSub,
    frame::{MAX_FRAME, MAX_PAYLOAD, close},
};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::CloseFrame};

use crate::server::{Server, error_of, pattern, quick, soon, subject, until};

#[tokio::test]
async fn calls_on_a_connection_that_is_cut_fail_and_the_next_connection_works() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let publish_durable = |link| async move {
        let link: Arc<kanade_client::AgentLink> = link;
        let id = MessageId("m-1".into());
        link.publish_durable(&subject("results.r-1"), Bytes::from("{}"), id)
            .await
    };
    let durable = tokio::spawn(publish_durable(Arc::clone(&link)));
    peer.call().await;
    let publisher = Arc::clone(&link);
    let publishing = tokio::spawn(async move { publisher.publish(&subject("a.b"), Bytes::new()).await });
    peer.call().await;
    let reader = Arc::clone(&link);
    let reading = tokio::spawn(async move { reader.get(Bucket::Jobs, &"backup".parse().unwrap()).await });
    peer.call().await;
    drop(peer);
    let error = soon(durable).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::TimedOut, "it may have been kept");
    assert_eq!(
        soon(publishing).await.unwrap().unwrap_err().kind(),
        BusErrorKind::Unavailable
    );
    assert_eq!(
        soon(reading).await.unwrap().unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let again = tokio::spawn(publish_durable(Arc::clone(&link)));
    let mut peer = server.accept().await;
    let (frame, _) = peer.call().await;
    peer.done(frame.id).await;
    soon(again).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_connection_and_the_next_one_works() {
    let server = Server::start().await;
    let link = server.link(quick());
    for (garbage, told) in [
        (Message::Binary("{}".into()), "line of JSON"),
        (Message::Binary("\n".into()), "first line"),
        (Message::Binary("{\"told\":\"done\"}\n".into()), "first line"),
        (
            Message::Text("{\"told\":\"done\",\"id\":1}\n".into()),
            "it is text",
        ),
        (Message::Binary(vec![b'x'; MAX_FRAME + 1].into()), "too long"),
    ] {
        let mut peer = server.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
        // The link does not wait for the rest of what is too large.
        let _ = soon(peer.socket.send(garbage)).await;
        let error = error_of(&link).await;
        assert!(
            error.contains("cannot be read") && error.contains(told),
            "{error}"
        );
        let code = peer.closed().await;
        assert!(matches!(code, Some(close::POLICY) | None), "{code:?}");
    }
    let _peer = server.accept().await;
    until(&link, |state| *state == LinkState::Connected).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_is_made_again() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.idle_timeout = Duration::from_millis(500);
    timing.ping_every = Duration::from_millis(20);
    let (link, silent) = server.connected(timing).await;
    let error = error_of(&link).await;
    assert!(error.contains("nothing was heard"), "{error}");
    let _peer = server.accept().await;
    until(&link, |state| *state == LinkState::Connected).await;
    drop(silent);
}

#[tokio::test]
async fn pings_keep_a_quiet_connection() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.idle_timeout = Duration::from_secs(1);
    timing.ping_every = Duration::from_millis(20);
    let (link, mut peer) = server.connected(timing).await;
    let began = Instant::now();
    while began.elapsed() < 2 * timing.idle_timeout {
        let message = soon(peer.socket.next()).await.expect("it goes on").unwrap();
        assert!(matches!(message, Message::Ping(_)), "{message:?}");
    }
    assert_eq!(*link.state().borrow(), LinkState::Connected);
}

#[tokio::test]
async fn reading_goes_on_while_writing_is_held_up_which_ends_the_connection_at_last() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.idle_timeout = Duration::from_millis(1500);
    timing.patience = Duration::from_millis(500);
    let link = server.link(timing);
    let mut kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    until(&link, |state| *state == LinkState::Connected).await;
    let mut publishing = JoinSet::new();
    for number in 0..64 {
        let publisher = Arc::clone(&link);
        publishing.spawn(async move {
            let large = Bytes::from(vec![b'x'; MAX_PAYLOAD]);
            let id = MessageId(format!("m-{number}"));
            publisher
                .publish_durable(&subject("results.r-1"), large, id)
                .await
        });
    }
    // More than sockets hold waits to be sent, and nobody reads it.
    let (mut sink, _not_read) = peer.socket.split();
    let telling = async {
        let told = kanade_ports::frame::ServerFrame::Message {
            of: id,
            subject: subject("kill.e-1"),
            reply: None,
        };
        let frame = kanade_ports::frame::encode(&told, b"").unwrap();
        while sink.send(Message::Binary(frame.clone())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut heard = 0;
    let listening = async {
        while *link.state().borrow() == LinkState::Connected {
            tokio::select! {
                _ = kills.next() => heard += 1,
                error = error_of(&link) => {
                    assert!(error.contains("nothing could be sent"), "{error}");
                    break;
                }
            }
        }
    };
    soon(async { tokio::join!(telling, listening) }).await;
    assert!(heard >= 5, "{heard}");
    while let Some(result) = soon(publishing.join_next()).await {
        let kind = result.unwrap().unwrap_err().kind();
        assert!(
            matches!(kind, BusErrorKind::TimedOut | BusErrorKind::Unavailable),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_takes_connections_and_drops_them_is_not_hammered() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.first_pause = Duration::from_millis(20);
    timing.longest_pause = Duration::from_millis(160);
    let _link = server.link(timing);
    let began = Instant::now();
    for _ in 0..7 {
        drop(server.accept().await);
    }
    // Six pauses of 20, 40, 80, 160, 160 and 160 ms, each of which may be half as long.
    assert!(
        began.elapsed() >= Duration::from_millis(310),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn who_was_replaced_waits_and_says_why() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.pause_when_replaced = Duration::from_millis(300);
    let (link, peer) = server.connected(timing).await;
    peer.close(close::REPLACED).await;
    let began = Instant::now();
    let error = error_of(&link).await;
    assert!(
        error.contains("another process with this agent's id and key"),
        "{error}"
    );
    let _peer = server.accept().await;
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_closes_is_answered_and_connected_to_again() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    for (code, told) in [
        (close::GOING_AWAY, "the server stops"),
        (close::TOO_SLOW, "4002 (because)"),
        (close::POLICY, "1008 (because)"),
    ] {
        peer.close(code).await;
        let error = error_of(&link).await;
        assert!(error.contains(told), "{error}");
        peer = server.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
    }
    soon(peer.socket.close(None::<CloseFrame>)).await.unwrap();
    peer.closed().await;
    server.accept().await;
}

#[tokio::test]
async fn the_reason_of_a_server_that_is_gone_is_read_even_while_much_is_sent() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let mut publishing = JoinSet::new();
    for _ in 0..8 {
        let publisher = Arc::clone(&link);
        publishing.spawn(async move {
            loop {
                let large = Bytes::from(vec![b'x'; MAX_PAYLOAD]);
                if publisher.publish(&subject("a.b"), large).await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for _ in 0..20 {
        peer.call().await;
        let frame = CloseFrame {
            code: close::REPLACED.into(),
            reason: "".into(),
        };
        // And away, with much that nobody has read: the link's system hears of a reset.
        soon(peer.socket.send(Message::Close(Some(frame)))).await.unwrap();
        drop(peer);
        let error = error_of(&link).await;
        assert!(error.contains("another process"), "{error}");
        peer = server.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
    }
}
