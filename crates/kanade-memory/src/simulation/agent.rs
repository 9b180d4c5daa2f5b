//! Agents that run no processes: they say on the bus what an agent would say, and note in a diary what they have done.

mod old;
mod ours;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{
    Command, Ended, EventSkipped, EventStarted, ExecId, ExecResult, Heartbeat, PcId, RequestId, ResultId,
    SkipReason, Subject, Timestamp,
};
use kanade_ports::{Clock, MessageId, PubSub};
use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use super::{Deed, Diary};

/// Which agent it behaves as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of this workspace: what it has taken in hand it keeps on its disk, and it hears kills at any time.
    Ours,
    /// One of kanade 0.30: it knows what it has been told by memory only, hears a kill only while a script runs, and
    /// says nothing of kills.
    Old,
}

/// What it does with a Command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// The script runs so long, unless it is ended, and ends with this code.
    Runs(Duration, i32),
    /// It is not started.
    Refuses,
    /// It says that it starts and nothing more, as an old one does where the interpreter is missing. One of ours says
    /// that it could not start.
    Breaks,
}

/// What it is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temper {
    /// It shows life this often.
    pub beats_every: Duration,
    /// A script that is killed takes up to so long to end.
    pub dies_within: Duration,
    /// A report lies on its disk for up to so long before it is first sent.
    pub reports_within: Duration,
}

/// What it lives in.
#[derive(Clone)]
pub struct Surroundings {
    /// Its line to the server.
    pub bus: Arc<dyn PubSub>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it notes what it does.
    pub diary: Diary,
}

/// An agent on a bus. Dropped, it is gone.
pub struct SimulatedAgent(Arc<Inner>);

type Script = Box<dyn FnMut(&Command) -> Conduct + Send>;

struct Inner {
    pc: PcId,
    kind: Kind,
    temper: Temper,
    bus: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
    diary: Diary,
    state: Mutex<State>,
    script: Mutex<Script>,
    tasks: Mutex<JoinSet<()>>,
}

struct State {
    random: fastrand::Rng,
    disk: Disk,
    memory: Memory,
}

/// What it still has after a crash.
#[derive(Default)]
struct Disk {
    /// What it has taken in hand; an old one does not write that down.
    taken: BTreeMap<RequestId, Taken>,
    killed: BTreeSet<ExecId>,
    outbox: BTreeMap<u64, (Subject, Bytes)>,
    last: u64,
}

struct Taken {
    command: Command,
    result_id: ResultId,
    started_at: Option<Timestamp>,
    is_reported: bool,
}

#[derive(Default)]
struct Memory {
    known: BTreeSet<RequestId>,
    /// What a kill can reach, and whether one has.
    holds: BTreeMap<RequestId, (ExecId, watch::Sender<bool>)>,
    /// Scripts that run.
    running: BTreeMap<ResultId, ExecId>,
}

impl SimulatedAgent {
    /// An agent that does what `script` says, once it has been [started](Self::start).
    pub fn new(
        pc: PcId,
        kind: Kind,
        temper: Temper,
        around: Surroundings,
        seed: u64,
        script: impl FnMut(&Command) -> Conduct + Send + 'static,
    ) -> Self {
        let Surroundings { bus, clock, diary } = around;
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            disk: Disk::default(),
            memory: Memory::default(),
        };
        Self(Arc::new(Inner {
            pc,
            kind,
            temper,
            bus,
            clock,
            diary,
            state: Mutex::new(state),
            script: Mutex::new(Box::new(script)),
            tasks: Mutex::default(),
        }))
    }

    /// Starts it, for the first time or after a crash; it is listening when this returns.
    pub async fn start(&self) {
        Inner::start(&self.0).await;
    }

    /// Takes its power away: what runs is gone, and what is not on its disk is forgotten.
    pub fn crash(&self) {
        *self.0.tasks() = JoinSet::new();
        let running = std::mem::take(&mut self.0.state().memory).running;
        if self.0.kind == Kind::Old {
            for (run, exec) in running {
                self.0.note(&exec, Deed::Vanished(run));
            }
        }
    }

    /// Who it is.
    pub fn pc(&self) -> &PcId {
        &self.0.pc
    }

    /// Which agent it behaves as.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The executions whose scripts run now.
    pub fn running(&self) -> BTreeSet<ExecId> {
        self.0.state().memory.running.values().cloned().collect()
    }

    /// How many reports are on its disk that the bus has not taken.
    pub fn unsent(&self) -> usize {
        self.0.state().disk.outbox.len()
    }
}

impl Inner {
    async fn start(self: &Arc<Self>) {
        let left: Vec<u64> = self.state().disk.outbox.keys().copied().collect();
        for number in left {
            self.spawn(Arc::clone(self).get_out(number));
        }
        if self.kind == Kind::Ours {
            self.take_up();
            self.listen("kill.>", |agent, subject, _| {
                if let Some(Ok(exec)) = subject.as_str().strip_prefix("kill.").map(str::parse) {
                    agent.killed(&exec);
                }
            })
            .await;
        }
        for subject in [Subject::commands_all(), Subject::commands_pc(&self.pc)] {
            self.listen(subject.as_str(), |agent, _, payload| {
                if let Ok(command) = serde_json::from_slice::<Command>(&payload) {
                    match agent.kind {
                        Kind::Ours => agent.take(command),
                        Kind::Old => agent.hear(command),
                    }
                }
            })
            .await;
        }
        self.spawn(Arc::clone(self).beat());
    }

    async fn listen(self: &Arc<Self>, pattern: &str, hear: fn(&Arc<Self>, Subject, Bytes)) {
        let pattern = pattern.parse().expect("a subject is a pattern");
        let mut messages = self.bus.subscribe(&pattern).await.expect("a bus in this process");
        let agent = Arc::clone(self);
        self.spawn(async move {
            while let Some(message) = messages.next().await {
                hear(&agent, message.subject, message.payload);
            }
        });
    }

    async fn beat(self: Arc<Self>) {
        loop {
            let heartbeat = Heartbeat {
                pc_id: self.pc.clone(),
                at: self.clock.now(),
                agent_version: match self.kind {
                    Kind::Ours => "1.0.0".into(),
                    Kind::Old => "0.30.0".into(),
                },
                hostname: None,
                os_family: None,
            };
            let _ = self
                .bus
                .publish(&Subject::heartbeat(&self.pc), encode(&heartbeat))
                .await;
            self.clock.sleep(self.temper.beats_every).await;
        }
    }

    /// Puts a report into the outbox.
    fn post(self: &Arc<Self>, subject: Subject, report: &impl Serialize) {
        let number = {
            let disk = &mut self.state().disk;
            disk.last += 1;
            disk.outbox.insert(disk.last, (subject, encode(report)));
            disk.last
        };
        self.spawn(Arc::clone(self).get_out(number));
    }

    /// Sends a report until the bus has taken it.
    async fn get_out(self: Arc<Self>, number: u64) {
        const AGAIN: Duration = Duration::from_secs(1);
        let (found, pause) = {
            let mut state = self.state();
            let pause = state.within(self.temper.reports_within);
            (state.disk.outbox.get(&number).cloned(), pause)
        };
        let Some((subject, payload)) = found else { return };
        self.clock.sleep(pause).await;
        loop {
            let id = MessageId(format!("{} {number}", self.pc));
            let sent = self.bus.publish_durable(&subject, payload.clone(), id).await;
            if sent.is_ok() {
                self.state().disk.outbox.remove(&number);
                return;
            }
            self.clock.sleep(AGAIN).await;
        }
    }

    fn said_started(self: &Arc<Self>, command: &Command, exec: &ExecId, run: ResultId) {
        self.state().memory.running.insert(run, exec.clone());
        self.note(exec, Deed::Started(command.request_id, run));
        let event = EventStarted {
            result_id: run,
            request_id: command.request_id,
            exec_id: exec.clone(),
            pc_id: self.pc.clone(),
            started_at: self.clock.now(),
            manifest_id: command.id.clone(),
            version: command.version.clone(),
        };
        self.post(Subject::started(exec, &self.pc), &event);
    }

    /// Reports the end of a run.
    fn report(self: &Arc<Self>, command: &Command, run: ResultId, started_at: Timestamp, end: (Ended, i32)) {
        let Some(exec) = &command.exec_id else { return };
        let (ended, exit_code) = end;
        self.state().memory.running.remove(&run);
        self.note(exec, Deed::Ended(command.request_id, run, ended, exit_code));
        let stderr = match ended {
            Ended::Killed => format!("killed by remote signal (kill.{exec})"),
            Ended::TimedOut => format!("timeout after {}s", command.timeout_secs),
            _ => String::new(),
        };
        let result = ExecResult {
            result_id: Some(run),
            request_id: command.request_id,
            exec_id: Some(exec.clone()),
            pc_id: self.pc.clone(),
            exit_code,
            stdout: String::new(),
            stderr,
            started_at,
            finished_at: self.clock.now(),
            manifest_id: Some(command.id.clone()),
            ended: (self.kind == Kind::Ours).then_some(ended),
        };
        self.post(Subject::result(command.request_id), &result);
    }

    fn refuse(self: &Arc<Self>, command: &Command, exec: &ExecId) {
        self.note(exec, Deed::Refused(command.request_id));
        if self.kind == Kind::Old {
            return;
        }
        let event = EventSkipped {
            request_id: command.request_id,
            exec_id: exec.clone(),
            pc_id: self.pc.clone(),
            at: self.clock.now(),
            manifest_id: command.id.clone(),
            version: command.version.clone(),
            reason: SkipReason::Unsupported,
            detail: "it is not for this machine".into(),
        };
        self.post(Subject::skipped(exec, &self.pc), &event);
    }

    fn conduct(&self, command: &Command) -> Conduct {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script(command)
    }

    fn note(&self, exec: &ExecId, deed: Deed) {
        self.diary.note(self.clock.now(), &self.pc, exec, deed);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Some time up to `most`.
    fn within(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }

    fn fresh_run(&mut self) -> ResultId {
        ResultId(Uuid::from_u128(self.random.u128(..)))
    }
}

/// A script that runs until its end or its timeout: how long, and how that is reported.
fn by_itself(command: &Command, runs_for: Duration, exit_code: i32) -> (Duration, (Ended, i32)) {
    let timeout = Duration::from_secs(command.timeout_secs);
    if runs_for < timeout {
        (runs_for, (Ended::Exited, exit_code))
    } else {
        (timeout, (Ended::TimedOut, -1))
    }
}

fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).expect("a message is JSON").into()
}

impl Drop for SimulatedAgent {
    fn drop(&mut self) {
        // Its tasks hold what it is.
        *self.0.tasks() = JoinSet::new();
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl fmt::Debug for SimulatedAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedAgent")
            .field("pc", &self.0.pc)
            .field("kind", &self.0.kind)
            .finish_non_exhaustive()
    }
}
