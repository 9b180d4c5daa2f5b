use std::{path::PathBuf, time::Duration};

use kanade_model::{ExecId, RequestId, ResultId, Subject, Timestamp};
use kanade_ports::MessageId;
use uuid::Uuid;

use super::{Accepted, Journal, JournalError, OpenError, Outgoing, RunRecord, full_disk::FullDisk};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        Journal::path(self.0.path())
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.path()).unwrap()
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn run(number: u128) -> RunRecord {
    let command = serde_json::from_value(serde_json::json!({
        "id": "backup", "version": "2", "request_id": Uuid::from_u128(number), "shell": "sh", "script": "",
        "timeout_secs": 1
    }))
    .unwrap();
    RunRecord {
        result_id: ResultId(Uuid::from_u128(number + 1000)),
        command,
        accepted_at: at(0),
        schedule: None,
        started: None,
        has_secrets: false,
    }
}

fn request(number: u128) -> RequestId {
    RequestId(Uuid::from_u128(number))
}

fn message(number: u128, size: usize) -> Outgoing {
    Outgoing {
        subject: Subject::result(request(number)),
        id: MessageId(format!("m-{number}")),
        payload: vec![b'x'; size].into(),
    }
}

async fn outbox(journal: &Journal) -> Vec<Outgoing> {
    let unsent = journal.unsent(0, usize::MAX, usize::MAX).await.unwrap();
    unsent.into_iter().map(|unsent| unsent.message).collect()
}

#[tokio::test]
async fn a_request_is_accepted_once_also_after_a_restart() {
    let folder = Folder::new();
    let journal = folder.journal();
    assert_eq!(
        journal.accept(run(1), "true".into()).await.unwrap(),
        Accepted::New
    );
    let again = journal.accept(run(1), "true".into()).await.unwrap();
    assert_eq!(again, Accepted::Unreported(Box::new(run(1))));
    journal.close().await;

    let journal = folder.journal();
    assert_eq!(journal.unreported().await.unwrap(), [run(1)]);
    journal.finish(request(1), vec![message(1, 3)]).await.unwrap();
    journal.close().await;

    let journal = folder.journal();
    assert_eq!(
        journal.accept(run(1), "true".into()).await.unwrap(),
        Accepted::Reported
    );
    assert_eq!(journal.unreported().await.unwrap(), []);
    assert_eq!(outbox(&journal).await, [message(1, 3)]);
}

#[tokio::test]
async fn a_start_is_given_to_one_who_may_ask_again() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.accept(run(1), "echo 1".into()).await.unwrap();
    assert_eq!(
        journal.starting(request(1), at(5)).await.unwrap().as_deref(),
        Some("echo 1")
    );
    assert_eq!(
        journal.starting(request(1), at(5)).await.unwrap().as_deref(),
        Some("echo 1")
    );
    assert_eq!(journal.starting(request(1), at(6)).await.unwrap(), None);
    assert_eq!(journal.starting(request(2), at(6)).await.unwrap(), None);
    journal
        .started(request(1), None, Some(message(1, 1)))
        .await
        .unwrap();
    let record = &journal.unreported().await.unwrap()[0];
    assert_eq!(record.started.as_ref().unwrap().at, at(5));
    journal.finish(request(1), vec![]).await.unwrap();
    assert_eq!(journal.starting(request(1), at(5)).await.unwrap(), None);
    assert_eq!(outbox(&journal).await, [message(1, 1)]);
}

#[tokio::test]
async fn the_end_of_a_run_is_kept_once() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.accept(run(1), "true".into()).await.unwrap();
    for _ in 0..2 {
        journal.finish(request(1), vec![message(1, 1)]).await.unwrap();
    }
    assert_eq!(outbox(&journal).await.len(), 1);
}

#[tokio::test]
async fn the_outbox_is_read_in_parts_and_goes_on_where_a_reader_stopped() {
    let folder = Folder::new();
    let journal = folder.journal();
    for number in 1..=5 {
        journal.post(vec![message(number, 100)]).await.unwrap();
    }
    let numbers = async |after, count, bytes| {
        let unsent = journal.unsent(after, count, bytes).await.unwrap();
        unsent.iter().map(|unsent| unsent.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 2, 1000).await, [1, 2]);
    assert_eq!(numbers(2, 9, 250).await, [3, 4], "as many as fit");
    assert_eq!(numbers(4, 9, 1).await, [5], "at least one");
    for number in 1..=5 {
        journal.sent(number).await.unwrap();
    }
    assert_eq!(journal.unsent_count().await.unwrap(), 0);
    journal.close().await;
    // A reader that has seen 5 would miss a message that is numbered from the beginning again.
    let journal = folder.journal();
    journal.post(vec![message(6, 1)]).await.unwrap();
    assert_eq!(journal.unsent(5, 9, 9).await.unwrap()[0].number, 6);
}

#[tokio::test]
async fn kills_are_remembered_in_their_order_and_only_so_many() {
    let folder = Folder::new();
    let journal = folder.journal();
    let exec = |number: usize| format!("e-{number}").parse::<ExecId>().unwrap();
    let most = super::MOST_KILLS;
    let kills = (0..most + 10).map(|number| journal.killed(exec(number), at(number.try_into().unwrap())));
    futures::future::try_join_all(kills).await.unwrap();
    journal
        .killed(exec(most), at(i64::MAX / 1_000_000))
        .await
        .unwrap();
    journal.close().await;
    let kept = folder.journal().kills().await.unwrap();
    assert_eq!(
        (kept.len(), &kept[0], &kept[most - 1]),
        (most, &exec(10), &exec(most + 9))
    );
}

#[tokio::test]
async fn old_requests_are_forgotten() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.accept(run(1), String::new()).await.unwrap();
    journal.finish(request(1), vec![]).await.unwrap();
    let later = |number, days: i64| RunRecord {
        accepted_at: at(days * 24 * 3600),
        ..run(number)
    };
    journal.accept(later(2, 14), String::new()).await.unwrap();
    assert_eq!(
        journal.accept(later(1, 14), String::new()).await.unwrap(),
        Accepted::Reported
    );
    journal.accept(later(3, 15), String::new()).await.unwrap();
    assert_eq!(
        journal.accept(later(1, 15), String::new()).await.unwrap(),
        Accepted::New
    );
}

#[tokio::test]
async fn writers_at_the_same_time_share_commits_and_all_are_kept() {
    let folder = Folder::new();
    let journal = folder.journal();
    let accepting = (0..1000).map(|number| journal.accept(run(number), "script".repeat(100)));
    let accepted = futures::future::try_join_all(accepting).await.unwrap();
    assert!(accepted.iter().all(|accepted| *accepted == Accepted::New));
    journal.close().await;
    assert_eq!(folder.journal().unreported().await.unwrap().len(), 1000);
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_by_halves_and_works_again_when_there_is_room() {
    let folder = Folder::new();
    let disk = FullDisk::default();
    let journal = disk.journal(&folder.path()).unwrap();
    journal.accept(run(1), "one".into()).await.unwrap();
    disk.set_full(true);
    for _ in 0..3 {
        let refused = journal.accept(run(2), "two".into()).await;
        assert!(matches!(refused, Err(JournalError::Storage(_))), "{refused:?}");
    }
    disk.set_full(false);
    assert_eq!(journal.accept(run(2), "two".into()).await.unwrap(), Accepted::New);
    assert_eq!(
        journal.starting(request(1), at(1)).await.unwrap().as_deref(),
        Some("one")
    );
    assert_eq!(journal.unreported().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_a_journal_is_not_opened() {
    let folder = Folder::new();
    let journal = folder.journal();
    let in_use = Journal::open(&folder.path()).unwrap_err();
    assert!(matches!(in_use, OpenError::InUse), "{in_use:?}");
    journal.close().await;

    let database = redb::Database::create(folder.path()).unwrap();
    let tx = database.begin_write().unwrap();
    tx.open_table(redb::TableDefinition::<&str, u64>::new("meta"))
        .unwrap()
        .insert("format", 99)
        .unwrap();
    tx.commit().unwrap();
    drop(database);
    let too_new = Journal::open(&folder.path()).unwrap_err();
    assert!(
        matches!(too_new, OpenError::TooNew { found: 99, .. }),
        "{too_new:?}"
    );

    let whole = std::fs::read(folder.path()).unwrap();
    std::fs::write(folder.path(), &whole[..whole.len() / 3]).unwrap();
    let truncated = Journal::open(&folder.path()).unwrap_err();
    assert!(matches!(truncated, OpenError::Unusable(_)), "{truncated:?}");
    assert_eq!(
        std::fs::read(folder.path()).unwrap(),
        whole[..whole.len() / 3],
        "it is left as it is"
    );
}

#[tokio::test]
async fn after_its_end_a_journal_answers_that_it_is_closed() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.close().await;
    let late = tokio::time::timeout(Duration::from_secs(30), journal.unsent_count()).await;
    assert!(matches!(late, Ok(Err(JournalError::Closed))), "{late:?}");
}
