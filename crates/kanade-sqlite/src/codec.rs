//! How records become rows and rows become records.

use std::{error::Error, str::FromStr};

use kanade_model::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Column, Decode, Row, Sqlite, Type, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{fault::Fault, statement::Values};

/// A kind of record that is a row of a table.
pub(crate) trait Record: Sized {
    const TABLE: &'static str;
    /// The columns in the order of [`encode`](Self::encode), the primary key first.
    const COLUMNS: &'static [&'static str];
    /// How many columns the primary key has.
    const KEY: usize;
    /// From this column on, values change in the life of a record; in a table that is only added to, none does. An
    /// update that leaves the columns before it alone need not touch their indexes.
    const CHANGING: usize;

    fn encode(&self, values: &mut Values);
    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault>;

    /// The column that only ever grows, if there is one: a row with a smaller value there changes nothing.
    fn grows() -> Option<&'static str> {
        None
    }

    /// Whether the columns before [`CHANGING`](Self::CHANGING) are the same as in `before`.
    fn continues(&self, _before: &Self) -> bool {
        true
    }
}

/// A row, read column by column.
pub(crate) struct Columns<'r> {
    row: &'r SqliteRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r SqliteRow) -> Self {
        Self { row, next: 0 }
    }

    /// The next value as the driver has it.
    pub(crate) fn take<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> Result<T, Fault> {
        let value = self.row.try_get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The next value, a text, as an id or a state.
    pub(crate) fn text<T: FromStr>(&mut self) -> Result<T, Fault>
    where
        T::Err: Error + Send + Sync + 'static,
    {
        let text: &str = self.take()?;
        text.parse().map_err(|error| self.unreadable(text, error))
    }

    pub(crate) fn maybe_text<T: FromStr>(&mut self) -> Result<Option<T>, Fault>
    where
        T::Err: Error + Send + Sync + 'static,
    {
        let text: Option<&str> = self.take()?;
        text.map(|text| text.parse().map_err(|error| self.unreadable(text, error)))
            .transpose()
    }

    pub(crate) fn id(&mut self) -> Result<Uuid, Fault> {
        let bytes: &[u8] = self.take()?;
        Uuid::from_slice(bytes).map_err(|error| self.unreadable("", error))
    }

    pub(crate) fn maybe_id(&mut self) -> Result<Option<Uuid>, Fault> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes
            .map(|bytes| Uuid::from_slice(bytes).map_err(|error| self.unreadable("", error)))
            .transpose()
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Fault> {
        self.take().map(Timestamp::from_micros)
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>, Fault> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    /// The next value, a JSON text, as what it tells of.
    pub(crate) fn document<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let text: &str = self.take()?;
        serde_json::from_str(text).map_err(|error| self.unreadable("the document", error))
    }

    /// The value just taken is not one that was ever written.
    fn unreadable(&self, value: &str, error: impl Error + Send + Sync + 'static) -> Fault {
        let column = self.row.columns()[self.next - 1].name();
        Fault::unreadable(format!("column `{column}` holds `{value}`"), error)
    }
}

/// A value as JSON text.
pub(crate) fn document(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records have string keys and no failing serializer")
}

/// A list of texts as the JSON text that `json_each` takes apart.
pub(crate) fn list<T: Serialize>(items: impl IntoIterator<Item = T>) -> String {
    document(&items.into_iter().collect::<Vec<_>>())
}

/// A list of ids, for `unhex(value)` over `json_each`.
pub(crate) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> String {
    list(ids.into_iter().map(|id| id.simple().to_string()))
}
