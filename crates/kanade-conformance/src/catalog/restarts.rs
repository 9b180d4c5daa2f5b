//! Restarts: documents, their versions and their revisions are there. A catalog that keeps nothing is empty.

use kanade_ports::{Bucket, ErrorKind, Precondition};

use super::shelf::{Shelf, standing};
use crate::CatalogFactory;

pub async fn documents_are_there_after_a_restart<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    for value in ["1", "2", "3"] {
        shelf.put("backup", value).await;
    }
    shelf.put("gone", "1").await;
    shelf.delete("gone").await;
    shelf.put("漢字/=", "").await;
    let before = shelf.list().await;
    let (shelf, survives) = shelf.reopened().await;
    if survives {
        assert_eq!(shelf.list().await, before, "with their revisions");
        assert_eq!(
            shelf.history("backup").await,
            ["3", "2", "1"],
            "with their versions"
        );
        assert_eq!(shelf.history("gone").await, ["1"], "also of what was deleted");
        assert_eq!(
            standing(&mut shelf.watch().await).await.len(),
            2,
            "a watch begins with them"
        );
    } else {
        for bucket in Bucket::ALL {
            assert_eq!(
                shelf.catalog.list(*bucket).await.unwrap(),
                [],
                "{bucket}: a catalog that keeps nothing is empty"
            );
        }
        assert_eq!(shelf.history("backup").await, [""; 0], "its history too");
    }
}

pub async fn revisions_hold_across_a_restart<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let current = shelf.put("backup", "1").await;
    let newest = shelf.put("gone", "1").await;
    shelf.delete("gone").await;
    let (shelf, survives) = shelf.reopened().await;
    if !survives {
        assert_eq!(
            shelf.get("backup").await,
            None,
            "a catalog that keeps nothing is empty"
        );
        return;
    }
    let again = shelf.put("gone", "2").await;
    assert_ne!(
        again, newest,
        "a revision of before the restart is not given again"
    );
    let stale = shelf.try_put("gone", "3", Precondition::At(newest)).await;
    assert_eq!(stale, Err(ErrorKind::Conflict), "so it is not current");
    let written = shelf.try_put("backup", "2", Precondition::At(current)).await;
    assert!(
        written.is_ok(),
        "who read before the restart can write after it: {written:?}"
    );
    let stale = shelf.try_put("backup", "3", Precondition::At(current)).await;
    assert_eq!(stale, Err(ErrorKind::Conflict), "once");
}

pub async fn several_restarts_keep_every_version<F: CatalogFactory>() {
    let mut shelf = Shelf::<F>::new().await;
    for round in 1..=4 {
        shelf.put("backup", &round.to_string()).await;
        let (reopened, survives) = shelf.reopened().await;
        shelf = reopened;
        let wanted = if survives { round } else { 0 };
        assert_eq!(
            shelf.history("backup").await.len(),
            wanted,
            "after restart {round}"
        );
    }
}
