//! Restarts: releases are there. What keeps nothing is empty.

use futures::FutureExt;

use super::depot::{Depot, broken, endless, program, version};
use crate::ReleasesFactory;

pub async fn releases_are_there_after_a_restart<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    let large = program(1, 1 << 20);
    depot.put("1", b"one").await;
    depot.put("1", &large).await;
    depot.put("2", b"two").await;
    depot.put("3", b"three").await;
    depot.releases.delete(&version("2")).await.unwrap();
    let before = depot.releases.list().await.unwrap();
    let (depot, survives) = depot.reopened().await;
    if survives {
        assert_eq!(depot.releases.list().await.unwrap(), before);
        assert!(depot.get("1").await.as_ref() == Some(&large));
        assert_eq!(depot.get("3").await.as_deref(), Some(&b"three"[..]));
    } else {
        assert_eq!(depot.names().await, [""; 0]);
    }
    assert_eq!(depot.get("2").await, None);
    depot.put("2", b"again").await;
    assert_eq!(depot.get("2").await.as_deref(), Some(&b"again"[..]));
}

pub async fn what_broke_off_is_not_there_after_a_restart<F: ReleasesFactory>() {
    let depot = Depot::<F>::new().await;
    depot.put("1", b"one").await;
    let half = program(1, 400_000);
    drop(depot.releases.put(&version("2"), broken(&half)).await);
    let (one, three) = (version("1"), version("3"));
    for name in [&one, &three] {
        let mut stored = depot.releases.put(name, endless(&half));
        for _ in 0..20 {
            assert!((&mut stored).now_or_never().is_none(), "it never ends");
            tokio::task::yield_now().await;
        }
    }
    let (depot, survives) = depot.reopened().await;
    let left: &[&str] = if survives { &["1"] } else { &[] };
    assert_eq!(depot.names().await, left);
    let one = survives.then_some(&b"one"[..]);
    assert_eq!(depot.get("1").await.as_deref(), one);
}
