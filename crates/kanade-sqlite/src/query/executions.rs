//! Questions about executions.

use std::collections::BTreeMap;

use kanade_model::{ExecId, ExecutionStatus, JobId, Timestamp};
use kanade_ports::{Execution, ExecutionQuery, LiveCount, Order, Page, Position};
use sqlx::SqliteConnection;

use super::{RECORD, before, behind, fill, page};
use crate::{fault::Fault, statement::Statement};

pub(crate) async fn execution(conn: &mut SqliteConnection, id: &ExecId) -> Result<Option<Execution>, Fault> {
    Statement::select::<Execution>("WHERE exec_id = ?1")
        .with(id.as_str())
        .record(conn)
        .await
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    query: &ExecutionQuery,
) -> Result<Page<Execution>, Fault> {
    let page = page(query.limit);
    let narrowed = match (&query.job_id, query.status) {
        (None, None) => "",
        (Some(_), None) => "job_id = ?1 AND",
        (None, Some(_)) => "status = ?2 AND",
        (Some(_), Some(_)) => "job_id = ?1 AND status = ?2 AND",
    };
    let (at, id) = before(query.after.as_ref());
    let rows = Statement::select::<Execution>(&format!(
        "WHERE {narrowed} (initiated_at, exec_id) < (?3, ?4) \
         ORDER BY initiated_at DESC, exec_id DESC LIMIT ?5"
    ))
    .with(query.job_id.as_ref().map(JobId::as_str))
    .with(query.status.map(ExecutionStatus::as_str))
    .with(at)
    .with(id)
    .with_limit(page.wanted())
    .records::<Execution>(conn);
    let place = |row: &Execution| Position {
        at: row.initiated_at.as_micros(),
        id: row.exec_id.to_string(),
    };
    fill(page, rows, place, |row| (Some(row), RECORD)).await
}

pub(crate) async fn order(conn: &mut SqliteConnection, id: &ExecId) -> Result<Option<Order>, Fault> {
    Statement::new("SELECT document FROM orders WHERE exec_id = ?1")
        .with(id.as_str())
        .one(conn, |columns| columns.document())
        .await
}

pub(crate) async fn in_flight(conn: &mut SqliteConnection, job: &JobId) -> Result<Vec<ExecId>, Fault> {
    Statement::new(
        "SELECT exec_id FROM executions WHERE job_id = ?1 AND status IN ('pending', 'running', 'expired')",
    )
    .with(job.as_str())
    .map(conn, |columns| columns.text())
    .await
}

pub(crate) async fn live_counts(conn: &mut SqliteConnection) -> Result<BTreeMap<JobId, LiveCount>, Fault> {
    let counted = Statement::new(
        "SELECT job_id, status, count(*) FROM executions INDEXED BY executions_live \
         WHERE status IN ('pending', 'running', 'expired') GROUP BY job_id, status",
    )
    .map(conn, |columns| {
        Ok((
            columns.text::<JobId>()?,
            columns.text::<ExecutionStatus>()?,
            columns.take::<u64>()?,
        ))
    })
    .await?;
    let mut counts: BTreeMap<JobId, LiveCount> = BTreeMap::new();
    for (job, status, count) in counted {
        match status {
            ExecutionStatus::Running => counts.entry(job).or_default().running = count,
            ExecutionStatus::Pending => counts.entry(job).or_default().pending = count,
            ExecutionStatus::Completed | ExecutionStatus::Killed | ExecutionStatus::Expired => {}
        }
    }
    Ok(counts)
}

pub(crate) async fn open_kills(conn: &mut SqliteConnection, limit: usize) -> Result<Vec<Execution>, Fault> {
    Statement::select::<Execution>("WHERE kill_settled = 0 ORDER BY killed_at, exec_id LIMIT ?1")
        .with_limit(limit)
        .all(conn)
        .await
}

pub(crate) async fn to_steer(
    conn: &mut SqliteConnection,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<Execution>, Fault> {
    let (at, id) = behind(after);
    Statement::select::<Execution>(
        "WHERE held IN (1, 3) AND (initiated_at, exec_id) > (?1, ?2) ORDER BY initiated_at, exec_id LIMIT ?3",
    )
    .with(at)
    .with(id)
    .with_limit(limit)
    .all(conn)
    .await
}

pub(crate) async fn stale(
    conn: &mut SqliteConnection,
    due_before: Timestamp,
    limit: usize,
) -> Result<Vec<ExecId>, Fault> {
    Statement::new(
        "SELECT exec_id FROM executions INDEXED BY executions_pending \
         WHERE status = 'pending' AND held = 0 AND last_due_at < ?1 ORDER BY last_due_at, exec_id LIMIT ?2",
    )
    .with_time(due_before)
    .with_limit(limit)
    .map(conn, |columns| columns.text())
    .await
}
