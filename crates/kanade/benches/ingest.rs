//! How fast results of 1 KB get from JetStream into the store. They wait on the broker when the server starts; each is
//! committed before it is acknowledged. The server and the broker are processes of their own.
//!
//! `KANADE_BENCH_RESULTS` and `KANADE_BENCH_STORE` (`sqlite`, `redb`) change what is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]
#![expect(dead_code, reason = "the tests use more of this module")]

#[path = "../tests/processes/support.rs"]
mod support;

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use futures::StreamExt;
use kanade_nats_testing::Server as Broker;
use kanade_ports::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

use support::{Place, Server};

/// Agents of each execution.
const AGENTS: usize = 1_000;
/// Bytes of each result as it is sent.
const BYTES: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(600);
/// Publications that wait for their acknowledgement.
const ON_THEIR_WAY: usize = 1_000;

fn main() {
    // `cargo test --benches` asks for a list or a quick pass; there is none of a measurement.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let results = std::env::var("KANADE_BENCH_RESULTS").map_or(100_000, |results| results.parse().unwrap());
    let store = std::env::var("KANADE_BENCH_STORE").unwrap_or_else(|_| "sqlite".into());
    runtime.block_on(measure(results, &store));
}

async fn measure(results: usize, store: &str) {
    let broker = Broker::start().await;
    let more = format!(
        "[bus]\nkind = 'nats'\n[nats]\nurl = '{}'\n[server]\nbind = '127.0.0.1:0'\n[log]\nlevel = 'warn,kanade=info'\n",
        broker.url()
    );
    let place = Place::without_agent(store, "nats", &more);
    let jetstream = jetstream::new(broker.stranger().await);
    let server = place.serve();
    let commands = fire(&server, &broker, results.div_ceil(AGENTS)).await;
    assert_eq!(server.stop(), Some(0));
    publish(&jetstream, &commands[..results]).await;

    let server = place.serve();
    let begun = Instant::now();
    drained(&jetstream).await;
    let took = begun.elapsed();
    recorded(&server, results).await;
    let rate = results as f64 / took.as_secs_f64();
    println!("ingest into {store}: {results} results of {BYTES} bytes in {took:.2?}, {rate:.0} a second");
}

/// Fires at a thousand agents that nobody knows, and gives the Commands with whom each is for.
async fn fire(server: &Server, broker: &Broker, executions: usize) -> Vec<(String, Value)> {
    let client = reqwest::Client::new();
    let job =
        json!({"id": "job", "version": "1", "execute": {"shell": "sh", "script": "true", "timeout": "30s"}});
    let stored = client
        .post(format!("{}/api/jobs", server.url))
        .json(&job)
        .send()
        .await;
    assert!(stored.unwrap().status().is_success());
    let listener = broker.stranger().await;
    let mut sent = listener.subscribe("commands.pc.*").await.unwrap();
    listener.flush().await.unwrap();
    let pcs: Vec<String> = (0..AGENTS).map(|number| format!("pc-{number:04}")).collect();
    let plan = json!({"target": {"pcs": pcs}});
    let mut commands = Vec::new();
    for _ in 0..executions {
        let fired = client
            .post(format!("{}/api/exec/job", server.url))
            .json(&plan)
            .send()
            .await;
        assert!(fired.unwrap().status().is_success());
        for _ in 0..AGENTS {
            let message = tokio::time::timeout(PATIENCE, sent.next())
                .await
                .unwrap()
                .unwrap();
            let pc = message.subject.strip_prefix("commands.pc.").unwrap().to_owned();
            commands.push((pc, serde_json::from_slice(&message.payload).unwrap()));
        }
    }
    commands
}

async fn publish(jetstream: &Context, commands: &[(String, Value)]) {
    let mut on_their_way = std::collections::VecDeque::new();
    for (pc, command) in commands {
        let at = SystemClock.now().to_string();
        let request = command["request_id"].as_str().unwrap();
        let mut result = json!({
            "result_id": Uuid::new_v4(), "request_id": request, "exec_id": command["exec_id"], "pc_id": pc,
            "exit_code": 0, "stdout": "", "stderr": "", "started_at": at, "finished_at": at, "manifest_id": "job",
        });
        let room = BYTES.saturating_sub(result.to_string().len());
        result["stdout"] = json!("x".repeat(room));
        let publish = jetstream.publish(format!("results.{request}"), result.to_string().into());
        on_their_way.push_back(publish.await.unwrap());
        if on_their_way.len() == ON_THEIR_WAY {
            on_their_way.pop_front().unwrap().await.unwrap();
        }
    }
    for kept in on_their_way {
        kept.await.unwrap();
    }
}

/// Until the server has acknowledged everything.
async fn drained(jetstream: &Context) {
    let begun = Instant::now();
    let stream = jetstream.get_stream("RESULTS").await.unwrap();
    loop {
        let consumer = stream.consumer_info("backend_results_projector").await.unwrap();
        if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{consumer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What was acknowledged is in the store.
async fn recorded(server: &Server, results: usize) {
    let mut counted = 0;
    let mut next = Some("/api/executions?limit=1000".to_owned());
    while let Some(path) = next {
        let page = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
        next = page.headers().get("link").map(|link| {
            let (_, rest) = link.to_str().unwrap().split_once('<').unwrap();
            rest.split_once('>').unwrap().0.to_owned()
        });
        let executions: Vec<Value> = page.json().await.unwrap();
        let succeeded = executions
            .iter()
            .filter_map(|execution| execution["success_count"].as_u64());
        counted += succeeded.sum::<u64>();
    }
    assert_eq!(counted, results as u64);
}
