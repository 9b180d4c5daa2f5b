//! The agent on a disk that is full for a while.
#![cfg(unix)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use kanade_memory::{EmbeddedBus, MemoryCatalog};
use kanade_model::{Command, Ended, ExecResult, Subject};
use kanade_ports::{Bus, Durable, PubSub, SystemClock, SystemIds};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    Agent, AgentConfig,
    journal::{FullDisk, Journal},
};

struct World {
    folder: tempfile::TempDir,
    disk: FullDisk,
    bus: EmbeddedBus,
    results: UnboundedReceiver<ExecResult>,
    _server: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        let bus = EmbeddedBus::new();
        let (heard, results) = unbounded_channel();
        let mut server = JoinSet::new();
        for durable in Durable::ALL {
            let mut consumer = bus.consume(*durable).await.unwrap();
            let heard = heard.clone();
            server.spawn(async move {
                while let Ok(batch) = consumer.next(100).await {
                    let messages = batch.messages().iter().map(|message| &message.payload);
                    for result in messages.filter_map(|payload| serde_json::from_slice(payload).ok()) {
                        heard.send(result).unwrap();
                    }
                    batch.acknowledge().await.unwrap();
                }
            });
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scripts")).unwrap();
        Self {
            folder,
            disk: FullDisk::default(),
            bus,
            results,
            _server: server,
        }
    }

    async fn agent(&self) -> Agent {
        let folder = self.folder.path().to_owned();
        let journal = self.disk.journal(&Journal::path(&folder)).unwrap();
        let config = AgentConfig::new("pc-1".parse().unwrap(), &folder);
        let (bus, catalog) = (Arc::new(self.bus.clone()), Arc::new(MemoryCatalog::new()));
        Agent::with_journal(
            config,
            folder,
            journal,
            bus,
            catalog,
            Arc::new(SystemClock),
            Arc::new(SystemIds),
        )
        .await
        .unwrap()
    }

    fn command(&self, script: &str) -> Command {
        let request = Uuid::now_v7();
        serde_json::from_value(serde_json::json!({
            "id": "job", "version": "1", "request_id": request, "exec_id": format!("exec-{request}"),
            "shell": "sh", "script": script, "timeout_secs": 60, "cwd": self.folder.path()
        }))
        .unwrap()
    }

    async fn send(&self, command: &Command) {
        let payload = serde_json::to_vec(command).unwrap().into();
        self.bus.publish(&Subject::commands_all(), payload).await.unwrap();
    }

    async fn next_result(&mut self) -> ExecResult {
        let next = tokio::time::timeout(Duration::from_secs(30), self.results.recv());
        next.await.expect("a result arrives").unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("the condition comes true");
}

async fn nothing_is_unreported(agent: &Agent) -> bool {
    agent
        .shared
        .journal
        .unreported()
        .await
        .is_ok_and(|runs| runs.is_empty())
}

#[tokio::test]
async fn a_command_that_the_disk_does_not_take_is_not_accepted_and_runs_when_it_comes_again() {
    let mut world = World::new().await;
    let agent = world.agent().await;
    let command = world.command("echo ran >> ran");
    world.disk.set_full(true);
    world.send(&command).await;
    until(async || world.disk.refused() > 0).await;
    world.disk.set_full(false);
    until(async || {
        world.send(&command).await;
        world.path("ran").exists()
    })
    .await;
    assert_eq!(world.next_result().await.exit_code, 0);
    agent.stop().await;
    assert_eq!(
        std::fs::read_to_string(world.path("ran")).unwrap(),
        "ran\n",
        "it ran once"
    );
    assert!(world.results.try_recv().is_err(), "and was reported once");
}

#[tokio::test]
async fn what_ends_while_the_disk_is_full_is_reported_from_memory_and_only_once() {
    let mut world = World::new().await;
    let agent = world.agent().await;
    let by_itself = world.command("echo > first; until [ -e go ]; do sleep 0.02; done; echo done");
    let by_a_kill = world.command("echo > second; sleep 1000");
    world.send(&by_itself).await;
    world.send(&by_a_kill).await;
    until(async || world.path("first").exists() && world.path("second").exists()).await;
    // Their starts are recorded.
    until(async || {
        let runs = agent.shared.journal.unreported().await.unwrap();
        runs.iter().all(|run| {
            run.started
                .as_ref()
                .is_some_and(|started| started.process.is_some())
        })
    })
    .await;
    world.disk.set_full(true);
    std::fs::write(world.path("go"), "").unwrap();
    let result = world.next_result().await;
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "done\n"));
    let kill = Subject::kill(by_a_kill.exec_id.as_ref().unwrap());
    world.bus.publish(&kill, Bytes::new()).await.unwrap();
    assert_eq!(world.next_result().await.ended, Some(Ended::Killed));
    world.disk.set_full(false);
    until(async || nothing_is_unreported(&agent).await).await;
    agent.stop().await;
    world.agent().await.stop().await;
    assert!(
        world.results.try_recv().is_err(),
        "nothing is reported a second time"
    );
}
