//! Questions about targets and sends.

use kanade_model::{ExecId, PcId, TargetState, Timestamp};
use kanade_ports::{Page, Position, Send, TargetQuery, TargetRecord};
use sqlx::SqliteConnection;

use super::{RECORD, behind, fill, id, page};
use crate::{fault::Fault, statement::Statement};

pub(crate) async fn target(
    conn: &mut SqliteConnection,
    exec: &ExecId,
    pc: &PcId,
) -> Result<Option<TargetRecord>, Fault> {
    Statement::select::<TargetRecord>("WHERE exec_id = ?1 AND pc_id = ?2")
        .with(exec.as_str())
        .with(pc.as_str())
        .record(conn)
        .await
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    query: &TargetQuery,
) -> Result<Page<TargetRecord>, Fault> {
    let page = page(query.limit);
    // The index is named because the planner takes the primary key for as good.
    let (index, narrowed) = match query.state {
        None => ("", ""),
        Some(_) => ("INDEXED BY targets_in_state", "state = ?2 AND"),
    };
    let (_, pc) = behind(query.after.as_ref());
    let rows = Statement::select::<TargetRecord>(&format!(
        "{index} WHERE exec_id = ?1 AND {narrowed} pc_id > ?3 ORDER BY pc_id LIMIT ?4"
    ))
    .with(query.exec_id.as_str())
    .with(query.state.map(TargetState::as_str))
    .with(pc)
    .with_limit(page.wanted())
    .records::<TargetRecord>(conn);
    let place = |row: &TargetRecord| Position {
        at: 0,
        id: row.pc_id.to_string(),
    };
    fill(page, rows, place, |row| (Some(row), RECORD)).await
}

pub(crate) async fn unfinished(
    conn: &mut SqliteConnection,
    pc: &PcId,
    due_before: Timestamp,
    limit: usize,
) -> Result<Vec<TargetRecord>, Fault> {
    Statement::select::<TargetRecord>(
        "WHERE pc_id = ?1 AND state IN ('waiting', 'running') AND due_at < ?2 \
         AND (state = 'running' OR check_at IS NOT NULL) ORDER BY due_at, exec_id LIMIT ?3",
    )
    .with(pc.as_str())
    .with_time(due_before)
    .with_limit(limit)
    .all(conn)
    .await
}

pub(crate) async fn open_on(
    conn: &mut SqliteConnection,
    pc: &PcId,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<TargetRecord>, Fault> {
    let (at, exec) = behind(after);
    Statement::select::<TargetRecord>(
        "WHERE pc_id = ?1 AND state IN ('waiting', 'running') AND (due_at, exec_id) > (?2, ?3) \
         ORDER BY due_at, exec_id LIMIT ?4",
    )
    .with(pc.as_str())
    .with(at)
    .with(exec)
    .with_limit(limit)
    .all(conn)
    .await
}

pub(crate) async fn unanswered_kills(
    conn: &mut SqliteConnection,
    pc: &PcId,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<ExecId>, Fault> {
    // What has an unanswered kill is said in the words of the index.
    Statement::new(
        "SELECT exec_id FROM targets WHERE pc_id = ?1 AND state IN ('lost', 'withdrawn', 'expired') \
         AND receipt IN ('requested', 'unreachable') AND finished_at >= ?2 \
         ORDER BY finished_at DESC, exec_id DESC LIMIT ?3",
    )
    .with(pc.as_str())
    .with_time(since)
    .with_limit(limit)
    .map(conn, |columns| columns.text())
    .await
}

pub(crate) async fn overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TargetRecord>, Fault> {
    Statement::select::<TargetRecord>("WHERE check_at <= ?1 ORDER BY check_at, exec_id, pc_id LIMIT ?2")
        .with_time(now)
        .with_limit(limit)
        .all(conn)
        .await
}

pub(crate) async fn due_sends(
    conn: &mut SqliteConnection,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<Send>, Fault> {
    let (at, text) = behind(after);
    Statement::select::<Send>(
        "WHERE state = 'due' AND (due_at, send_id) > (?1, ?2) ORDER BY due_at, send_id LIMIT ?3",
    )
    .with(at)
    .with_id(id(text))
    .with_limit(limit)
    .all(conn)
    .await
}

pub(crate) async fn sends(conn: &mut SqliteConnection, exec: &ExecId) -> Result<Vec<Send>, Fault> {
    Statement::select::<Send>("WHERE exec_id = ?1 ORDER BY due_at, send_id")
        .with(exec.as_str())
        .all(conn)
        .await
}
