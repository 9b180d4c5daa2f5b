//! The world of a store case: a fresh store, and the things that happen to it in few words. Ids are texts; the ids of
//! requests, runs and sends follow from the execution and the agent they belong to.

use std::{fmt::Debug, str::FromStr, sync::Arc, time::Duration};

use kanade_model::{
    AuditEvent, Ended, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, ExecutionStatus, Heartbeat,
    InventoryHints, PcId, Receipt, RequestId, ResultId, SendId, SkipReason, TargetState, Timestamp,
};
use kanade_ports::{
    Addressee, Change, ChangeSet, DeadLetter, Execution, ExecutionStore, Facts, Limits, NewExecution,
    NewTarget, Order, Outcome, Pace, Run, Send, SendState, TargetRecord,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::snapshot::{Snapshot, snapshot};
use crate::{StoreFactory, sample};

/// A store of a case's own.
pub(crate) struct World<F> {
    factory: F,
    pub(crate) store: Arc<dyn ExecutionStore>,
}

impl<F: StoreFactory> World<F> {
    pub(crate) async fn new() -> Self {
        Self::at(F::fresh().await).await
    }

    /// A world for a case that commits ten thousand times.
    pub(crate) async fn quick() -> Self {
        Self::at(F::quick().await).await
    }

    async fn at(factory: F) -> Self {
        let store = factory.open().await;
        Self { factory, store }
    }

    /// The same world after a clean stop and a start; whether the store is one that keeps things.
    pub(crate) async fn reopened(self) -> (Self, bool) {
        let Self { factory, store } = self;
        let store = factory.reopen(store).await;
        let survives = factory.survives_reopen();
        (Self { factory, store }, survives)
    }

    /// Whether the store keeps things when it is opened again.
    pub(crate) fn survives(&self) -> bool {
        self.factory.survives_reopen()
    }

    pub(crate) async fn apply(&self, sets: impl IntoIterator<Item = ChangeSet>) -> Vec<Outcome> {
        let sets: Vec<_> = sets.into_iter().collect();
        let outcomes = self.store.apply(&sets).await.expect("a healthy store applies");
        assert_eq!(outcomes.len(), sets.len(), "one outcome for each set");
        outcomes
    }

    /// Applies one change by itself.
    pub(crate) async fn change(&self, change: Change) -> Outcome {
        self.apply([ChangeSet::of(change)]).await[0]
    }

    /// Applies changes, one commit each, all of which must be news.
    pub(crate) async fn all(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let text = format!("{change:?}");
            assert_eq!(self.change(change).await, Outcome::Applied, "{text}");
        }
    }

    pub(crate) async fn execution(&self, exec: &str) -> Execution {
        let found = self.store.execution(&id(exec)).await.unwrap();
        found.unwrap_or_else(|| panic!("execution {exec} is there"))
    }

    pub(crate) async fn status(&self, exec: &str) -> ExecutionStatus {
        self.execution(exec).await.status
    }

    pub(crate) async fn target(&self, exec: &str, pc: &str) -> TargetRecord {
        let found = self.store.target(&id(exec), &id(pc)).await.unwrap();
        found.unwrap_or_else(|| panic!("execution {exec} has target {pc}"))
    }

    pub(crate) async fn state(&self, exec: &str, pc: &str) -> TargetState {
        self.target(exec, pc).await.state
    }

    pub(crate) async fn receipt(&self, exec: &str, pc: &str) -> Option<Receipt> {
        self.target(exec, pc).await.receipt
    }

    pub(crate) async fn run(&self, id: ResultId) -> Run {
        let found = self.store.run(&id).await.unwrap();
        found.unwrap_or_else(|| panic!("run {id} is there")).run
    }

    /// Everything in the store, after checking that every answer agrees with every other.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        snapshot(&*self.store).await
    }
}

/// Reads an id of any kind.
pub(crate) fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a valid id")
}

/// So many seconds after the beginning of all cases.
pub(crate) fn secs(after: i64) -> Timestamp {
    const BEGIN: i64 = 1_777_622_400;
    Timestamp::from_micros((BEGIN + after) * 1_000_000)
}

fn uuid(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, parts.join(" ").as_bytes())
}

/// The request that an agent gets for an execution.
pub(crate) fn request(exec: &str, pc: &str) -> RequestId {
    RequestId(uuid(&["request", exec, pc]))
}

/// The first run of an execution on an agent.
pub(crate) fn run(exec: &str, pc: &str) -> ResultId {
    ResultId(uuid(&["run", exec, pc]))
}

/// The send of an execution to an agent, or to all of them (`all`).
pub(crate) fn send(exec: &str, to: &str) -> SendId {
    SendId(uuid(&["send", exec, to]))
}

/// Fires a job, piece by piece.
#[derive(Clone)]
pub(crate) struct Firing {
    exec: String,
    due_at: Timestamp,
    wave: u32,
    pub(crate) new: NewExecution,
}

impl Firing {
    /// A firing of the job `backup` at second 0 at nobody.
    pub(crate) fn of(exec: &str) -> Self {
        Self {
            exec: exec.to_owned(),
            due_at: secs(0),
            wave: 0,
            new: NewExecution {
                exec_id: id(exec),
                initiated_by: "operator".into(),
                initiated_at: secs(0),
                order: order("backup"),
                limits: Limits {
                    start_within_secs: 1000,
                    run_within_secs: 100,
                },
                targets: Vec::new(),
                sends: Vec::new(),
                pace: Pace::default(),
            },
        }
    }

    pub(crate) fn job(mut self, job: &str) -> Self {
        self.new.order.job_id = id(job);
        self
    }

    /// When it was fired, which is when what follows is due.
    pub(crate) fn at(mut self, at: Timestamp) -> Self {
        self.new.initiated_at = at;
        self.due(at)
    }

    /// When what follows is due.
    pub(crate) fn due(mut self, at: Timestamp) -> Self {
        self.due_at = at;
        self
    }

    /// Puts what follows into the next wave.
    pub(crate) fn next_wave(mut self) -> Self {
        self.wave += 1;
        self
    }

    /// Adds agents, each with a send of its own.
    pub(crate) fn pcs<T: AsRef<str>>(mut self, pcs: impl IntoIterator<Item = T>) -> Self {
        for pc in pcs {
            let pc = pc.as_ref();
            self.send(pc, Addressee::Pc(id(pc)));
            self.target(pc, pc);
        }
        self
    }

    /// Adds one send to everybody, and these agents as the ones it is known to be for.
    pub(crate) fn everybody<T: AsRef<str>>(mut self, pcs: impl IntoIterator<Item = T>) -> Self {
        self.send("all", Addressee::All);
        for pc in pcs {
            self.target(pc.as_ref(), "all");
        }
        self
    }

    fn send(&mut self, name: &str, to: Addressee) {
        self.new.sends.push(Send {
            send_id: send(&self.exec, name),
            exec_id: id(&self.exec),
            to,
            request_id: request(&self.exec, name),
            wave: self.wave,
            due_at: self.due_at,
            state: SendState::Due,
        });
    }

    fn target(&mut self, pc: &str, by: &str) {
        self.new.targets.push(NewTarget {
            pc_id: id(pc),
            send_id: send(&self.exec, by),
            request_id: request(&self.exec, by),
            wave: self.wave,
            due_at: self.due_at,
        });
    }

    pub(crate) fn change(self) -> Change {
        Change::Fire(Box::new(self.new))
    }

    pub(crate) fn set(self) -> ChangeSet {
        ChangeSet::of(self.change())
    }
}

/// A firing at second 0 at these agents.
pub(crate) fn fire(exec: &str, pcs: &[&str]) -> Change {
    Firing::of(exec).pcs(pcs).change()
}

pub(crate) fn order(job: &str) -> Order {
    Order {
        jitter_secs: Some(5),
        ..sample::order(job, "echo done")
    }
}

/// What the sends of an execution to these agents (or to `all`) having gone out looks like.
pub(crate) fn sent(exec: &str, to: &[&str]) -> Change {
    Change::Sent {
        exec_id: id(exec),
        sends: to.iter().map(|to| send(exec, to)).collect(),
        at: secs(0),
    }
}

/// A start at second 10.
pub(crate) fn start_event(exec: &str, pc: &str) -> EventStarted {
    EventStarted {
        result_id: run(exec, pc),
        request_id: request(exec, pc),
        exec_id: id(exec),
        pc_id: id(pc),
        started_at: secs(10),
        manifest_id: id("backup"),
        version: id("1.0.0"),
    }
}

pub(crate) fn started(exec: &str, pc: &str) -> Change {
    heard_of(start_event(exec, pc))
}

/// A start that the server heard of at once.
pub(crate) fn heard_of(event: EventStarted) -> Change {
    let at = event.started_at;
    Change::RunStarted { event, at }
}

/// The end, at second 20, of the run that started at second 10.
pub(crate) fn result(exec: &str, pc: &str, exit_code: i32) -> ExecResult {
    ExecResult {
        result_id: Some(run(exec, pc)),
        request_id: request(exec, pc),
        exec_id: Some(id(exec)),
        pc_id: id(pc),
        exit_code,
        stdout: format!("{exec} on {pc}\n"),
        stderr: String::new(),
        started_at: secs(10),
        finished_at: secs(20),
        manifest_id: Some(id("backup")),
        ended: None,
    }
}

/// A command of an agent's own, without an execution; `name` tells it from others.
pub(crate) fn ad_hoc(name: &str, pc: &str) -> ExecResult {
    ExecResult {
        exec_id: None,
        manifest_id: None,
        ..result(name, pc, 0)
    }
}

pub(crate) fn recorded(result: ExecResult) -> Change {
    Change::RunFinished(Box::new(result))
}

pub(crate) fn finished(exec: &str, pc: &str, exit_code: i32) -> Change {
    recorded(result(exec, pc, exit_code))
}

pub(crate) fn ended(exec: &str, pc: &str, ended: Ended) -> Change {
    recorded(ExecResult {
        ended: Some(ended),
        ..result(exec, pc, -1)
    })
}

pub(crate) fn skipped(exec: &str, pc: &str, reason: SkipReason) -> Change {
    Change::RunSkipped(EventSkipped {
        request_id: request(exec, pc),
        exec_id: id(exec),
        pc_id: id(pc),
        at: secs(15),
        manifest_id: id("backup"),
        version: id("1.0.0"),
        reason,
        detail: format!("it is {reason:?}"),
    })
}

/// A kill at second 30.
pub(crate) fn kill(exec: &str) -> Change {
    Change::Kill {
        exec_id: id(exec),
        by: "alice".into(),
        at: secs(30),
    }
}

pub(crate) fn kill_delivered(exec: &str, pc: &str) -> Change {
    Change::KillDelivered(EventKill {
        exec_id: id(exec),
        pc_id: id(pc),
        at: secs(31),
    })
}

/// The end of the time for answers to a kill, at second 60.
pub(crate) fn kill_settled(exec: &str) -> Change {
    Change::KillSettled {
        exec_id: id(exec),
        at: secs(60),
    }
}

pub(crate) fn expire(exec: &str, at: Timestamp) -> Change {
    Change::Expire {
        exec_id: id(exec),
        at,
    }
}

pub(crate) fn expire_target(exec: &str, pc: &str, at: Timestamp) -> Change {
    Change::ExpireTarget {
        exec_id: id(exec),
        pc_id: id(pc),
        at,
    }
}

/// The loss of the first run of an execution on an agent.
pub(crate) fn lose(exec: &str, pc: &str, at: Timestamp) -> Change {
    Change::LoseRun {
        result_id: run(exec, pc),
        exec_id: id(exec),
        pc_id: id(pc),
        at,
    }
}

pub(crate) fn heartbeat(pc: &str, at: Timestamp) -> Change {
    Change::AgentSeen {
        heartbeat: Heartbeat {
            pc_id: id(pc),
            at,
            agent_version: "0.30.0".into(),
            hostname: Some(format!("{pc}.example")),
            os_family: Some("linux".into()),
        },
        at: at.plus(Duration::from_millis(5)),
    }
}

pub(crate) fn facts(pc: &str, job: &str, collected_at: Timestamp, facts: Value) -> Facts {
    Facts {
        pc_id: id::<PcId>(pc),
        job_id: id(job),
        facts,
        hints: InventoryHints::default(),
        description: None,
        collected_at,
        recorded_at: collected_at.plus(Duration::from_secs(1)),
    }
}

pub(crate) fn found(facts: Facts) -> Change {
    Change::Facts(Box::new(facts))
}

/// An audit entry; the same `name` makes the same event.
pub(crate) fn audit_event(name: &str, at: Timestamp) -> AuditEvent {
    AuditEvent {
        event_id: Some(uuid(&["event", name])),
        actor: "operator".into(),
        action: "exec".into(),
        target: Some(name.to_owned()),
        payload: Map::new(),
        occurred_at: at,
    }
}

pub(crate) fn audit(name: &str) -> Change {
    Change::Audit(audit_event(name, secs(0)))
}

pub(crate) fn letter(payload: &str, at: Timestamp) -> DeadLetter {
    DeadLetter {
        subject: id("results.broken"),
        payload: payload.to_owned(),
        reason: "expected value at line 1 column 1".into(),
        at,
    }
}

/// An id for each number, sorted as the numbers are.
pub(crate) fn numbered(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:05}")
}

/// The execution ids of a list.
pub(crate) fn names<'a>(executions: impl IntoIterator<Item = &'a ExecId>) -> Vec<&'a str> {
    executions.into_iter().map(ExecId::as_str).collect()
}
