//! The history of a 0.30 server is taken over, once, whole, and without a word to any agent.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kanade_model::{ExecutionStatus, TargetState};
use kanade_ports::{AuditQuery, ExecutionQuery, ExecutionStore, RunFilter, RunQuery, TextFilter};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::double::{DEADLINE, kanade};

const SCHEMA: &str = "
    CREATE TABLE executions (exec_id TEXT PRIMARY KEY, job_id TEXT, version TEXT, initiated_by TEXT, initiated_at TEXT,
        target_count INTEGER, success_count INTEGER, failure_count INTEGER, status TEXT);
    CREATE TABLE execution_results (result_id TEXT PRIMARY KEY, request_id TEXT, exec_id TEXT, pc_id TEXT,
        exit_code INTEGER, stdout TEXT, stderr TEXT, started_at TEXT, finished_at TEXT, job_id TEXT, version TEXT);
    CREATE TABLE agents (pc_id TEXT PRIMARY KEY, hostname TEXT, os_family TEXT, agent_version TEXT,
        last_heartbeat TEXT, updated_at TEXT);
    CREATE TABLE inventory_facts (pc_id TEXT, job_id TEXT, facts TEXT, display TEXT, summary TEXT, collected_at TEXT,
        recorded_at TEXT);
    CREATE TABLE audit_log (id INTEGER PRIMARY KEY, actor TEXT, action TEXT, target TEXT, payload TEXT,
        occurred_at TEXT);
";

/// A bit of everything: `old` is over for long, `young` is under way, `waiting` is not heard of yet.
const HISTORY: &str = "
    INSERT INTO executions VALUES
        ('old', 'backup', '1.0', 'operator', '2020-05-01T08:00:00Z', 1, 2, 1, 'completed'),
        ('lost', 'backup', '1.0', 'scheduler', '2020-05-01T08:00:00Z', 1, 0, 0, 'expired'),
        ('young', 'backup', '1.1', 'operator', datetime('now', '-1 hour'), 1, 0, 0, 'running'),
        ('waiting', 'backup', '1.1', 'operator', datetime('now', '-1 minute'), 1, 0, 0, 'pending');
    INSERT INTO execution_results VALUES
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0001-000000000001', 'old', 'pc-1', 0, 'one', '',
            '2020-05-01T08:00:01Z', '2020-05-01T08:00:05Z', 'backup', '1.0'),
        ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0001-000000000002', 'old', 'pc-2', 0, 'two', '',
            '2020-05-01T08:00:02Z', '2020-05-01T08:00:06Z', NULL, ''),
        ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0001-000000000003', 'old', 'pc-3', -1, '',
            'killed by remote signal (kill.old)', '2020-05-01T08:00:03Z', '2020-05-01T08:00:09Z', 'backup', '1.0'),
        ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0001-000000000004', 'young', 'pc-1', NULL, NULL,
            NULL, datetime('now', '-50 minutes'), NULL, 'backup', '1.1'),
        ('00000000-0000-0000-0000-000000000005', '00000000-0000-0000-0001-000000000005', NULL, 'pc-1', 3, '', '',
            '2020-05-01T09:00:00Z', '2020-05-01T09:00:01Z', NULL, NULL),
        ('00000000-0000-0000-0000-000000000006', '00000000-0000-0000-0001-000000000006', 'gone', 'pc-1', 0, '', '',
            '2020-05-01T09:00:00Z', '2020-05-01T09:00:01Z', 'patch', '2');
    INSERT INTO agents VALUES ('pc-1', 'host', 'windows', '0.30.0', '2020-05-01T09:00:00Z', '2020-05-01T09:00:00Z');
    INSERT INTO inventory_facts VALUES ('pc-1', 'inv', '{\"ram\": 8}', '[]', NULL, '2020-05-01T09:00:00Z', NULL);
    INSERT INTO audit_log VALUES
        (1, 'operator', 'exec', 'backup', '{\"version\": \"1.0\"}', '2020-05-01T08:00:00Z'),
        (2, 'scheduler', 'exec', 'backup', '{}', '2020-05-01T08:00:01Z');
";

/// An old file and a deployment of its own.
struct Place(TempDir);

impl Place {
    async fn new(store: &str, rows: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let config = format!(
            "data_dir = '{}'\n[server]\nbind = '127.0.0.1:0'\n[store]\nkind = '{store}'\n[catalog]\nkind = '{store}'\n\
             [retention]\nexecutions = '100years'\n",
            place.path("data").display()
        );
        fs::write(place.path("kanade.toml"), config).unwrap();
        let mut old = place.old().await;
        sql(&mut old, SCHEMA).await;
        sql(&mut old, rows).await;
        old.close().await.unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn old(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path("backend.db"));
        options.create_if_missing(true).connect().await.unwrap()
    }

    async fn import(&self, more: &[&str]) -> Ended {
        let (old, config) = (self.path("backend.db"), self.path("kanade.toml"));
        let fixed = ["import", "--from-0.30", text(&old), "--config", text(&config)];
        let output = kanade(fixed.iter().chain(more)).output();
        let output = tokio::time::timeout(DEADLINE, output).await.unwrap().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What an import reports to programs, and how it ends.
    async fn report(&self, more: &[&str]) -> (Value, Option<i32>) {
        let ended = self.import(&[&["-o", "json"], more].concat()).await;
        let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("a report: {ended:?}"));
        (report, ended.code)
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn sql(connection: &mut SqliteConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

/// `[taken, known, refused]` of each table that was found.
fn numbers(report: &Value) -> Value {
    let tables = report["tables"].as_array().unwrap().iter();
    tables
        .filter(|table| table["found"] == true)
        .map(|table| {
            (
                table["table"].as_str().unwrap().to_owned(),
                json!([table["taken"], table["known"], table["refused"]]),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Looks into the store of a deployment that is stopped.
async fn with_store<T>(place: &Place, look: impl AsyncFnOnce(Arc<dyn ExecutionStore>) -> T) -> T {
    let (sqlite, redb) = (place.path("data/kanade.db"), place.path("data/kanade.redb"));
    if sqlite.exists() {
        let database = kanade_sqlite::Database::open(&sqlite).await.unwrap();
        let seen = look(database.store()).await;
        database.close().await.unwrap();
        seen
    } else {
        let database = kanade_redb::Database::open(&redb).unwrap();
        let seen = look(database.store()).await;
        database.close().await.unwrap();
        seen
    }
}

async fn successes(store: &dyn ExecutionStore, job: &str, pc: &str) -> usize {
    let exact = |text: &str| Some(TextFilter::Exact(text.to_owned()));
    let query = RunQuery {
        job_id: exact(job),
        pc_id: exact(pc),
        status: Some(RunFilter::Success),
        limit: 10,
        ..RunQuery::default()
    };
    store.runs(&query).await.unwrap().items.len()
}

#[tokio::test]
async fn everything_is_taken_over_once_into_either_store() {
    for store in ["sqlite", "redb"] {
        let place = Place::new(store, HISTORY).await;
        let before = fs::read(place.path("backend.db")).unwrap();
        let (report, code) = place.report(&[]).await;
        assert_eq!((code, &report["complete"]), (Some(0), &json!(true)), "{report}");
        let wanted = json!({
            "executions": [4, 0, 0], "execution_results": [6, 0, 0], "agents": [1, 0, 0], "inventory_facts": [1, 0, 0],
            "audit_log": [2, 0, 0],
        });
        assert_eq!(numbers(&report), wanted);

        let (report, code) = place.report(&[]).await;
        assert_eq!(code, Some(0));
        let wanted = json!({
            "executions": [0, 4, 0], "execution_results": [0, 6, 0], "agents": [0, 1, 0], "inventory_facts": [0, 1, 0],
            "audit_log": [0, 2, 0],
        });
        assert_eq!(numbers(&report), wanted, "a second time changes nothing");
        assert_eq!(
            fs::read(place.path("backend.db")).unwrap(),
            before,
            "nor was the old file touched"
        );
        assert!(!place.path("backend.db-wal").exists() && !place.path("backend.db-shm").exists());
        with_store(&place, async |store| {
            look_at_what_was_taken_over(&*store).await;
        })
        .await;
    }
}

async fn look_at_what_was_taken_over(store: &dyn ExecutionStore) {
    let status = async |exec: &str| {
        let execution = store.execution(&exec.parse().unwrap()).await.unwrap().unwrap();
        let counts = (
            execution.counts.total(),
            execution.counts.success(),
            execution.counts.failure(),
        );
        (execution.status, counts)
    };
    assert_eq!(status("old").await, (ExecutionStatus::Killed, (3, 2, 1)));
    assert_eq!(status("lost").await, (ExecutionStatus::Completed, (0, 0, 0)));
    assert_eq!(status("young").await, (ExecutionStatus::Running, (1, 0, 0)));
    assert_eq!(status("waiting").await, (ExecutionStatus::Pending, (0, 0, 0)));
    let mut in_flight = store.in_flight(&"backup".parse().unwrap()).await.unwrap();
    in_flight.sort();
    assert_eq!(in_flight, ["waiting".parse().unwrap(), "young".parse().unwrap()]);

    assert!(
        store.due_sends(None, 10).await.unwrap().is_empty(),
        "nothing is owed to anybody"
    );
    let mut waiting = 0;
    for pc in ["pc-1", "pc-2", "pc-3"] {
        let now = "9999-01-01T00:00:00Z".parse().unwrap();
        let open = store.unfinished(&pc.parse().unwrap(), now, 10).await.unwrap();
        waiting += open
            .iter()
            .filter(|target| target.state == TargetState::Waiting)
            .count();
    }
    assert_eq!(waiting, 0, "an agent that comes back is sent nothing");

    for (job, pc, found) in [
        ("backup", "pc-1", 1),
        ("backup", "pc-2", 1),
        ("backup", "pc-3", 0),
        ("patch", "pc-1", 1),
    ] {
        assert_eq!(successes(store, job, pc).await, found, "{job} on {pc}");
    }
    let run = store
        .run(&"00000000-0000-0000-0000-000000000006".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let version = run.run.version.map(|version| version.to_string());
    assert_eq!(version.as_deref(), Some("2"), "also where its execution is gone");
    let agent = store.agent(&"pc-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(agent.hostname.as_deref(), Some("host"));
    assert_eq!(
        store.facts_of(&agent.pc_id).await.unwrap()[0].facts,
        json!({"ram": 8})
    );
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let trail = store.audit(&query).await.unwrap().items;
    let actions: Vec<&str> = trail.iter().map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(
        actions,
        ["history_import", "exec", "exec"],
        "and the import itself, once"
    );
    assert_eq!(trail[0].event.payload["taken"]["executions"], 4);
    assert!(store.mark(kanade_core::HISTORY_IMPORTED).await.unwrap().is_some());
}

#[tokio::test]
async fn an_import_that_was_interrupted_goes_on_where_it_stopped() {
    let place = Place::new("sqlite", HISTORY).await;
    place.report(&[]).await;
    // As if it had stopped before these: they came to the old file later.
    let mut old = place.old().await;
    sql(
        &mut old,
        "INSERT INTO execution_results VALUES
            ('00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0001-000000000004', 'young', 'pc-2', 0, '',
                '', '2020-05-01T08:00:01Z', '2020-05-01T08:00:05Z', 'backup', '1.1')",
    )
    .await;
    old.close().await.unwrap();
    let (report, _) = place.report(&[]).await;
    assert_eq!(numbers(&report)["execution_results"], json!([1, 6, 0]));
    with_store(&place, async |store| {
        let young = store.execution(&"young".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((young.counts.total(), young.counts.success()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let place = Place::new("sqlite", HISTORY).await;
    let ended = place.import(&["--dry-run"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.starts_with("TABLE              READABLE  REFUSED\n"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .ends_with("nothing was written; everything can be taken over\n"),
        "{}",
        ended.stdout
    );
    assert!(!place.path("data").exists());
}

#[tokio::test]
async fn a_refused_row_is_named_and_leaves_the_history_incomplete_until_that_is_accepted() {
    let place = Place::new("sqlite", HISTORY).await;
    let mut old = place.old().await;
    sql(
        &mut old,
        "UPDATE execution_results SET finished_at = NULL WHERE pc_id = 'pc-2'",
    )
    .await;
    old.close().await.unwrap();
    let marked = async || {
        let look = async |store: Arc<dyn ExecutionStore>| {
            store.mark(kanade_core::HISTORY_IMPORTED).await.unwrap().is_some()
        };
        with_store(&place, look).await
    };

    let ended = place.import(&[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let refused = "refused: execution_results 00000000-0000-0000-0000-000000000002 \
                   00000000-0000-0000-0001-000000000002 pc-2: it has an exit code and no end";
    assert!(
        ended.stdout.lines().any(|line| line == refused),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("--accept-refused"), "{}", ended.stdout);
    assert!(!marked().await, "schedules stay held");
    with_store(&place, async |store| {
        assert_eq!(
            successes(&*store, "backup", "pc-1").await,
            1,
            "the others were taken over"
        );
    })
    .await;

    let (report, code) = place.report(&["--accept-refused"]).await;
    assert_eq!((code, &report["complete"]), (Some(0), &json!(true)));
    assert_eq!(numbers(&report)["execution_results"], json!([0, 5, 1]));
    assert_eq!(
        report["tables"][1]["refusals"][0]["reason"],
        "it has an exit code and no end"
    );
    assert!(marked().await);
}

#[tokio::test]
async fn a_file_without_results_is_not_taken_for_a_history() {
    let place = Place::new("sqlite", "").await;
    for more in [&[][..], &["--accept-refused"]] {
        let (report, code) = place.report(more).await;
        assert_eq!((code, &report["complete"]), (Some(1), &json!(false)), "{report}");
    }
    let ended = place.import(&[]).await;
    assert!(ended.stdout.contains("it holds no results"), "{}", ended.stdout);
    with_store(&place, async |store| {
        assert_eq!(store.mark(kanade_core::HISTORY_IMPORTED).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn runs_that_retention_would_remove_are_told() {
    let place = Place::new("sqlite", HISTORY).await;
    let config = fs::read_to_string(place.path("kanade.toml")).unwrap();
    fs::write(place.path("kanade.toml"), config.replace("100years", "1day")).unwrap();
    let ended = place.import(&["--dry-run"]).await;
    let told = "5 runs are older than `retention.executions`";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

#[tokio::test]
async fn nothing_is_written_when_the_old_file_does_not_fit() {
    let place = Place::new("sqlite", "ALTER TABLE audit_log DROP COLUMN occurred_at").await;
    let ended = place.import(&[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("`audit_log` has no column `occurred_at`; its columns are: `id`, `actor`"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(!place.path("data").exists());
    fs::remove_file(place.path("backend.db")).unwrap();
    let ended = place.import(&[]).await;
    assert!(ended.stderr.contains("there is no such file"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_store_in_memory_takes_nothing_over() {
    let place = Place::new("memory", HISTORY).await;
    let ended = place.import(&[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("in memory"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_server_that_runs_keeps_its_store_to_itself_and_notes_a_fresh_start() {
    for store in ["sqlite", "redb"] {
        let place = Place::new(store, HISTORY).await;
        let config = place.path("kanade.toml");
        let mut server = kanade(["serve", "--start-fresh", "--config", text(&config)])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("listening on") {
                    return;
                }
            }
            panic!("it ended");
        };
        tokio::time::timeout(DEADLINE, listens).await.unwrap();
        let ended = place.import(&[]).await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("another"), "{}", ended.stderr);
        server.kill().await.unwrap();

        with_store(&place, async |store| {
            assert!(store.mark(kanade_core::STARTED_FRESH).await.unwrap().is_some());
            let query = AuditQuery {
                limit: 10,
                ..AuditQuery::default()
            };
            let trail = store.audit(&query).await.unwrap().items;
            assert_eq!(trail.len(), 1);
            assert_eq!(trail[0].event.action, "start_fresh");
            let all = store.executions(&ExecutionQuery::default()).await.unwrap();
            assert!(all.items.is_empty(), "nothing was imported");
        })
        .await;
        assert_eq!(place.import(&[]).await.code, Some(0), "once it is stopped");
    }
}
