//! Giving free space back to the disk.

#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::path::Path;

use kanade_model::{ExecResult, RequestId, ResultId, Timestamp};
use kanade_ports::{Change, ChangeSet, ExecutionStore, Forget, Outcome, RetentionCut};
use kanade_redb::Database;
use uuid::Uuid;

const RUNS: u128 = 400;
const OUTPUT: usize = 20_000;

fn result(number: u128) -> ExecResult {
    ExecResult {
        result_id: Some(ResultId(Uuid::from_u128(number))),
        request_id: RequestId(Uuid::from_u128(number)),
        exec_id: None,
        pc_id: "pc-1".parse().unwrap(),
        exit_code: 0,
        stdout: "x".repeat(OUTPUT),
        stderr: String::new(),
        started_at: Timestamp::from_micros(i64::try_from(number).unwrap()),
        finished_at: Timestamp::from_micros(i64::try_from(number).unwrap()),
        manifest_id: None,
        ended: None,
    }
}

async fn record(database: &Database) {
    for batch in 0..RUNS / 50 {
        let sets: Vec<ChangeSet> = (batch * 50..(batch + 1) * 50)
            .map(|number| ChangeSet::of(Change::RunFinished(Box::new(result(number)))))
            .collect();
        let outcomes = database.store().apply(&sets).await.unwrap();
        assert!(!outcomes.contains(&Outcome::Unknown));
    }
}

/// Removes all but the newest ten.
async fn forget(database: &Database) {
    let cut = RetentionCut {
        executions: Timestamp::from_micros(i64::try_from(RUNS - 10).unwrap()),
        audit: Timestamp::UNIX_EPOCH,
        keys: Timestamp::UNIX_EPOCH,
        slots: Timestamp::UNIX_EPOCH,
    };
    loop {
        let old = database.store().prunable(&cut, 100).await.unwrap();
        if old == Forget::default() {
            return;
        }
        let sets = [ChangeSet::of(Change::Forget(old))];
        database.store().apply(&sets).await.unwrap();
    }
}

async fn check(database: &Database) {
    for number in 0..RUNS {
        let found = database
            .store()
            .run(&ResultId(Uuid::from_u128(number)))
            .await
            .unwrap();
        assert_eq!(found.is_some(), number >= RUNS - 10, "run {number}");
        if let Some(found) = found {
            assert_eq!(found.output.stdout.len(), OUTPUT);
        }
    }
}

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[tokio::test]
async fn a_file_that_is_mostly_free_is_compacted_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    let database = Database::open(&path).unwrap();
    record(&database).await;
    forget(&database).await;
    database.close().await.unwrap();
    // What is left was written last: it stands at the end, and a file is only cut at its end.
    let before = size(&path);

    let database = Database::open(&path).unwrap();
    check(&database).await;
    database.close().await.unwrap();
    assert!(size(&path) < before / 2, "{before} bytes became {}", size(&path));
}

#[tokio::test]
async fn compaction_on_request_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    let database = Database::open(&path).unwrap();
    record(&database).await;
    let full = size(&path);
    forget(&database).await;
    assert!(database.compact().await.unwrap());
    assert!(size(&path) < full / 2, "{full} bytes became {}", size(&path));
    check(&database).await;
    record(&database).await;
    forget(&database).await;
    check(&database).await;
}
