//! Crashes: rounds of concurrent fires, kills and results, each ended by SIGKILL at a random moment. What was answered
//! is there, counts are right, what is owed is sent, everything ends.
//!
//! `KANADE_TEST_SEED` repeats a run's choices, `KANADE_TEST_CRASH_ROUNDS` sets the number of rounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{DEADLINE, Place, Server};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const ROUNDS: usize = 100;
const WORKERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_what_was_answered() {
    crash_again_and_again("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_keeps_what_was_answered() {
    crash_again_and_again("redb").await;
}

/// What the server answered 2xx to.
#[derive(Default)]
struct Answered {
    fired: BTreeSet<String>,
    killed: BTreeSet<String>,
    /// Idempotency key → what it fired.
    keys: BTreeMap<String, String>,
}

async fn crash_again_and_again(kind: &str) {
    let seed =
        std::env::var("KANADE_TEST_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    let rounds = std::env::var("KANADE_TEST_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    println!("{kind}: {rounds} rounds; KANADE_TEST_SEED={seed} repeats the choices of this run");
    let mut rng = StdRng::seed_from_u64(seed);
    let place = Place::with(
        kind,
        kind,
        "[kill]\nrepeat = '500ms'\nwindow = '3s'\n[log]\nlevel = 'info,kanade=info'\n",
    );
    let answered = Arc::new(Mutex::new(Answered::default()));

    for round in 0..rounds {
        let server = place.serve();
        let api = Api::of(&server);
        if round == 0 {
            api.prepare().await;
        } else {
            api.has_everything(&answered).await;
        }
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (api, answered) = (api.clone(), Arc::clone(&answered));
                let rng = StdRng::seed_from_u64(rng.random());
                tokio::spawn(async move { api.work(rng, &format!("{round}-{worker}"), &answered).await })
            })
            .collect();
        // The moment of the crash is the point of this test, not a wait for something.
        let moment = Duration::from_millis(rng.random_range(20..400));
        tokio::time::sleep(moment).await;
        server.crash();
        for worker in workers {
            worker.await.unwrap();
        }
    }

    let server = place.serve();
    let api = Api::of(&server);
    api.has_everything(&answered).await;
    api.everything_ends().await;
    let counted = api.counts_are_right().await;
    let answered = answered.lock().unwrap();
    println!(
        "{kind}: {} fires and {} kills answered over {rounds} crashes, {counted} executions recounted",
        answered.fired.len(),
        answered.killed.len()
    );
    assert!(answered.fired.len() >= rounds, "the rounds did some work");
    assert_eq!(server.stop(), Some(0));
}

#[derive(Clone)]
struct Api {
    url: String,
    client: Client,
}

impl Api {
    fn of(server: &Server) -> Self {
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            url: server.url.clone(),
            client,
        }
    }

    async fn prepare(&self) {
        let job = json!({"id": "quick", "version": "1.0.0",
            "execute": {"shell": "sh", "script": "echo done", "timeout": "30s"}});
        assert_eq!(
            self.post("/api/jobs", &job).await.unwrap().status(),
            StatusCode::OK
        );
        let groups = json!({"groups": ["one"]});
        let put = self
            .client
            .put(format!("{}/api/agents/agent-1/groups", self.url))
            .json(&groups);
        assert!(put.send().await.unwrap().status().is_success());
        let config = json!({"heartbeat_interval": "200ms"});
        let put = self.client.put(format!("{}/api/config", self.url)).json(&config);
        assert!(put.send().await.unwrap().status().is_success());
    }

    /// Fires and kills until the server is gone.
    async fn work(&self, mut rng: StdRng, name: &str, answered: &Mutex<Answered>) {
        for number in 0.. {
            let plan = match rng.random_range(0..4) {
                // A wave that is due after many of the crashes.
                0 => json!({"rollout": {"strategy": "wave", "waves": [
                    {"group": "one", "delay": format!("{}ms", rng.random_range(1..2000))}]}}),
                _ => json!({"target": {"pcs": ["agent-1"]}}),
            };
            let key = format!("{name}-{number}");
            let fire = self
                .client
                .post(format!("{}/api/exec/quick", self.url))
                .header("Idempotency-Key", &key);
            let Ok(response) = fire.json(&plan).send().await else {
                return;
            };
            assert_eq!(response.status(), StatusCode::OK);
            let Ok(fired) = response.json::<Value>().await else {
                return;
            };
            let exec = fired["exec_id"].as_str().unwrap().to_owned();
            {
                let mut answered = answered.lock().unwrap();
                answered.fired.insert(exec.clone());
                answered.keys.insert(key, exec.clone());
            }
            if rng.random_range(0..5) == 0 {
                let Ok(response) = self
                    .post(&format!("/api/executions/{exec}/kill"), &json!({}))
                    .await
                else {
                    return;
                };
                assert_eq!(response.status(), StatusCode::NO_CONTENT);
                answered.lock().unwrap().killed.insert(exec);
            }
        }
    }

    async fn has_everything(&self, answered: &Mutex<Answered>) {
        let known: BTreeMap<String, Value> = self
            .executions("")
            .await
            .into_iter()
            .map(|execution| (string(&execution["exec_id"]), execution))
            .collect();
        let (fired, killed, last) = {
            let answered = answered.lock().unwrap();
            (
                answered.fired.clone(),
                answered.killed.clone(),
                answered.keys.iter().next_back().map(owned),
            )
        };
        let missing: Vec<&String> = fired.iter().filter(|exec| !known.contains_key(*exec)).collect();
        assert!(missing.is_empty(), "answered and gone: {missing:?}");
        for exec in killed {
            let execution = &known[&exec];
            let ended = execution["status"] == "completed";
            assert!(
                ended || !execution["killed_at"].is_null(),
                "the kill is gone: {execution}"
            );
        }
        if let Some((key, exec)) = last {
            let fire = self
                .client
                .post(format!("{}/api/exec/quick", self.url))
                .header("Idempotency-Key", &key);
            let response = fire
                .json(&json!({"target": {"pcs": ["agent-1"]}}))
                .send()
                .await
                .unwrap();
            match response.status() {
                StatusCode::OK => {
                    assert_eq!(response.json::<Value>().await.unwrap()["exec_id"], exec.as_str());
                }
                // The key was used for a plan with waves.
                status => assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY),
            }
        }
    }

    async fn everything_ends(&self) {
        let ended = async {
            for status in ["pending", "running", "expired"] {
                while !self.executions(&format!("&status={status}")).await.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        if tokio::time::timeout(3 * DEADLINE, ended).await.is_err() {
            let mut open = self.executions("&status=running").await;
            open.extend(self.executions("&status=pending").await);
            panic!(
                "{} executions have no end, such as {:#?}",
                open.len(),
                open.first()
            );
        }
    }

    /// Compares the counts of every execution with its targets and its runs.
    async fn counts_are_right(&self) -> usize {
        let executions = self.executions("").await;
        for execution in &executions {
            let exec = string(&execution["exec_id"]);
            let targets = self
                .get(&format!("/api/executions/{exec}/targets?limit=1000"))
                .await;
            let targets: Vec<Value> = targets.json().await.unwrap();
            let mut counted = BTreeMap::<String, u64>::new();
            for target in &targets {
                *counted.entry(string(&target["state"])).or_default() += 1;
            }
            let recorded: BTreeMap<String, u64> =
                serde_json::from_value(execution["targets"].clone()).unwrap();
            assert_eq!(recorded, counted, "{execution}");
            assert_eq!(execution["target_count"], targets.len());
            assert_eq!(
                execution["success_count"],
                counted.get("succeeded").copied().unwrap_or(0)
            );
            let detail: Value = self
                .get(&format!("/api/executions/{exec}"))
                .await
                .json()
                .await
                .unwrap();
            let succeeded = detail["results"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|run| run["exit_code"] == 0)
                .count();
            assert!(succeeded <= 1, "it ran more than once: {detail}");
            assert_eq!(execution["success_count"], succeeded, "{detail}");
        }
        executions.len()
    }

    async fn executions(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut next = Some(format!("/api/executions?limit=1000{filter}"));
        while let Some(path) = next {
            let response = self.get(&path).await;
            next = response.headers().get("link").map(|link| {
                let link = link.to_str().unwrap();
                link.split_once('<')
                    .unwrap()
                    .1
                    .split_once('>')
                    .unwrap()
                    .0
                    .to_owned()
            });
            all.extend(response.json::<Vec<Value>>().await.unwrap());
        }
        all
    }

    async fn get(&self, path: &str) -> Response {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        self.client
            .post(format!("{}{path}", self.url))
            .json(body)
            .send()
            .await
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn owned((key, exec): (&String, &String)) -> (String, String) {
    (key.clone(), exec.clone())
}
