//! Storing, reading, listing and deleting.

use kanade_ports::{ErrorKind, Release};

use super::depot::{Depot, in_pieces, kind, program, version};
use crate::ReleasesFactory;

pub async fn nothing_is_released_at_first<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    assert_eq!(depot.names().await, [""; 0]);
    assert_eq!(depot.get("0.30.0").await, None);
    assert_eq!(
        kind(depot.releases.delete(&version("0.30.0")).await),
        Err(ErrorKind::NotFound)
    );
}

pub async fn a_release_is_read_as_it_was_stored<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let stored = depot.put("0.30.0", b"abc").await;
    assert_eq!((stored.version.as_str(), stored.size), ("0.30.0", 3));
    // The example of FIPS 180-2, appendix B.1.
    assert_eq!(
        stored.digest,
        "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0="
    );
    assert_eq!(depot.get("0.30.0").await.as_deref(), Some(&b"abc"[..]));
    let found = depot
        .releases
        .find(&version("0.30.0"))
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!((found.digest.as_str(), found.size), (stored.digest.as_str(), 3));
    assert_eq!(depot.releases.list().await.unwrap(), [found], "also in the list");
}

pub async fn a_large_program_comes_back_byte_for_byte<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let large = program(1, (5 << 20) + 3);
    for (name, piece) in [("1", 1_000_003), ("2", 4093)] {
        let stored = depot
            .releases
            .put(&version(name), in_pieces(&large, piece))
            .await
            .unwrap();
        assert_eq!(stored.size, large.len() as u64);
        assert!(
            depot.get(name).await.as_ref() == Some(&large),
            "in pieces of {piece} bytes"
        );
    }
}

pub async fn an_empty_program_is_a_release<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    assert_eq!(depot.put("1", b"").await.size, 0);
    assert_eq!(depot.get("1").await, Some(Vec::new()));
}

pub async fn releases_are_listed_by_version<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    for name in ["0.9.0", "0.10.0", "1.0.0-rc.1", "0.30.0"] {
        depot.put(name, name.as_bytes()).await;
    }
    assert_eq!(depot.names().await, ["0.10.0", "0.30.0", "0.9.0", "1.0.0-rc.1"]);
}

pub async fn versions_are_told_apart<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let longest = "x".repeat(64);
    let names = [
        "1", "1.", "1..2", "1.0", "1.0-rc", "1.0-RC", "1.0-Rc", "1.0+rc", "1_0", "con", "NUL", "a.json",
        &longest,
    ];
    for name in names {
        depot.put(name, name.as_bytes()).await;
    }
    assert_eq!(depot.names().await.len(), names.len());
    for name in names {
        assert_eq!(
            depot.get(name).await.as_deref(),
            Some(name.as_bytes()),
            "{name:?}"
        );
    }
    let (gone, left) = names.split_at(6);
    for name in gone {
        depot.releases.delete(&version(name)).await.unwrap();
    }
    let mut left = left.to_vec();
    left.sort_unstable();
    assert_eq!(depot.names().await, left, "deleting one deletes no other");
}

pub async fn a_version_that_is_stored_again_is_replaced<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let (first, second) = (program(1, 700_000), program(2, 300_000));
    depot.put("1", &first).await;
    depot.put("2", b"other").await;
    let stored = depot.put("1", &second).await;
    assert!(depot.get("1").await.as_ref() == Some(&second));
    let listed: Vec<Release> = depot.releases.list().await.unwrap();
    assert_eq!(listed.len(), 2, "it is there once");
    assert_eq!(listed[0].digest, stored.digest);
    assert_eq!(depot.get("2").await.as_deref(), Some(&b"other"[..]));
    depot.put("1", &second).await;
    assert!(
        depot.get("1").await.as_ref() == Some(&second),
        "the same once more"
    );
}

pub async fn a_deleted_release_is_gone<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    depot.put("1", b"one").await;
    depot.put("2", b"two").await;
    depot.releases.delete(&version("1")).await.unwrap();
    assert_eq!(depot.get("1").await, None);
    assert_eq!(depot.names().await, ["2"]);
    assert_eq!(
        kind(depot.releases.delete(&version("1")).await),
        Err(ErrorKind::NotFound),
        "deleting it again"
    );
    depot.put("1", b"new").await;
    assert_eq!(
        depot.get("1").await.as_deref(),
        Some(&b"new"[..]),
        "it may come back"
    );
}

pub async fn an_agent_reads_what_is_there<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    assert_eq!(depot.get_as_agent("1").await, None);
    let large = program(7, (3 << 20) + 1);
    for program in [&b"first"[..], b"", &large] {
        depot.put("1", program).await;
        depot.put("2", b"another").await;
        let read = depot.get_as_agent("1").await;
        assert!(read.as_deref() == Some(program), "of {} bytes", program.len());
    }
    depot.releases.delete(&version("1")).await.unwrap();
    assert_eq!(depot.get_as_agent("1").await, None);
    assert_eq!(depot.get_as_agent("2").await.as_deref(), Some(&b"another"[..]));
}
