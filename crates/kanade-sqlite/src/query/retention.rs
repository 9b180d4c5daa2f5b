//! What retention may remove, oldest first.

use kanade_model::{ExecId, ResultId, Timestamp};
use kanade_ports::{Forget, RetentionCut};
use sqlx::SqliteConnection;

use crate::{codec::Columns, fault::Fault, statement::Statement};

pub(crate) async fn prunable(
    conn: &mut SqliteConnection,
    cut: &RetentionCut,
    limit: usize,
) -> Result<Forget, Fault> {
    let mut forget = Forget::default();
    // An execution that has runs comes once with each of them, one that has none comes by itself.
    let members = Statement::new(
        "SELECT executions.exec_id, result_id FROM executions LEFT JOIN runs USING (exec_id) \
         WHERE executions.finished_at < ?1 ORDER BY executions.finished_at, executions.exec_id LIMIT ?2",
    )
    .with_time(cut.executions)
    .with_limit(limit)
    .map(conn, |columns| {
        Ok((columns.text::<ExecId>()?, columns.maybe_id()?))
    })
    .await?;
    for (exec_id, run) in members {
        match run {
            Some(run) => forget.runs.push(ResultId(run)),
            None => forget.executions.push(exec_id),
        }
    }
    let homeless = Statement::new(
        "SELECT result_id FROM runs WHERE ended_at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM executions WHERE executions.exec_id = runs.exec_id) \
         ORDER BY ended_at, result_id LIMIT ?2",
    );
    let left = limit - forget.len();
    forget.runs.extend(
        oldest(conn, homeless, cut.executions, left, |columns| {
            columns.id().map(ResultId)
        })
        .await?,
    );

    let audit = Statement::new(
        "SELECT audit_id FROM audit WHERE occurred_at < ?1 ORDER BY occurred_at, audit_id LIMIT ?2",
    );
    let left = limit - forget.len();
    forget.audit = oldest(conn, audit, cut.audit, left, |columns| columns.take()).await?;

    let letters = Statement::new(
        "SELECT letter_id FROM dead_letters WHERE set_aside < ?1 ORDER BY set_aside, letter_id LIMIT ?2",
    );
    let left = limit - forget.len();
    forget.dead_letters = oldest(conn, letters, cut.audit, left, |columns| columns.take()).await?;

    let keys = Statement::new(
        "SELECT idempotency_key FROM idempotency_keys WHERE used_at < ?1 \
         ORDER BY used_at, idempotency_key LIMIT ?2",
    );
    let left = limit - forget.len();
    forget.keys = oldest(conn, keys, cut.keys, left, |columns| columns.take()).await?;

    let slots = Statement::new(
        "SELECT schedule_id, slot FROM slots WHERE slot < ?1 ORDER BY slot, schedule_id LIMIT ?2",
    );
    let left = limit - forget.len();
    forget.slots = oldest(conn, slots, cut.slots, left, |columns| {
        Ok((columns.text()?, columns.time()?))
    })
    .await?;
    Ok(forget)
}

async fn oldest<T>(
    conn: &mut SqliteConnection,
    statement: Statement,
    before: Timestamp,
    limit: usize,
    shape: impl Fn(&mut Columns<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    statement
        .with_time(before)
        .with_limit(limit)
        .map(conn, shape)
        .await
}
