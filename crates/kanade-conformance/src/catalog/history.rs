//! The versions of a document.

use kanade_ports::{Bucket, Precondition};

use super::shelf::{Shelf, key};
use crate::CatalogFactory;

pub async fn the_newest_five_versions_are_kept<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut revisions = Vec::new();
    for (number, wanted) in [
        "1",
        "2 1",
        "3 2 1",
        "4 3 2 1",
        "5 4 3 2 1",
        "6 5 4 3 2",
        "7 6 5 4 3",
    ]
    .into_iter()
    .enumerate()
    {
        revisions.push(shelf.put("backup", &(number + 1).to_string()).await);
        shelf.put("other", "x").await;
        assert_eq!(shelf.history("backup").await.join(" "), wanted, "newest first");
    }
    let versions = shelf.catalog.history(Bucket::Jobs, &key("backup")).await.unwrap();
    let found: Vec<_> = versions.iter().map(|entry| entry.revision).collect();
    revisions.reverse();
    assert_eq!(found, revisions[..5], "each with its revision");
    assert!(
        versions.iter().all(|entry| entry.key == key("backup")),
        "and its key"
    );
    assert_eq!(
        shelf.get("backup").await.as_ref(),
        versions.first(),
        "the first is the document"
    );
}

pub async fn the_history_of_a_deleted_document_stays<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    shelf.put("backup", "1").await;
    shelf.put("backup", "2").await;
    shelf.delete("backup").await;
    assert_eq!(
        shelf.history("backup").await,
        ["2", "1"],
        "a deletion is not a version"
    );
    shelf.put("backup", "3").await;
    assert_eq!(
        shelf.history("backup").await,
        ["3", "2", "1"],
        "and it goes on from there"
    );
    assert_eq!(shelf.history("never").await, [""; 0], "what never was has none");
}

pub async fn an_old_version_can_be_written_back<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    shelf.put("backup", "good").await;
    let bad = shelf.put("backup", "bad").await;
    let versions = shelf.catalog.history(Bucket::Jobs, &key("backup")).await.unwrap();
    let good = versions[1].value.clone();
    let back = shelf
        .catalog
        .put(Bucket::Jobs, &key("backup"), good, Precondition::At(bad))
        .await
        .unwrap();
    let entry = shelf.get("backup").await.unwrap();
    assert_eq!(
        (super::shelf::text(&entry), entry.revision),
        ("good".to_owned(), back),
        "as a new version"
    );
    assert_ne!(entry.revision, versions[1].revision, "with a revision of its own");
    assert_eq!(shelf.history("backup").await, ["good", "bad", "good"]);
}
