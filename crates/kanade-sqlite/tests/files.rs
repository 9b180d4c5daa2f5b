//! What happens to a file: who may open it, which ones are refused (and left as they were), what survives a crash.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be prepared fails the test that wants it"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kanade_model::Timestamp;
use kanade_ports::{Bucket, Catalog, Change, ChangeSet, ErrorKind, ExecutionStore, Precondition, StoreError};
use kanade_sqlite::Database;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// A folder with the path of a database in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.db");
    (folder, path)
}

/// A path beside the database's.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes documents through a handle.
async fn write(database: &Database, count: usize) {
    let catalog = database.catalog();
    for number in 0..count {
        let key = format!("job-{number}").parse().unwrap();
        let value = "x".repeat(2000).into();
        catalog
            .put(Bucket::Jobs, &key, value, Precondition::Any)
            .await
            .unwrap();
    }
}

async fn documents(database: &Database) -> usize {
    database.catalog().list(Bucket::Jobs).await.unwrap().len()
}

/// A database that was closed cleanly.
async fn closed(path: &Path) {
    let database = Database::open(path).await.unwrap();
    write(&database, 20).await;
    database.close().await.unwrap();
}

/// The files of a database as a crash would leave them now.
fn crash_image(path: &Path) -> (TempDir, PathBuf) {
    let (folder, image) = folder();
    for suffix in ["", "-wal"] {
        fs::copy(beside(path, suffix), beside(&image, suffix)).unwrap();
    }
    (folder, image)
}

fn whole_chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Opening is refused for a reason that holds these words, and the file and its log are as before.
async fn refused(path: &Path, kind: ErrorKind, words: &str) {
    let files = || ["", "-wal"].map(|suffix| fs::read(beside(path, suffix)).ok());
    let before = files();
    let error = Database::open(path).await.unwrap_err();
    let text = whole_chain(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(words), "{text}");
    assert!(
        text.contains(&path.display().to_string()),
        "it names the file: {text}"
    );
    assert!(before == files(), "the file was touched");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused() {
    let (_folder, path) = folder();
    fs::write(&path, "dear diary, ".repeat(1000)).unwrap();
    refused(&path, ErrorKind::Corrupt, "not a SQLite database").await;
    fs::write(&path, "x").unwrap();
    refused(&path, ErrorKind::Corrupt, "not a SQLite database").await;
    fs::write(&path, "").unwrap();
    refused(&path, ErrorKind::Corrupt, "is empty").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&path, ErrorKind::Corrupt, "not a file").await;
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let (_folder, path) = folder();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    other.execute("CREATE TABLE bookmarks (url)").await.unwrap();
    other.close().await.unwrap();
    refused(&path, ErrorKind::Corrupt, "not one of kanade").await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused() {
    let (_folder, path) = folder();
    closed(&path).await;
    let whole = fs::read(&path).unwrap();
    for length in [50, 99, 100, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(&path, ErrorKind::Corrupt, "cut off").await;
    }
    fs::write(&path, &whole).unwrap();
    let database = Database::open(&path).await.unwrap();
    assert_eq!(documents(&database).await, 20);
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_although_it_has_a_log() {
    let (_folder, path) = folder();
    closed(&path).await;
    let database = Database::open(&path).await.unwrap();
    write(&database, 1).await;
    let (_image_folder, image) = crash_image(&path);
    let length = fs::metadata(&image).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(length / 8192 * 4096)
        .unwrap();
    refused(&image, ErrorKind::Corrupt, "cut off").await;
}

#[tokio::test]
async fn a_checkpoint_that_a_crash_has_interrupted_is_not_taken_for_a_cut() {
    let (_folder, path) = folder();
    closed(&path).await;
    let database = Database::open(&path).await.unwrap();
    write(&database, 100).await;
    let (_image_folder, image) = crash_image(&path);
    let before = fs::read(&image).unwrap();
    let log = fs::read(beside(&image, "-wal")).unwrap();
    // A checkpoint begins with the first page, which says how long the file will be.
    Database::open(&image).await.unwrap().close().await.unwrap();
    let after = fs::read(&image).unwrap();
    assert!(
        after.len() > before.len(),
        "the log holds pages that the file does not have"
    );
    fs::write(&image, &after[..before.len()]).unwrap();
    fs::write(beside(&image, "-wal"), log).unwrap();

    let recovered = Database::open(&image).await.unwrap();
    assert_eq!(documents(&recovered).await, 100);
}

/// Sets the schema number that a file says it has.
async fn grow_old(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut future = SqliteConnection::connect_with(&options).await.unwrap();
    future.execute("PRAGMA user_version = 999").await.unwrap();
    future.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_kanade_is_brought_up_to_date() {
    let (_folder, path) = folder();
    closed(&path).await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut past = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in [
        "DROP TABLE marks",
        "DROP TABLE slots",
        "DROP TABLE cursors",
        "DROP TABLE successes",
        "DROP INDEX executions_to_steer",
        "ALTER TABLE targets DROP COLUMN attempt",
        "DROP INDEX executions_pending",
        "ALTER TABLE executions DROP COLUMN course",
        "ALTER TABLE executions DROP COLUMN held",
        "ALTER TABLE executions DROP COLUMN kill_asked_again_at",
        "CREATE INDEX executions_pending ON executions (last_due_at, exec_id) WHERE status = 'pending'",
        "DELETE FROM _sqlx_migrations WHERE version > 1",
        "PRAGMA user_version = 1",
    ] {
        past.execute(statement).await.unwrap();
    }
    past.close().await.unwrap();

    let database = Database::open(&path).await.unwrap();
    assert_eq!(documents(&database).await, 20, "what it held is there");
    let store = database.store();
    let at = Timestamp::UNIX_EPOCH;
    let mark = ChangeSet::of(Change::Mark {
        name: "one".into(),
        at,
    });
    store.apply(&[mark]).await.unwrap();
    assert_eq!(store.mark("one").await.unwrap(), Some(at));
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_kanade_is_refused() {
    let (_folder, path) = folder();
    closed(&path).await;
    grow_old(&path).await;
    refused(&path, ErrorKind::Unsupported, "newer kanade (schema 999").await;
}

#[tokio::test]
async fn a_file_of_a_newer_kanade_that_crashed_is_refused() {
    let (_folder, path) = folder();
    let database = Database::open(&path).await.unwrap();
    write(&database, 1).await;
    // While the database is open, the number only gets as far as the log.
    grow_old(&path).await;
    let (_image_folder, image) = crash_image(&path);
    refused(&image, ErrorKind::Unsupported, "newer kanade (schema 999").await;
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let (folder, _) = folder();
    let path = folder.path().join("missing").join("kanade.db");
    refused(&path, ErrorKind::Unavailable, "there is no folder").await;
    assert!(!path.parent().unwrap().exists(), "it was not created");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_folder_that_cannot_be_written_to_is_named() {
    let (folder, path) = folder();
    let _mounted = ReadOnly::make(folder.path());
    refused(&path, ErrorKind::Unavailable, "must be writable").await;
    assert!(!path.exists());
}

/// A folder that nobody can write to, not even root.
#[cfg(target_os = "linux")]
struct ReadOnly(PathBuf, bool);

#[cfg(target_os = "linux")]
impl ReadOnly {
    fn make(folder: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
        // Permissions do not hold root back; a mount does.
        let writable = fs::write(folder.join("probe"), "").is_ok();
        if writable {
            fs::remove_file(folder.join("probe")).unwrap();
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "ro", "tmpfs"])
                .arg(folder)
                .status();
            assert!(
                mount.is_ok_and(|status| status.success()),
                "as root this test needs to be allowed to mount; run it as another user instead"
            );
        }
        Self(folder.to_owned(), writable)
    }
}

#[cfg(target_os = "linux")]
impl Drop for ReadOnly {
    fn drop(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        if self.1 {
            let _ = Command::new("umount").arg(&self.0).status();
        }
        let _ = fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755));
    }
}

#[tokio::test]
async fn a_log_without_its_file_is_refused() {
    let (_folder, path) = folder();
    let database = Database::open(&path).await.unwrap();
    write(&database, 1).await;
    let (_image_folder, image) = crash_image(&path);
    fs::remove_file(&image).unwrap();
    refused(&image, ErrorKind::Corrupt, "the file is gone").await;
}

#[tokio::test]
async fn a_file_that_is_in_use_is_refused_until_it_is_closed() {
    let (_folder, path) = folder();
    let database = Database::open(&path).await.unwrap();
    write(&database, 3).await;
    refused(&path, ErrorKind::Unavailable, "used by another kanade process").await;
    write(&database, 4).await;
    database.close().await.unwrap();
    let again = Database::open(&path).await.unwrap();
    assert_eq!(documents(&again).await, 4);
}

#[tokio::test]
async fn a_handle_that_was_dropped_gives_the_file_free() {
    let (_folder, path) = folder();
    for round in 1..=10 {
        let database = Database::open(&path).await.unwrap();
        write(&database, round).await;
        drop(database);
    }
    assert_eq!(documents(&Database::open(&path).await.unwrap()).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_open_a_file_at_once_one_has_it() {
    let (_folder, path) = folder();
    for _ in 0..5 {
        let opening = (0..4).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { Database::open(&path).await })
        });
        let opened = futures::future::join_all(opening).await;
        let opened: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
        let (have_it, others): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert_eq!(have_it.len(), 1);
        for error in others {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        have_it
            .into_iter()
            .next()
            .unwrap()
            .unwrap()
            .close()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_the_first_start_does_not_matter() {
    let (_folder, path) = folder();
    for (suffix, content) in [
        ("-new", "SQLite format 3\0 and not much more"),
        ("-new-wal", "frames of nothing"),
        ("-new-journal", "\u{d9}\u{d5}"),
    ] {
        fs::write(beside(&path, suffix), content).unwrap();
    }
    let database = Database::open(&path).await.unwrap();
    write(&database, 3).await;
    assert_eq!(documents(&database).await, 3);
    for suffix in ["-new", "-new-wal", "-new-journal"] {
        assert!(!beside(&path, suffix).exists(), "{suffix} was left behind");
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let (_folder, path) = folder();
    let database = Database::open(&path).await.unwrap();
    for count in [1, 10, 200] {
        write(&database, count).await;
        let (_image_folder, image) = crash_image(&path);
        let recovered = Database::open(&image).await.unwrap();
        assert_eq!(documents(&recovered).await, count);
        recovered.close().await.unwrap();
    }
}

const HOLD: &str = "KANADE_TEST_HOLD_DATABASE";

/// Not a test of its own: what the next one runs in another process.
#[tokio::test]
async fn holder() {
    let Some(path) = env::var_os(HOLD) else { return };
    let database = Database::open(Path::new(&path)).await.unwrap();
    write(&database, 7).await;
    println!("\nholding");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_process_that_is_killed_gives_the_file_free() {
    let (_folder, path) = folder();
    let mut other = Command::new(env::current_exe().unwrap())
        .args(["holder", "--exact", "--nocapture"])
        .env(HOLD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let holds = lines.map_while(Result::ok).any(|line| line == "holding");
    assert!(holds, "the other process has the file");
    let attempt = Database::open(&path).await;
    other.kill().unwrap();
    other.wait().unwrap();
    let text = whole_chain(&attempt.unwrap_err());
    assert!(text.contains("used by another kanade process"), "{text}");
    let database = Database::open(&path).await.unwrap();
    assert_eq!(documents(&database).await, 7, "what it had been answered");
}
