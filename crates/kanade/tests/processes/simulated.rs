//! Agents that only pretend: real connections, no processes. Each does what an agent does on its connection: five
//! subscriptions, four watches, heartbeats; and when a kill comes, it reports its run as killed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kanade_client::{AgentLink, LinkSettings};
use kanade_model::{Command, Ended, ExecId, ExecResult, Heartbeat, PcId, ResultId, Subject};
use kanade_ports::{Bucket, CatalogEvent, CatalogReader, Clock, MessageId, PubSub, SystemClock};
use uuid::Uuid;

/// When an agent first heard of something.
type Heard = Arc<Mutex<HashMap<ExecId, Instant>>>;

/// One of them; its connection ends when it is dropped.
pub(crate) struct Simulated {
    pub(crate) link: Arc<AgentLink>,
    commands: Heard,
    kills: Heard,
    _tasks: tokio::task::JoinSet<()>,
}

impl Simulated {
    /// Connects, subscribes, watches, and says that it is there.
    pub(crate) async fn connect(server: &str, pc_id: PcId) -> Self {
        let settings = LinkSettings::new(server, pc_id.clone(), format!("key-of-the-simulated-{pc_id}"));
        let link = Arc::new(AgentLink::open(settings).unwrap());
        let (commands, kills) = (Heard::default(), Heard::default());
        let mut tasks = tokio::task::JoinSet::new();
        for bucket in [
            Bucket::ScriptStatus,
            Bucket::ScriptCurrent,
            Bucket::AgentConfig,
            Bucket::AgentGroups,
        ] {
            let mut events = link.watch(bucket).await.unwrap();
            while events.next().await.expect("the watch goes on") != CatalogEvent::Current {}
            tasks.spawn(async move { while events.next().await.is_some() {} });
        }
        let open: Arc<Mutex<HashMap<ExecId, Command>>> = Arc::default();
        let mut killed = link.subscribe(&"kill.>".parse().unwrap()).await.unwrap();
        let (of_task, noted, runs) = (Arc::clone(&link), Arc::clone(&kills), Arc::clone(&open));
        let pc = pc_id.clone();
        tasks.spawn(async move {
            while let Some(message) = killed.next().await {
                let now = Instant::now();
                let exec: ExecId = message
                    .subject
                    .as_str()
                    .strip_prefix("kill.")
                    .unwrap()
                    .parse()
                    .unwrap();
                noted.lock().unwrap().entry(exec.clone()).or_insert(now);
                let run = runs.lock().unwrap().remove(&exec);
                if let Some(command) = run {
                    report_killed(&of_task, &pc, &command).await;
                }
            }
        });
        for subject in [Subject::commands_all(), Subject::commands_pc(&pc_id)] {
            let mut sent = link.subscribe(&subject.into()).await.unwrap();
            let (noted, runs) = (Arc::clone(&commands), Arc::clone(&open));
            tasks.spawn(async move {
                while let Some(message) = sent.next().await {
                    let command: Command = serde_json::from_slice(&message.payload).unwrap();
                    let exec = command.exec_id.clone().unwrap();
                    noted
                        .lock()
                        .unwrap()
                        .entry(exec.clone())
                        .or_insert_with(Instant::now);
                    runs.lock().unwrap().insert(exec, command);
                }
            });
        }
        for subject in [Subject::logs_fetch(&pc_id), Subject::ping(&pc_id)] {
            let mut asked = link.subscribe(&subject.into()).await.unwrap();
            let of_task = Arc::clone(&link);
            tasks.spawn(async move {
                while let Some(message) = asked.next().await {
                    drop(of_task.reply(&message, "nothing".into()).await);
                }
            });
        }
        beat(&link, &pc_id).await;
        let (of_task, mut back) = (Arc::clone(&link), link.reconnections());
        tasks.spawn(async move {
            while back.next().await.is_some() {
                beat(&of_task, &pc_id).await;
            }
        });
        Self {
            link,
            commands,
            kills,
            _tasks: tasks,
        }
    }

    /// So many of them, connecting as a fleet does after a restart of its server: all at once.
    pub(crate) async fn fleet(server: &str, count: usize) -> Vec<Self> {
        stream::iter(0..count)
            .map(|number| Self::connect(server, format!("sim-{number}").parse().unwrap()))
            .buffer_unordered(count)
            .collect()
            .await
    }

    pub(crate) fn has_command(&self, exec: &ExecId) -> bool {
        self.commands.lock().unwrap().contains_key(exec)
    }

    /// When the kill of an execution first arrived.
    pub(crate) fn killed_at(&self, exec: &ExecId) -> Option<Instant> {
        self.kills.lock().unwrap().get(exec).copied()
    }
}

async fn beat(link: &AgentLink, pc_id: &PcId) {
    let heartbeat = Heartbeat {
        pc_id: pc_id.clone(),
        at: SystemClock.now(),
        agent_version: "0.31.0".into(),
        hostname: None,
        os_family: None,
    };
    let payload = serde_json::to_vec(&heartbeat).unwrap().into();
    // The connection may be gone again; then there will be another.
    drop(link.publish(&Subject::heartbeat(pc_id), payload).await);
}

async fn report_killed(link: &AgentLink, pc_id: &PcId, command: &Command) {
    let now = SystemClock.now();
    let result = ExecResult {
        result_id: Some(ResultId(Uuid::new_v4())),
        request_id: command.request_id,
        exec_id: command.exec_id.clone(),
        pc_id: pc_id.clone(),
        exit_code: -1,
        stdout: String::new(),
        stderr: "killed by remote signal (kill)".into(),
        started_at: now,
        finished_at: now,
        manifest_id: Some(command.id.clone()),
        ended: Some(Ended::Killed),
    };
    let payload = serde_json::to_vec(&result).unwrap();
    let id = MessageId(Uuid::new_v4().to_string());
    let subject = Subject::result(command.request_id);
    // Until it is kept, as an outbox does.
    while let Err(error) = link
        .publish_durable(&subject, payload.clone().into(), id.clone())
        .await
    {
        eprintln!("{pc_id}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
