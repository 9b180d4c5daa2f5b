//! The operator commands: each asks a server over its HTTP API and shows the answer as a table or as JSON.
//!
//! Exit codes: 0 done, 1 it failed (or runs did), 2 the command or its input is wrong, 130 interrupted while watching.

mod agent;
mod apply;
mod completions;
mod config;
mod diff;
mod doctor;
mod document;
mod exec;
mod execution;
mod failure;
mod files;
mod follow;
mod freeze;
mod group;
mod import;
mod install;
mod inventory;
mod job;
mod kill;
mod output;
mod record;
mod releases;
mod result;
mod run;
mod schedule;
mod table;
mod tls;
mod token;
mod watch;
mod waves;
mod when;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use kanade_client::Client;
use kanade_model::{JobId, PcId};

pub(crate) use agent::AgentCommand;
use failure::{Done, Failure};
use output::Output;

/// The server that is asked when none is named.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// What every operator command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "KANADE_SERVER",
        help = format!("The server [default: {DEFAULT_SERVER}]")
    )]
    pub(crate) server: Option<String>,
    /// The token, where the server asks for one
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "KANADE_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Read the token from a file instead
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Trust these certificates too (PEM), where the server's comes from a private authority
    #[arg(long, global = true, value_name = "FILE", env = "KANADE_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// How to show answers
    #[arg(long, short = 'o', global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,
    /// Do not use colours (also: NO_COLOR)
    #[arg(long, global = true)]
    no_color: bool,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences, for people
    Table,
    /// The API's JSON, for programs
    Json,
}

/// The operator commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    /// Register jobs and look at them
    #[command(subcommand)]
    Job(job::JobCommand),
    Exec(exec::Exec),
    Kill(kill::Kill),
    Run(run::Run),
    Ping(agent::Ping),
    /// Forbid agents to start a job
    #[command(after_help = "Example:\n  kanade revoke backup")]
    Revoke {
        /// The job
        job: JobId,
    },
    /// Let agents start a job again
    #[command(after_help = "Example:\n  kanade unrevoke backup")]
    Unrevoke {
        /// The job
        job: JobId,
    },
    /// Register schedules and look at them
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Keep schedules from firing for a while
    #[command(subcommand)]
    Freeze(freeze::FreezeCommand),
    Simulate(freeze::Simulate),
    /// Put agents into groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Configure agents
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Comes from the command that also runs an agent.
    #[command(skip)]
    Agent(AgentCommand),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Look at executions
    #[command(subcommand, visible_alias = "execution")]
    Executions(execution::ExecutionCommand),
    /// Look at what came back
    #[command(subcommand, visible_alias = "result")]
    Results(result::ResultCommand),
    Health(releases::Health),
    Audit(record::Audit),
    /// Look at the facts that inventory jobs collect
    #[command(subcommand)]
    Inventory(inventory::InventoryCommand),
    DeadLetters(record::DeadLetters),
    Import(import::Import),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

/// What a command works with.
struct Context {
    client: Client,
    out: Output,
}

/// Runs a command to its end.
pub(crate) fn main(command: Operator, global: &Global) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(command, global)),
        Err(error) => {
            Failure::Failed(format!("cannot start the runtime: {error}")).report(global.colors_stderr())
        }
    }
}

/// Runs a command within a runtime.
pub(crate) async fn run(command: Operator, global: &Global) -> ExitCode {
    match attempt(command, global).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(global.colors_stderr()),
    }
}

async fn attempt(command: Operator, global: &Global) -> Done {
    let context = Context {
        client: global.client()?,
        out: Output::new(global.output, !global.no_color),
    };
    match command {
        Operator::Job(command) => job::run(command, &context).await,
        Operator::Exec(exec) => exec::run(exec, &context).await,
        Operator::Kill(kill) => kill::run(kill, &context).await,
        Operator::Run(script) => run::run(script, &context).await,
        Operator::Ping(ping) => agent::ping(ping, &context).await,
        Operator::Revoke { job } => job::revoke(&job, &context).await,
        Operator::Unrevoke { job } => job::unrevoke(&job, &context).await,
        Operator::Schedule(command) => schedule::run(command, &context).await,
        Operator::Freeze(command) => freeze::run(command, &context).await,
        Operator::Simulate(command) => freeze::simulate(command, &context).await,
        Operator::Group(command) => group::run(command, &context).await,
        Operator::Config(command) => config::run(command, &context).await,
        Operator::Agent(command) => agent::run(command, global, &context).await,
        Operator::Token(command) => token::run(command, &context.out),
        Operator::Tls(command) => tls::run(&command, &context.out),
        Operator::Executions(command) => execution::run(command, &context).await,
        Operator::Results(command) => result::run(command, &context).await,
        Operator::Health(_) => releases::health(&context).await,
        Operator::Audit(audit) => record::audit(audit, &context).await,
        Operator::Inventory(command) => inventory::run(command, &context).await,
        Operator::DeadLetters(letters) => record::dead_letters(letters, &context).await,
        Operator::Doctor(command) => doctor::run(command, &context).await,
        Operator::Import(command) => import::run(command, &context.out).await,
        Operator::Completions(completions) => completions::run(&completions, &context.out),
    }
}

impl Global {
    fn client(&self) -> Result<Client, Failure> {
        let server = self.server.as_deref().unwrap_or(DEFAULT_SERVER);
        let token = self
            .token()
            .map_err(|error| Failure::Usage(format!("{error:#}")))?;
        Ok(match &self.ca {
            Some(ca) => {
                let ca = crate::agent::read_ca(ca).map_err(|error| Failure::Usage(format!("{error:#}")))?;
                Client::trusting(server, token.as_deref(), &ca)?
            }
            None => Client::new(server, token.as_deref())?,
        })
    }

    /// The token, from wherever it is given.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        let token = match &self.token_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the token from {}", path.display()))?,
            ),
            None => self.token.clone(),
        };
        // An empty variable is how many tools unset one.
        Ok(token
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty()))
    }

    fn colors_stderr(&self) -> bool {
        output::colors(!self.no_color, &std::io::stderr())
    }
}

/// The option that names one agent.
#[derive(Debug, Args)]
struct OnPc {
    /// The agent
    #[arg(long, value_name = "PC")]
    pc: PcId,
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    #[test]
    fn every_command_is_sound_and_shows_an_example() {
        let mut root = crate::Arguments::command();
        root.build();
        root.clone().debug_assert();
        let missing: Vec<String> = leaves(&root)
            .into_iter()
            .filter(|command| {
                !command
                    .get_after_help()
                    .is_some_and(|help| help.to_string().contains("kanade "))
            })
            .map(|command| command.get_bin_name().unwrap_or_default().to_owned())
            .collect();
        assert!(missing.is_empty(), "without an example: {missing:?}");
    }

    /// The commands that do something themselves.
    fn leaves(command: &Command) -> Vec<&Command> {
        let inner = command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
            .collect::<Vec<_>>();
        if inner.is_empty() {
            vec![command]
        } else {
            inner.into_iter().flat_map(leaves).collect()
        }
    }
}
