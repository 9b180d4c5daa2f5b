//! What a crash in the middle may leave in the folder, and what others may have done to it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kanade_files::FileReleases;
use kanade_model::Version;
use kanade_ports::{ErrorKind, Program, ReleaseReader, Releases, SystemClock};

fn open(folder: &Path) -> FileReleases {
    FileReleases::open(folder, Arc::new(SystemClock)).unwrap()
}

fn version(name: &str) -> Version {
    name.parse().unwrap()
}

fn program(text: &'static str) -> Program {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

async fn read(releases: &FileReleases, name: &str) -> Option<String> {
    let (_, program) = releases.get(&version(name)).await.unwrap()?;
    let pieces: Vec<Bytes> = program.try_collect().await.unwrap();
    Some(String::from_utf8(pieces.concat()).unwrap())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn what_a_crash_leaves_is_no_release_and_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    open(folder).put(&version("1"), program("one")).await.unwrap();
    let whole = names(folder);
    assert_eq!(whole.len(), 2, "a program and its record: {whole:?}");
    // After the program, before its record; within the program; within the record.
    let unnamed = "program-00000000-0000-0000-0000-000000000007";
    for name in [unnamed, "incoming-Xy7", "draft-Ab3"] {
        fs::write(folder.join(name), "half").unwrap();
    }
    fs::write(folder.join("notes.txt"), "not ours").unwrap();
    let releases = open(folder);
    assert_eq!(releases.list().await.unwrap().len(), 1);
    assert_eq!(read(&releases, "1").await.as_deref(), Some("one"));
    let mut left = whole;
    left.insert("notes.txt".into());
    assert_eq!(names(folder), left, "and nothing else was touched");
}

#[tokio::test]
async fn what_is_replaced_deleted_or_given_up_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let releases = open(folder.path());
    for text in ["one", "two", "three"] {
        releases.put(&version("1"), program(text)).await.unwrap();
    }
    assert_eq!(names(folder.path()).len(), 2);
    let given_up = version("2");
    let mut waiting = releases.put(&given_up, program("half").chain(stream::pending()).boxed());
    let begun = async {
        while names(folder.path()).len() < 3 {
            assert!((&mut waiting).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun)
        .await
        .unwrap();
    drop(waiting);
    releases.delete(&version("1")).await.unwrap();
    assert_eq!(names(folder.path()), BTreeSet::new());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_hides_no_other_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let releases = open(folder);
    releases.put(&version("1"), program("one")).await.unwrap();
    let kept = fs::read(folder.join("release-1.json")).unwrap();
    releases.put(&version("2"), program("two")).await.unwrap();
    fs::write(folder.join("release-1.json"), "{").unwrap();
    let releases = open(folder);
    let listed = releases.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        releases.find(&version("1")).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    fs::write(folder.join("release-1.json"), kept).unwrap();
    assert_eq!(
        read(&releases, "1").await.as_deref(),
        Some("one"),
        "its program was not swept away"
    );
}

#[tokio::test]
async fn a_program_that_was_cut_is_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let releases = open(folder);
    releases.put(&version("1"), program("one")).await.unwrap();
    let cut = names(folder)
        .into_iter()
        .find(|name| name.starts_with("program-"));
    fs::write(folder.join(cut.unwrap()), "on").unwrap();
    let Err(error) = releases.get(&version("1")).await else {
        panic!("it is not whole");
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_version_cannot_lead_out_of_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("releases");
    let releases = open(&folder);
    for name in ["../1", "a/b", "..", "/etc/passwd", "a\\b"] {
        let stored = releases.put(&version(name), program("x")).await;
        assert_eq!(stored.unwrap_err().kind(), ErrorKind::Unsupported, "{name}");
        assert!(releases.get(&version(name)).await.unwrap().is_none());
        let deleted = releases.delete(&version(name)).await;
        assert_eq!(deleted.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(names(outer.path()), BTreeSet::from(["releases".to_owned()]));
    assert_eq!(names(&folder), BTreeSet::new());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let outer = tempfile::tempdir().unwrap();
    let file = outer.path().join("file");
    fs::write(&file, "").unwrap();
    let error = FileReleases::open(&file.join("releases"), Arc::new(SystemClock)).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
