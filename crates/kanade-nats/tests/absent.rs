//! A whole server on NATS, and agents that behave as those of 0.30: nobody is given what is meant for others, and
//! nothing waits for an agent that is to start it no more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
    },
};
use futures::StreamExt;
use kanade_conformance::within;
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_memory::MemoryStore;
use kanade_model::{Caller, ExecId, ExecutionStatus, FanoutPlan, Manifest, ScriptStatus};
use kanade_nats::Nats;
use kanade_ports::{Clock, ExecutionStore, Precondition, SystemClock, SystemIds};
use serde_json::{Value, json};
use support::{Server, js};
use tokio::task::JoinSet;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(60);

/// A server on a broker.
struct World {
    services: Services,
    client: Client,
    url: String,
    _running: Running,
    _broker: Server,
}

impl World {
    async fn new() -> Self {
        Self::on(Server::start().await, Arc::default()).await
    }

    async fn on(broker: Server, store: Arc<MemoryStore>) -> Self {
        let nats = Nats::connect(broker.settings()).await.unwrap();
        let ports = Ports {
            store,
            catalog: nats.catalog(),
            bus: nats.bus(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            abilities: Abilities {
                retained: Some(nats.retained()),
                ..Abilities::default()
            },
        };
        let (services, running) = Services::start(ports, Settings::default()).await;
        Self {
            services,
            client: broker.stranger().await,
            url: broker.url(),
            _running: running,
            _broker: broker,
        }
    }

    async fn job(&self, id: &str) {
        let manifest: Manifest = serde_json::from_value(json!({
            "id": id, "version": "1.0.0", "execute": {"shell": "powershell", "script": "exit 0", "timeout": "60s"}
        }))
        .unwrap();
        let put = self
            .services
            .jobs
            .put(&manifest, Precondition::Any, &operator())
            .await;
        put.unwrap();
    }

    async fn fire(&self, job: &str, target: Value) -> ExecId {
        let plan: FanoutPlan = serde_json::from_value(json!({"target": target})).unwrap();
        let fired = self
            .services
            .fires
            .fire(&job.parse().unwrap(), &plan, &operator(), None)
            .await;
        fired.unwrap().exec_id
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(SOON, what, waited).await;
    }

    async fn all_sent(&self) {
        self.until("all is sent", async || {
            self.services.store.due_sends(None, 1).await.unwrap().is_empty()
        })
        .await;
    }

    async fn completed(&self, exec: &ExecId) {
        self.until("it is completed", async || {
            let execution = self.services.store.execution(exec).await.unwrap().unwrap();
            execution.status == ExecutionStatus::Completed
        })
        .await;
    }

    async fn retained(&self) -> u64 {
        let info = js(&self.client, "STREAM.INFO.EXEC", json!({})).await;
        info["state"]["messages"].as_u64().unwrap()
    }

    async fn filters(&self, pc: &str) -> Value {
        let path = format!("CONSUMER.INFO.EXEC.agent_replay_{pc}");
        js(&self.client, &path, json!({})).await["config"]["filter_subjects"].clone()
    }

    /// An agent that the server knows and that is given what is meant for it.
    async fn agent(&self, pc: &str) -> Agent {
        let agent = Agent::start(&self.url, pc).await;
        let wanted = json!(["commands.all", format!("commands.pc.{pc}")]);
        self.until("it is admitted", async || {
            self.filters(pc).await == wanted
                && self
                    .services
                    .store
                    .agent(&pc.parse().unwrap())
                    .await
                    .unwrap()
                    .is_some()
        })
        .await;
        agent
    }

    /// What an agent runs that nobody has ever seen before.
    async fn what_a_new_agent_runs(&self) -> Vec<String> {
        let agent = Agent::start(&self.url, "new").await;
        let path = "CONSUMER.INFO.EXEC.agent_replay_new";
        self.until("it has had everything", async || {
            let info = js(&self.client, path, json!({})).await;
            info["num_pending"] == 0 && info["num_ack_pending"] == 0
        })
        .await;
        agent.ran()
    }
}

fn operator() -> Caller {
    Caller::operator()
}

/// An agent of 0.30: runs what it hears and whatever its replay of EXEC gives it, each request once.
struct Agent {
    ran: Arc<Mutex<Vec<(String, String)>>>,
    _tasks: JoinSet<()>,
}

impl Agent {
    async fn start(url: &str, pc: &str) -> Self {
        let client = async_nats::connect(url).await.unwrap();
        let ran = Arc::default();
        let mut tasks = JoinSet::new();
        let work = Work {
            pc: pc.to_owned(),
            client: client.clone(),
            ran: Arc::clone(&ran),
        };
        let work = Arc::new(work);
        for subject in ["commands.all".to_owned(), format!("commands.pc.{pc}")] {
            let mut commands = client.subscribe(subject).await.unwrap();
            let work = Arc::clone(&work);
            tasks.spawn(async move {
                while let Some(message) = commands.next().await {
                    work.run(&message.payload).await;
                }
            });
        }
        let name = format!("agent_replay_{pc}");
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: "commands.>".into(),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let stream = jetstream::new(client.clone()).get_stream("EXEC").await.unwrap();
        let consumer = stream.get_or_create_consumer(&name, config).await.unwrap();
        let mut replay = consumer.messages().await.unwrap();
        let replaying = Arc::clone(&work);
        tasks.spawn(async move {
            while let Some(Ok(message)) = replay.next().await {
                replaying.run(&message.payload).await;
                let _ = message.ack().await;
            }
        });
        work.beat().await;
        Self { ran, _tasks: tasks }
    }

    /// The executions it has run.
    fn ran(&self) -> Vec<String> {
        let ran = self.ran.lock().unwrap();
        ran.iter().map(|(_, exec)| exec.clone()).collect()
    }
}

struct Work {
    pc: String,
    client: Client,
    ran: Arc<Mutex<Vec<(String, String)>>>,
}

impl Work {
    async fn beat(&self) {
        let heartbeat = json!({"pc_id": self.pc, "at": SystemClock.now(), "agent_version": "0.30.0"});
        let subject = format!("heartbeat.{}", self.pc);
        self.client
            .publish(subject, heartbeat.to_string().into())
            .await
            .unwrap();
        self.client.flush().await.unwrap();
    }

    async fn run(&self, payload: &[u8]) {
        let command: Value = serde_json::from_slice(payload).unwrap();
        let said = |name: &str| command[name].as_str().unwrap().to_owned();
        {
            let mut ran = self.ran.lock().unwrap();
            if ran.iter().any(|(request, _)| *request == said("request_id")) {
                return;
            }
            ran.push((said("request_id"), said("exec_id")));
        }
        let (run, now) = (Uuid::new_v4(), SystemClock.now());
        let started = json!({
            "result_id": run, "request_id": command["request_id"], "exec_id": command["exec_id"],
            "pc_id": self.pc, "started_at": now, "manifest_id": command["id"], "version": command["version"],
        });
        let finished = json!({
            "result_id": run, "request_id": command["request_id"], "exec_id": command["exec_id"],
            "pc_id": self.pc, "exit_code": 0, "stdout": "", "stderr": "", "started_at": now, "finished_at": now,
        });
        for (subject, report) in [
            (format!("events.started.{}.{}", said("exec_id"), self.pc), started),
            (format!("results.{}", said("request_id")), finished),
        ] {
            let kept = self.client.request(subject, report.to_string().into()).await;
            kept.unwrap();
        }
    }
}

#[tokio::test]
async fn a_group_fire_reaches_exactly_the_members_although_others_replay_everything() {
    let world = World::new().await;
    world.job("backup").await;
    let agents = [
        world.agent("pc-1").await,
        world.agent("pc-2").await,
        world.agent("pc-3").await,
    ];
    for pc in ["pc-1", "pc-2", "away"] {
        let (pc, group) = (pc.parse().unwrap(), "first".parse().unwrap());
        world
            .services
            .agents
            .join(&pc, &group, &operator())
            .await
            .unwrap();
    }
    let exec = world.fire("backup", json!({"groups": ["first"]})).await;
    world
        .until("the members have run it", async || {
            let execution = world.services.store.execution(&exec).await.unwrap().unwrap();
            execution.counts.success() == 2
        })
        .await;
    world
        .until("only what waits is retained", async || {
            world.retained().await == 1
        })
        .await;
    let ran: Vec<Vec<String>> = agents.iter().map(Agent::ran).collect();
    assert_eq!(ran, [vec![exec.to_string()], vec![exec.to_string()], vec![]]);
    let away = Agent::start(&world.url, "away").await;
    world.completed(&exec).await;
    assert_eq!(away.ran(), [exec.to_string()], "what it has missed, once");
    world
        .until("nothing is retained", async || world.retained().await == 0)
        .await;
}

#[tokio::test]
async fn a_kill_leaves_nothing_for_a_new_agent_to_run() {
    let world = World::new().await;
    world.job("backup").await;
    world.job("other").await;
    let pcs: Vec<String> = (0..500).map(|number| format!("away-{number}")).collect();
    let exec = world.fire("backup", json!({"pcs": pcs})).await;
    let other = world.fire("backup", json!({"pcs": ["away-other"]})).await;
    world.fire("other", json!({"pcs": ["away-stays"]})).await;
    world.all_sent().await;
    assert_eq!(world.retained().await, 502);
    world.services.kills.execution(&exec, &operator()).await.unwrap();
    assert_eq!(world.retained().await, 2, "by the time of the answer");
    world
        .services
        .kills
        .job(&"backup".parse().unwrap(), &operator())
        .await
        .unwrap();
    assert_eq!(world.retained().await, 1, "not the other job's");
    // Also where it was sent a moment ago.
    let at_once = world.fire("backup", json!({"pcs": pcs})).await;
    world
        .services
        .kills
        .execution(&at_once, &operator())
        .await
        .unwrap();
    assert_eq!(world.retained().await, 1);
    world
        .services
        .kills
        .job(&"other".parse().unwrap(), &operator())
        .await
        .unwrap();
    let nothing: [String; 0] = [];
    assert_eq!(world.what_a_new_agent_runs().await, nothing, "{other} neither");
}

#[tokio::test]
async fn a_revoke_leaves_nothing_for_a_new_agent_to_run() {
    let world = World::new().await;
    world.job("backup").await;
    world.fire("backup", json!({"pcs": ["away-1", "away-2"]})).await;
    world.all_sent().await;
    assert_eq!(world.retained().await, 2);
    let job = "backup".parse().unwrap();
    let revoked = world
        .services
        .jobs
        .set_status(&job, ScriptStatus::Revoked, &operator())
        .await;
    revoked.unwrap();
    assert_eq!(world.retained().await, 0, "by the time of the answer");

    // And so does one that the command line of 0.30 writes into the bucket.
    let active = world
        .services
        .jobs
        .set_status(&job, ScriptStatus::Active, &operator())
        .await;
    active.unwrap();
    world.fire("backup", json!({"pcs": ["away-1"]})).await;
    world.all_sent().await;
    assert_eq!(world.retained().await, 1);
    let written = world
        .client
        .request("$KV.script_status.backup", "REVOKED".into())
        .await;
    written.unwrap();
    world
        .until("nothing is retained", async || world.retained().await == 0)
        .await;
    assert!(world.what_a_new_agent_runs().await.is_empty());
}

#[tokio::test]
async fn a_completed_execution_leaves_nothing_for_a_new_agent_to_run() {
    let world = World::new().await;
    world.job("backup").await;
    let agents = [world.agent("pc-1").await, world.agent("pc-2").await];
    let broadcast = world.fire("backup", json!({"all": true})).await;
    let single = world.fire("backup", json!({"pcs": ["pc-1", "pc-2"]})).await;
    for exec in [&broadcast, &single] {
        world.completed(exec).await;
    }
    world
        .until("nothing is retained", async || world.retained().await == 0)
        .await;
    for agent in &agents {
        let mut ran = agent.ran();
        ran.sort();
        let mut wanted = [broadcast.to_string(), single.to_string()];
        wanted.sort();
        assert_eq!(ran, wanted, "each once");
    }
    assert!(world.what_a_new_agent_runs().await.is_empty());
}

#[tokio::test]
async fn what_an_older_server_left_stays_until_somebody_kills_it() {
    let broker = Server::start().await;
    // As an older server has made it.
    drop(Nats::connect(broker.settings()).await.unwrap());
    let client = broker.stranger().await;
    let command = |exec: &str| {
        json!({
            "id": "backup", "version": "0.9", "request_id": Uuid::new_v4(), "exec_id": exec,
            "shell": "powershell", "script": "true", "timeout_secs": 60,
        })
    };
    for (pc, exec) in [("away-1", "old-1"), ("away-2", "old-2")] {
        let sent = client
            .request(format!("commands.pc.{pc}"), command(exec).to_string().into())
            .await;
        sent.unwrap();
    }
    let world = World::on(broker, Arc::default()).await;
    client.publish("kill.old-1", "".into()).await.unwrap();
    world
        .until("that is removed", async || world.retained().await == 1)
        .await;
    let agent = Agent::start(&world.url, "away-2").await;
    world
        .until("the other is run", async || agent.ran() == ["old-2"])
        .await;
    world
        .until("nothing is retained", async || world.retained().await == 0)
        .await;
}

#[tokio::test]
async fn what_a_crash_left_is_removed_by_the_next_server() {
    let broker = Server::start().await;
    let (url, store) = (broker.url(), Arc::new(MemoryStore::default()));
    let world = World::on(broker, Arc::clone(&store)).await;
    world.job("backup").await;
    let exec = world.fire("backup", json!({"pcs": ["away-1", "away-2"]})).await;
    let waits = world.fire("backup", json!({"pcs": ["away-3"]})).await;
    world.all_sent().await;
    let World {
        services,
        _running,
        _broker,
        ..
    } = world;
    drop(services);
    _running.stop(SOON).await;
    // Recorded, and then it ended.
    let kill = kanade_ports::Change::Kill {
        exec_id: exec,
        by: "operator".into(),
        at: SystemClock.now(),
    };
    store.apply(&[kanade_ports::ChangeSet::of(kill)]).await.unwrap();
    let world = World::on(_broker, store).await;
    world
        .until("only what waits is retained", async || {
            world.retained().await == 1
        })
        .await;
    let agent = Agent::start(&url, "away-3").await;
    world.completed(&waits).await;
    assert_eq!(agent.ran(), [waits.to_string()]);
}
