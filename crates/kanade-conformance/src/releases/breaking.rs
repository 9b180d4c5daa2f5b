//! What breaks off in the middle, and what is done at the same time.

use std::sync::Arc;

use futures::{FutureExt, TryStreamExt, future::join_all};
use kanade_ports::ErrorKind;

use super::depot::{Depot, SOON, broken, endless, in_pieces, is_of, kind, program, read, version};
use crate::{ReleasesFactory, harness::Rng, within};

pub async fn a_program_that_breaks_off_leaves_what_was_there<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let half = program(1, 500_000);
    let stored = depot.releases.put(&version("1"), broken(&half)).await;
    assert_eq!(kind(stored), Err(ErrorKind::Unavailable));
    assert_eq!(depot.names().await, [""; 0], "there was nothing");
    assert_eq!(depot.get("1").await, None);
    depot.put("1", b"whole").await;
    let stored = depot.releases.put(&version("1"), broken(&half)).await;
    assert_eq!(kind(stored), Err(ErrorKind::Unavailable));
    assert_eq!(
        depot.get("1").await.as_deref(),
        Some(&b"whole"[..]),
        "there was one"
    );
}

pub async fn a_caller_that_goes_away_leaves_a_whole_release<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let mut random = Rng::new(5);
    let programs: Vec<_> = (0..12).map(|seed| program(seed, 300_000)).collect();
    for bytes in &programs {
        let name = version("1");
        let mut stored = depot.releases.put(&name, in_pieces(bytes, 1 << 16));
        for _ in 0..=random.below(40) {
            if (&mut stored).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(stored);
        // What was begun may come to its end a little later, also while this is read.
        if let Some((release, program)) = depot.releases.get(&name).await.unwrap()
            && let Ok(bytes) = read(program).await
        {
            is_of(&release, &bytes);
            assert!(programs.contains(&bytes), "it is one that was stored");
        }
    }
    depot.put("2", b"more").await;
    assert_eq!(
        depot.get("2").await.as_deref(),
        Some(&b"more"[..]),
        "writes go on"
    );
}

pub async fn a_reader_gets_one_program_and_no_mixture<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let (first, second) = (program(1, 3 << 20), program(2, 3 << 20));
    for deleted in [false, true] {
        depot.put("1", &first).await;
        let (release, mut bytes) = depot
            .releases
            .get(&version("1"))
            .await
            .unwrap()
            .expect("it is there");
        let begun = within(SOON, "a first piece", bytes.try_next()).await;
        let begun = begun.unwrap().expect("it is not empty");
        if deleted {
            depot.releases.delete(&version("1")).await.unwrap();
        } else {
            depot.put("1", &second).await;
        }
        if let Ok(rest) = read(bytes).await {
            is_of(&release, &[begun.as_ref(), &rest].concat());
        }
        let now = (!deleted).then_some(&second);
        assert!(
            depot.get("1").await.as_ref() == now,
            "new readers get what is there now"
        );
    }
}

pub async fn of_racing_writers_one_leaves_its_program<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let programs: Vec<_> = (0..6).map(|seed| program(seed, 200_000)).collect();
    let releases = &depot.releases;
    let stored = programs.iter().map(|bytes| {
        let releases = Arc::clone(releases);
        async move { releases.put(&version("1"), in_pieces(bytes, 50_000)).await }
    });
    for stored in within(SOON, "all are stored", join_all(stored)).await {
        stored.unwrap();
    }
    let left = depot.get("1").await.expect("one is there");
    assert!(programs.contains(&left), "and whole");
    assert_eq!(depot.names().await, ["1"]);
    // One that never ends is in nobody's way.
    let name = version("1");
    let mut waiting = depot.releases.put(&name, endless(b"never"));
    assert!((&mut waiting).now_or_never().is_none());
    depot.put("1", b"last").await;
    drop(waiting);
    assert_eq!(depot.get("1").await.as_deref(), Some(&b"last"[..]));
}
