//! Takes over the records of a kanade 0.30 server: from its database, a batch at a time, into the store.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kanade_core::{HISTORY_IMPORTED, import::Import};
use kanade_model::{AuditAction, AuditEvent, Caller, Timestamp};
use kanade_ports::{Change, ChangeSet, Clock, ExecutionStore, Ids, Outcome, SystemClock, SystemIds};
use kanade_sqlite::{LegacyFile, LegacyRecord, LegacyTable};
use serde::Serialize;
use serde_json::json;

use crate::{
    config::{self, Config},
    deployment::Deployment,
};

/// Sets in a commit, and about how many bytes of them.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// Refused rows of a table that are shown with their reasons.
const SHOWN: usize = 5;

/// What is to be imported, and how.
#[derive(Debug)]
pub(crate) struct Order {
    /// The old server's database.
    pub(crate) from: PathBuf,
    /// Only read it.
    pub(crate) dry_run: bool,
    /// Take the history for complete although rows of it cannot be read.
    pub(crate) accept_refused: bool,
    /// Who asked for it.
    pub(crate) caller: Caller,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) dry_run: bool,
    pub(crate) tables: Vec<Table>,
    /// Runs that are older than the deployment keeps runs: its upkeep will remove them.
    pub(crate) past_retention: u64,
    /// Whether the history counts as taken over, so that no schedule is held any more.
    pub(crate) complete: bool,
}

impl Report {
    pub(crate) fn refused(&self) -> u64 {
        self.tables.iter().map(|table| table.refused).sum()
    }

    /// Whether there is a single run by which a success could be known. A file without one is hardly the right one.
    pub(crate) fn has_runs(&self) -> bool {
        let results = LegacyTable::Results.name();
        self.tables
            .iter()
            .any(|table| table.table == results && table.taken + table.known > 0)
    }
}

/// What became of a table.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) table: &'static str,
    /// Whether the old database has it.
    pub(crate) found: bool,
    /// Rows that are in the store now and were not before; in a dry run, rows that can be read.
    pub(crate) taken: u64,
    /// Rows that were in the store before, as they are or newer.
    pub(crate) known: u64,
    /// Rows that cannot be taken over.
    pub(crate) refused: u64,
    /// The first of them.
    pub(crate) refusals: Vec<Refusal>,
}

/// A row that cannot be taken over.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    pub(crate) key: String,
    pub(crate) reason: String,
}

/// Told how it goes on.
pub(crate) trait Watcher {
    /// A table of so many rows comes next.
    fn begins(&self, table: &'static str, rows: u64);
    /// So many more rows of it have been read.
    fn goes_on(&self, rows: u64);
}

/// Imports into the deployment of `config`, whose server must not run.
///
/// # Errors
/// When the old database does not fit, or the store is in use or fails. What was taken over until then stays, and doing
/// it again goes on from there.
pub(crate) async fn import(config: &Config, order: &Order, watcher: &dyn Watcher) -> Result<Report> {
    if config.store == config::Store::Memory {
        bail!(
            "the store of this configuration is in memory and would forget everything at once; choose another"
        );
    }
    // What may be as large as the old database goes beside what will be.
    let folder = Some(&config.data_dir).filter(|folder| folder.is_dir());
    let scratch = folder.map_or_else(tempfile::tempdir, tempfile::tempdir_in);
    let scratch = scratch.context("cannot make a temporary folder")?;
    let mut file = LegacyFile::open(&order.from, scratch.path()).await?;
    if order.dry_run {
        let mut report = Transfer::new(config, None).all(&mut file, watcher).await?;
        file.close().await?;
        report.dry_run = true;
        return Ok(report);
    }
    let deployment = Deployment::open(&store_only(config)).await?;
    let transfer = Transfer::new(config, Some(Arc::clone(&deployment.ports.store)));
    let done = async {
        let mut report = transfer.all(&mut file, watcher).await?;
        file.close().await?;
        report.complete = report.has_runs() && (report.refused() == 0 || order.accept_refused);
        if report.complete {
            transfer.complete(&report, &order.caller).await?;
        }
        anyhow::Ok(report)
    };
    let done = done.await;
    drop(transfer);
    let closed = deployment.close().await;
    let report = done?;
    closed?;
    Ok(report)
}

/// The same deployment with nothing but its store: an import needs no broker, and must not begin to listen to one.
fn store_only(config: &Config) -> Config {
    let catalog = match &config.store {
        config::Store::Sqlite { path } => config::Catalog::Sqlite { path: path.clone() },
        config::Store::Redb { path } => config::Catalog::Redb { path: path.clone() },
        config::Store::Memory => config::Catalog::Memory,
    };
    Config {
        catalog,
        bus: config::Bus::Embedded,
        ..config.clone()
    }
}

/// Rows on their way into a store; without one they are only looked at.
struct Transfer {
    store: Option<Arc<dyn ExecutionStore>>,
    import: Import,
    /// Runs that ended before are not kept.
    kept_since: Timestamp,
}

impl Transfer {
    fn new(config: &Config, store: Option<Arc<dyn ExecutionStore>>) -> Self {
        let (settings, now) = (config.core_settings(), SystemClock.now());
        Self {
            store,
            import: Import {
                now,
                command_ttl: settings.command_ttl,
            },
            kept_since: now.minus(settings.keep_executions),
        }
    }

    async fn all(&self, file: &mut LegacyFile, watcher: &dyn Watcher) -> Result<Report> {
        let mut report = Report {
            dry_run: false,
            tables: Vec::new(),
            past_retention: 0,
            complete: false,
        };
        for table in LegacyTable::ALL {
            let done = self
                .table(file, table, &mut report.past_retention, watcher)
                .await?;
            report.tables.push(done);
        }
        Ok(report)
    }

    async fn table(
        &self,
        file: &mut LegacyFile,
        table: LegacyTable,
        past_retention: &mut u64,
        watcher: &dyn Watcher,
    ) -> Result<Table> {
        let mut done = Table {
            table: table.name(),
            found: file.has(table),
            taken: 0,
            known: 0,
            refused: 0,
            refusals: Vec::new(),
        };
        watcher.begins(table.name(), file.count(table).await?);
        let mut rows = file.rows(table);
        let mut batch = Batch::default();
        while let Some(row) = rows.try_next().await? {
            match row {
                Err(refusal) => done.refuse(refusal.key, refusal.reason),
                Ok(record) => {
                    *past_retention += u64::from(self.is_past_retention(&record));
                    let key = key(&record);
                    match self.change_set(record).await? {
                        Ok(Some(set)) => batch.push(set),
                        Ok(None) => done.known += 1,
                        Err(reason) => done.refuse(key, reason),
                    }
                }
            }
            if batch.is_full() {
                self.apply(&mut batch, &mut done).await?;
            }
            watcher.goes_on(1);
        }
        self.apply(&mut batch, &mut done).await?;
        Ok(done)
    }

    /// What a record changes; none when it is known.
    async fn change_set(&self, record: LegacyRecord) -> Result<Result<Option<ChangeSet>, String>> {
        Ok(Ok(Some(match record {
            LegacyRecord::Execution(execution) => self.import.execution(execution),
            LegacyRecord::Run(run) => match self.import.run(run) {
                Ok(set) => set,
                Err(unfit) => return Ok(Err(unfit.to_string())),
            },
            LegacyRecord::Agent(agent) => {
                // The same sign of life would be recorded as one more.
                let known = match &self.store {
                    Some(store) => store.agent(&agent.pc_id).await?,
                    None => None,
                };
                if known.is_some_and(|known| known.updated_at >= agent.updated_at) {
                    return Ok(Ok(None));
                }
                self.import.agent(agent)
            }
            LegacyRecord::Facts(pc_id, facts) => self.import.facts(pc_id, facts),
            LegacyRecord::Audit(entry) => self.import.audit(entry),
        })))
    }

    fn is_past_retention(&self, record: &LegacyRecord) -> bool {
        matches!(record, LegacyRecord::Run(run) if run.finished_at.is_some_and(|at| at < self.kept_since))
    }

    async fn apply(&self, batch: &mut Batch, done: &mut Table) -> Result<()> {
        let sets = std::mem::take(batch).sets;
        let Some(store) = &self.store else {
            done.taken += sets.len() as u64;
            return Ok(());
        };
        if sets.is_empty() {
            return Ok(());
        }
        let applied = store.apply(&sets).await;
        let outcomes = applied.with_context(|| {
            format!(
                "the import stopped in `{}`; what was taken over stays, and the same command goes on from there",
                done.table
            )
        })?;
        for outcome in outcomes {
            match outcome {
                Outcome::Applied => done.taken += 1,
                Outcome::Duplicate | Outcome::Superseded | Outcome::Unknown => done.known += 1,
            }
        }
        Ok(())
    }

    /// Notes that the history is here, once.
    async fn complete(&self, report: &Report, caller: &Caller) -> Result<()> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let now = SystemClock.now();
        let taken: serde_json::Map<_, _> = report
            .tables
            .iter()
            .map(|table| (table.table.to_owned(), json!(table.taken + table.known)))
            .collect();
        let payload = json!({ "taken": taken, "refused": report.refused() });
        let event = AuditEvent::new(
            SystemIds.next(),
            caller,
            AuditAction::HistoryImport,
            None,
            payload,
            now,
        );
        let mark = ChangeSet::of(Change::Mark {
            name: HISTORY_IMPORTED.to_owned(),
            at: now,
        });
        let noted = store.apply(&[mark.and(Change::Audit(event))]).await;
        noted
            .context("everything was taken over, but that could not be noted; run the same command again")?;
        Ok(())
    }
}

impl Table {
    fn refuse(&mut self, key: String, reason: String) {
        self.refused += 1;
        if self.refusals.len() < SHOWN {
            self.refusals.push(Refusal { key, reason });
        }
    }
}

/// Sets that are to be committed together.
#[derive(Default)]
struct Batch {
    sets: Vec<ChangeSet>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, set: ChangeSet) {
        self.bytes += set.weight();
        self.sets.push(set);
    }

    fn is_full(&self) -> bool {
        self.sets.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// What names a record.
fn key(record: &LegacyRecord) -> String {
    match record {
        LegacyRecord::Execution(execution) => execution.exec_id.to_string(),
        LegacyRecord::Run(run) => format!("{} {} {}", run.result_id, run.request_id, run.pc_id),
        LegacyRecord::Agent(agent) => agent.pc_id.to_string(),
        LegacyRecord::Facts(pc_id, facts) => format!("{pc_id} {}", facts.job_id),
        LegacyRecord::Audit(entry) => format!("{} {} {}", entry.occurred_at, entry.actor, entry.action),
    }
}
