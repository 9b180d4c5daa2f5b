//! Old files of every kind, made by the test: read right, left alone.

use std::{collections::BTreeMap, error::Error as _, fs, path::PathBuf};

use futures::TryStreamExt;
use kanade_model::ResultId;
use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const SCHEMA: &str = "
    CREATE TABLE executions (exec_id TEXT PRIMARY KEY, job_id TEXT, version TEXT, initiated_by TEXT, initiated_at TEXT,
        target_count INTEGER, success_count INTEGER, failure_count INTEGER, status TEXT);
    CREATE TABLE execution_results (result_id TEXT PRIMARY KEY, request_id TEXT, exec_id TEXT, pc_id TEXT,
        exit_code INTEGER, stdout TEXT, stderr TEXT, started_at TEXT, finished_at TEXT, job_id TEXT, version TEXT);
    CREATE TABLE agents (pc_id TEXT PRIMARY KEY, hostname TEXT, os_family TEXT, agent_version TEXT,
        last_heartbeat TEXT, updated_at TEXT);
    CREATE TABLE inventory_facts (pc_id TEXT, job_id TEXT, facts TEXT, display TEXT, summary TEXT, collected_at TEXT,
        recorded_at TEXT, PRIMARY KEY (pc_id, job_id)) WITHOUT ROWID;
    CREATE TABLE audit_log (id INTEGER PRIMARY KEY, actor TEXT, action TEXT, target TEXT, payload TEXT,
        occurred_at TEXT);
";
const AT: &str = "2026-05-01T08:30:00Z";

/// A folder with an old file that is still open, and a place for a copy.
struct Old {
    folder: TempDir,
    scratch: TempDir,
    connection: SqliteConnection,
}

impl Old {
    async fn new(mode: SqliteJournalMode, schema: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("backend.db"))
            .create_if_missing(true)
            .journal_mode(mode);
        let mut old = Self {
            connection: options.connect().await.unwrap(),
            folder,
            scratch: tempfile::tempdir().unwrap(),
        };
        old.run(schema).await;
        old
    }

    async fn run(&mut self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("backend.db")
    }

    /// The file as a server leaves it that was stopped.
    async fn closed(self) -> Closed {
        let Self {
            folder,
            scratch,
            connection,
        } = self;
        connection.close().await.unwrap();
        Closed { folder, scratch }
    }

    /// The file as a server leaves it that was killed.
    fn crashed(&self) -> Closed {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Closed {
            folder,
            scratch: tempfile::tempdir().unwrap(),
        }
    }
}

struct Closed {
    folder: TempDir,
    scratch: TempDir,
}

impl Closed {
    async fn open(&self) -> Result<LegacyFile, StoreError> {
        LegacyFile::open(&self.folder.path().join("backend.db"), self.scratch.path()).await
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect()
    }
}

async fn read(file: &mut LegacyFile, table: LegacyTable) -> Vec<Result<LegacyRecord, LegacyRefusal>> {
    let rows: Vec<_> = file.rows(table).try_collect().await.unwrap();
    assert_eq!(file.count(table).await.unwrap(), rows.len() as u64);
    rows
}

fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn one_of_each(old: &mut Old) {
    let (result, request) = (Uuid::from_u128(1), Uuid::from_u128(2));
    old.run(&format!(
        "INSERT INTO executions VALUES ('e-1', 'backup', '1.0', 'operator', '{AT}', 1, 1, 0, 'completed');
         INSERT INTO execution_results VALUES
             ('{result}', '{request}', 'e-1', 'pc-1', 0, 'out', 'err', '{AT}', '{AT}', 'backup', '1.0');
         INSERT INTO agents VALUES ('pc-1', 'host', 'windows', '0.30.0', '{AT}', '{AT}');
         INSERT INTO inventory_facts VALUES ('pc-1', 'inv', '{{\"ram\": 8}}',
             '[{{\"field\": \"ram\", \"label\": \"RAM\"}}]', '\"ram\"', '{AT}', '{AT}');
         INSERT INTO audit_log VALUES (7, 'operator', 'exec', 'backup', '{{\"version\": \"1.0\"}}', '{AT}');"
    ))
    .await;
}

#[tokio::test]
async fn every_table_is_read_as_the_api_shows_it() {
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    one_of_each(&mut old).await;
    let old = old.closed().await;
    let mut file = old.open().await.unwrap();
    let at = AT.parse().unwrap();
    let mut all = Vec::new();
    for table in LegacyTable::ALL {
        assert!(file.has(table));
        all.extend(read(&mut file, table).await.into_iter().map(Result::unwrap));
    }
    let [
        LegacyRecord::Execution(execution),
        LegacyRecord::Run(run),
        LegacyRecord::Agent(agent),
        LegacyRecord::Facts(pc, facts),
        LegacyRecord::Audit(entry),
    ] = &all[..]
    else {
        panic!("one of each: {all:#?}")
    };
    assert_eq!((execution.exec_id.as_str(), execution.initiated_at), ("e-1", at));
    assert_eq!(run.result_id, ResultId(Uuid::from_u128(1)));
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out", "err"));
    assert_eq!((run.exit_code, run.finished_at), (Some(0), Some(at)));
    assert_eq!(agent.agent_version.as_deref(), Some("0.30.0"));
    assert_eq!((pc.as_str(), facts.display[0].label.as_str()), ("pc-1", "RAM"));
    assert_eq!(facts.summary, Some("ram".into()));
    assert_eq!(
        (entry.action.as_str(), &entry.payload["version"]),
        ("exec", &"1.0".into())
    );
    file.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_closed_is_read_in_place_and_left_as_it_is() {
    for mode in [SqliteJournalMode::Wal, SqliteJournalMode::Delete] {
        let mut old = Old::new(mode, SCHEMA).await;
        one_of_each(&mut old).await;
        let old = old.closed().await;
        let before = old.files();
        assert_eq!(before.len(), 1, "nothing beside it");
        let mut file = old.open().await.unwrap();
        assert_eq!(read(&mut file, LegacyTable::Results).await.len(), 1);
        file.close().await.unwrap();
        assert_eq!(old.files(), before);
        assert_eq!(fs::read_dir(old.scratch.path()).unwrap().count(), 0, "no copy");
    }
}

#[tokio::test]
async fn what_only_the_log_of_a_crashed_server_holds_is_read_and_the_file_left_as_it_is() {
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    old.run("PRAGMA wal_autocheckpoint = 0").await;
    one_of_each(&mut old).await;
    let crashed = old.crashed();
    fs::remove_file(crashed.folder.path().join("backend.db-shm")).unwrap();
    let before = crashed.files();
    assert!(!before["backend.db-wal"].is_empty());
    let mut file = crashed.open().await.unwrap();
    for table in LegacyTable::ALL {
        assert_eq!(read(&mut file, table).await.len(), 1, "{table:?}");
    }
    file.close().await.unwrap();
    assert_eq!(crashed.files(), before);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_may_only_be_read_is_enough() {
    use std::os::unix::fs::PermissionsExt;
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    one_of_each(&mut old).await;
    let crashed = old.crashed();
    for name in crashed.files().keys() {
        fs::set_permissions(
            crashed.folder.path().join(name),
            fs::Permissions::from_mode(0o400),
        )
        .unwrap();
    }
    let mut file = crashed.open().await.unwrap();
    assert_eq!(read(&mut file, LegacyTable::Agents).await.len(), 1);
    file.close().await.unwrap();
}

#[tokio::test]
async fn half_a_change_of_a_crashed_server_is_not_read() {
    let mut old = Old::new(SqliteJournalMode::Delete, SCHEMA).await;
    one_of_each(&mut old).await;
    // With no room to keep them, changed pages go into the file before the commit.
    old.run("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN")
        .await;
    let more = "INSERT INTO audit_log (actor, action, payload, occurred_at) \
                SELECT 'a', 'b', hex(zeroblob(2000)), '2026-05-01T08:30:00Z' FROM \
                (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n)";
    old.run(more).await;
    let crashed = old.crashed();
    let before = crashed.files();
    assert!(!before["backend.db-journal"].is_empty(), "a change is under way");
    let mut file = crashed.open().await.unwrap();
    assert_eq!(read(&mut file, LegacyTable::Audit).await.len(), 1);
    file.close().await.unwrap();
    assert_eq!(crashed.files(), before);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_told() {
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    one_of_each(&mut old).await;
    let mut file = LegacyFile::open(&old.path(), old.scratch.path()).await.unwrap();
    assert_eq!(read(&mut file, LegacyTable::Audit).await.len(), 1);
    old.run("DELETE FROM audit_log").await;
    let error = file.close().await.unwrap_err();
    assert!(told(&error).contains("stop the old server"), "{}", told(&error));
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_named_and_the_others_go_on() {
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    let request = Uuid::from_u128(2);
    old.run(&format!(
        "INSERT INTO execution_results (result_id, request_id, pc_id, exit_code, started_at, finished_at) VALUES
             ('no-uuid', '{request}', 'pc-1', 0, '{AT}', '{AT}'),
             (NULL, '{request}', 'pc-1', 0, 'then', '{AT}'),
             (NULL, '{request}', 'pc-1', 0, '{AT}', '{AT}'),
             (NULL, NULL, NULL, 0, '{AT}', '{AT}'),
             (NULL, '{request}', 'p c', 0, '{AT}', '{AT}');
         INSERT INTO executions (exec_id, job_id, version, initiated_at, status) VALUES
             ('e-1', 'backup', '', '{AT}', 'pending'), ('e-2', 'backup', '1', '{AT}', 'odd');
         INSERT INTO inventory_facts VALUES ('pc-1', 'inv', '{{', NULL, NULL, '{AT}', NULL),
             ('pc-2', 'inv', '{{}}', '3', NULL, '{AT}', NULL), ('pc-3', 'inv', 'null', 'null', 'null', '{AT}', NULL);"
    ))
    .await;
    let old = old.closed().await;
    let mut file = old.open().await.unwrap();
    let refused = async |file: &mut LegacyFile, table| {
        let rows = read(file, table).await;
        let taken = rows.iter().filter(|row| row.is_ok()).count();
        let refused: Vec<(String, String)> = rows
            .into_iter()
            .filter_map(Result::err)
            .map(|refusal| (refusal.key, refusal.reason))
            .collect();
        (taken, refused)
    };
    let (taken, results) = refused(&mut file, LegacyTable::Results).await;
    assert_eq!(
        taken, 1,
        "the one without an id gets that which follows from its request"
    );
    let keys: Vec<&str> = results.iter().map(|(key, _)| key.as_str()).collect();
    let request_on = |pc: &str| format!("{request} {pc}");
    assert_eq!(
        keys,
        [
            format!("no-uuid {}", request_on("pc-1")).as_str(),
            &request_on("pc-1"),
            "row 4",
            &request_on("p c"),
        ]
    );
    assert_eq!(results[0].1, "result_id: `no-uuid` is not a UUID");
    assert!(
        results[1].1.starts_with("started_at: `then` is not a moment"),
        "{results:?}"
    );
    assert_eq!(results[2].1, "request_id: it is missing");
    let (taken, executions) = refused(&mut file, LegacyTable::Executions).await;
    assert_eq!((taken, executions.len()), (0, 2), "{executions:?}");
    assert!(executions[1].1.starts_with("status: "), "{executions:?}");
    let (taken, facts) = refused(&mut file, LegacyTable::Facts).await;
    assert_eq!((taken, facts.len()), (1, 2), "{facts:?}");
    assert!(
        facts[1].1.starts_with("display: it is no list of columns"),
        "{facts:?}"
    );
    file.close().await.unwrap();
}

#[tokio::test]
async fn other_types_and_orders_of_columns_are_read_too() {
    let mut old = Old::new(
        SqliteJournalMode::Wal,
        "CREATE TABLE executions (started INTEGER, Version, INITIATED_AT INTEGER, manifest_id TEXT, job_id BLOB);
         CREATE TABLE execution_results (finished_at INTEGER, started_at INTEGER, exit_code INTEGER, pc_id TEXT,
             request_id BLOB, exec_id TEXT, stdout BLOB);",
    )
    .await;
    old.run(
        "INSERT INTO executions VALUES (1, 1, 1777624200, 'backup', 'e-1');
         INSERT INTO execution_results VALUES (1777624201500, 1777624200500, 3221225786, 'pc-1',
             x'00000000000000000000000000000002', 'e-1', x'6fff');",
    )
    .await;
    let old = old.closed().await;
    let mut file = old.open().await.unwrap();
    assert!(!file.has(LegacyTable::Agents) && file.has(LegacyTable::Executions));
    assert!(read(&mut file, LegacyTable::Agents).await.is_empty());
    let rows = read(&mut file, LegacyTable::Executions).await;
    let [Ok(LegacyRecord::Execution(execution))] = &rows[..] else {
        panic!("one execution: {rows:?}")
    };
    let ids = (
        execution.exec_id.as_str(),
        execution.job_id.as_str(),
        execution.version.as_ref(),
    );
    assert_eq!(ids, ("e-1", "backup", "1"));
    assert_eq!(execution.initiated_at.to_string(), AT);
    let rows = read(&mut file, LegacyTable::Results).await;
    let [Ok(LegacyRecord::Run(run))] = &rows[..] else {
        panic!("one run: {rows:?}")
    };
    assert_eq!(run.result_id, ResultId::derived(run.request_id, &run.pc_id));
    assert_eq!(
        (run.exit_code, run.stdout.as_str()),
        (Some(-1_073_741_510), "o\u{fffd}")
    );
    assert_eq!(run.finished_at.unwrap().to_string(), "2026-05-01T08:30:01.500Z");
    file.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_refused_with_what_is_there() {
    let schema = "CREATE TABLE executions (exec_id, job_id, version, initiated_at); CREATE TABLE other (x);";
    let old = Old::new(SqliteJournalMode::Wal, schema).await.closed().await;
    let error = told(&old.open().await.unwrap_err());
    assert!(
        error.ends_with("it has no table `execution_results`; its tables are: `executions`, `other`"),
        "{error}"
    );
    let schema = "CREATE TABLE executions (exec_id, job_id, version, initiated_at);
                  CREATE TABLE execution_results (request_id, pc_id, exec_id, exit_code, ended_at);";
    let old = Old::new(SqliteJournalMode::Wal, schema).await.closed().await;
    let error = told(&old.open().await.unwrap_err());
    assert!(
        error.contains("`execution_results` has no column `started_at`") && error.contains("`ended_at`"),
        "{error}"
    );
    // One that is not needed must fit all the same if it is there.
    let mut old = Old::new(SqliteJournalMode::Wal, SCHEMA).await;
    old.run("ALTER TABLE agents DROP COLUMN last_heartbeat").await;
    let old = old.closed().await;
    let error = told(&old.open().await.unwrap_err());
    assert!(
        error.contains("`agents` has no column `last_heartbeat`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_old_database_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name: &str| {
        let opened = LegacyFile::open(&folder.path().join(name), folder.path()).await;
        told(&opened.unwrap_err())
    };
    assert!(open("nowhere.db").await.ends_with("there is no such file"));
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("text"), "not a database").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    assert!(open("text").await.ends_with("it is not a SQLite database"));
    assert!(open("empty").await.ends_with("it is not a SQLite database"));
    let folder_error = open("folder").await;
    assert!(
        folder_error.contains("it is not a file") || folder_error.contains("it cannot be read"),
        "{folder_error}"
    );
    let ours = crate::Database::open(&folder.path().join("ours.db"))
        .await
        .unwrap();
    ours.close().await.unwrap();
    let error = open("ours.db").await;
    assert!(
        error.ends_with("it is a database of this kanade, not of a 0.30 server"),
        "{error}"
    );
}
