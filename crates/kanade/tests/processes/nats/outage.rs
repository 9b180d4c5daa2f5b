//! The broker restarts, the server is killed, both at once, in the middle of a thousand fires and ten thousand results:
//! nothing is lost, nothing happens twice, and nobody has to do anything about it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::{Deployment, done, get, old_agent::OldAgent, soon, within};
use crate::support::Server;

const AGENTS: usize = 10;
const FIRES: usize = 1_000;
const AT_ONCE: usize = 8;
/// Of all fires, what was answered when the trouble begins.
const IN_THE_MIDDLE: usize = FIRES / 3;
/// What may take long on a busy machine: every execution to its end.
const LONG: Duration = Duration::from_secs(240);

/// Where the server is at the moment; `None` while it is away.
type Address = Arc<Mutex<Option<String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_loses_and_doubles_nothing() {
    Trouble::new().await.survive(true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_and_doubles_nothing() {
    Trouble::new().await.survive(false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_at_once_lose_and_double_nothing() {
    Trouble::new().await.survive(true, true).await;
}

struct Trouble {
    deployment: Deployment,
    server: Server,
    agents: Vec<OldAgent>,
    address: Address,
    answered: Arc<AtomicUsize>,
}

impl Trouble {
    async fn new() -> Self {
        let deployment = Deployment::new().await;
        let server = deployment.place.serve();
        let job = json!({"id": "job", "version": "1.0.0", "execute": {"shell": "powershell", "script": "hostname",
            "timeout": "30s"}});
        done(&server, "/api/jobs", &job).await;
        let url = deployment.broker.url();
        let mut agents = Vec::new();
        for number in 0..AGENTS {
            agents.push(OldAgent::start(&url, &format!("pc-{number}")).await);
        }
        soon("every agent is known", async || {
            get(&server, "/api/agents").await.as_array().unwrap().len() == AGENTS
        })
        .await;
        Self {
            address: Arc::new(Mutex::new(Some(server.url.clone()))),
            deployment,
            server,
            agents,
            answered: Arc::default(),
        }
    }

    async fn survive(mut self, broker: bool, server: bool) {
        let firing: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let (address, answered) = (Arc::clone(&self.address), Arc::clone(&self.answered));
                tokio::spawn(fire(worker, address, answered))
            })
            .collect();
        let answered = Arc::clone(&self.answered);
        within(LONG, "a third is fired", &mut async || {
            answered.load(Ordering::SeqCst) >= IN_THE_MIDDLE
        })
        .await;
        let mut running = Some(self.server);
        if server {
            *self.address.lock().unwrap() = None;
            if let Some(server) = running.take() {
                server.crash();
            }
        }
        if broker {
            self.deployment.broker.restart(async || {}).await;
        }
        let server = running.unwrap_or_else(|| {
            let server = self.deployment.place.serve();
            *self.address.lock().unwrap() = Some(server.url.clone());
            server
        });
        let mut fired = BTreeSet::new();
        for worker in firing {
            fired.extend(worker.await.unwrap());
        }
        assert_eq!(fired.len(), FIRES, "each request fired once");
        within(LONG, "everything has ended", &mut async || {
            let open = get(&server, "/api/executions?limit=1&status=running").await;
            let waiting = get(&server, "/api/executions?limit=1&status=pending").await;
            open == json!([]) && waiting == json!([])
        })
        .await;
        all_ended_well(&server, &fired).await;
        for agent in &self.agents {
            let runs = agent.runs();
            assert_eq!(runs.len(), FIRES, "every Command has arrived");
            let twice: Vec<_> = runs.iter().filter(|(_, count)| **count != 1).collect();
            assert!(twice.is_empty(), "run more than once: {twice:?}");
        }
    }
}

/// Fires its share, each request again with the same key until it is answered.
async fn fire(worker: usize, address: Address, answered: Arc<AtomicUsize>) -> Vec<String> {
    let client = Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let pcs: Vec<String> = (0..AGENTS).map(|number| format!("pc-{number}")).collect();
    let plan = json!({"target": {"pcs": pcs}});
    let mut fired = Vec::new();
    for number in 0..FIRES / AT_ONCE {
        fired.push(loop {
            let url = address.lock().unwrap().clone();
            if let Some(url) = url {
                let request = client
                    .post(format!("{url}/api/exec/job"))
                    .header("Idempotency-Key", format!("{worker}-{number}"));
                match request.json(&plan).send().await {
                    Ok(response) if response.status() == StatusCode::OK => {
                        if let Ok(fired) = response.json::<Value>().await {
                            break fired["exec_id"].as_str().unwrap().to_owned();
                        }
                    }
                    Ok(response) => assert!(response.status().is_server_error(), "{response:?}"),
                    // It is away.
                    Err(_) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        answered.fetch_add(1, Ordering::SeqCst);
    }
    fired
}

async fn all_ended_well(server: &Server, fired: &BTreeSet<String>) {
    let executions = get(server, "/api/executions?limit=1000").await;
    let executions = executions.as_array().unwrap();
    assert_eq!(executions.len(), FIRES);
    for execution in executions {
        assert!(
            fired.contains(execution["exec_id"].as_str().unwrap()),
            "{execution}"
        );
        assert_eq!(execution["status"], "completed", "{execution}");
        assert_eq!(execution["success_count"], AGENTS, "{execution}");
        assert_eq!(execution["target_count"], AGENTS, "{execution}");
    }
    for exec in fired {
        let detail = get(server, &format!("/api/executions/{exec}")).await;
        assert_eq!(detail["results"].as_array().unwrap().len(), AGENTS, "{detail}");
    }
}
