//! Questions about agents and what is known of them.

use kanade_model::{JobId, PcId};
use kanade_ports::{Agent, Facts, Page, Position};
use sqlx::SqliteConnection;

use super::{RECORD, behind, fill, page};
use crate::{codec::document, fault::Fault, statement::Statement};

pub(crate) async fn agent(conn: &mut SqliteConnection, pc: &PcId) -> Result<Option<Agent>, Fault> {
    Statement::select::<Agent>("WHERE pc_id = ?1")
        .with(pc.as_str())
        .record(conn)
        .await
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Agent>, Fault> {
    let page = page(limit);
    let (_, pc) = behind(after);
    let rows = Statement::select::<Agent>("WHERE pc_id > ?1 ORDER BY pc_id LIMIT ?2")
        .with(pc)
        .with_limit(page.wanted())
        .records::<Agent>(conn);
    let place = |row: &Agent| Position {
        at: 0,
        id: row.pc_id.to_string(),
    };
    fill(page, rows, place, |row| (Some(row), RECORD)).await
}

pub(crate) async fn facts_of(conn: &mut SqliteConnection, pc: &PcId) -> Result<Vec<Facts>, Fault> {
    Statement::select::<Facts>("WHERE pc_id = ?1 ORDER BY job_id")
        .with(pc.as_str())
        .all(conn)
        .await
}

pub(crate) async fn facts_by(
    conn: &mut SqliteConnection,
    job: &JobId,
    after: Option<&Position>,
    limit: usize,
) -> Result<Page<Facts>, Fault> {
    let page = page(limit);
    let (_, pc) = behind(after);
    let rows = Statement::select::<Facts>("WHERE job_id = ?1 AND pc_id > ?2 ORDER BY pc_id LIMIT ?3")
        .with(job.as_str())
        .with(pc)
        .with_limit(page.wanted())
        .records::<Facts>(conn);
    let place = |row: &Facts| Position {
        at: 0,
        id: row.pc_id.to_string(),
    };
    fill(page, rows, place, |row| {
        let bytes = RECORD + document(&row.facts).len();
        (Some(row), bytes)
    })
    .await
}
