//! The end of a link.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use kanade_client::LinkState;
use kanade_ports::{Bucket, BusErrorKind, CatalogReader, ErrorKind, MessageId, PubSub};

use crate::server::{Server, pattern, quick, soon, subject};

#[tokio::test]
async fn a_link_says_goodbye_and_then_everything_fails() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    let mut peer = server.accept().await;
    let id = peer.subscription("kill.>").await;
    peer.done(id).await;
    peer.nothing_came().await;
    let (code, ()) = soon(async { tokio::join!(peer.closed(), link.close()) }).await;
    assert_eq!(code, Some(1000));
    assert_eq!(*link.state().borrow(), LinkState::Closed);
    assert!(soon(kills.next()).await.is_none());
    let (to, key) = (subject("results.r-1"), "backup".parse().unwrap());
    let id = MessageId("m-1".into());
    let kinds = [
        link.publish(&to, Bytes::new()).await.unwrap_err().kind(),
        soon(link.publish_durable(&to, Bytes::new(), id))
            .await
            .unwrap_err()
            .kind(),
        link.subscribe(&pattern("kill.>")).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [BusErrorKind::Unavailable; 3]);
    let error = link.get(Bucket::Jobs, &key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = link.watch(Bucket::Jobs).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    soon(link.close()).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_goodbye_is_not_waited_for_long() {
    let server = Server::start().await;
    let (link, peer) = server.connected(quick()).await;
    let began = Instant::now();
    link.close().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(*link.state().borrow(), LinkState::Closed);
    drop(peer);
}

#[tokio::test]
async fn a_link_that_has_no_connection_is_closed_at_once() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.first_pause = Duration::from_secs(600);
    timing.longest_pause = Duration::from_secs(600);
    let link = server.link(timing);
    drop(server.stream().await.unwrap());
    soon(link.close()).await;
    assert_eq!(*link.state().borrow(), LinkState::Closed);
}

#[tokio::test]
async fn the_last_clone_takes_the_connection_with_it() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let clone = kanade_client::AgentLink::clone(&link);
    let mut reconnections = clone.reconnections();
    drop(link);
    peer.nothing_came().await;
    drop(clone);
    peer.closed().await;
    assert!(soon(reconnections.next()).await.is_none());
}

#[tokio::test]
async fn subscriptions_end_with_the_link() {
    let server = Server::start().await;
    let link = server.link(quick());
    let mut kills = link.subscribe(&pattern("kill.>")).await.unwrap();
    drop(link);
    assert!(soon(kills.next()).await.is_none());
}
