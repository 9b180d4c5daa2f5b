//! Our agent on a broker, with the rights of `config/nats-server.conf` and no more: the main job, and what it has missed
//! while it was away.

use std::time::Duration;

use kanade_nats_testing::{Server as NatsServer, roles};
use serde_json::{Value, json};

use super::{done, get, post, soon};
use crate::{
    live::a_run_is_followed,
    support::{Host, Place, Process, Server, text},
};

struct Fleet {
    broker: NatsServer,
    place: Place,
}

impl Fleet {
    async fn new() -> Self {
        let broker = roles::broker(roles::CONFIGURATION).await;
        let more = format!(
            "[bus]\nkind = 'nats'\n[nats]\nurl = '{}'\nuser = 'kanade-server'\npassword = '{}'\n\
             [server]\nbind = '127.0.0.1:0'\n[execution]\nresend_after = '1s'\n[kill]\nrepeat = '500ms'\n",
            broker.url(),
            roles::SERVER,
        );
        let place = Place::without_agent("sqlite", "nats", &more);
        let agent = format!("[nats]\nuser = 'agent-web-1'\npassword = '{}'\n", roles::OTHERS);
        place.write("agent.toml", &agent);
        Self { broker, place }
    }

    fn agent(&self) -> Process {
        let (config, data) = (self.place.path("agent.toml"), self.place.path("agent"));
        let mut command = Host::default().kanade();
        command.args(["agent", "--config", text(&config), "--data", text(&data)]);
        command.args(["--id", "web-1", "--server", &self.broker.url()]);
        Process::start(command, |_| {})
    }

    /// Registers a job whose script is this, run in the folder of the fleet.
    async fn job(&self, server: &Server, id: &str, script: &str) {
        let script = format!("cd '{}' && {script}", text(&self.place.path("")));
        let manifest = json!({
            "id": id, "version": "1.0.0", "execute": {"shell": "sh", "script": script, "timeout": "10m"},
        });
        done(server, "/api/jobs", &manifest).await;
    }
}

async fn fire(server: &Server, job: &str) -> String {
    let fired = done(
        server,
        &format!("/api/exec/{job}"),
        &json!({"target": {"pcs": ["web-1"]}}),
    )
    .await;
    fired["exec_id"].as_str().unwrap().to_owned()
}

async fn status(server: &Server, exec: &str) -> Value {
    get(server, &format!("/api/executions/{exec}")).await["execution"]["status"].clone()
}

async fn until_completed(server: &Server, exec: &str) {
    soon("an execution is completed", async || {
        status(server, exec).await == "completed"
    })
    .await;
}

fn lines(fleet: &Fleet, name: &str) -> usize {
    let text = std::fs::read_to_string(fleet.place.path(name)).unwrap_or_default();
    text.lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_its_own_rights_does_the_main_job_and_catches_up() {
    let fleet = Fleet::new().await;
    let server = fleet.place.serve();
    let agent = fleet.agent();
    soon("the agent is seen", async || {
        !get(&server, "/api/agents").await.as_array().unwrap().is_empty()
    })
    .await;
    fleet.job(&server, "count", "echo run >> runs").await;
    let exec = fire(&server, "count").await;
    until_completed(&server, &exec).await;
    assert_eq!(lines(&fleet, "runs"), 1);

    fleet.job(&server, "long", "echo $$ > pid; sleep 600").await;
    let exec = fire(&server, "long").await;
    soon("the script runs", async || lines(&fleet, "pid") == 1).await;
    let killed = post(&server, "/api/jobs/long/kill", &Value::Null).await;
    assert!(killed.status().is_success());
    soon("the execution is killed", async || {
        status(&server, &exec).await == "killed"
    })
    .await;

    let logs = reqwest::get(format!("{}/api/agents/web-1/logs?tail=50", server.url)).await;
    let logs = logs.unwrap().text().await.unwrap();
    assert!(logs.contains("the agent listens"), "{logs}");
    done(&server, "/api/agents/web-1/ping", &Value::Null).await;

    // What is fired while the agent is away is kept by the broker, and comes though the server is away then.
    assert_eq!(agent.stop(), Some(0));
    let exec = fire(&server, "count").await;
    assert_eq!(server.stop(), Some(0));
    let _agent = fleet.agent();
    soon("what was missed is run", async || lines(&fleet, "runs") == 2).await;
    let server = fleet.place.serve();
    until_completed(&server, &exec).await;
    assert_eq!(lines(&fleet, "runs"), 2, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_prints_is_told_while_it_runs() {
    let fleet = Fleet::new().await;
    let server = fleet.place.serve();
    let _agent = fleet.agent();
    tokio::task::block_in_place(|| a_run_is_followed(&server, &fleet.place, "web-1"));
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_an_agent_and_its_groups_are_followed() {
    let fleet = Fleet::new().await;
    let server = fleet.place.serve();
    let _agent = fleet.agent();
    let seen = async || {
        let agents = get(&server, "/api/agents").await;
        agents[0]["last_heartbeat"].as_str().map(str::to_owned)
    };
    soon("the agent is seen", async || seen().await.is_some()).await;
    // Of a group that it joins later; the built-in interval is half a minute.
    let client = reqwest::Client::new();
    let put = async |path: &str, body: Value| {
        let sent = client
            .put(format!("{}{path}", server.url))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success(), "{path}: {sent:?}");
    };
    put("/api/groups/web/config", json!({"heartbeat_interval": "200ms"})).await;
    put("/api/agents/web-1/groups", json!({"groups": ["web"]})).await;
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        let before = seen().await;
        soon("another heartbeat comes", async || seen().await != before).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(29), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_its_own_rights_updates_itself_from_the_broker() {
    let fleet = Fleet::new().await;
    let server = fleet.place.serve();
    std::fs::create_dir(fleet.place.path("bin")).unwrap();
    let (real, program) = (env!("CARGO_BIN_EXE_kanade"), fleet.place.path("bin/kanade"));
    std::fs::copy(real, &program).unwrap();
    let (config, data) = (fleet.place.path("agent.toml"), fleet.place.path("agent"));
    let mut command = Host::default().program(&program);
    command.args(["agent", "--config", text(&config), "--data", text(&data)]);
    command.args(["--id", "web-1", "--server", &fleet.broker.url()]);
    command.args(["--program", text(&program)]);
    let _agent = Process::start(command, |_| {});
    let version = async || get(&server, "/api/agents").await[0]["agent_version"].clone();
    soon("the agent is seen", async || version().await.is_string()).await;

    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo kanade 9.9.9; exit; fi\n\
         KANADE_AGENT_VERSION=9.9.9 exec {real} \"$@\"\n"
    );
    let file = fleet.place.write("kanade-9.9.9", &script);
    server.ok(&["agent", "publish", text(&file), "--version", "9.9.9"]);
    server.ok(&["agent", "rollout", "9.9.9", "--global"]);
    soon("the agent is of the new version", async || {
        version().await == "9.9.9"
    })
    .await;
    assert_eq!(std::fs::read_to_string(&program).unwrap(), script);
    fleet.job(&server, "count", "echo run >> runs").await;
    let exec = fire(&server, "count").await;
    until_completed(&server, &exec).await;
    assert_eq!(lines(&fleet, "runs"), 1);
}
