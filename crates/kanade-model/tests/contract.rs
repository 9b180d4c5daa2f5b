//! The wire contract, recorded: messages as 0.30 writes them are read, whole, bare, with old names and with fields of
//! tomorrow; and what we publish has exactly the fields that its readers know.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kanade_model::{
    AgentGroups, AuditAction, AuditEvent, Caller, Command, ConfigScope, EventStarted, ExecResult, FanoutPlan,
    Heartbeat, LogsRequest, Manifest, ResultId, Schedule, ScriptStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

const REQUEST: &str = "6d0a8a2e-5f5a-4a0e-9d5e-0f1f7f7b9a01";
const RUN: &str = "0b1f6f0e-3f57-4a0c-8d5a-0f1f7f7b9a02";
const AT: &str = "2026-05-01T08:30:00.123456Z";

/// A message as somebody else writes it: every field, those that must be there, and names it once had.
struct Shape {
    whole: Value,
    required: &'static [&'static str],
    /// Old name → name.
    aliases: &'static [(&'static str, &'static str)],
}

impl Shape {
    fn of(whole: Value, required: &'static [&'static str]) -> Self {
        Self {
            whole,
            required,
            aliases: &[],
        }
    }

    fn fields(&self) -> &Map<String, Value> {
        self.whole.as_object().unwrap()
    }

    /// Reads it in every form.
    fn is_read_as<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(&self) {
        let whole: T = read(&self.whole);
        let again: T = read(&serde_json::to_value(&whole).unwrap());
        assert_eq!(
            again, whole,
            "what was read is written so that it is read the same"
        );
        let mut bare = self.fields().clone();
        bare.retain(|field, _| self.required.contains(&field.as_str()));
        assert_eq!(
            bare.len(),
            self.required.len(),
            "the required fields are among all"
        );
        let _: T = read(&Value::Object(bare.clone()));
        for field in self.required {
            let mut lacking = bare.clone();
            lacking.remove(*field);
            assert!(
                serde_json::from_value::<T>(Value::Object(lacking)).is_err(),
                "{field} may not be missing"
            );
        }
        for (old, new) in self.aliases {
            let mut legacy = self.fields().clone();
            let value = legacy.remove(*new).unwrap();
            legacy.insert((*old).to_owned(), value);
            assert_eq!(read::<T>(&Value::Object(legacy)), whole, "{old} is {new}");
        }
        let mut later = self.fields().clone();
        later.insert("a_field_of_tomorrow".into(), json!({"deep": [1, null]}));
        assert_eq!(
            read::<T>(&Value::Object(later)),
            whole,
            "an unknown field is ignored"
        );
    }

    /// What we write, given everything it says, has these fields and no others.
    fn is_written_as<T: DeserializeOwned + Serialize>(&self) {
        let written = serde_json::to_value(read::<T>(&self.whole)).unwrap();
        let written: Vec<&String> = written.as_object().unwrap().keys().collect();
        let wanted: Vec<&String> = self.fields().keys().collect();
        assert_eq!(written, wanted);
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn command() -> Shape {
    Shape {
        aliases: &[("job_id", "exec_id")],
        ..Shape::of(
            json!({
                "id": "team/clean=up", "version": "1.2.0", "request_id": REQUEST, "exec_id": "exec-1",
                "shell": "powershell", "script": "hostname", "timeout_secs": 30, "jitter_secs": 5, "run_as": "system_gui",
                "cwd": "C:\\work", "deadline_at": AT, "staleness": {"mode": "strict", "max_cache_age": "5m"},
            }),
            &["id", "version", "request_id", "shell", "script", "timeout_secs"],
        )
    }
}

fn result() -> Shape {
    Shape::of(
        json!({
            "result_id": RUN, "request_id": REQUEST, "exec_id": "exec-1", "pc_id": "pc.with.dots", "exit_code": -1,
            "stdout": "out", "stderr": "killed by remote signal (kill.exec-1)", "started_at": AT, "finished_at": AT,
            "manifest_id": "backup",
        }),
        &[
            "request_id",
            "pc_id",
            "exit_code",
            "stdout",
            "stderr",
            "started_at",
            "finished_at",
        ],
    )
}

fn started() -> Shape {
    let all = &[
        "result_id",
        "request_id",
        "exec_id",
        "pc_id",
        "started_at",
        "manifest_id",
        "version",
    ];
    Shape::of(
        json!({
            "result_id": RUN, "request_id": REQUEST, "exec_id": "exec-1", "pc_id": "pc-1", "started_at": AT,
            "manifest_id": "backup", "version": "1.2.0",
        }),
        all,
    )
}

fn heartbeat() -> Shape {
    Shape::of(
        json!({"pc_id": "pc-1", "at": AT, "agent_version": "0.30.0", "hostname": "PC-1", "os_family": "windows"}),
        &["pc_id", "at", "agent_version"],
    )
}

fn audit() -> Shape {
    Shape::of(
        json!({
            "actor": "operator", "action": "exec", "target": "backup", "payload": {"sub": "ada", "source": "cli"},
            "occurred_at": AT,
        }),
        &["actor", "action", "occurred_at"],
    )
}

fn manifest() -> Shape {
    Shape::of(
        json!({
            "id": "team/clean=up", "version": "1.2.0", "description": "Cleans", "require_approval": true,
            "execute": {"shell": "cmd", "script": "dir", "timeout": "1m 30s", "run_as": "user", "cwd": "C:\\"},
            "inventory": {"display": [{"field": "os.name", "label": "OS", "type": "text"}], "summary": [
                {"field": "os.name", "label": "OS"}]},
            "staleness": {"mode": "unchecked"},
        }),
        &["id", "version", "execute"],
    )
}

fn plan() -> Shape {
    Shape::of(
        json!({
            "target": {"all": true, "groups": ["any name at all"], "pcs": ["pc-1"]},
            "rollout": {"strategy": "wave", "waves": [{"group": "canary", "delay": "0s"}]},
            "jitter": "30s", "deadline_at": AT,
        }),
        &[],
    )
}

fn schedule() -> Shape {
    Shape::of(
        json!({
            "id": "nightly", "cron": "0 0 3 * * *", "job_id": "backup", "target": {"groups": ["web"]},
            "rollout": {"strategy": "wave", "waves": [{"group": "web", "delay": "10m"}]},
            "jitter": "30s", "deadline_at": AT, "mode": "once_per_target", "cooldown": "1day",
            "auto_disable_when_done": true, "starting_deadline": "10m", "runs_on": "agent", "enabled": false,
        }),
        &["id", "cron", "job_id"],
    )
}

fn scope() -> Shape {
    Shape::of(
        json!({"target_version": "0.31.0", "target_version_jitter": "10m", "heartbeat_interval": "15s"}),
        &[],
    )
}

#[test]
fn messages_of_others_are_read_whole_bare_old_and_new() {
    command().is_read_as::<Command>();
    result().is_read_as::<ExecResult>();
    started().is_read_as::<EventStarted>();
    heartbeat().is_read_as::<Heartbeat>();
    audit().is_read_as::<AuditEvent>();
    Shape::of(json!({"tail_lines": 20}), &[]).is_read_as::<LogsRequest>();
}

#[test]
fn documents_of_others_are_read_whole_bare_and_new() {
    manifest().is_read_as::<Manifest>();
    schedule().is_read_as::<Schedule>();
    plan().is_read_as::<FanoutPlan>();
    scope().is_read_as::<ConfigScope>();
    Shape::of(json!({"groups": ["a", "b c", "ü"]}), &[]).is_read_as::<AgentGroups>();
}

#[test]
fn what_we_publish_has_exactly_the_fields_of_the_contract() {
    command().is_written_as::<Command>();
    result().is_written_as::<ExecResult>();
    started().is_written_as::<EventStarted>();
    heartbeat().is_written_as::<Heartbeat>();
    audit().is_written_as::<AuditEvent>();
    manifest().is_written_as::<Manifest>();
    schedule().is_written_as::<Schedule>();
    plan().is_written_as::<FanoutPlan>();
    scope().is_written_as::<ConfigScope>();
}

#[test]
fn a_bare_command_says_what_its_readers_must_find() {
    let bare = json!({"id": "j", "version": "1", "request_id": REQUEST, "shell": "cmd", "script": "", "timeout_secs": 1});
    let written = serde_json::to_value(read::<Command>(&bare)).unwrap();
    let mut wanted = bare;
    let all = wanted.as_object_mut().unwrap();
    all.extend([
        ("exec_id".to_owned(), Value::Null),
        ("jitter_secs".to_owned(), Value::Null),
        ("run_as".to_owned(), json!("system")),
        ("staleness".to_owned(), json!({"mode": "cached"})),
    ]);
    assert_eq!(written, wanted);
}

#[test]
fn a_manifest_has_no_field_that_an_old_reader_refuses() {
    let bare =
        json!({"id": "j", "version": "1", "execute": {"shell": "sh", "script": "ls", "timeout": "30s"}});
    assert_eq!(serde_json::to_value(read::<Manifest>(&bare)).unwrap(), bare);
}

#[test]
fn an_audit_entry_of_ours_adds_its_id_and_the_caller() {
    let caller = Caller {
        sub: Some("ada".into()),
        source: Some("cli".into()),
        ..Caller::operator()
    };
    let at = serde_json::from_value(json!(AT)).unwrap();
    let id = Uuid::from_u128(7);
    let event = AuditEvent::new(
        id,
        &caller,
        AuditAction::Exec,
        Some("backup".into()),
        json!({}),
        at,
    );
    let mut wanted = audit().whole;
    wanted["event_id"] = json!(id);
    assert_eq!(serde_json::to_value(&event).unwrap(), wanted);
    assert_eq!(event.id(), id);
}

#[test]
fn an_audit_entry_without_an_id_has_the_same_one_each_time_it_comes() {
    let event: AuditEvent = read(&audit().whole);
    assert_eq!(event.id(), read::<AuditEvent>(&audit().whole).id());
    for field in ["actor", "action", "target", "occurred_at"] {
        let mut other = audit().whole;
        other[field] = json!("2027-01-01T00:00:00Z");
        assert_ne!(
            event.id(),
            read::<AuditEvent>(&other).id(),
            "{field} tells them apart"
        );
    }
}

#[test]
fn a_result_without_an_id_has_the_one_that_the_contract_derives() {
    let mut legacy = result().whole;
    legacy.as_object_mut().unwrap().remove("result_id");
    let name = format!("kanade-issue-19/legacy-result-id:{REQUEST}:pc.with.dots");
    let derived = ResultId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()));
    assert_eq!(read::<ExecResult>(&legacy).run_id(), derived);
}

#[test]
fn a_script_status_is_plain_text() {
    for (text, status) in [
        ("ACTIVE", ScriptStatus::Active),
        ("REVOKED", ScriptStatus::Revoked),
    ] {
        assert_eq!(text.parse::<ScriptStatus>().unwrap(), status);
        assert_eq!(status.as_str(), text);
    }
}
