//! The kanade binary: server, demo and operator commands. Reads the configuration, picks the backends, runs.

mod agent;
mod cli;
mod config;
mod demo;
mod deployment;
mod doctor;
mod import;
mod logging;
mod server;
mod signals;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{agent::AgentProcess, config::Config, demo::Demo, server::Server, signals::Signals};

/// What blocks a thread at the end gets this long.
const LAST_WORK: Duration = Duration::from_millis(500);

/// Runs jobs on a fleet of machines, and stops what must stop.
#[derive(Debug, Parser)]
#[command(name = "kanade", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    #[command(after_help = "Example:\n  kanade serve --config config/single-node.toml")]
    Serve {
        /// The configuration; defaults without it
        #[arg(long, value_name = "FILE", env = "KANADE_CONFIG")]
        config: Option<PathBuf>,
        /// Nothing from before this server counts: schedules that are held until the records of an earlier one are
        /// imported fire, also where their jobs have succeeded. Noted for good
        #[arg(long)]
        start_fresh: bool,
    },
    Demo(Demo),
    Agent(Agent),
    #[command(flatten)]
    Operator(cli::Operator),
}

/// Run an agent on this machine, or look at agents
///
/// Without a command: runs scripts that the server sends, until it is stopped. It connects to the server over a
/// WebSocket, or to the broker that the server uses, again and again when the connection is lost; what it has to report
/// waits on its disk. When the configuration names another version (`kanade agent rollout`), it replaces its program with
/// that release and goes on as it; one that does not come up is replaced with the one before.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  kanade agent --server http://127.0.0.1:8080\n  \
                  kanade agent --server https://fleet.example:8443 --token-file /etc/kanade/agent.token --ca ca.pem\n  \
                  kanade agent --server nats://broker.example:4222 --config agent.toml\n  \
                  kanade agent list"
)]
struct Agent {
    #[command(flatten)]
    process: AgentProcess,
    #[command(subcommand)]
    command: Option<cli::AgentCommand>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Serve { config, start_fresh } => serve(config.as_deref(), start_fresh),
        Command::Demo(demo) => run_demo(demo),
        Command::Agent(Agent {
            process,
            command: None,
        }) => agent::main(&process, &arguments.global),
        Command::Agent(Agent {
            command: Some(command),
            ..
        }) => {
            return cli::main(cli::Operator::Agent(command), &arguments.global);
        }
        Command::Operator(command) => return cli::main(command, &arguments.global),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn serve(file: Option<&Path>, start_fresh: bool) -> Result<()> {
    let config = Config::load(file)?;
    let log = logging::start(&config.log)?;
    make_room_for_connections();
    let agents = if config.agent.embedded {
        vec![agent::id(&config)?]
    } else {
        Vec::new()
    };
    run(async {
        // Before anything is opened: whoever stops a server that is still starting gets a clean stop too.
        let signals = Signals::listen()?;
        let server = Server::start(config, agents, log).await?;
        server.look_back(start_fresh).await?;
        server.run(signals.shutdown()).await
    })
}

fn run_demo(demo: Demo) -> Result<()> {
    let (config, _removed_at_the_end) = demo.config()?;
    let log = logging::start(&config.log)?;
    make_room_for_connections();
    run(demo.run(config, log))
}

/// Every agent holds a file descriptor, and systems hand out 1,024 until a program asks for what it may have.
fn make_room_for_connections() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files; it bounds the number of agents");
        }
    }
}

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A disk that hangs must not keep the process from ending.
    runtime.shutdown_timeout(LAST_WORK);
    done
}

#[expect(
    clippy::print_stderr,
    reason = "an error of the program itself, which may come before the log"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("kanade: {error:#}");
    ExitCode::FAILURE
}
