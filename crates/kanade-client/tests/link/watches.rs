//! Watches of the catalog.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use kanade_client::AgentLink;
use kanade_ports::{
    Bucket, BusErrorKind, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Revision,
    frame::{AgentFrame, Call, ServerFrame},
};

use crate::server::{Peer, Server, quick, soon};

const BUCKET: Bucket = Bucket::ScriptStatus;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn watch(link: &Arc<AgentLink>, peer: &mut Peer) -> (u64, CatalogStream) {
    let watcher = Arc::clone(link);
    let watching = tokio::spawn(async move { watcher.watch(BUCKET).await });
    let (AgentFrame { id, call }, _) = peer.call().await;
    assert_eq!(call, Call::Watch { bucket: BUCKET });
    peer.done(id).await;
    (id, soon(watching).await.unwrap().ok().unwrap())
}

#[tokio::test]
async fn events_come_in_their_order() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let (of, events) = watch(&link, &mut peer).await;
    let put = ServerFrame::Put {
        of,
        key: key("backup"),
        revision: Revision(3),
    };
    peer.tell(put, b"REVOKED").await;
    peer.tell(ServerFrame::Current { of }, b"").await;
    let deleted = ServerFrame::Deleted {
        of,
        key: key("backup"),
    };
    peer.tell(deleted, b"").await;
    let seen: Vec<_> = soon(events.take(3).collect()).await;
    let entry = Entry {
        key: key("backup"),
        value: Bytes::from("REVOKED"),
        revision: Revision(3),
    };
    let expected = [
        CatalogEvent::Put(entry),
        CatalogEvent::Current,
        CatalogEvent::Deleted(key("backup")),
    ];
    assert_eq!(seen, expected);
    peer.end_of(of).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_connection_and_can_be_made_again() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let (of, mut events) = watch(&link, &mut peer).await;
    peer.tell(ServerFrame::Current { of }, b"").await;
    assert_eq!(soon(events.next()).await, Some(CatalogEvent::Current));
    drop(peer);
    assert_eq!(soon(events.next()).await, None);
    let mut peer = server.accept().await;
    peer.nothing_came().await;
    let (of, mut events) = watch(&link, &mut peer).await;
    peer.tell(ServerFrame::Current { of }, b"").await;
    assert_eq!(soon(events.next()).await, Some(CatalogEvent::Current));
}

#[tokio::test]
async fn a_watch_that_the_server_ends_ends() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let (of, mut events) = watch(&link, &mut peer).await;
    peer.tell(ServerFrame::Ended { of }, b"").await;
    assert_eq!(soon(events.next()).await, None);
    drop(events);
    peer.nothing_came().await;
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_instead_of_filling_the_memory() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let (of, events) = watch(&link, &mut peer).await;
    let document = vec![b'x'; 1 << 20];
    for revision in 1..=32 {
        let put = ServerFrame::Put {
            of,
            key: key("backup"),
            revision: Revision(revision),
        };
        peer.tell(put, &document).await;
    }
    peer.end_of(of).await;
    let seen: Vec<_> = soon(events.collect()).await;
    assert_eq!(seen.len(), 31, "of 32 MiB and some more");
}

#[tokio::test]
async fn a_watch_that_is_refused_or_lost_is_an_error() {
    let server = Server::start().await;
    let (link, mut peer) = server.connected(quick()).await;
    let mut watching = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let watcher = Arc::clone(&link);
        watching.push(tokio::spawn(async move { watcher.watch(BUCKET).await }));
        ids.push(peer.call().await.0.id);
    }
    peer.failed(ids[0], BusErrorKind::Refused).await;
    peer.nothing_came().await;
    drop(peer);
    let mut kinds = Vec::new();
    for watching in watching {
        kinds.push(soon(watching).await.unwrap().err().unwrap().kind());
    }
    assert_eq!(kinds, [ErrorKind::Unsupported, ErrorKind::Unavailable]);
}
