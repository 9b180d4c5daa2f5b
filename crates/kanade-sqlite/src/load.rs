//! Reads the rows that a batch of change-sets needs, with one statement per kind of row whatever their number.

use kanade_model::{ExecId, ResultId, Timestamp};
use kanade_ports::{
    Agent, Execution, Facts, KeyRecord, Needs, Run, Send, SlotRecord, TargetRecord, WorkingSet,
};
use sqlx::SqliteConnection;

use crate::{
    codec::{Record, id_list, list},
    fault::Fault,
    statement::Statement,
};

pub(crate) async fn load(conn: &mut SqliteConnection, needs: &Needs) -> Result<WorkingSet, Fault> {
    let mut rows = WorkingSet::default();
    if !needs.executions.is_empty() {
        let found = Statement::select::<Execution>("WHERE exec_id IN (SELECT value FROM json_each(?1))")
            .with(list(&needs.executions))
            .all::<Execution>(conn)
            .await?;
        for row in found {
            rows.executions.load(row.exec_id.clone(), row);
        }
    }
    load_targets(conn, needs, &mut rows).await?;
    load_sends(conn, needs, &mut rows).await?;
    if !needs.runs.is_empty() {
        let found = Statement::select::<Run>("WHERE result_id IN (SELECT unhex(value) FROM json_each(?1))")
            .with(id_list(needs.runs.iter().map(|id: &ResultId| id.0)))
            .all::<Run>(conn)
            .await?;
        for row in found {
            rows.runs.load(row.result_id, row);
        }
    }
    if !needs.runs_of.is_empty() {
        let found = Statement::select::<Run>("WHERE exec_id IN (SELECT value FROM json_each(?1))")
            .with(list(&needs.runs_of))
            .all::<Run>(conn)
            .await?;
        for row in found {
            rows.runs.load(row.result_id, row);
        }
    }
    if !needs.agents.is_empty() {
        let found = Statement::select::<Agent>("WHERE pc_id IN (SELECT value FROM json_each(?1))")
            .with(list(&needs.agents))
            .all::<Agent>(conn)
            .await?;
        for row in found {
            rows.agents.load(row.pc_id.clone(), row);
        }
    }
    if !needs.facts.is_empty() {
        let found = Statement::select::<Facts>(
            "AS stored JOIN json_each(?1) AS wanted \
             ON stored.pc_id = wanted.value ->> 0 AND stored.job_id = wanted.value ->> 1",
        )
        .with(list(&needs.facts))
        .all::<Facts>(conn)
        .await?;
        for row in found {
            rows.facts.load((row.pc_id.clone(), row.job_id.clone()), row);
        }
    }
    load_trail(conn, needs, &mut rows).await?;
    Ok(rows)
}

async fn load_targets(
    conn: &mut SqliteConnection,
    needs: &Needs,
    rows: &mut WorkingSet,
) -> Result<(), Fault> {
    let mut found = Vec::new();
    if !needs.whole.is_empty() {
        found = whole::<TargetRecord>(conn, needs).await?;
    }
    if !needs.targets.is_empty() {
        found.extend(
            Statement::select::<TargetRecord>(
                "AS stored JOIN json_each(?1) AS wanted \
                 ON stored.exec_id = wanted.value ->> 0 AND stored.pc_id = wanted.value ->> 1",
            )
            .with(list(&needs.targets))
            .all::<TargetRecord>(conn)
            .await?,
        );
    }
    for row in found {
        rows.targets.load((row.exec_id.clone(), row.pc_id.clone()), row);
    }
    Ok(())
}

async fn load_sends(conn: &mut SqliteConnection, needs: &Needs, rows: &mut WorkingSet) -> Result<(), Fault> {
    let mut found = Vec::new();
    if !needs.whole.is_empty() {
        found = whole::<Send>(conn, needs).await?;
    }
    if !needs.sends.is_empty() {
        found.extend(
            Statement::select::<Send>("WHERE send_id IN (SELECT unhex(value) FROM json_each(?1))")
                .with(id_list(needs.sends.iter().map(|id| id.0)))
                .all::<Send>(conn)
                .await?,
        );
    }
    for row in found {
        rows.sends.load(row.send_id, row);
    }
    Ok(())
}

/// Every row that belongs to the executions that are needed whole.
async fn whole<R: Record>(conn: &mut SqliteConnection, needs: &Needs) -> Result<Vec<R>, Fault> {
    Statement::select::<R>("WHERE exec_id IN (SELECT value FROM json_each(?1))")
        .with(list(needs.whole.iter().map(ExecId::as_str)))
        .all::<R>(conn)
        .await
}

async fn load_trail(conn: &mut SqliteConnection, needs: &Needs, rows: &mut WorkingSet) -> Result<(), Fault> {
    if !needs.keys.is_empty() {
        let found = Statement::select::<(String, KeyRecord)>(
            "WHERE idempotency_key IN (SELECT value FROM json_each(?1))",
        )
        .with(list(&needs.keys))
        .all::<(String, KeyRecord)>(conn)
        .await?;
        for (key, record) in found {
            rows.keys.load(key, record);
        }
    }
    if !needs.marks.is_empty() {
        let found =
            Statement::select::<(String, Timestamp)>("WHERE name IN (SELECT value FROM json_each(?1))")
                .with(list(&needs.marks))
                .all::<(String, Timestamp)>(conn)
                .await?;
        for (name, at) in found {
            rows.marks.load(name, at);
        }
    }
    if !needs.slots.is_empty() {
        let wanted = needs.slots.iter();
        let found = Statement::select::<SlotRecord>(
            "AS stored JOIN json_each(?1) AS wanted \
             ON stored.schedule_id = wanted.value ->> 0 AND stored.slot = wanted.value ->> 1",
        )
        .with(list(wanted.map(|(schedule, slot)| (schedule, slot.as_micros()))))
        .all::<SlotRecord>(conn)
        .await?;
        for row in found {
            rows.slots.load((row.schedule_id.clone(), row.slot), row);
        }
    }
    if !needs.audit.is_empty() {
        let found = Statement::new(
            "SELECT event_id FROM audit WHERE event_id IN (SELECT unhex(value) FROM json_each(?1))",
        )
        .with(id_list(needs.audit.iter().copied()))
        .map(conn, |columns| columns.id())
        .await?;
        rows.audit_ids.extend(found);
    }
    Ok(())
}
