//! Questions about schedules: their slots, how far they were looked at, where their jobs have succeeded.

use kanade_model::{JobId, ScheduleId, Timestamp};
use kanade_ports::{Page, Position, ScheduleCursor, SlotQuery, SlotRecord, Success};
use sqlx::SqliteConnection;

use super::{RECORD, fill, page};
use crate::{fault::Fault, statement::Statement};

pub(crate) async fn slot(
    conn: &mut SqliteConnection,
    schedule: &ScheduleId,
    slot: Timestamp,
) -> Result<Option<SlotRecord>, Fault> {
    Statement::select::<SlotRecord>("WHERE schedule_id = ?1 AND slot = ?2")
        .with(schedule.as_str())
        .with_time(slot)
        .record::<SlotRecord>(conn)
        .await
}

pub(crate) async fn slots(conn: &mut SqliteConnection, query: &SlotQuery) -> Result<Page<SlotRecord>, Fault> {
    let page = page(query.limit);
    let before = query.after.as_ref().map_or(i64::MAX, |after| after.at);
    let rows =
        Statement::select::<SlotRecord>("WHERE schedule_id = ?1 AND slot < ?2 ORDER BY slot DESC LIMIT ?3")
            .with(query.schedule_id.as_str())
            .with(before)
            .with_limit(page.wanted())
            .records::<SlotRecord>(conn);
    let place = |row: &SlotRecord| Position {
        at: row.slot.as_micros(),
        id: String::new(),
    };
    fill(page, rows, place, |row| (Some(row), RECORD)).await
}

pub(crate) async fn waiting(conn: &mut SqliteConnection, limit: usize) -> Result<Vec<SlotRecord>, Fault> {
    Statement::select::<SlotRecord>(
        "WHERE state = 'waiting' AND slot > ?1 ORDER BY slot, schedule_id LIMIT ?2",
    )
    .with(i64::MIN)
    .with_limit(limit)
    .all::<SlotRecord>(conn)
    .await
}

pub(crate) async fn cursor(
    conn: &mut SqliteConnection,
    schedule: &ScheduleId,
) -> Result<Option<ScheduleCursor>, Fault> {
    Statement::select::<ScheduleCursor>("WHERE schedule_id = ?1")
        .with(schedule.as_str())
        .record::<ScheduleCursor>(conn)
        .await
}

pub(crate) async fn successes(
    conn: &mut SqliteConnection,
    job: &JobId,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Success>, Fault> {
    let page = page(limit);
    let rows = Statement::select::<Success>("WHERE job_id = ?1 AND pc_id > ?2 ORDER BY pc_id LIMIT ?3")
        .with(job.as_str())
        .with(after.map_or("", |after| after.id.as_str()))
        .with_limit(page.wanted())
        .records::<Success>(conn);
    let place = |row: &Success| Position {
        at: 0,
        id: row.pc_id.to_string(),
    };
    fill(page, rows, place, |row| (Some(row), RECORD)).await
}
