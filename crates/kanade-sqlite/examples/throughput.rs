//! Measures how many changes of runs a second one writer makes durable, in batches as the committer sends them, and
//! how long lists of them take: `cargo run --release -p kanade-sqlite --example throughput [folder [executions]]`.
//! An execution has 5,000 runs.

use std::{env, path::PathBuf, time::Instant};

use kanade_conformance::sample;
use kanade_model::{EventStarted, ExecId, ExecResult, PcId, RequestId, ResultId, SendId, Timestamp};
use kanade_ports::{
    Addressee, Change, ChangeSet, ExecutionStore, Limits, NewExecution, NewTarget, RunFilter, RunQuery, Send,
    SendState, TextFilter,
};
use kanade_sqlite::Database;
use uuid::Uuid;

const AGENTS: usize = 5_000;
const BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let executions = env::args().nth(2).map_or(Ok(20), |text| text.parse())?;
    let folder = folder.join(format!("kanade-throughput-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let database = Database::open(&folder.join("kanade.db")).await?;
    let store = database.store();

    let (mut fired, mut started, mut finished) =
        (Rate::new("fires"), Rate::new("starts"), Rate::new("results"));
    for number in 0..executions {
        let new = execution(number)?;
        let runs: Vec<_> = new
            .targets
            .iter()
            .map(|target| (ResultId(Uuid::now_v7()), target.pc_id.clone(), target.request_id))
            .collect();
        let exec_id = new.exec_id.clone();
        fired
            .measure(AGENTS, store.apply(&[ChangeSet::of(Change::Fire(Box::new(new)))]))
            .await?;
        for (change, rate) in [
            (start as fn(&ExecId, _, usize) -> Change, &mut started),
            (finish, &mut finished),
        ] {
            // Agents answer in no order.
            for first in 0..AGENTS / BATCH {
                let sets: Vec<_> = (first..AGENTS)
                    .step_by(AGENTS / BATCH)
                    .map(|at| ChangeSet::of(change(&exec_id, &runs[at], number * AGENTS + at)))
                    .collect();
                rate.measure(sets.len(), store.apply(&sets)).await?;
            }
        }
    }
    for rate in [&fired, &started, &finished] {
        rate.report();
    }

    for (what, query) in questions(&*store).await? {
        // Once for what has to be read and prepared first.
        store.runs(&query).await?;
        let begun = Instant::now();
        let page = store.runs(&query).await?;
        println!("{what}: {} runs in {:?}", page.items.len(), begun.elapsed());
    }
    database.close().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

struct Rate {
    what: &'static str,
    changes: usize,
    seconds: f64,
}

impl Rate {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            changes: 0,
            seconds: 0.0,
        }
    }

    async fn measure<T, E>(
        &mut self,
        changes: usize,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(), E> {
        let begun = Instant::now();
        work.await?;
        self.seconds += begun.elapsed().as_secs_f64();
        self.changes += changes;
        Ok(())
    }

    fn report(&self) {
        let rate = self.changes as f64 / self.seconds;
        println!(
            "{}: {} in {:.2} s, {rate:.0} a second",
            self.what, self.changes, self.seconds
        );
    }
}

fn execution(number: usize) -> Result<NewExecution, Box<dyn std::error::Error>> {
    let exec_id = ExecId::from(Uuid::now_v7());
    let at = Timestamp::from_micros(1_750_000_000_000_000 + number as i64);
    let mut sends = Vec::new();
    let mut targets = Vec::new();
    for agent in 0..AGENTS {
        let pc_id: PcId = format!("pc-{agent:06}").parse()?;
        let send = Send {
            send_id: SendId(Uuid::now_v7()),
            exec_id: exec_id.clone(),
            to: Addressee::Pc(pc_id.clone()),
            request_id: RequestId(Uuid::now_v7()),
            wave: 0,
            due_at: at,
            state: SendState::Due,
        };
        targets.push(NewTarget {
            pc_id,
            send_id: send.send_id,
            request_id: send.request_id,
            wave: 0,
            due_at: at,
        });
        sends.push(send);
    }
    Ok(NewExecution {
        exec_id,
        initiated_by: "operator".into(),
        initiated_at: at,
        order: sample::order("backup", "true"),
        limits: Limits {
            start_within_secs: 600,
            run_within_secs: 60,
        },
        targets,
        sends,
        pace: kanade_ports::Pace::default(),
    })
}

type Run = (ResultId, PcId, RequestId);

fn start(exec_id: &ExecId, (result_id, pc_id, request_id): &Run, number: usize) -> Change {
    let event = EventStarted {
        result_id: *result_id,
        request_id: *request_id,
        exec_id: exec_id.clone(),
        pc_id: pc_id.clone(),
        started_at: moment(number),
        manifest_id: "backup".parse().expect("a job id"),
        version: "1.0.0".parse().expect("a version"),
    };
    let at = event.started_at;
    Change::RunStarted { event, at }
}

fn finish(exec_id: &ExecId, (result_id, pc_id, request_id): &Run, number: usize) -> Change {
    Change::RunFinished(Box::new(ExecResult {
        result_id: Some(*result_id),
        request_id: *request_id,
        exec_id: Some(exec_id.clone()),
        pc_id: pc_id.clone(),
        exit_code: i32::from(number.is_multiple_of(50)),
        stdout: "all is well\n".repeat(20),
        stderr: String::new(),
        started_at: moment(number),
        finished_at: moment(number + 1),
        manifest_id: Some("backup".parse().expect("a job id")),
        ended: None,
    }))
}

fn moment(number: usize) -> Timestamp {
    Timestamp::from_micros(1_750_000_000_000_000 + number as i64 * 1000)
}

async fn questions(
    store: &impl ExecutionStore,
) -> Result<Vec<(&'static str, RunQuery)>, Box<dyn std::error::Error>> {
    let newest = RunQuery {
        limit: 50,
        ..Default::default()
    };
    let one = store.runs(&newest).await?.items.remove(0).run;
    let exact = |text: &str| Some(TextFilter::Exact(text.to_owned()));
    let pattern = |text: &str| TextFilter::parse("text", text).map(Some);
    Ok(vec![
        ("newest", newest.clone()),
        (
            "newest 1,000 with output",
            RunQuery {
                limit: 1000,
                with_output: true,
                ..newest.clone()
            },
        ),
        (
            "failures of an execution",
            RunQuery {
                exec_id: one.exec_id.as_ref().and_then(|id| exact(id.as_str())),
                status: Some(RunFilter::Failure),
                ..newest.clone()
            },
        ),
        (
            "failures of a job",
            RunQuery {
                job_id: exact("backup"),
                status: Some(RunFilter::Failure),
                ..newest.clone()
            },
        ),
        (
            "failures of one agent",
            RunQuery {
                pc_id: exact(one.pc_id.as_str()),
                status: Some(RunFilter::Failure),
                ..newest.clone()
            },
        ),
        (
            "one agent",
            RunQuery {
                pc_id: exact(one.pc_id.as_str()),
                ..newest.clone()
            },
        ),
        (
            "agents like nothing",
            RunQuery {
                pc_id: pattern("no-such.agent")?,
                ..newest.clone()
            },
        ),
        (
            "outputs like nothing",
            RunQuery {
                stdout: pattern("no such.output")?,
                ..newest
            },
        ),
    ])
}
