//! Reading, writing and deleting documents.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::FutureExt;
use kanade_ports::{Bucket, Entry, ErrorKind, Key, Precondition};

use super::shelf::{Shelf, key, kind};
use crate::{CatalogFactory, harness::Rng};

pub async fn a_new_catalog_is_empty<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    for bucket in Bucket::ALL {
        assert_eq!(
            shelf.catalog.get(*bucket, &key("x")).await.unwrap(),
            None,
            "{bucket}"
        );
        assert_eq!(shelf.catalog.list(*bucket).await.unwrap(), [], "{bucket}");
        assert_eq!(
            shelf.catalog.history(*bucket, &key("x")).await.unwrap(),
            [],
            "{bucket}"
        );
    }
}

pub async fn a_document_is_read_as_it_was_written<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let revision = shelf.put("backup", "one").await;
    let wanted = Entry {
        key: key("backup"),
        value: "one".into(),
        revision,
    };
    assert_eq!(
        shelf.get("backup").await,
        Some(wanted.clone()),
        "with the revision of its write"
    );
    assert_eq!(shelf.list().await, [wanted], "also in the list");
    let second = shelf.put("backup", "two").await;
    assert_ne!(second, revision, "each write gives a new revision");
    let found = shelf.get("backup").await.unwrap();
    assert_eq!(
        (found.value, found.revision),
        (Bytes::from("two"), second),
        "the newest version"
    );
}

pub async fn writing_the_same_text_is_a_new_version<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let first = shelf.put("backup", "same").await;
    let second = shelf.put("backup", "same").await;
    assert_ne!(first, second, "who compared with the first revision must notice");
    let stale = shelf.try_put("backup", "late", Precondition::At(first)).await;
    assert_eq!(
        stale,
        Err(ErrorKind::Conflict),
        "the first revision is no longer the document's"
    );
}

pub async fn a_deleted_document_is_gone<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    shelf.put("backup", "one").await;
    shelf.put("other", "stays").await;
    shelf.delete("backup").await;
    assert_eq!(shelf.get("backup").await, None, "it cannot be read");
    let left: Vec<_> = shelf.list().await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(left, [key("other")], "it is not in the list");
    assert_eq!(
        shelf.try_delete("backup", Precondition::Any).await,
        Err(ErrorKind::NotFound),
        "deleting it again"
    );
    assert_eq!(
        shelf.try_delete("never", Precondition::Any).await,
        Err(ErrorKind::NotFound),
        "what never was"
    );
}

pub async fn a_list_is_in_the_order_of_the_keys<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let names = [
        "b", "a.b", "a", "B", "ä", "a/b", "a=b", "10", "9", "漢字", "🦀", "a b", "_", "-",
    ];
    for name in names {
        shelf.put(name, name).await;
    }
    let mut wanted = names;
    wanted.sort_unstable();
    let found: Vec<_> = shelf
        .list()
        .await
        .into_iter()
        .map(|entry| entry.key.to_string())
        .collect();
    assert_eq!(found, wanted, "by the bytes of the key");
}

pub async fn keys_of_any_text_are_told_apart<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let long = "x".repeat(511);
    let names = [
        "a",
        "A",
        "a.",
        ".a",
        "a..b",
        "a/b",
        "a/b=c",
        "/a",
        "=",
        "==",
        "a%",
        "a_",
        "a\\b",
        "'\"",
        "ä",
        "a\u{308}",
        "漢字",
        "🦀",
        " ",
        "a ",
        "\t",
        "\n",
        "\0",
        "a*",
        "a>",
        "*",
        ">",
        "$",
        "a:b",
        "kv",
        "groups.servers",
        "pcs.pc.1",
        &format!("{long}y"),
        &format!("{long}z"),
        &"ä".repeat(256),
    ]
    .map(ToOwned::to_owned);
    for name in &names {
        shelf.put(name, &format!("the text of {name}")).await;
    }
    for name in &names {
        let found = shelf.text(name).await;
        assert_eq!(found, Some(format!("the text of {name}")), "{name:?}");
    }
    assert_eq!(shelf.list().await.len(), names.len(), "each is its own document");
    let (gone, left) = names.split_at(names.len() / 2);
    for name in gone {
        shelf.delete(name).await;
    }
    let found: BTreeSet<Key> = shelf.list().await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(
        found,
        left.iter().map(|name| key(name)).collect(),
        "deleting one deletes no other"
    );
    for name in gone {
        assert_eq!(
            shelf.history(name).await,
            [format!("the text of {name}")],
            "the history of {name:?}"
        );
    }
}

pub async fn values_of_any_bytes_come_back_as_they_went_in<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let values = [
        Bytes::new(),
        Bytes::from("\0"),
        Bytes::from("{\"ü\": null}\r\n"),
        Bytes::from(every_byte),
        Bytes::from("x".repeat(1_000_000)),
        Bytes::from(vec![0; 1_000_000]),
    ];
    for (number, value) in values.iter().enumerate() {
        let (name, bytes) = (key(&format!("v-{number}")), value.len());
        shelf
            .catalog
            .put(Bucket::Jobs, &name, value.clone(), Precondition::Any)
            .await
            .unwrap();
        let found = shelf
            .catalog
            .get(Bucket::Jobs, &name)
            .await
            .unwrap()
            .unwrap()
            .value;
        assert!(found == value, "value {number} of {bytes} bytes is the same");
    }
    for (entry, value) in shelf.list().await.iter().zip(&values) {
        assert!(entry.value == value, "{} is the same in the list", entry.key);
    }
}

pub async fn buckets_are_separate<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let name = key("same");
    for bucket in Bucket::ALL {
        let value = Bytes::from(bucket.as_str());
        shelf
            .catalog
            .put(*bucket, &name, value, Precondition::Absent)
            .await
            .unwrap();
    }
    shelf
        .catalog
        .delete(Bucket::Schedules, &name, Precondition::Any)
        .await
        .unwrap();
    for bucket in Bucket::ALL {
        let found = shelf
            .catalog
            .get(*bucket, &name)
            .await
            .unwrap()
            .map(|entry| entry.value);
        let wanted = (*bucket != Bucket::Schedules).then(|| Bytes::from(bucket.as_str()));
        assert_eq!(found, wanted, "{bucket}");
        assert_eq!(
            shelf.catalog.list(*bucket).await.unwrap().len(),
            usize::from(wanted.is_some()),
            "{bucket}"
        );
        let versions = shelf.catalog.history(*bucket, &name).await.unwrap();
        let versions: Vec<_> = versions.into_iter().map(|entry| entry.value).collect();
        assert_eq!(versions, [bucket.as_str()], "{bucket}");
    }
}

pub async fn many_documents_are_all_listed<F: CatalogFactory>() {
    const DOCUMENTS: usize = 300;
    let shelf = Shelf::<F>::new().await;
    let names: Vec<_> = (0..DOCUMENTS).map(|number| format!("job-{number:04}")).collect();
    for name in &names {
        shelf.put(name, name).await;
    }
    let found: Vec<_> = shelf
        .list()
        .await
        .into_iter()
        .map(|entry| entry.key.to_string())
        .collect();
    assert_eq!(found, names, "a list has no pages");
}

pub async fn a_writer_that_goes_away_leaves_a_whole_document<F: CatalogFactory>() {
    let shelf = Shelf::<F>::new().await;
    let mut random = Rng::new(11);
    for round in 0..40 {
        let name = key(&format!("d-{}", round % 4));
        let value = Bytes::from(format!("{round} ").repeat(1000));
        let mut write = shelf.catalog.put(Bucket::Jobs, &name, value, Precondition::Any);
        for _ in 0..=random.below(4) {
            if (&mut write).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(write);
        let found = kind(shelf.catalog.get(Bucket::Jobs, &name).await).expect("reads go on");
        if let Some(entry) = found {
            let text = super::shelf::text(&entry);
            let first = text.split(' ').next().unwrap_or_default();
            assert_eq!(
                text,
                format!("{first} ").repeat(1000),
                "a document is of one writer"
            );
        }
    }
    shelf.put("last", "written").await;
    assert_eq!(
        shelf.text("last").await.as_deref(),
        Some("written"),
        "writes go on"
    );
}
