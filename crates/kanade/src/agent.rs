//! `kanade agent`: an agent in a process of its own, which reaches its server over a WebSocket.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use kanade_agent::{Agent, AgentConfig, AgentLimits, LogTail};
use kanade_client::{AgentLink, LinkSettings, LinkTiming};
use kanade_model::PcId;
use kanade_ports::{SystemClock, SystemIds};

use crate::{
    cli::{self, Global},
    config::{Config, Secret},
    logging,
    signals::Signals,
};

/// How an agent process is started; what is not given here comes from the configuration.
#[derive(Debug, Args)]
pub(crate) struct AgentProcess {
    /// The agent's name; the host's name without it
    #[arg(long, value_name = "PC")]
    pub(crate) id: Option<PcId>,
    /// The folder for what it has in hand and has not reported yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The configuration; defaults without it
    #[arg(long, value_name = "FILE", env = "KANADE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Connect without encryption, though the server is on another machine
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
}

impl AgentProcess {
    /// The configuration, with what was said on the command line laid over it.
    pub(crate) fn config(&self, global: &Global) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        let agent = &mut config.agent;
        agent.id = self.id.clone().or(agent.id.take());
        agent.server = global.server.clone().or(agent.server.take());
        if let Some(token) = global.token()? {
            agent.token = Some(Secret::new(token));
        }
        agent.ca = global.ca.clone().or(agent.ca.take());
        agent.allow_plaintext |= self.allow_plaintext;
        if let Some(data) = &self.data {
            config.data_dir.clone_from(data);
        }
        Ok(config)
    }
}

/// Runs until a signal.
pub(crate) async fn run(config: Config, log: LogTail) -> Result<()> {
    let signals = Signals::listen()?;
    let pc_id = id(&config)?;
    let settings = settings(&config, &pc_id, log);
    let link = AgentLink::open(link_settings(&config, &pc_id, &settings.data_dir)?)?;
    let server = config.agent.server.as_deref().unwrap_or(cli::DEFAULT_SERVER);
    tracing::info!(%pc_id, server, folder = %settings.data_dir.display(), "the agent starts");
    let link = Arc::new(link);
    let agent = Agent::start(
        settings,
        link.clone(),
        link.clone(),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
    )
    .await
    .with_context(|| format!("cannot start agent `{pc_id}`"))?;
    signals.shutdown().await;
    tracing::info!("stopping");
    agent.stop().await;
    link.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Starts logging and runs.
pub(crate) fn main(process: &AgentProcess, global: &Global) -> Result<()> {
    let config = process.config(global)?;
    let log = logging::start(&config.log)?;
    crate::run(run(config, log))
}

/// What an agent is told when it is started, in the server's process or in its own.
pub(crate) fn settings(config: &Config, pc_id: &PcId, log: LogTail) -> AgentConfig {
    let limits = AgentLimits {
        at_once: config.agent.max_runs,
        output_bytes: config.agent.output_limit,
        // The server repeats its kills this often, also after a restart.
        settle_in: config.kill.repeat.0 + Duration::from_secs(1),
        flush_within: Duration::from_secs(2),
        ..AgentLimits::default()
    };
    AgentConfig {
        log,
        limits,
        ..AgentConfig::new(pc_id.clone(), config.data_dir.join("agent").join(pc_id.as_str()))
    }
}

/// The id of this machine's agent.
pub(crate) fn id(config: &Config) -> Result<PcId> {
    if let Some(id) = &config.agent.id {
        return Ok(id.clone());
    }
    let name = hostname::get().context("cannot read the host's name; set agent.id")?;
    let name = name.to_string_lossy();
    name.parse()
        .with_context(|| format!("the host's name `{name}` cannot be an agent's id; set agent.id"))
}

fn link_settings(config: &Config, pc_id: &PcId, folder: &Path) -> Result<LinkSettings> {
    let key = kanade_agent::agent_key(folder)
        .with_context(|| format!("cannot use `{}` as the folder of the agent", folder.display()))?;
    let agent = &config.agent;
    let server = agent.server.as_deref().unwrap_or(cli::DEFAULT_SERVER);
    Ok(LinkSettings {
        token: agent.token.as_ref().map(|token| token.expose().to_owned()),
        ca: agent.ca.as_deref().map(read_ca).transpose()?,
        allow_plaintext: agent.allow_plaintext,
        timing: LinkTiming {
            ping_every: config.gateway.ping_every.0,
            idle_timeout: config.gateway.idle_timeout.0,
            ..LinkTiming::default()
        },
        ..LinkSettings::new(server, pc_id.clone(), key)
    })
}

/// Certificates that somebody named on the command line or in the configuration.
pub(crate) fn read_ca(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the certificates in {}", path.display()))
}
