//! `kanade agent`: an agent in a process of its own, which reaches its server over a WebSocket or over NATS.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use kanade_agent::{
    Agent, AgentConfig, AgentLimits, LogTail, Standing, Step, UpdateSettings, UpdateTiming, Updates,
};
use kanade_client::{AgentLink, LinkSettings, LinkTiming};
use kanade_model::{PcId, Version};
use kanade_nats::{NatsAgent, NatsSettings};
use kanade_ports::{CatalogReader, PubSub, ReleaseReader, SystemClock, SystemIds};

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
    /// The file that an update replaces, where a wrapper starts the program; the program itself without it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Show life and end, without having started a script: how an update is tried out
    #[arg(long, hide = true)]
    on_trial: bool,
    /// Another version than the real one, for tests of updates
    #[arg(long, hide = true, env = VERSION_VARIABLE)]
    version_as: Option<Version>,
}

/// What a program says that it is, in tests. The next one speaks for itself.
const VERSION_VARIABLE: &str = "KANADE_AGENT_VERSION";

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

    /// The file that an update replaces. Asked for before there is an update: afterwards, the system does not know.
    fn program(&self) -> Result<PathBuf> {
        let program = match &self.program {
            Some(program) => std::path::absolute(program),
            None => std::env::current_exe(),
        };
        program.context("cannot tell where the program of the agent is")
    }
}

/// How an agent process ends.
pub(crate) enum Ended {
    Stopped,
    /// This program is to be started in its place, with the same arguments.
    Replaced(PathBuf),
}

/// Runs until a signal, or until another program is to run in its place.
async fn run(config: Config, process: &AgentProcess, log: LogTail) -> Result<Ended> {
    let signals = Signals::listen()?;
    let pc_id = id(&config)?;
    let mut settings = settings(&config, &pc_id, log);
    if nats_settings(&config, &pc_id)?.is_some() {
        settings.ticks = config.agent.schedules.unwrap_or(false);
    }
    if let Some(version) = &process.version_as {
        settings.agent_version = version.to_string();
    }
    if process.on_trial {
        settings.limits.at_once = 0;
        return on_trial(&config, settings).await;
    }
    let program = process.program()?;
    let updates = updates(program.clone(), &settings)?;
    let standing = updates.begin();
    let mut stop = pin!(signals.shutdown());
    let step = if standing == Standing::GivenUp {
        Step::GoBack
    } else {
        let (agent, link) = start(&config, settings).await?;
        let step = tokio::select! {
            () = &mut stop => None,
            step = updates.follow(standing, &agent, link.releases()) => Some(step),
        };
        tracing::info!("stopping");
        agent.stop().await;
        link.close().await;
        let Some(step) = step else {
            tracing::info!("stopped");
            return Ok(Ended::Stopped);
        };
        step
    };
    match step {
        Step::GoBack => updates
            .go_back()
            .await
            .context("cannot go back to the program before the update")?,
        Step::Install(candidate) => {
            let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
            arguments.push("--on-trial".into());
            let tried = tokio::select! {
                () = &mut stop => return Ok(Ended::Stopped),
                tried = updates.try_out(&candidate, arguments) => tried,
            };
            match tried {
                Ok(()) => updates
                    .install(&candidate)
                    .await
                    .context("cannot install an update")?,
                Err(why) => updates
                    .give_up(&candidate, why)
                    .await
                    .context("cannot note that an update is no good")?,
            }
        }
    }
    // Whoever wants the agent to end meanwhile gets his way.
    Ok(tokio::select! {
        biased;
        () = &mut stop => Ended::Stopped,
        () = std::future::ready(()) => Ended::Replaced(program),
    })
}

async fn start(config: &Config, settings: AgentConfig) -> Result<(Agent, Link)> {
    let pc_id = settings.pc_id.clone();
    let link = Link::open(config, &pc_id, &settings.data_dir).await?;
    tracing::info!(
        %pc_id, version = settings.agent_version, server = server(config), folder = %settings.data_dir.display(),
        "the agent starts"
    );
    let (bus, catalog) = link.ports();
    let agent = Agent::start(settings, bus, catalog, Arc::new(SystemClock), Arc::new(SystemIds))
        .await
        .with_context(|| format!("cannot start agent `{pc_id}`"))?;
    Ok((agent, link))
}

/// Runs until it has shown life. Whoever tries it out has the patience.
async fn on_trial(config: &Config, settings: AgentConfig) -> Result<Ended> {
    let signals = Signals::listen()?;
    let (agent, link) = start(config, settings).await?;
    let shown = tokio::select! {
        () = agent.shows_life() => Ok(Ended::Stopped),
        () = signals.shutdown() => Err(anyhow::anyhow!("stopped before it has shown life")),
        () = tokio::time::sleep(UpdateTiming::default().trial) => {
            Err(anyhow::anyhow!("it has not reached its server in time"))
        }
    };
    agent.stop().await;
    link.close().await;
    shown
}

fn updates(program: PathBuf, settings: &AgentConfig) -> Result<Updates> {
    let settings = UpdateSettings {
        program,
        folder: settings.data_dir.clone(),
        version: settings
            .agent_version
            .parse()
            .context("this program does not know which version it is")?,
        timing: UpdateTiming::default(),
    };
    Ok(Updates::new(settings, Arc::new(SystemClock)))
}

/// Starts logging and runs.
pub(crate) fn main(process: &AgentProcess, global: &Global) -> Result<()> {
    let config = process.config(global)?;
    let log = logging::start(&config.log)?;
    match crate::run(run(config, process, log))? {
        Ended::Stopped => Ok(()),
        Ended::Replaced(program) => replace(&program),
    }
}

/// Goes on as another program, as the same process: whoever looks after it sees no end.
fn replace(program: &Path) -> Result<()> {
    tracing::info!(program = %program.display(), "starting again");
    let mut command = std::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env_remove(VERSION_VARIABLE);
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    #[cfg(not(unix))]
    let error = std::io::Error::from(std::io::ErrorKind::Unsupported);
    Err(error).with_context(|| format!("cannot start `{}`", program.display()))
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
        ticks: config.agent.schedules.unwrap_or(true),
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

/// The way to the server.
enum Link {
    /// Its gateway, over a WebSocket.
    Gateway(Arc<AgentLink>),
    /// The broker that it uses.
    Nats(NatsAgent),
}

impl Link {
    async fn open(config: &Config, pc_id: &PcId, folder: &Path) -> Result<Self> {
        if let Some(settings) = nats_settings(config, pc_id)? {
            return Ok(Self::Nats(NatsAgent::open(settings, pc_id.clone()).await?));
        }
        let link = AgentLink::open(link_settings(config, pc_id, folder)?)?;
        Ok(Self::Gateway(Arc::new(link)))
    }

    fn ports(&self) -> (Arc<dyn PubSub>, Arc<dyn CatalogReader>) {
        match self {
            Self::Gateway(link) => (link.clone(), link.clone()),
            Self::Nats(nats) => (nats.bus(), nats.catalog()),
        }
    }

    fn releases(&self) -> Arc<dyn ReleaseReader> {
        match self {
            Self::Gateway(link) => link.clone(),
            Self::Nats(nats) => nats.releases(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Gateway(link) => link.close().await,
            Self::Nats(nats) => nats.close().await,
        }
    }
}

fn server(config: &Config) -> &str {
    config.agent.server.as_deref().unwrap_or(cli::DEFAULT_SERVER)
}

/// How to connect to NATS, where that is what the server's address says.
fn nats_settings(config: &Config, pc_id: &PcId) -> Result<Option<NatsSettings>> {
    let servers: Vec<&str> = server(config).split(',').map(str::trim).collect();
    let is_nats = |server: &&str| server.starts_with("nats://") || server.starts_with("tls://");
    if !servers.iter().any(is_nats) {
        return Ok(None);
    }
    if let Some(other) = servers.iter().find(|server| !is_nats(server)) {
        bail!(
            "`{other}` is no NATS server as the others of agent.server are: write nats://host:4222 or tls://host:4222"
        );
    }
    if servers.iter().any(|server| server.contains('@')) {
        bail!(
            "agent.server is shown, so no name and no password in it; `user` and `password_file` under [nats] are the place"
        );
    }
    if config.agent.token.is_some() {
        bail!(
            "a token of agents is for the server's own port; what lets agent `{pc_id}` in at NATS stands under [nats]: \
             `user` and `password_file`, `creds`, `nkey_file` or `token_file`"
        );
    }
    let mut settings = config.nats.settings(format!("kanade-agent {pc_id}"));
    settings.urls = servers.into_iter().map(str::to_owned).collect();
    settings.tls.ca = settings.tls.ca.or_else(|| config.agent.ca.clone());
    Ok(Some(settings))
}

fn link_settings(config: &Config, pc_id: &PcId, folder: &Path) -> Result<LinkSettings> {
    let key = kanade_agent::agent_key(folder)
        .with_context(|| format!("cannot use `{}` as the folder of the agent", folder.display()))?;
    let agent = &config.agent;
    Ok(LinkSettings {
        token: agent.token.as_ref().map(|token| token.expose().to_owned()),
        ca: agent.ca.as_deref().map(read_ca).transpose()?,
        allow_plaintext: agent.allow_plaintext,
        timing: LinkTiming {
            ping_every: config.gateway.ping_every.0,
            idle_timeout: config.gateway.idle_timeout.0,
            ..LinkTiming::default()
        },
        ..LinkSettings::new(server(config), pc_id.clone(), key)
    })
}

/// Certificates that somebody named on the command line or in the configuration.
pub(crate) fn read_ca(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the certificates in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_for(server: &str, change: impl FnOnce(&mut Config)) -> Result<Option<NatsSettings>> {
        let mut config = Config::default();
        config.agent.server = Some(server.to_owned());
        change(&mut config);
        nats_settings(&config, &"web-1".parse()?)
    }

    #[test]
    fn the_address_says_whether_it_is_nats() {
        for (server, urls) in [
            ("http://127.0.0.1:8080", None),
            ("https://fleet.example:8443", None),
            ("nats://a:4222", Some(vec!["nats://a:4222"])),
            ("tls://a:4222, nats://b", Some(vec!["tls://a:4222", "nats://b"])),
        ] {
            let settings = settings_for(server, |_| ()).unwrap();
            assert_eq!(
                settings.map(|settings| settings.urls),
                urls.map(|urls| urls.into_iter().map(str::to_owned).collect()),
                "{server}"
            );
        }
        let settings = settings_for("tls://a", |config| config.agent.ca = Some("ca.pem".into()))
            .unwrap()
            .unwrap();
        assert_eq!(settings.tls.ca, Some("ca.pem".into()));
        assert_eq!(settings.name, "kanade-agent web-1");
    }

    #[test]
    fn what_does_not_go_with_nats_is_said() {
        let with_token = |config: &mut Config| config.agent.token = Some(Secret::new("hush-hush-hush-hush"));
        for (server, change, said) in [
            ("nats://a,http://b", None, "`http://b` is no NATS server"),
            ("nats://u:hush@a", None, "no name and no password in it"),
            (
                "nats://a",
                Some(with_token as fn(&mut Config)),
                "stands under [nats]",
            ),
        ] {
            let error = settings_for(server, |config| {
                if let Some(change) = change {
                    change(config);
                }
            });
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(said) && !error.contains("hush"),
                "{server}: {error}"
            );
        }
    }
}
