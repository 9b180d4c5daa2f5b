//! Writes what a batch of change-sets changed: first what is forgotten, then new and changed rows, many per statement.

use std::fmt::Write;

use kanade_model::{JobId, PcId, ResultId, Timestamp};
use kanade_ports::{
    AuditRecord, ChangeSet, DeadLetterRecord, Forget, KeyRecord, Needs, Outcome, Output, Row, Success,
    WorkingSet,
};
use sqlx::SqliteConnection;

use crate::{
    codec::{Record, document, id_list, list},
    fault::Fault,
    load::load,
    statement::{Statement, Values},
};

/// Rows per statement, so that a table has three statements to prepare and keep, not one per number of rows.
const ROWS: [usize; 3] = [64, 8, 1];
/// The most outputs in one statement: they may be long, and the driver copies them.
const OUTPUTS: usize = 8;

/// Applies a batch inside the transaction of `conn`.
pub(crate) async fn apply(conn: &mut SqliteConnection, sets: &[ChangeSet]) -> Result<Vec<Outcome>, Fault> {
    let mut rows = load(conn, &Needs::of(sets)).await?;
    let outcomes = rows.apply(sets);
    write(conn, rows).await?;
    Ok(outcomes)
}

async fn write(conn: &mut SqliteConnection, rows: WorkingSet) -> Result<(), Fault> {
    forget(conn, &rows.forget).await?;
    save(conn, rows.executions.changed()).await?;
    save(conn, rows.targets.changed()).await?;
    save(conn, rows.sends.changed()).await?;
    save(conn, rows.runs.changed()).await?;
    save(conn, rows.agents.changed()).await?;
    save(conn, rows.facts.changed()).await?;

    let keys: Vec<(String, KeyRecord)> = rows
        .keys
        .changed()
        .map(|row| (row.key.clone(), row.now.clone()))
        .collect();
    put(conn, &keys.iter().collect::<Vec<_>>(), ROWS[0]).await?;
    let marks: Vec<(String, Timestamp)> = rows
        .marks
        .changed()
        .map(|row| (row.key.clone(), *row.now))
        .collect();
    put(conn, &marks.iter().collect::<Vec<_>>(), ROWS[0]).await?;
    save(conn, rows.slots.changed()).await?;
    save(conn, rows.cursors.changed()).await?;
    let successes: Vec<Success> = rows.successes.into_iter().map(success).collect();
    put(conn, &successes.iter().collect::<Vec<_>>(), ROWS[0]).await?;
    for (exec_id, order) in &rows.orders {
        Statement::new("INSERT OR REPLACE INTO orders (exec_id, document) VALUES (?1, ?2)")
            .with(exec_id.as_str())
            .with(document(order))
            .execute(conn)
            .await?;
    }
    let outputs: Vec<(ResultId, Output)> = rows.outputs.into_iter().collect();
    put(conn, &outputs.iter().collect::<Vec<_>>(), OUTPUTS).await?;

    let audit: Vec<AuditRecord> = rows
        .audit
        .into_iter()
        .map(|event| AuditRecord { id: 0, event })
        .collect();
    put(conn, &audit.iter().collect::<Vec<_>>(), ROWS[0]).await?;
    let letters: Vec<DeadLetterRecord> = rows
        .dead_letters
        .into_iter()
        .map(|letter| DeadLetterRecord { id: 0, letter })
        .collect();
    put(conn, &letters.iter().collect::<Vec<_>>(), OUTPUTS).await
}

fn success(((job_id, pc_id), at): ((JobId, PcId), Timestamp)) -> Success {
    Success { job_id, pc_id, at }
}

/// Writes the changed rows of one kind.
async fn save<'a, K: 'a, R: Record + 'a>(
    conn: &mut SqliteConnection,
    changed: impl Iterator<Item = Row<'a, K, R>>,
) -> Result<(), Fault> {
    let mut rows = Vec::new();
    for row in changed {
        // An upsert only sets what changes in the life of a record. What turned into another record makes way first.
        if row.before.is_some_and(|before| !row.now.continues(before)) {
            remove(conn, row.now).await?;
        }
        rows.push(row.now);
    }
    put(conn, &rows, ROWS[0]).await
}

/// Inserts rows, or updates what changes in those that are there; `most` in one statement.
async fn put<R: Record>(conn: &mut SqliteConnection, mut rows: &[&R], most: usize) -> Result<(), Fault> {
    for size in ROWS.into_iter().filter(|size| *size <= most) {
        while let Some((now, later)) = rows.split_at_checked(size) {
            let mut values = Values::default();
            for row in now {
                row.encode(&mut values);
            }
            Statement::new(upsert::<R>(size))
                .with_values(values)
                .execute(conn)
                .await?;
            rows = later;
        }
    }
    Ok(())
}

fn upsert<R: Record>(rows: usize) -> String {
    let row = format!("({})", vec!["?"; R::COLUMNS.len()].join(", "));
    let (key, changing) = (&R::COLUMNS[..R::KEY], &R::COLUMNS[R::CHANGING..]);
    let mut text = format!(
        "INSERT INTO {} ({}) VALUES {}",
        R::TABLE,
        R::COLUMNS.join(", "),
        vec![row; rows].join(", ")
    );
    if !changing.is_empty() {
        let set: Vec<_> = changing
            .iter()
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let written = write!(
            text,
            " ON CONFLICT ({}) DO UPDATE SET {}",
            key.join(", "),
            set.join(", ")
        );
        written.expect("a String takes everything");
        if let Some(column) = R::grows() {
            let written = write!(text, " WHERE excluded.{column} > {}.{column}", R::TABLE);
            written.expect("a String takes everything");
        }
    }
    text
}

async fn remove<R: Record>(conn: &mut SqliteConnection, row: &R) -> Result<(), Fault> {
    let key: Vec<_> = R::COLUMNS[..R::KEY]
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{column} = ?{}", at + 1))
        .collect();
    // The key stands first among the values; the others are left over.
    let mut values = Values::default();
    row.encode(&mut values);
    Statement::new(format!("DELETE FROM {} WHERE {}", R::TABLE, key.join(" AND ")))
        .with_values(values)
        .execute(conn)
        .await?;
    Ok(())
}

async fn forget(conn: &mut SqliteConnection, forget: &Forget) -> Result<(), Fault> {
    if !forget.executions.is_empty() {
        let executions = list(&forget.executions);
        Statement::new(
            "DELETE FROM outputs WHERE result_id IN \
             (SELECT result_id FROM runs WHERE exec_id IN (SELECT value FROM json_each(?1)))",
        )
        .with(executions.as_str())
        .execute(conn)
        .await?;
        for table in ["runs", "sends", "targets", "orders", "executions"] {
            delete(conn, table, "exec_id", "value", executions.clone()).await?;
        }
    }
    if !forget.runs.is_empty() {
        let runs = id_list(forget.runs.iter().map(|id| id.0));
        delete(conn, "outputs", "result_id", "unhex(value)", runs.clone()).await?;
        delete(conn, "runs", "result_id", "unhex(value)", runs).await?;
    }
    if !forget.audit.is_empty() {
        delete(conn, "audit", "audit_id", "value", list(&forget.audit)).await?;
    }
    if !forget.dead_letters.is_empty() {
        delete(
            conn,
            "dead_letters",
            "letter_id",
            "value",
            list(&forget.dead_letters),
        )
        .await?;
    }
    if !forget.keys.is_empty() {
        delete(
            conn,
            "idempotency_keys",
            "idempotency_key",
            "value",
            list(&forget.keys),
        )
        .await?;
    }
    if !forget.slots.is_empty() {
        let slots = forget.slots.iter();
        Statement::new(
            "DELETE FROM slots WHERE (schedule_id, slot) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each(?1))",
        )
        .with(list(slots.map(|(schedule, slot)| (schedule, slot.as_micros()))))
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Deletes the rows whose `column` is on a JSON list; `value` says how an item of the list is written.
async fn delete(
    conn: &mut SqliteConnection,
    table: &'static str,
    column: &'static str,
    value: &'static str,
    items: String,
) -> Result<(), Fault> {
    Statement::new(format!(
        "DELETE FROM {table} WHERE {column} IN (SELECT {value} FROM json_each(?1))"
    ))
    .with(items)
    .execute(conn)
    .await?;
    Ok(())
}
