//! What a fleet costs one server: how long a thousand agents take to connect, what each takes of the server's memory, and
//! how long a kill takes to reach them. The server is a process of its own; the agents are simulated in this one, over
//! real sockets. `cargo xtask bench` prints the table.
//!
//! `KANADE_BENCH_AGENTS` and `KANADE_BENCH_KILLS` change the numbers.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../tests/processes/simulated.rs"]
mod simulated;
#[path = "../tests/processes/support.rs"]
mod support;

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kanade_client::Client;
use kanade_model::{FanoutPlan, Target};

use simulated::Simulated;
use support::{Place, text};

const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` asks for a list or a quick pass; there is none of a measurement.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let measured = runtime.block_on(measure(
        number("KANADE_BENCH_AGENTS", 1_000),
        number("KANADE_BENCH_KILLS", 20),
    ));
    print(&measured);
}

struct Measured {
    agents: usize,
    connected_in: Duration,
    bytes_per_agent: u64,
    /// From the request to the arrival at each agent, sorted.
    deliveries: Vec<Duration>,
}

async fn measure(agents: usize, kills: usize) -> Measured {
    let place = Place::without_agent(
        "sqlite",
        "sqlite",
        "[server]\nbind = '127.0.0.1:0'\n[kill]\nwindow = '1s'\n[log]\nlevel = 'warn,kanade=info'\n",
    );
    let server = place.serve();
    let job = place.write(
        "job.yaml",
        "id: job\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 5m\n  script: sleep 60\n",
    );
    server.ok(&["job", "apply", "-f", text(&job)]);
    let before = resident(server.pid());
    let begun = Instant::now();
    let fleet = Simulated::fleet(&server.url, agents).await;
    let connected_in = begun.elapsed();
    let bytes_per_agent = resident(server.pid()).saturating_sub(before) / agents as u64;

    let client = Client::new(&server.url, None).unwrap();
    let plan = FanoutPlan {
        target: Target {
            all: true,
            ..Target::default()
        },
        ..FanoutPlan::default()
    };
    let job = "job".parse().unwrap();
    until(async || client.agents().try_collect::<Vec<_>>().await.unwrap().len() == agents).await;
    let mut deliveries = Vec::new();
    for _ in 0..kills {
        let exec = client.fire(&job, &plan, None).await.unwrap().exec_id;
        until(async || fleet.iter().all(|agent| agent.has_command(&exec))).await;
        let asked = Instant::now();
        client.kill(&exec).await.unwrap();
        until(async || fleet.iter().all(|agent| agent.killed_at(&exec).is_some())).await;
        deliveries.extend(
            fleet
                .iter()
                .map(|agent| agent.killed_at(&exec).unwrap().duration_since(asked)),
        );
    }
    deliveries.sort_unstable();
    Measured {
        agents,
        connected_in,
        bytes_per_agent,
        deliveries,
    }
}

fn print(measured: &Measured) {
    let at = |part: f64| {
        let last = measured.deliveries.len() - 1;
        measured.deliveries[(last as f64 * part).round() as usize]
    };
    println!("| agents | connected in | memory of the server per agent | kill to delivery p50 | p99 | max |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {} | {:.2?} | {} KiB | {:.1?} | {:.1?} | {:.1?} |",
        measured.agents,
        measured.connected_in,
        measured.bytes_per_agent >> 10,
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

async fn until(holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
