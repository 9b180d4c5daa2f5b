//! A database in a folder of its own, and facts to put into it.

use std::path::PathBuf;

use kanade_conformance::sample;
use kanade_model::{
    AuditEvent, ExecId, ExecResult, Heartbeat, InventoryHints, JobId, PcId, RequestId, ResultId, SendId,
    Timestamp,
};
use kanade_ports::{
    Addressee, Change, ChangeSet, DeadLetter, Facts, Limits, NewExecution, NewTarget, Order, Send, SendState,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Database;

pub(super) struct World {
    folder: TempDir,
    pub(super) database: Database,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    pub(super) async fn at(folder: TempDir) -> Self {
        let database = Database::open(&folder.path().join("kanade.db")).await.unwrap();
        Self { folder, database }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("kanade.db")
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_750_000_000_000_000 + seconds * 1_000_000)
}

pub(super) fn exec(number: usize) -> ExecId {
    format!("exec-{number:05}").parse().unwrap()
}

pub(super) fn pc(number: usize) -> PcId {
    format!("pc-{number:05}").parse().unwrap()
}

pub(super) fn job() -> JobId {
    "backup".parse().unwrap()
}

pub(super) fn order() -> Order {
    sample::order("backup", "true")
}

/// A firing at so many agents.
pub(super) fn fire(number: usize, targets: usize) -> ChangeSet {
    let exec_id = exec(number);
    let due_at = at(0);
    let sends: Vec<Send> = (0..targets)
        .map(|target| Send {
            send_id: SendId(Uuid::now_v7()),
            exec_id: exec_id.clone(),
            to: Addressee::Pc(pc(target)),
            request_id: RequestId(Uuid::now_v7()),
            wave: 0,
            due_at,
            state: SendState::Due,
        })
        .collect();
    ChangeSet::of(Change::Fire(Box::new(NewExecution {
        exec_id,
        initiated_by: "operator".into(),
        initiated_at: at(0),
        order: order(),
        limits: Limits {
            start_within_secs: 600,
            run_within_secs: 60,
        },
        targets: sends
            .iter()
            .enumerate()
            .map(|(target, send)| NewTarget {
                pc_id: pc(target),
                send_id: send.send_id,
                request_id: send.request_id,
                wave: 0,
                due_at,
            })
            .collect(),
        sends,
        pace: kanade_ports::Pace::default(),
    })))
}

pub(super) fn result(number: usize, target: usize, stdout: &str) -> ExecResult {
    ExecResult {
        result_id: Some(ResultId(Uuid::now_v7())),
        request_id: RequestId(Uuid::now_v7()),
        exec_id: Some(exec(number)),
        pc_id: pc(target),
        exit_code: 0,
        stdout: stdout.into(),
        stderr: String::new(),
        started_at: at(1),
        finished_at: at(2),
        manifest_id: Some(job()),
        ended: None,
    }
}

pub(super) fn finished(number: usize, target: usize, stdout: &str) -> ChangeSet {
    ChangeSet::of(Change::RunFinished(Box::new(result(number, target, stdout))))
}

pub(super) fn seen(target: usize) -> ChangeSet {
    ChangeSet::of(Change::AgentSeen {
        heartbeat: Heartbeat {
            pc_id: pc(target),
            at: at(3),
            agent_version: "1.0.0".into(),
            hostname: None,
            os_family: None,
        },
        at: at(3),
    })
}

pub(super) fn facts(target: usize) -> ChangeSet {
    ChangeSet::of(Change::Facts(Box::new(Facts {
        pc_id: pc(target),
        job_id: job(),
        facts: serde_json::json!({"ram": 8}),
        hints: InventoryHints::default(),
        description: None,
        collected_at: at(2),
        recorded_at: at(3),
    })))
}

pub(super) fn audited() -> ChangeSet {
    ChangeSet::of(Change::Audit(AuditEvent {
        event_id: Some(Uuid::now_v7()),
        actor: "operator".into(),
        action: "exec".into(),
        target: None,
        payload: serde_json::Map::new(),
        occurred_at: at(1),
    }))
}

pub(super) fn dead_letter() -> ChangeSet {
    ChangeSet::of(Change::DeadLetter(DeadLetter {
        subject: "results.x".parse().unwrap(),
        payload: "{".into(),
        reason: "not JSON".into(),
        at: at(1),
    }))
}
