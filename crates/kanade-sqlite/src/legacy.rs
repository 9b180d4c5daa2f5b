//! The database of a kanade 0.30 server, read and never written.
//!
//! What is known of it are the names of its tables and the rows its HTTP API shows. So columns are found by those
//! names, values are taken in every notation they may have, and what does not fit is refused with the reason.

mod layout;
mod place;
mod record;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

use futures::{Stream, StreamExt};
use kanade_model::{PcId, api};
use kanade_ports::{ErrorKind, StoreError};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::{fault::Fault, statement::Statement};
use layout::Layout;
pub use layout::LegacyTable;
use place::Place;

/// One of our files is not one of theirs; see `file.rs`.
const OURS: i64 = 0x6b61_6e61;

/// The database of a kanade 0.30 server.
#[derive(Debug)]
pub struct LegacyFile {
    place: Place,
    connection: SqliteConnection,
    layouts: Vec<Layout>,
}

/// A row, as the API of its server shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum LegacyRecord {
    /// An execution. Its counts are not read: they follow from its runs.
    Execution(api::Execution),
    /// A run. Its state is not read: it follows from how it ended.
    Run(api::Run),
    /// An agent.
    Agent(api::Agent),
    /// What a job found out about an agent.
    Facts(PcId, api::InventoryFacts),
    /// An entry of the audit trail. Its number is not read.
    Audit(api::AuditEntry),
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyRefusal {
    /// What names it: the ids in it, as they stand there.
    pub key: String,
    /// What is wrong with it, in words.
    pub reason: String,
}

impl LegacyFile {
    /// Opens the file at `path`, whose server must not run. It is left as it is: one that was closed cleanly is read in
    /// place; of one that was not, whose newest changes are in a log beside it, a copy is made in the folder `scratch`
    /// (as large as the file and its log), which the caller removes.
    ///
    /// # Errors
    /// `Unavailable` when it is not there, cannot be read or copied, or changes meanwhile; `Corrupt` when it is no
    /// SQLite database; `Unsupported` when a table or a column that is needed is not there, with what is.
    pub async fn open(path: &Path, scratch: &Path) -> Result<Self, StoreError> {
        Self::open_place(path, scratch)
            .await
            .map_err(|fault| fault.during(format!("open the old server's database `{}`", path.display())))
    }

    async fn open_place(path: &Path, scratch: &Path) -> Result<Self, Fault> {
        let place = Place::at(path, scratch)?;
        let mut connection = place.options().connect().await?;
        let looked = look_into(&mut connection).await;
        match looked {
            Ok(layouts) => Ok(Self {
                place,
                connection,
                layouts,
            }),
            Err(fault) => {
                connection.close().await?;
                Err(fault)
            }
        }
    }

    /// Whether a table is there. Those that are not are not needed.
    pub fn has(&self, table: LegacyTable) -> bool {
        self.layout(table).is_some()
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn count(&mut self, table: LegacyTable) -> Result<u64, StoreError> {
        if !self.has(table) {
            return Ok(0);
        }
        let counted = Statement::new(format!("SELECT count(*) FROM {}", layout::quoted(table.name())))
            .one(&mut self.connection, |columns| columns.take::<i64>())
            .await;
        counted
            .map(|count| count.unwrap_or_default().cast_unsigned())
            .map_err(|fault| fault.during(format!("count the rows of the old server's `{}`", table.name())))
    }

    /// The rows of a table in the order they stand in, a few at a time in memory; none of a table that is not there.
    pub fn rows(
        &mut self,
        table: LegacyTable,
    ) -> impl Stream<Item = Result<Result<LegacyRecord, LegacyRefusal>, StoreError>> + Unpin {
        let Self {
            connection, layouts, ..
        } = self;
        let layout = layouts.iter().find(|layout| layout.table == table);
        let rows = layout.map(|layout| {
            let rows = Statement::new(layout.select()).rows(connection);
            rows.enumerate().map(move |(number, row)| match row {
                Ok(row) => record::read(layout, number, &row),
                Err(fault) => Err(fault),
            })
        });
        futures::stream::iter(rows).flatten().map(move |row| {
            row.map_err(|fault| fault.during(format!("read the old server's `{}`", table.name())))
        })
    }

    /// Closes the file.
    ///
    /// # Errors
    /// `Unavailable` when it has changed since it was opened, so that what was read may not go together.
    pub async fn close(self) -> Result<(), StoreError> {
        let closed = self.connection.close().await.map_err(Fault::from);
        closed
            .and_then(|()| self.place.check_unchanged())
            .map_err(|fault| {
                let path = self.place.original().display();
                fault.during(format!("read the old server's database `{path}` to its end"))
            })
    }

    fn layout(&self, table: LegacyTable) -> Option<&Layout> {
        self.layouts.iter().find(|layout| layout.table == table)
    }
}

/// How the tables are made that are there.
async fn look_into(connection: &mut SqliteConnection) -> Result<Vec<Layout>, Fault> {
    let number = Statement::new("PRAGMA application_id")
        .one(connection, |columns| columns.take::<i64>())
        .await?;
    if number == Some(OURS) {
        return Err(unfit("it is a database of this kanade, not of a 0.30 server"));
    }
    let mut layouts = Vec::new();
    for table in LegacyTable::ALL {
        let columns = Statement::new(format!("PRAGMA table_info({})", layout::quoted(table.name())))
            .map(connection, |columns| {
                columns.take::<i64>()?;
                columns.take::<String>()
            })
            .await?;
        if !columns.is_empty() {
            layouts.push(Layout::of(table, &columns).map_err(unfit)?);
        } else if table.is_needed() {
            let there = Statement::new("PRAGMA table_list")
                .map(connection, |columns| {
                    columns.take::<String>()?;
                    columns.take::<String>()
                })
                .await?;
            let (_, mut there): (Vec<_>, Vec<_>) =
                there.into_iter().partition(|name| name.starts_with("sqlite_"));
            there.sort();
            return Err(unfit(format!(
                "it has no table `{}`; its tables are: {}",
                table.name(),
                layout::listed(&there)
            )));
        }
    }
    Ok(layouts)
}

fn unfit(reason: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::Unsupported, reason.into())
}
