//! One handle per file: opening, the one writer, the readers, closing.

use std::{fs::File, panic::resume_unwind, path::Path, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kanade_ports::{ErrorKind, StoreError};
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool,
    migrate::MigrateError,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

use crate::{
    SqliteCatalog, SqliteStore,
    catalog::Feeds,
    fault::Fault,
    file::{Found, Place, check_schema, cut_off},
    migrations::MIGRATIONS,
    statement::Statement,
};

/// Reads that go on at the same time.
const READERS: u32 = 4;
/// How long a read waits for its turn.
const READ_TURN: Duration = Duration::from_secs(30);
/// How long SQLite waits for a lock: other programs may look into the file too.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pages of log (4 KiB each) after which a commit moves them into the file.
const CHECKPOINT_PAGES: &str = "16384";

/// A handle to one database file, shared by the store and the catalog in it. Cheap to clone.
///
/// While it is open, SQLite keeps its log and an index of that beside the file (`-wal`, `-shm`). An empty file `-lock`
/// stays there for good; the lock on it is what keeps other processes away.
///
/// [`close`](Self::close) it at the end; without that nothing is lost, but the next start has a log to read.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    readers: SqlitePool,
    writer: Arc<Mutex<Option<Writer>>>,
}

/// The only connection that writes. None once the database is closed.
#[derive(Debug)]
struct Writer {
    options: SqliteConnectOptions,
    /// Missing while a transaction has it, and after one that did not end cleanly.
    connection: Option<SqliteConnection>,
    feeds: Feeds,
    /// Keeps the file ours. Here, so that a transaction that goes on after its caller still has it.
    claim: File,
}

impl Database {
    /// Opens the database at `path`, and creates it where there is none. The folder must exist.
    ///
    /// # Errors
    /// `Unavailable` when another process has it, or the folder is missing or cannot be written to; `Corrupt` for what
    /// is not a database of kanade, or a part of one; `Unsupported` for one that a newer kanade has written. A file
    /// that is refused is left as it was.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_place(path)
            .await
            .map_err(|fault| fault.during(format!("open the database `{}`", path.display())))
    }

    async fn open_place(path: &Path) -> Result<Self, Fault> {
        let place = Place::new(path)?;
        let claim = place.claim()?;
        let newest = newest_schema();
        let options = writer_options(&place);
        let schema = match place.inspect(newest)? {
            Found::Nothing => {
                create(&place).await?;
                newest
            }
            Found::Database { schema } => schema,
            Found::WithLog { short } => look_into(&place, short, newest).await?,
        };
        if schema < newest {
            migrate(options.clone()).await?;
        }
        let mut writer = options.connect().await?;
        let mode: Option<String> = Statement::new("PRAGMA journal_mode")
            .one(&mut writer, |columns| columns.take())
            .await?;
        if mode.as_deref() != Some("wal") {
            return Err(Fault::new(
                ErrorKind::Unsupported,
                "the file system of this folder cannot keep a write-ahead log; choose a local disk",
            ));
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // One stays: it keeps the shared memory of the log alive when the writer has to connect anew.
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(READ_TURN)
            .connect_with(reader_options(&place))
            .await?;
        Ok(Self(Arc::new(Inner {
            readers,
            writer: Arc::new(Mutex::new(Some(Writer {
                options,
                connection: Some(writer),
                feeds: Feeds::new(),
                claim,
            }))),
        })))
    }

    /// The execution store in it.
    pub fn store(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::new(self.clone()))
    }

    /// The catalog in it.
    pub fn catalog(&self) -> Arc<SqliteCatalog> {
        Arc::new(SqliteCatalog::new(self.clone()))
    }

    /// Waits for what is under way, moves the log into the file, and gives the file free for others. Every handle of
    /// it answers `Unavailable` from then on, and watches end. Closing again does nothing.
    ///
    /// # Errors
    /// `Unavailable` when the log could not be moved; it is safe where it is, and the file is free all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.readers.close().await;
        let Some(writer) = self.0.writer.lock().await.take() else {
            return Ok(());
        };
        let closed = match writer.connection {
            Some(connection) => finish(connection).await,
            None => Ok(()),
        };
        drop(writer.claim);
        closed.map_err(|fault| fault.during("close the database"))
    }

    /// A connection that sees everything committed so far.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        Ok(self.0.readers.acquire().await?)
    }

    /// Runs `work` in one durable transaction; `then` is called after its commit and before the next writer's turn.
    ///
    /// A caller that goes away before its turn leaves nothing behind; one that goes away later does not stop the
    /// transaction, which runs in a task of its own. Turns come in the order of the calls.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static,
        then: impl FnOnce(&T, &Feeds) + Send + 'static,
    ) -> Result<T, Fault> {
        let mut turn = Arc::clone(&self.0.writer).lock_owned().await;
        let task = tokio::spawn(async move {
            let writer = turn.as_mut().ok_or_else(Fault::closed)?;
            let value = writer.transaction(work).await?;
            then(&value, &writer.feeds);
            Ok(value)
        });
        match task.await {
            Ok(result) => result,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Fault::new(
                    ErrorKind::Indeterminate,
                    "the program stopped in the middle",
                )),
            },
        }
    }

    /// Runs `work` on the writer's connection, outside a transaction, while nobody writes.
    pub(crate) async fn between_writes<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection, &Feeds) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut writer = self.0.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(Fault::closed)?;
        let mut connection = writer.take_connection().await?;
        let value = work(&mut connection, &writer.feeds).await?;
        writer.connection = Some(connection);
        Ok(value)
    }
}

impl Writer {
    async fn take_connection(&mut self) -> Result<SqliteConnection, Fault> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.options.connect().await?),
        }
    }

    /// Begins, works, commits. The connection is put back only when it is certain that no transaction is open in it;
    /// on any other way out, be it a panic or the end of the runtime, it is closed, which rolls back.
    async fn transaction<T>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut connection = self.take_connection().await?;
        let attempt = async {
            Statement::new("BEGIN IMMEDIATE").execute(&mut connection).await?;
            let value = work(&mut connection).await?;
            commit(&mut connection).await?;
            Ok(value)
        };
        let result = attempt.await;
        if result.is_ok() || rolled_back(&mut connection).await {
            self.connection = Some(connection);
        } else {
            tracing::warn!("the database could not roll back; connecting anew");
        }
        result
    }
}

async fn commit(connection: &mut SqliteConnection) -> Result<(), Fault> {
    // Not through `Transaction`: it counts levels, and loses count when SQLite has rolled back by itself.
    match sqlx::query("COMMIT").execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::of_commit(error)),
    }
}

/// Ends whatever transaction is open; whether there is none now.
async fn rolled_back(connection: &mut SqliteConnection) -> bool {
    match sqlx::query("ROLLBACK").execute(connection).await {
        Ok(_) => true,
        // After some failures SQLite has rolled back by itself.
        Err(sqlx::Error::Database(error)) => error.message().contains("no transaction is active"),
        Err(_) => false,
    }
}

async fn finish(mut connection: SqliteConnection) -> Result<(), Fault> {
    let busy = Statement::new("PRAGMA wal_checkpoint(TRUNCATE)")
        .one(&mut connection, |columns| columns.take::<i64>())
        .await;
    connection.close().await?;
    match busy? {
        Some(0) => Ok(()),
        _ => Err(Fault::new(
            ErrorKind::Unavailable,
            "another program reads the file, so its log stays beside it",
        )),
    }
}

/// Makes a new database beside its place and moves it there when it is whole.
async fn create(place: &Place) -> Result<(), Fault> {
    let nursery = place.nursery();
    let unusable = |error| Fault::explained(ErrorKind::Unavailable, "cannot create the file", error);
    nursery.clear().map_err(unusable)?;
    let made = async {
        let options = base_options(&nursery)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Delete)
            .synchronous(SqliteSynchronous::Full);
        migrate(options).await?;
        // The file says from now on that it has a log; it is empty and goes with its connection.
        writer_options(&nursery).connect().await?.close().await?;
        Ok::<_, Fault>(())
    };
    match made.await {
        Ok(()) => nursery.settle_at(place).map_err(unusable),
        Err(fault) => {
            if let Err(error) = nursery.clear() {
                tracing::warn!(%error, "a database that could not be created has left files behind");
            }
            Err(fault)
        }
    }
}

/// Asks SQLite about a database whose log holds changes, through a connection that cannot write. Gives its schema.
async fn look_into(place: &Place, short: bool, newest: u32) -> Result<u32, Fault> {
    let mut connection = match reader_options(place).connect().await {
        Ok(connection) => connection,
        Err(error) => return Err(unreadable(error.into(), short)),
    };
    let looked = read_through(&mut connection, short).await;
    connection.close().await?;
    let schema = looked.map_err(|fault| unreadable(fault, short))?;
    check_schema(schema, newest)?;
    Ok(schema)
}

async fn read_through(connection: &mut SqliteConnection, short: bool) -> Result<u32, Fault> {
    let schema = Statement::new("PRAGMA user_version")
        .one(connection, |columns| columns.take())
        .await?;
    if short {
        let verdict: Option<String> = Statement::new("PRAGMA quick_check(1)")
            .one(connection, |columns| columns.take())
            .await?;
        match verdict {
            Some(text) if text == "ok" => {}
            verdict => return Err(Fault::new(ErrorKind::Corrupt, verdict.unwrap_or_default())),
        }
    }
    Ok(schema.unwrap_or_default())
}

fn unreadable(fault: Fault, short: bool) -> Fault {
    if short && fault.kind() == ErrorKind::Corrupt {
        cut_off("and its log does not hold the rest")
    } else {
        fault
    }
}

/// The number of the newest migration, which is also the schema it leads to.
pub(crate) fn newest_schema() -> u32 {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    newest
        .and_then(|version| version.try_into().ok())
        .expect("migrations are numbered from 1")
}

/// Brings the schema up to date, each migration in a transaction of its own.
async fn migrate(options: SqliteConnectOptions) -> Result<(), Fault> {
    // A pool of one, because the migrator's future over a plain connection cannot be sent to another thread.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    let done = MIGRATIONS.run(&pool).await;
    pool.close().await;
    done.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => Fault::new(ErrorKind::Unsupported, other),
    })
}

fn base_options(place: &Place) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(place.path())
        .busy_timeout(LOCK_WAIT)
        .foreign_keys(false)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn writer_options(place: &Place) -> SqliteConnectOptions {
    base_options(place)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A batch is read whole.
        .row_buffer_size(1024)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // In bytes: what a burst has made of the log is given back.
        .pragma("journal_size_limit", "67108864")
        // In KiB: what a batch changes should not leave the memory before its commit.
        .pragma("cache_size", "-32768")
}

fn reader_options(place: &Place) -> SqliteConnectOptions {
    base_options(place)
        .read_only(true)
        // Outputs are long: few rows are read ahead of the one that is looked at.
        .row_buffer_size(4)
        .pragma("cache_size", "-4096")
}

#[cfg(test)]
impl Database {
    /// Runs a statement on the writer's connection, to break what a test wants broken.
    pub(crate) async fn on_writer(&self, text: &str) {
        self.between_writes(async |connection, _| Statement::new(text).execute(connection).await)
            .await
            .unwrap();
    }
}
