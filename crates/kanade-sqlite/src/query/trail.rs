//! Questions about what happened besides executions: audit entries, dead letters, idempotency keys, marks.

use kanade_model::Timestamp;
use kanade_ports::{AuditQuery, AuditRecord, DeadLetterRecord, KeyRecord, Page, Position, SCAN_LIMIT};
use sqlx::SqliteConnection;

use super::{RECORD, before, fill, page};
use crate::{codec::document, fault::Fault, statement::Statement};

pub(crate) async fn audit(
    conn: &mut SqliteConnection,
    query: &AuditQuery,
) -> Result<Page<AuditRecord>, Fault> {
    let narrowed = match query.actor {
        None => "",
        Some(_) => "actor = ?1 AND",
    };
    let (number, _) = before(query.after.as_ref());
    // The rows come a few at a time, so that only those are read that the page looks at.
    let rows = Statement::select::<AuditRecord>(&format!(
        "WHERE {narrowed} audit_id < ?2 ORDER BY audit_id DESC LIMIT ?3"
    ))
    .with(query.actor.as_deref())
    .with(number)
    .with_limit(SCAN_LIMIT)
    .records::<AuditRecord>(conn);
    fill(
        page(query.limit),
        rows,
        |row| numbered(row.id),
        |row| {
            if !query.matches(&row) {
                return (None, 0);
            }
            let bytes = RECORD + document(&row.event.payload).len();
            (Some(row), bytes)
        },
    )
    .await
}

pub(crate) async fn dead_letters(
    conn: &mut SqliteConnection,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<DeadLetterRecord>, Fault> {
    let page = page(limit);
    let (number, _) = before(after);
    let rows = Statement::select::<DeadLetterRecord>("WHERE letter_id < ?1 ORDER BY letter_id DESC LIMIT ?2")
        .with(number)
        .with_limit(page.wanted())
        .records::<DeadLetterRecord>(conn);
    fill(
        page,
        rows,
        |row| numbered(row.id),
        |row| {
            let bytes = RECORD + row.letter.payload.len();
            (Some(row), bytes)
        },
    )
    .await
}

pub(crate) async fn key(conn: &mut SqliteConnection, key: &str) -> Result<Option<KeyRecord>, Fault> {
    let found = Statement::select::<(String, KeyRecord)>("WHERE idempotency_key = ?1")
        .with(key)
        .record::<(String, KeyRecord)>(conn)
        .await?;
    Ok(found.map(|(_, record)| record))
}

pub(crate) async fn mark(conn: &mut SqliteConnection, name: &str) -> Result<Option<Timestamp>, Fault> {
    let found = Statement::select::<(String, Timestamp)>("WHERE name = ?1")
        .with(name)
        .record::<(String, Timestamp)>(conn)
        .await?;
    Ok(found.map(|(_, at)| at))
}

fn numbered(number: i64) -> Position {
    Position {
        at: number,
        id: String::new(),
    }
}
