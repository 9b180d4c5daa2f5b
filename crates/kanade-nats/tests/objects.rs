//! Releases next to other NATS clients (the driver's own object store stands for them: 0.30 uses it), what is left
//! behind, and what the server is asked for.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{io, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, object_store::ObjectStore},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kanade_model::{Timestamp, Version};
use kanade_nats::Nats;
use kanade_ports::{ErrorKind, Measure, Program, ResourceKind};
use serde_json::json;
use support::{Server, js};
use tokio::io::AsyncReadExt;

/// No condition takes longer than this.
const DEADLINE: Duration = Duration::from_secs(30);

fn version(name: &str) -> Version {
    name.parse().unwrap()
}

fn program(bytes: &[u8]) -> Program {
    let pieces: Vec<io::Result<Bytes>> = bytes
        .chunks(10_007)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

async fn bucket(client: &Client) -> ObjectStore {
    let context = jetstream::new(client.clone());
    context.get_object_store("agent_releases").await.unwrap()
}

/// How many pieces lie in the bucket.
async fn pieces(client: &Client) -> u64 {
    let body = json!({ "subjects_filter": "$O.agent_releases.C.>" });
    let info = js(client, "STREAM.INFO.OBJ_agent_releases", body).await;
    let subjects = info["state"]["subjects"].as_object();
    subjects
        .into_iter()
        .flatten()
        .map(|(_, count)| count.as_u64().unwrap())
        .sum()
}

async fn until_there_are(client: &Client, wanted: u64) {
    let waited = async {
        while pieces(client).await != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let left = tokio::time::timeout(DEADLINE, waited).await;
    assert!(left.is_ok(), "{} pieces, not {wanted}", pieces(client).await);
}

#[tokio::test]
async fn other_clients_read_what_we_store() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    let bytes: Vec<u8> = (0..300_000_u32)
        .map(|number| u8::try_from(number % 251).unwrap())
        .collect();
    let stored = nats
        .releases()
        .put(&version("0.31.0"), program(&bytes))
        .await
        .unwrap();
    let mut object = bucket(&client).await.get("0.31.0").await.unwrap();
    let info = object.info.clone();
    let mut read = Vec::new();
    object.read_to_end(&mut read).await.unwrap();
    assert!(read == bytes, "the same, and its digest is right");
    assert_eq!(info.digest.as_ref(), Some(&stored.digest));
    assert_eq!((info.size, info.chunks), (300_000, 3), "pieces of 128 KiB");
    assert_eq!(
        (info.name.as_str(), info.bucket.as_str()),
        ("0.31.0", "agent_releases")
    );
    let listed: Vec<_> = bucket(&client)
        .await
        .list()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    nats.releases().delete(&version("0.31.0")).await.unwrap();
    let gone = bucket(&client).await.get("0.31.0").await;
    assert!(gone.is_err(), "to other clients too it is deleted");
    let listed: Vec<_> = bucket(&client)
        .await
        .list()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn what_other_clients_store_is_a_release() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    let bytes = vec![7; 200_000];
    let theirs = bucket(&client).await;
    theirs.put("0.30.0", &mut bytes.as_slice()).await.unwrap();
    theirs.put("not/ours at all", &mut &b"x"[..]).await.unwrap();
    theirs.put("0.29.0", &mut &b"old"[..]).await.unwrap();
    theirs.delete("0.29.0").await.unwrap();
    let releases = nats.releases();
    let listed = releases.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|release| release.version.as_str()).collect();
    assert_eq!(names, ["0.30.0", "not/ours at all"]);
    let (release, read) = releases.get(&version("0.30.0")).await.unwrap().unwrap();
    let read: Vec<Bytes> = read.try_collect().await.unwrap();
    assert!(read.concat() == bytes);
    let mut measure = Measure::default();
    measure.take(&bytes);
    assert_eq!((release.size, release.digest), (200_000, measure.digest()));
    assert_eq!(releases.find(&version("0.29.0")).await.unwrap(), None);
    releases.delete(&version("0.30.0")).await.unwrap();
    assert!(theirs.get("0.30.0").await.is_err());
}

#[tokio::test]
async fn a_release_of_a_client_that_writes_no_time_has_that_of_its_message() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    // As the `nats` command writes it: "0.30.0" is MC4zMC4w.
    let said = json!({
        "name": "0.30.0", "options": {"max_chunk_size": 131_072}, "bucket": "agent_releases", "nuid": "N1",
        "size": 3, "mtime": "0001-01-01T00:00:00Z", "chunks": 1,
        "digest": "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0="
    });
    let context = jetstream::new(client.clone());
    for (subject, payload) in [
        ("$O.agent_releases.C.N1", Bytes::from("abc")),
        ("$O.agent_releases.M.MC4zMC4w", said.to_string().into()),
    ] {
        context.publish(subject, payload).await.unwrap().await.unwrap();
    }
    let (release, read) = nats.releases().get(&version("0.30.0")).await.unwrap().unwrap();
    assert!(release.modified > Timestamp::UNIX_EPOCH, "{}", release.modified);
    let read: Vec<Bytes> = read.try_collect().await.unwrap();
    assert_eq!(read.concat(), b"abc");
}

#[tokio::test]
async fn nothing_is_left_of_what_broke_off_was_replaced_or_deleted() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    let releases = nats.releases();
    let bytes = vec![1; 500_000];
    let breaks = program(&bytes)
        .chain(stream::iter([Err(io::Error::from(io::ErrorKind::BrokenPipe))]))
        .boxed();
    let broken = releases.put(&version("1"), breaks).await;
    assert_eq!(broken.unwrap_err().kind(), ErrorKind::Unavailable);
    until_there_are(&client, 0).await;

    let name = version("1");
    let waits = program(&bytes).chain(stream::pending()).boxed();
    let mut waiting = releases.put(&name, waits);
    while pieces(&client).await < 3 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(waiting);
    until_there_are(&client, 0).await;

    let racers = (0..5_u8).map(|number| {
        let (releases, bytes) = (nats.releases(), vec![number; 200_000]);
        async move { releases.put(&version("1"), program(&bytes)).await.unwrap() }
    });
    futures::future::join_all(racers).await;
    until_there_are(&client, 2).await;
    releases.put(&version("1"), program(b"small")).await.unwrap();
    until_there_are(&client, 1).await;
    releases.delete(&version("1")).await.unwrap();
    until_there_are(&client, 0).await;
}

#[tokio::test]
async fn pieces_that_never_come_are_an_error_and_not_a_wait_for_ever() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    let releases = nats.releases();
    releases
        .put(&version("1"), program(&vec![1; 400_000]))
        .await
        .unwrap();
    js(
        &client,
        "STREAM.PURGE.OBJ_agent_releases",
        json!({ "filter": "$O.agent_releases.C.>" }),
    )
    .await;
    let (_, read) = releases.get(&version("1")).await.unwrap().unwrap();
    let read: Result<Vec<Bytes>, io::Error> =
        tokio::time::timeout(DEADLINE, read.try_collect()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_resource_that_somebody_removed_is_told() {
    let server = Server::start().await;
    let nats = Nats::connect(server.settings()).await.unwrap();
    let client = server.stranger().await;
    let resources = nats.resources();
    let named = async |kind, exists| {
        let listed = resources.list().await.unwrap();
        let mut names: Vec<String> = listed
            .into_iter()
            .filter(|resource| resource.kind == kind && resource.exists == exists)
            .map(|resource| resource.name)
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        named(ResourceKind::Stream, true).await,
        ["AUDIT", "EVENTS", "EXEC", "INVENTORY", "RESULTS"]
    );
    assert_eq!(
        named(ResourceKind::Bucket, true).await,
        [
            "agent_config",
            "agent_groups",
            "agents_state",
            "freezes",
            "jobs",
            "schedules",
            "script_current",
            "script_status"
        ]
    );
    assert_eq!(named(ResourceKind::ObjectStore, true).await, ["agent_releases"]);
    for stream in ["INVENTORY", "KV_agents_state", "OBJ_agent_releases"] {
        js(&client, &format!("STREAM.DELETE.{stream}"), json!({})).await;
    }
    assert_eq!(named(ResourceKind::Stream, false).await, ["INVENTORY"]);
    assert_eq!(named(ResourceKind::Bucket, false).await, ["agents_state"]);
    assert_eq!(named(ResourceKind::ObjectStore, false).await, ["agent_releases"]);
    assert_eq!(named(ResourceKind::Stream, true).await.len(), 4);
}
