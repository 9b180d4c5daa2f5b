//! How long writes wait while retention removes a million runs: results come in over the bus at a steady rate, and each is
//! timed from when it is handed over until it is durably committed and acknowledged.
//!
//! `KANADE_BENCH_RUNS`, `KANADE_BENCH_RATE` (results a second) and `KANADE_BENCH_STORE` (`sqlite`, `redb`) change what is
//! measured.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kanade_conformance::sample;
use kanade_core::{Abilities, Ports, Services, Settings};
use kanade_memory::{EmbeddedBus, MemoryCatalog};
use kanade_model::{ExecId, ExecResult, PcId, RequestId, ResultId, SendId, Subject, Timestamp};
use kanade_ports::{
    Addressee, Change, ChangeSet, Clock, ExecutionStore, Limits, MessageId, NewExecution, NewTarget, Pace,
    PubSub, RetentionCut, Send, SendState, SystemClock, SystemIds,
};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Runs of each execution.
const RUNS: usize = 100;
/// Change-sets in one commit while the old runs are written.
const TOGETHER: usize = 1_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() {
    // `cargo test --benches` asks for a list or a quick pass; there is none of a measurement.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = std::env::var("KANADE_BENCH_STORE").unwrap_or_else(|_| "sqlite".into());
    runtime.block_on(measure(
        &store,
        number("KANADE_BENCH_RUNS", 1_000_000),
        number("KANADE_BENCH_RATE", 500),
    ));
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}

async fn measure(kind: &str, runs: usize, rate: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(kind, folder.path()).await;
    let begun = Instant::now();
    let now = SystemClock.now();
    write_old(&*store, now.minus(DAY * 100), runs.div_ceil(RUNS)).await;
    println!("{kind}: {runs} old runs written in {:.1?}", begun.elapsed());

    let bus = EmbeddedBus::new();
    let ports = Ports {
        store: Arc::clone(&store),
        catalog: Arc::new(MemoryCatalog::new()),
        bus: Arc::new(bus.clone()),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        abilities: Abilities::default(),
    };
    let begun = Instant::now();
    let (services, running) = Services::start(ports, Settings::default()).await;
    let (mut waits, mut pruned) = (Vec::new(), None);
    let (mut writes, mut number) = (JoinSet::new(), 0);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    let mut look = tokio::time::interval(Duration::from_millis(500));
    while pruned.is_none() {
        tokio::select! {
            _ = tick.tick() => {
                number += 1;
                let bus = bus.clone();
                writes.spawn(async move { write_one(&bus, number).await });
            }
            Some(waited) = writes.join_next() => waits.push(waited.unwrap()),
            _ = look.tick() => {
                let cut = everything_before(now.minus(DAY * 90));
                if store.prunable(&cut, 1).await.unwrap().is_empty() {
                    pruned = Some(begun.elapsed());
                }
            }
        }
    }
    while let Some(waited) = writes.join_next().await {
        waits.push(waited.unwrap());
    }
    let took = pruned.unwrap();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{kind}: {runs} runs pruned in {took:.1?} while {} results came, {:.0} a second",
        waits.len(),
        waits.len() as f64 / took.as_secs_f64()
    );
    println!(
        "{kind}: a result waited for its commit {:.1?} (half), {:.1?} (99 %), {:.1?} (99.9 %), {:.1?} (the longest)",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    drop(services);
    running.stop(Duration::from_secs(10)).await;
}

async fn open(kind: &str, folder: &Path) -> Arc<dyn ExecutionStore> {
    match kind {
        "sqlite" => {
            let database = kanade_sqlite::Database::open(&folder.join("bench.db"))
                .await
                .unwrap();
            database.store()
        }
        "redb" => {
            let database = kanade_redb::Database::open(&folder.join("bench.redb")).unwrap();
            database.store()
        }
        other => panic!("KANADE_BENCH_STORE={other}: sqlite or redb is wanted"),
    }
}

fn everything_before(at: Timestamp) -> RetentionCut {
    RetentionCut {
        executions: at,
        audit: at,
        keys: at,
        slots: at,
    }
}

/// Executions of a hundred runs each, all over at that time.
async fn write_old(store: &dyn ExecutionStore, at: Timestamp, executions: usize) {
    let mut sets = Vec::new();
    for number in 0..executions {
        let exec_id: ExecId = format!("old-{number:06}").parse().unwrap();
        let pcs: Vec<PcId> = (0..RUNS)
            .map(|pc| format!("pc-{pc:03}").parse().unwrap())
            .collect();
        sets.push(ChangeSet::of(Change::Fire(Box::new(firing(&exec_id, at, &pcs)))));
        for pc in pcs {
            let result = result(Some(exec_id.clone()), pc, at);
            sets.push(ChangeSet::of(Change::RunFinished(Box::new(result))));
        }
        if sets.len() >= TOGETHER || number + 1 == executions {
            store.apply(&sets).await.unwrap();
            sets.clear();
        }
    }
}

fn firing(exec_id: &ExecId, at: Timestamp, pcs: &[PcId]) -> NewExecution {
    let (mut targets, mut sends) = (Vec::new(), Vec::new());
    for pc in pcs {
        let (send_id, request_id) = (SendId(Uuid::now_v7()), RequestId(Uuid::new_v4()));
        targets.push(NewTarget {
            pc_id: pc.clone(),
            send_id,
            request_id,
            wave: 0,
            due_at: at,
        });
        sends.push(Send {
            send_id,
            exec_id: exec_id.clone(),
            to: Addressee::Pc(pc.clone()),
            request_id,
            wave: 0,
            due_at: at,
            state: SendState::Sent,
        });
    }
    NewExecution {
        exec_id: exec_id.clone(),
        initiated_by: "bench".into(),
        initiated_at: at,
        order: sample::order("job", "true"),
        limits: Limits {
            start_within_secs: 3600,
            run_within_secs: 3600,
        },
        targets,
        sends,
        pace: Pace::default(),
    }
}

/// A result of about a kilobyte.
fn result(exec_id: Option<ExecId>, pc_id: PcId, at: Timestamp) -> ExecResult {
    ExecResult {
        result_id: Some(ResultId(Uuid::now_v7())),
        request_id: RequestId(Uuid::new_v4()),
        exec_id,
        pc_id,
        exit_code: 0,
        stdout: "x".repeat(700),
        stderr: String::new(),
        started_at: at,
        finished_at: at,
        manifest_id: Some("job".parse().unwrap()),
        ended: None,
    }
}

/// Hands over one result and says how long its commit took.
async fn write_one(bus: &EmbeddedBus, number: usize) -> Duration {
    let result = result(
        None,
        format!("pc-{:03}", number % 1000).parse().unwrap(),
        SystemClock.now(),
    );
    let payload = Bytes::from(serde_json::to_vec(&result).unwrap());
    let subject = Subject::result(result.request_id);
    let begun = Instant::now();
    bus.publish_durable(&subject, payload, MessageId(number.to_string()))
        .await
        .unwrap();
    begun.elapsed()
}
