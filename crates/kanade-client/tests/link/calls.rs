//! Calls and their answers, with a connection and without one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kanade_ports::{
    Bucket, BusErrorKind, CatalogReader, Entry, ErrorKind, Message, MessageId, PubSub, Revision,
    frame::{AgentFrame, Call, MAX_PAYLOAD, ServerFrame},
};

use crate::server::{Server, quick, soon, subject};

fn message_id() -> MessageId {
    MessageId("m-1".into())
}

#[tokio::test]
async fn answers_come_in_any_order_and_say_what_is_refused() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let mut publishing = Vec::new();
    let mut ids = Vec::new();
    for to in ["heartbeat.web-1", "heartbeat.web-2", "audit.x.y"] {
        let publisher = Arc::clone(&link);
        publishing.push(tokio::spawn(async move {
            publisher.publish(&subject(to), Bytes::from(to)).await
        }));
        let (AgentFrame { id, call }, payload) = peer.call().await;
        assert_eq!(call, Call::Publish { subject: subject(to) });
        assert_eq!(payload, to);
        ids.push(id);
    }
    assert_eq!(link.calls_in_flight(), 3);
    peer.failed(ids[2], BusErrorKind::Refused).await;
    peer.done(ids[0]).await;
    peer.failed(ids[1], BusErrorKind::Refused).await;
    let mut kinds = Vec::new();
    for publishing in publishing {
        let result = soon(publishing).await.unwrap();
        kinds.push(result.err().map(|error| error.kind()));
    }
    let refused = Some(BusErrorKind::Refused);
    assert_eq!(kinds, [None, refused, refused]);
    assert_eq!(link.calls_in_flight(), 0);
}

#[tokio::test]
async fn a_reply_goes_where_the_request_says() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let mut request = Message {
        subject: subject("logs.fetch.web-1"),
        payload: Bytes::new(),
        reply: Some(subject("_INBOX.7")),
    };
    let (replier, asked) = (Arc::clone(&link), request.clone());
    let replying = tokio::spawn(async move { replier.reply(&asked, Bytes::from("log")).await });
    let (AgentFrame { id, call }, payload) = peer.call().await;
    let to = subject("_INBOX.7");
    assert_eq!((call, &payload[..]), (Call::Reply { to }, &b"log"[..]));
    peer.done(id).await;
    soon(replying).await.unwrap().unwrap();
    request.reply = None;
    let error = link.reply(&request, Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Refused);
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_breaks_nothing() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let large = Bytes::from(vec![b'x'; MAX_PAYLOAD + 1]);
    let to = subject("results.r-1");
    let kinds = [
        link.publish(&to, large.clone()).await.unwrap_err().kind(),
        link.publish_durable(&to, large, message_id())
            .await
            .unwrap_err()
            .kind(),
        link.publish_durable(&to, Bytes::new(), MessageId("m".repeat(8 << 10)))
            .await
            .unwrap_err()
            .kind(),
    ];
    assert_eq!(kinds, [BusErrorKind::TooLarge; 3]);
    peer.nothing_came().await;
    let publisher = Arc::clone(&link);
    let largest = Bytes::from(vec![b'x'; MAX_PAYLOAD]);
    let publishing = tokio::spawn(async move { publisher.publish(&subject("results.r-1"), largest).await });
    let (frame, payload) = peer.call().await;
    assert_eq!(payload.len(), MAX_PAYLOAD);
    peer.done(frame.id).await;
    soon(publishing).await.unwrap().unwrap();
}

#[tokio::test]
async fn documents_are_read() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let backup: kanade_ports::Key = "backup".parse().unwrap();
    let mut read = Vec::new();
    for round in 0..4 {
        let (reader, key) = (Arc::clone(&link), backup.clone());
        let reading = tokio::spawn(async move { reader.get(Bucket::ScriptStatus, &key).await });
        let (AgentFrame { id, call }, _) = peer.call().await;
        let (bucket, key) = (Bucket::ScriptStatus, backup.clone());
        assert_eq!(call, Call::Get { bucket, key });
        let revision = match round {
            0 => Some(Revision(7)),
            _ => None,
        };
        match round {
            0 | 1 => peer.tell(ServerFrame::Found { id, revision }, b"ACTIVE").await,
            2 => peer.failed(id, BusErrorKind::Refused).await,
            _ => peer.failed(id, BusErrorKind::Unavailable).await,
        }
        read.push(soon(reading).await.unwrap().map_err(|error| error.kind()));
    }
    let entry = Entry {
        key: backup,
        value: Bytes::from("ACTIVE"),
        revision: Revision(7),
    };
    let expected = [
        Ok(Some(entry)),
        Ok(None),
        Err(ErrorKind::Unsupported),
        Err(ErrorKind::Unavailable),
    ];
    assert_eq!(read, expected);
}

#[tokio::test]
async fn without_a_connection_some_calls_fail_at_once_and_others_wait_for_one() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.patience = Duration::from_secs(1);
    let link = server.link(timing);
    let to = subject("heartbeat.web-1");
    let request = Message {
        subject: to.clone(),
        payload: Bytes::new(),
        reply: Some(to.clone()),
    };
    let began = Instant::now();
    let at_once = [
        link.publish(&to, Bytes::new()).await.unwrap_err().kind(),
        link.reply(&request, Bytes::new()).await.unwrap_err().kind(),
    ];
    assert_eq!(at_once, [BusErrorKind::Unavailable; 2]);
    assert!(began.elapsed() < timing.patience);
    let key = "backup".parse().unwrap();
    let began = Instant::now();
    let (published, read, watched) = soon(async {
        tokio::join!(
            link.publish_durable(&to, Bytes::new(), message_id()),
            link.get(Bucket::Jobs, &key),
            link.watch(Bucket::Jobs),
        )
    })
    .await;
    assert!(began.elapsed() >= timing.patience);
    assert_eq!(published.unwrap_err().kind(), BusErrorKind::Unavailable);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(watched.err().unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_durable_message_waits_for_a_connection() {
    let server = Server::start().await;
    let link = server.link(quick());
    let publisher = Arc::clone(&link);
    let publishing = tokio::spawn(async move {
        publisher
            .publish_durable(&subject("results.r-1"), Bytes::from("{}"), message_id())
            .await
    });
    drop(server.stream().await.unwrap());
    let mut peer = server.accept().await;
    let (frame, _) = peer.call().await;
    peer.done(frame.id).await;
    soon(publishing).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_that_are_given_up_leave_nothing_behind() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let mut ids = Vec::new();
    for round in 0..100 {
        let caller = Arc::clone(&link);
        let calling = tokio::spawn(async move {
            let (to, payload) = (subject("results.r-1"), Bytes::new());
            match round % 4 {
                0 => drop(caller.publish(&to, payload).await),
                1 => drop(caller.publish_durable(&to, payload, message_id()).await),
                2 => drop(caller.get(Bucket::Jobs, &"backup".parse().unwrap()).await),
                _ => drop(caller.watch(Bucket::Jobs).await),
            }
        });
        let (frame, _) = peer.call().await;
        ids.push(frame.id);
        calling.abort();
        assert!(soon(calling).await.unwrap_err().is_cancelled());
        if matches!(frame.call, Call::Watch { .. }) {
            peer.end_of(frame.id).await;
        }
    }
    assert_eq!(link.calls_in_flight(), 0);
    for id in ids {
        peer.done(id).await;
    }
    peer.nothing_came().await;
}
