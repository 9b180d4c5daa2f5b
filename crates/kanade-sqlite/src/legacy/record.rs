//! Rows become records.

use std::collections::BTreeMap;

use kanade_model::{ExecutionStatus, PcId, RequestId, ResultId, api};
use serde_json::{Map, Value as Json};
use sqlx::sqlite::SqliteRow;

use super::{
    LegacyRecord, LegacyRefusal,
    layout::{Layout, LegacyTable},
    value::Value,
};
use crate::fault::Fault;

/// Reads a row; `number` counts the rows of its table from 0.
pub(super) fn read(
    layout: &Layout,
    number: usize,
    row: &SqliteRow,
) -> Result<Result<LegacyRecord, LegacyRefusal>, Fault> {
    let mut values = Vec::new();
    for column in 0..layout.len() {
        values.push(Value::of(row, column)?);
    }
    let key: Vec<String> = values[..layout.table.key()]
        .iter()
        .filter(|value| **value != Value::Null)
        .map(Value::shown)
        .collect();
    let mut fields = Fields {
        layout,
        values: values.into_iter(),
        next: 0,
    };
    let read = match layout.table {
        LegacyTable::Executions => execution(&mut fields),
        LegacyTable::Results => run(&mut fields),
        LegacyTable::Agents => agent(&mut fields),
        LegacyTable::Facts => facts(&mut fields),
        LegacyTable::Audit => audit(&mut fields),
    };
    Ok(read.map_err(|reason| LegacyRefusal {
        key: if key.is_empty() {
            format!("row {}", number + 1)
        } else {
            key.join(" ")
        },
        reason,
    }))
}

/// The values of a row, in the order of the table's fields.
struct Fields<'l, 'r> {
    layout: &'l Layout,
    values: std::vec::IntoIter<Value<'r>>,
    next: usize,
}

impl<'r> Fields<'_, 'r> {
    /// The next value, read by `read`.
    fn take<T>(&mut self, read: impl FnOnce(Value<'r>) -> Result<T, String>) -> Result<T, String> {
        self.named(|value| match value {
            Value::Null => Err("it is missing".to_owned()),
            value => read(value),
        })
    }

    /// The next value, where there is one.
    fn maybe<T>(&mut self, read: impl FnOnce(Value<'r>) -> Result<T, String>) -> Result<Option<T>, String> {
        self.named(|value| value.maybe().map(read).transpose())
    }

    fn named<T>(&mut self, read: impl FnOnce(Value<'r>) -> Result<T, String>) -> Result<T, String> {
        let name = self.layout.field(self.next);
        self.next += 1;
        let value = self.values.next().expect("a row has a value for each field");
        read(value).map_err(|reason| format!("{name}: {reason}"))
    }
}

fn execution(fields: &mut Fields<'_, '_>) -> Result<LegacyRecord, String> {
    Ok(LegacyRecord::Execution(api::Execution {
        exec_id: fields.take(Value::parsed)?,
        job_id: fields.take(Value::parsed)?,
        version: fields.take(Value::parsed)?,
        initiated_at: fields.take(Value::moment)?,
        initiated_by: fields
            .maybe(Value::text)?
            .unwrap_or_else(|| "operator".to_owned()),
        status: fields.maybe(Value::parsed)?.unwrap_or(ExecutionStatus::Pending),
        target_count: 0,
        success_count: 0,
        failure_count: 0,
        targets: BTreeMap::new(),
        finished_at: None,
        killed_at: None,
        killed_by: None,
        paused_at: None,
        paused_by: None,
        pause_reason: None,
        aborted_at: None,
        aborted_by: None,
        max_parallel: None,
        retry: None,
        parked_count: None,
        waves: Vec::new(),
    }))
}

fn run(fields: &mut Fields<'_, '_>) -> Result<LegacyRecord, String> {
    let result_id = fields.maybe(Value::uuid)?.map(ResultId);
    let request_id = fields.take(Value::uuid).map(RequestId)?;
    let pc_id: PcId = fields.take(Value::parsed)?;
    Ok(LegacyRecord::Run(api::Run {
        result_id: result_id.unwrap_or_else(|| ResultId::derived(request_id, &pc_id)),
        request_id,
        pc_id,
        exec_id: fields.maybe(Value::parsed)?,
        job_id: fields.maybe(Value::parsed)?,
        // Empty when the start came after the result.
        version: fields
            .maybe(Value::text)?
            .and_then(|version| version.parse().ok()),
        exit_code: fields.maybe(Value::exit_code)?,
        started_at: fields.take(Value::moment)?,
        finished_at: fields.maybe(Value::moment)?,
        stdout: fields.maybe(Value::text)?.unwrap_or_default(),
        stderr: fields.maybe(Value::text)?.unwrap_or_default(),
        state: None,
    }))
}

fn agent(fields: &mut Fields<'_, '_>) -> Result<LegacyRecord, String> {
    let pc_id = fields.take(Value::parsed)?;
    let last_heartbeat = fields.take(Value::moment)?;
    Ok(LegacyRecord::Agent(api::Agent {
        pc_id,
        last_heartbeat,
        hostname: fields.maybe(Value::text)?,
        os_family: fields.maybe(Value::text)?,
        agent_version: fields.maybe(Value::text)?,
        updated_at: fields.maybe(Value::moment)?.unwrap_or(last_heartbeat),
    }))
}

fn facts(fields: &mut Fields<'_, '_>) -> Result<LegacyRecord, String> {
    let pc_id = fields.take(Value::parsed)?;
    let job_id = fields.take(Value::parsed)?;
    let facts = fields.take(Value::json)?;
    let collected_at = fields.take(Value::moment)?;
    let display = fields.maybe(|value| match value.json()? {
        Json::Null => Ok(Vec::new()),
        columns => {
            serde_json::from_value(columns).map_err(|error| format!("it is no list of columns: {error}"))
        }
    })?;
    let summary = fields.maybe(Value::json)?.filter(|summary| !summary.is_null());
    let recorded_at = fields.maybe(Value::moment)?.unwrap_or(collected_at);
    let facts = api::InventoryFacts {
        job_id,
        facts,
        display: display.unwrap_or_default(),
        summary,
        collected_at,
        recorded_at,
    };
    Ok(LegacyRecord::Facts(pc_id, facts))
}

fn audit(fields: &mut Fields<'_, '_>) -> Result<LegacyRecord, String> {
    Ok(LegacyRecord::Audit(api::AuditEntry {
        id: 0,
        occurred_at: fields.take(Value::moment)?,
        actor: fields.take(Value::text)?,
        action: fields.take(Value::text)?,
        target: fields.maybe(Value::text)?,
        payload: match fields.maybe(Value::json)? {
            None | Some(Json::Null) => Map::new(),
            Some(Json::Object(payload)) => payload,
            Some(other) => Map::from_iter([("value".to_owned(), other)]),
        },
    }))
}
