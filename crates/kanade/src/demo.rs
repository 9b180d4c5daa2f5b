//! `kanade demo`: a server, three agents and sample jobs in one process, in a temporary folder.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use kanade_agent::LogTail;
use kanade_core::{Error, Services};
use kanade_model::{Caller, GroupName, Manifest, PcId};
use kanade_ports::Precondition;

use crate::{cli, config::Config, server::Server, signals::Signals};

const AGENTS: [&str; 3] = ["demo-1", "demo-2", "demo-3"];
const GROUP: &str = "demo";
const JOBS: [&str; 5] = [
    include_str!("../../../config/demo/quick.yaml"),
    include_str!("../../../config/demo/failing.yaml"),
    include_str!("../../../config/demo/long.yaml"),
    include_str!("../../../config/demo/inventory.yaml"),
    include_str!("../../../config/demo/noisy.yaml"),
];

/// Try kanade: a server, three agents and sample jobs in one process
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kanade demo\n  kanade demo --data ./demo-data --bind 127.0.0.1:9000\n  \
                        kanade demo --config config/edge.toml"
)]
pub(crate) struct Demo {
    /// Keep the data in this folder instead of a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    /// Try this deployment instead of the default one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Demo {
    /// The configuration of the demo, and the folder that is removed when it is dropped.
    pub(crate) fn config(&self) -> Result<(Config, Option<tempfile::TempDir>)> {
        let mut config = Config::load(self.config.as_deref())?;
        config.server.bind = self.bind.unwrap_or(config.server.bind);
        config.check()?;
        if self.config.is_none() {
            config.log.level = "warn".into();
        }
        if let Some(data) = &self.data {
            config.data_dir.clone_from(data);
            return Ok((config, None));
        }
        let temporary = tempfile::Builder::new().prefix("kanade-demo-").tempdir();
        let temporary = temporary.context("cannot create a temporary folder")?;
        config.data_dir = temporary.path().to_owned();
        Ok((config, Some(temporary)))
    }

    pub(crate) async fn run(self, config: Config, log: LogTail) -> Result<()> {
        let signals = Signals::listen()?;
        let (data_dir, bind) = (config.data_dir.clone(), config.server.bind);
        let agents = AGENTS.map(|id| id.parse::<PcId>().expect("a valid id"));
        let server = Server::start(config, agents.to_vec(), log)
            .await
            .with_context(|| {
                format!("the demo cannot start on {bind}; `--bind 127.0.0.1:0` takes a free port")
            })?;
        prepare(server.services(), &agents).await?;
        welcome(&server.url()?, &data_dir, self.data.is_none());
        server.run(signals.shutdown()).await
    }
}

/// Registers the sample jobs and the group, unless an earlier demo in this folder did.
async fn prepare(services: &Services, agents: &[PcId]) -> Result<()> {
    let caller = Caller {
        source: Some("demo".into()),
        ..Caller::operator()
    };
    for text in JOBS {
        let manifest: Manifest = serde_saphyr::from_str(text).context("a sample job cannot be read")?;
        match services.jobs.put(&manifest, Precondition::Absent, &caller).await {
            Ok(_) | Err(Error::Changed { .. }) => {}
            Err(error) => return Err(error).context("cannot register a sample job"),
        }
    }
    let group: GroupName = GROUP.parse().expect("a valid group");
    for agent in agents {
        services.agents.join(agent, &group, &caller).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
fn welcome(url: &str, data_dir: &Path, temporary: bool) {
    let program = program();
    let server = if url == cli::DEFAULT_SERVER {
        String::new()
    } else {
        format!(" --server {url}")
    };
    let fate = if temporary { " (removed at the end)" } else { "" };
    println!("kanade demo: {url}");
    println!("  data    {}{fate}", data_dir.display());
    println!("  agents  {} (group {GROUP})", AGENTS.join(", "));
    println!("  jobs    quick, failing, long, inventory, noisy");
    println!();
    println!("Try, in a second shell:");
    println!("  {program}{server} exec quick --all --watch");
    println!("  {program}{server} exec long --group {GROUP}");
    println!("  {program}{server} kill --job long --watch");
    println!();
    println!("Attach another agent, a process of its own:");
    println!(
        "  {program} agent --server {url} --id demo-4 --data {}",
        data_dir.join("demo-4").display()
    );
    println!();
    println!("Ctrl-C ends it.");
}

/// How to call this program from the folder it was started in.
fn program() -> String {
    let here = std::env::current_dir().ok();
    let this = std::env::current_exe().ok();
    match (this, here) {
        (Some(this), Some(here)) => this.strip_prefix(&here).unwrap_or(&this).display().to_string(),
        _ => "kanade".into(),
    }
}
