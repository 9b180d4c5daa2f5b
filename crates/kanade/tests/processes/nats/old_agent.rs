//! An agent that behaves as one of 0.30 does on the broker: a live subscription, a replay of everything in EXEC whoever
//! it is for, repetitions known by memory only, results in an outbox until the stream has them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, DeliverPolicy, pull},
};
use futures::StreamExt;
use kanade_ports::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How many request ids it remembers.
const REMEMBERED: usize = 1024;
/// How long it waits before it tries something again.
const AGAIN: Duration = Duration::from_millis(50);

/// One of them; gone when dropped.
pub(crate) struct OldAgent {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What it does differently from one that runs everything at once and reports it at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    /// How long it waits before it starts anything. It hears no kill meanwhile.
    pub(crate) jitter: Duration,
    /// How long its scripts run, unless they are killed.
    pub(crate) runs_for: Duration,
    /// It says that it starts and nothing more, as where the interpreter is missing or the result is too large.
    pub(crate) never_ends: bool,
    /// How long its reports lie on its disk; heartbeats overtake them.
    pub(crate) reports_after: Duration,
}

struct Shared {
    pc: String,
    habits: Habits,
    client: async_nats::Client,
    jetstream: Context,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: VecDeque<String>,
    /// Execution → how often a Command of it came.
    heard: BTreeMap<String, usize>,
    /// Execution → how often it was run.
    runs: BTreeMap<String, usize>,
}

impl OldAgent {
    /// Starts one; it is listening when this returns.
    pub(crate) async fn start(url: &str, pc: &str) -> Self {
        Self::with(url, pc, Habits::default()).await
    }

    pub(crate) async fn with(url: &str, pc: &str, habits: Habits) -> Self {
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect(url)
            .await
            .unwrap();
        let shared = Arc::new(Shared {
            pc: pc.to_owned(),
            habits,
            client: client.clone(),
            jetstream: jetstream::new(client.clone()),
            memory: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for subject in ["commands.all".to_owned(), format!("commands.pc.{pc}")] {
            let mut commands = client.subscribe(subject).await.unwrap();
            let agent = Arc::clone(&shared);
            tasks.spawn(async move {
                while let Some(message) = commands.next().await {
                    Arc::clone(&agent).hear(&message.payload).await;
                }
            });
        }
        client.flush().await.unwrap();
        tasks.spawn(Arc::clone(&shared).replay());
        tasks.spawn(Arc::clone(&shared).beat(client));
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// How often Commands of each execution have come to it.
    pub(crate) fn heard(&self) -> BTreeMap<String, usize> {
        self.shared.memory.lock().unwrap().heard.clone()
    }

    /// How often it has run each execution.
    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        self.shared.memory.lock().unwrap().runs.clone()
    }
}

impl Habits {
    fn is_instant(self) -> bool {
        !self.never_ends && self.jitter.is_zero() && self.runs_for.is_zero() && self.reports_after.is_zero()
    }
}

impl Shared {
    async fn beat(self: Arc<Self>, client: async_nats::Client) {
        loop {
            let heartbeat = json!({
                "pc_id": self.pc, "at": now(), "agent_version": "0.30.0", "hostname": self.pc, "os_family": "windows",
            });
            let subject = format!("heartbeat.{}", self.pc);
            let _ = client.publish(subject, heartbeat.to_string().into()).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn replay(self: Arc<Self>) {
        loop {
            let _ = self.replay_until_it_breaks().await;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn replay_until_it_breaks(self: &Arc<Self>) -> Result<(), async_nats::Error> {
        let name = format!("agent_replay_{}", self.pc);
        let stream = self.jetstream.get_stream("EXEC").await?;
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: "commands.>".into(),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(&name, config).await?;
        let mut messages = consumer.messages().await?;
        while let Some(message) = messages.next().await {
            let message = message?;
            let subject = message.subject.as_str();
            // It tells others' own subjects from its own, but knows no groups here.
            if !subject.starts_with("commands.pc.") || subject == format!("commands.pc.{}", self.pc) {
                Arc::clone(self).hear(&message.payload).await;
            }
            message.ack().await?;
        }
        Ok(())
    }

    async fn hear(self: Arc<Self>, payload: &[u8]) {
        let Ok(command) = serde_json::from_slice::<Value>(payload) else {
            return;
        };
        let request = text(&command["request_id"]);
        {
            let mut memory = self.memory.lock().unwrap();
            *memory.heard.entry(text(&command["exec_id"])).or_default() += 1;
            if memory.known.contains(&request) {
                return;
            }
            memory.known.push_back(request);
            if memory.known.len() > REMEMBERED {
                memory.known.pop_front();
            }
        }
        if self.habits.is_instant() {
            self.run(command).await;
        } else {
            tokio::spawn(async move { self.run(command).await });
        }
    }

    async fn run(&self, command: Value) {
        let habits = self.habits;
        tokio::time::sleep(habits.jitter).await;
        let (exec, request) = (text(&command["exec_id"]), text(&command["request_id"]));
        // Only now it can be killed.
        let mut kills = if habits.runs_for.is_zero() {
            None
        } else {
            self.client.subscribe(format!("kill.{exec}")).await.ok()
        };
        *self.memory.lock().unwrap().runs.entry(exec.clone()).or_default() += 1;
        let (started, mut result) = reports(&command, &self.pc);
        let ends = async {
            if let Some(kills) = &mut kills {
                tokio::select! {
                    _ = kills.next() => {
                        result["exit_code"] = json!(-1);
                        result["stderr"] = json!(format!("killed by remote signal (kill.{exec})"));
                    }
                    () = tokio::time::sleep(habits.runs_for) => {}
                }
            }
        };
        let start = async {
            tokio::time::sleep(habits.reports_after).await;
            self.report(format!("events.started.{exec}.{}", self.pc), &started)
                .await;
        };
        tokio::join!(start, ends);
        if !habits.never_ends {
            self.report(format!("results.{request}"), &result).await;
        }
    }

    /// Until the stream has it.
    async fn report(&self, subject: String, report: &Value) {
        loop {
            if let Ok(sent) = self
                .jetstream
                .publish(subject.clone(), report.to_string().into())
                .await
                && sent.await.is_ok()
            {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// What an agent says of a Command that it runs without trouble: the start and the result.
pub(crate) fn reports(command: &Value, pc: &str) -> (Value, Value) {
    let run = Uuid::new_v4().to_string();
    let started = json!({
        "result_id": run, "request_id": command["request_id"], "exec_id": command["exec_id"], "pc_id": pc,
        "started_at": now(), "manifest_id": command["id"], "version": command["version"],
    });
    let result = json!({
        "result_id": run, "request_id": command["request_id"], "exec_id": command["exec_id"], "pc_id": pc,
        "exit_code": 0, "stdout": "done\n", "stderr": "", "started_at": now(), "finished_at": now(),
        "manifest_id": command["id"],
    });
    (started, result)
}

pub(crate) fn now() -> String {
    SystemClock.now().to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
