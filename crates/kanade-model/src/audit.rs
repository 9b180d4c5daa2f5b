//! Who did what.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Timestamp;

/// Somebody who changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// `operator` or `scheduler`.
    pub actor: String,
    /// Who they are, as their token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The program they use (`cli`, `spa`), as they name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Caller {
    /// An operator nobody has named.
    pub fn operator() -> Self {
        Self {
            actor: "operator".into(),
            sub: None,
            source: None,
        }
    }

    /// The name to show: who they are if known, else the actor.
    pub fn name(&self) -> &str {
        self.sub.as_deref().unwrap_or(&self.actor)
    }
}

/// What can be done that leaves a trace; the text is what `GET /api/audit` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the wire text beside each says what it is")]
pub enum AuditAction {
    JobUpsert,
    JobDelete,
    JobDeleteFailedPostRevoke,
    JobKill,
    ExecutionKill,
    Kill,
    ExecutionPause,
    ExecutionResume,
    ExecutionAbort,
    GatePass,
    GateFail,
    Exec,
    Run,
    Ping,
    ScriptRevoke,
    ScriptUnrevoke,
    ScheduleUpsert,
    ScheduleDelete,
    ScheduleDisable,
    ScheduleEnable,
    ScheduleTrigger,
    ScheduleBackfill,
    ScheduleCompleted,
    FreezeSet,
    FreezeClear,
    GroupsSet,
    GroupAdd,
    GroupRemove,
    ConfigSet,
    ConfigDelete,
    ReleasePublish,
    ReleaseDelete,
    Rollout,
    HistoryImport,
    StartFresh,
}

impl AuditAction {
    /// The wire text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobUpsert => "job_upsert",
            Self::JobDelete => "job_delete",
            Self::JobDeleteFailedPostRevoke => "job_delete_failed_post_revoke",
            Self::JobKill => "job_kill",
            Self::Kill => "kill",
            Self::ExecutionKill => "execution_kill",
            Self::ExecutionPause => "execution_pause",
            Self::ExecutionResume => "execution_resume",
            Self::ExecutionAbort => "execution_abort",
            Self::GatePass => "gate_pass",
            Self::GateFail => "gate_fail",
            Self::Exec => "exec",
            Self::Run => "run",
            Self::Ping => "ping",
            Self::ScriptRevoke => "script_revoke",
            Self::ScriptUnrevoke => "script_unrevoke",
            Self::ScheduleUpsert => "schedule_upsert",
            Self::ScheduleDelete => "schedule_delete",
            Self::ScheduleDisable => "schedule_disable",
            Self::ScheduleEnable => "schedule_enable",
            Self::ScheduleTrigger => "schedule_trigger",
            Self::ScheduleBackfill => "schedule_backfill",
            Self::ScheduleCompleted => "schedule_completed",
            Self::FreezeSet => "freeze_set",
            Self::FreezeClear => "freeze_clear",
            Self::GroupsSet => "groups_set",
            Self::GroupAdd => "group_add",
            Self::GroupRemove => "group_remove",
            Self::ConfigSet => "config_set",
            Self::ConfigDelete => "config_delete",
            Self::ReleasePublish => "release_publish",
            Self::ReleaseDelete => "release_delete",
            Self::Rollout => "rollout",
            Self::HistoryImport => "history_import",
            Self::StartFresh => "start_fresh",
        }
    }
}

/// One entry of the audit trail (`audit.{actor}.{action}[.{target}]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The same for every delivery of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// `operator`, `scheduler`.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    #[serde(default)]
    pub target: Option<String>,
    /// The details; `sub` and `source` of the caller among them.
    #[serde(default)]
    pub payload: Map<String, Value>,
    /// When.
    pub occurred_at: Timestamp,
}

impl AuditEvent {
    /// The event of `caller` doing `action` to `target`; `payload` must be an object or null.
    pub fn new(
        id: Uuid,
        caller: &Caller,
        action: AuditAction,
        target: Option<String>,
        payload: Value,
        at: Timestamp,
    ) -> Self {
        let mut payload = match payload {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        for (key, value) in [("sub", &caller.sub), ("source", &caller.source)] {
            if let Some(value) = value {
                payload.insert(key.to_owned(), Value::String(value.clone()));
            }
        }
        Self {
            event_id: Some(id),
            actor: caller.actor.clone(),
            action: action.as_str().to_owned(),
            target,
            payload,
            occurred_at: at,
        }
    }

    /// What names it: its id, or where it came without one (older servers write none), a UUIDv5 of what it says, so that
    /// it is the same each time it comes.
    pub fn id(&self) -> Uuid {
        self.event_id.unwrap_or_else(|| {
            let said = json!([
                self.actor,
                self.action,
                self.target,
                self.payload,
                self.occurred_at
            ]);
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("kanade-audit:{said}").as_bytes())
        })
    }
}
