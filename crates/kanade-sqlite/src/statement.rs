//! One SQL statement with its values, and the ways to run it. Every statement of the crate passes here.

use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use kanade_model::Timestamp;
use sqlx::{
    Arguments, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use crate::{
    codec::{Columns, Record},
    fault::Fault,
};

/// A statement, made of literals and the names in the schema; what comes from outside goes into its values.
pub(crate) struct Statement {
    text: String,
    values: Values,
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        #[cfg(test)]
        crate::tests::recorder::note(&text);
        Self {
            text,
            values: Values::default(),
        }
    }

    /// Reads all columns of a kind of record; `rest` follows the table's name.
    pub(crate) fn select<R: Record>(rest: &str) -> Self {
        Self::new(select::<R>(rest))
    }

    /// The same statement with its next value.
    pub(crate) fn with<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(mut self, value: T) -> Self {
        self.values.push(value);
        self
    }

    pub(crate) fn with_values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    pub(crate) fn with_id(self, id: Uuid) -> Self {
        self.with(id.as_bytes().as_slice())
    }

    pub(crate) fn with_time(self, at: Timestamp) -> Self {
        self.with(at.as_micros())
    }

    /// A number of rows.
    pub(crate) fn with_limit(self, limit: usize) -> Self {
        self.with(i64::try_from(limit).unwrap_or(i64::MAX))
    }

    /// Runs it for its effect; says how many rows it changed.
    pub(crate) async fn execute(self, conn: &mut SqliteConnection) -> Result<u64, Fault> {
        let done = sqlx::query_with(AssertSqlSafe(self.text), self.values.0)
            .execute(conn)
            .await?;
        Ok(done.rows_affected())
    }

    /// The rows as they come; only a few are read ahead of the one that is looked at.
    pub(crate) fn rows(self, conn: &mut SqliteConnection) -> BoxStream<'_, Result<SqliteRow, Fault>> {
        sqlx::query_with(AssertSqlSafe(self.text), self.values.0)
            .fetch(conn)
            .map_err(Fault::from)
            .boxed()
    }

    /// The rows as they come, as records.
    pub(crate) fn records<R: Record>(
        self,
        conn: &mut SqliteConnection,
    ) -> impl Stream<Item = Result<R, Fault>> + Unpin {
        self.rows(conn).map(|row| R::decode(&mut Columns::of(&row?)))
    }

    /// Every row, each turned into something by `shape`.
    pub(crate) async fn map<T>(
        self,
        conn: &mut SqliteConnection,
        shape: impl Fn(&mut Columns<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut rows = self.rows(conn);
        let mut all = Vec::new();
        while let Some(row) = rows.try_next().await? {
            all.push(shape(&mut Columns::of(&row))?);
        }
        Ok(all)
    }

    /// The row there is at most one of, turned into something by `shape`.
    pub(crate) async fn one<T>(
        self,
        conn: &mut SqliteConnection,
        shape: impl FnOnce(&mut Columns<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let row = sqlx::query_with(AssertSqlSafe(self.text), self.values.0)
            .fetch_optional(conn)
            .await?;
        row.map(|row| shape(&mut Columns::of(&row))).transpose()
    }

    pub(crate) async fn all<R: Record>(self, conn: &mut SqliteConnection) -> Result<Vec<R>, Fault> {
        self.map(conn, R::decode).await
    }

    pub(crate) async fn record<R: Record>(self, conn: &mut SqliteConnection) -> Result<Option<R>, Fault> {
        self.one(conn, R::decode).await
    }
}

/// `SELECT` with all columns of a kind of record.
pub(crate) fn select<R: Record>(rest: &str) -> String {
    format!("SELECT {} FROM {} {rest}", R::COLUMNS.join(", "), R::TABLE)
}

/// The values of a statement, in the order of its parameters.
#[derive(Default)]
pub(crate) struct Values(SqliteArguments);

impl Values {
    pub(crate) fn push<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(&mut self, value: T) {
        self.0
            .add(value)
            .expect("texts, numbers and bytes can always be encoded");
    }

    pub(crate) fn push_id(&mut self, id: Uuid) {
        self.push(id.as_bytes().as_slice());
    }

    pub(crate) fn push_time(&mut self, at: Option<Timestamp>) {
        self.push(at.map(Timestamp::as_micros));
    }
}
