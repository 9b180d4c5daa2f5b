//! Files: what is opened, what is refused and then left alone, what a close leaves.

#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use kanade_model::{Heartbeat, Timestamp};
use kanade_ports::{
    Bucket, Catalog, CatalogReader, Change, ChangeSet, ErrorKind, ExecutionStore, Precondition, StoreError,
};
use kanade_redb::Database;
use redb::{ReadableDatabase, TableDefinition};
use tempfile::TempDir;

const AGENTS: usize = 200;

/// A folder with a data file that holds something and was closed.
struct Folder(TempDir);

impl Folder {
    async fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let database = Database::open(&folder.file()).unwrap();
        fill(&database).await;
        database.close().await.unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("kanade.redb")
    }
}

async fn fill(database: &Database) {
    let sets: Vec<ChangeSet> = (0..AGENTS)
        .map(|number| {
            let heartbeat = Heartbeat {
                pc_id: format!("pc-{number:03}").parse().unwrap(),
                at: Timestamp::UNIX_EPOCH,
                agent_version: "1".repeat(number),
                hostname: None,
                os_family: None,
            };
            ChangeSet::of(Change::AgentSeen {
                heartbeat,
                at: Timestamp::UNIX_EPOCH,
            })
        })
        .collect();
    database.store().apply(&sets).await.unwrap();
    for number in 0..20 {
        let (key, value) = (
            format!("job-{number}").parse().unwrap(),
            Bytes::from("x".repeat(3000)),
        );
        let put = database
            .catalog()
            .put(Bucket::Jobs, &key, value, Precondition::Any)
            .await;
        put.unwrap();
    }
}

/// Whether all that [`fill`] wrote is there.
async fn is_whole(database: &Database) -> bool {
    let agents = database.store().agents(None, 1000).await;
    let jobs = database.catalog().list(Bucket::Jobs).await;
    agents.is_ok_and(|page| page.items.len() == AGENTS) && jobs.is_ok_and(|jobs| jobs.len() == 20)
}

/// The error of opening a file that must be refused and left as it is.
fn refused(path: &Path) -> StoreError {
    let before = fs::read(path).unwrap();
    let error = Database::open(path).unwrap_err();
    assert!(fs::read(path).unwrap() == before, "the file was changed");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let others = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(others, 1, "nothing was put beside it");
    error
}

fn sentence(error: &StoreError) -> String {
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn a_new_file_is_made_whole_and_nothing_beside_it() {
    let folder = Folder::new().await;
    let names: Vec<_> = fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["kanade.redb"]);
    let database = Database::open(&folder.file()).unwrap();
    assert!(is_whole(&database).await);
}

#[cfg(unix)]
#[tokio::test]
async fn outputs_may_be_secret_so_only_the_owner_reads_a_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new().await;
    let mode = folder.file().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_is_open_elsewhere_is_refused() {
    let folder = Folder::new().await;
    let database = Database::open(&folder.file()).unwrap();
    let error = refused(&folder.file());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        sentence(&error).contains("another process has it open"),
        "{error:?}"
    );
    assert!(is_whole(&database).await, "the one that has it open goes on");
    database.close().await.unwrap();
    Database::open(&folder.file()).unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("kanade");
    let folder = Folder::new().await;
    let newer = redb::Database::open(folder.file()).unwrap();
    let txn = newer.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", 7).unwrap();
    txn.commit().unwrap();
    newer.close().unwrap();
    let error = refused(&folder.file());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        sentence(&error).contains("newer kanade (format 7, this one knows 1)"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_no_data_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    let long = "no database at all\n".repeat(10_000);
    for content in ["", "x", "SQLite format 3\0", long.as_str()] {
        fs::write(&path, content).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{content:.20}");
        let expected = if content.is_empty() {
            "it is empty"
        } else {
            "it is not a redb database"
        };
        assert!(sentence(&error).contains(expected), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    for table in ["songs", "kanade"] {
        let other = redb::Database::create(&path).unwrap();
        let txn = other.begin_write().unwrap();
        let songs: TableDefinition<'_, u64, &str> = TableDefinition::new(table);
        txn.open_table(songs).unwrap().insert(1, "one").unwrap();
        txn.commit().unwrap();
        other.close().unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            sentence(&error).contains("belongs to another program"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused() {
    let folder = Folder::new().await;
    let closed = fs::read(folder.file()).unwrap();
    let database = Database::open(&folder.file()).unwrap();
    // As a crash would leave it.
    let crashed = fs::read(folder.file()).unwrap();
    database.close().await.unwrap();
    for whole in [closed, crashed] {
        for length in [
            1,
            100,
            320,
            4096,
            8192,
            whole.len() / 2,
            whole.len() - 4096,
            whole.len() - 1,
        ] {
            fs::write(folder.file(), &whole[..length]).unwrap();
            let error = refused(&folder.file());
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{length} of {} bytes: {error:?}",
                whole.len()
            );
        }
        fs::write(folder.file(), &whole).unwrap();
        let database = Database::open(&folder.file()).unwrap();
        assert!(is_whole(&database).await);
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_found_wherever_it_is() {
    let folder = Folder::new().await;
    let whole = fs::read(folder.file()).unwrap();
    let mut found = 0;
    for (block, at) in (0..whole.len()).step_by(4096).enumerate() {
        let mut damaged = whole.clone();
        // The first block holds the header: its fields are hit one by one, elsewhere a part of the page.
        let from = if block == 0 { 64 } else { at + 100 };
        for byte in &mut damaged[from..from + 200] {
            *byte ^= 0x5A;
        }
        fs::write(folder.file(), &damaged).unwrap();
        match Database::open(&folder.file()) {
            // The page was free.
            Ok(database) => {
                assert!(is_whole(&database).await, "block {block}");
                database.close().await.unwrap();
            }
            Err(_) => {
                fs::write(folder.file(), &damaged).unwrap();
                let error = refused(&folder.file());
                assert_eq!(error.kind(), ErrorKind::Corrupt, "block {block}: {error:?}");
                found += 1;
            }
        }
    }
    assert!(
        found > 10,
        "only {found} of {} blocks are in use",
        whole.len() / 4096
    );
}

#[tokio::test]
async fn what_cannot_be_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Database::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(sentence(&error).contains("it is a folder"), "{error:?}");
    let error = Database::open(&folder.path().join("missing").join("kanade.redb")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_closed_file_serves_nobody_and_ends_watches() {
    use futures::StreamExt;
    let folder = Folder::new().await;
    let database = Database::open(&folder.file()).unwrap();
    let (store, catalog) = (database.store(), database.catalog());
    let watch = catalog.watch(Bucket::Jobs).await.unwrap();
    database.close().await.unwrap();
    assert_eq!(watch.count().await, 21);
    let errors = [
        store.agents(None, 1).await.unwrap_err(),
        store.apply(&[]).await.unwrap_err(),
        catalog.list(Bucket::Jobs).await.unwrap_err(),
        catalog.watch(Bucket::Jobs).await.map(drop).unwrap_err(),
        database.compact().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    database.close().await.unwrap();
    // The handles that are still around do not hold the file.
    assert!(is_whole(&Database::open(&folder.file()).unwrap()).await);
}

#[tokio::test]
async fn a_close_leaves_a_file_that_needs_no_repair() {
    let folder = Folder::new().await;
    let read_only = redb::ReadOnlyDatabase::open(folder.file()).unwrap();
    read_only.begin_read().unwrap();
}
