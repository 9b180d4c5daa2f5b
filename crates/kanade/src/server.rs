//! A server from start to end: binds, opens, serves, drains, closes.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use kanade_agent::{Agent, LogTail};
use kanade_core::{Running, Services};
use kanade_http::{About, AcceptLimits, AgentToken, Auth, GatewaySettings, HttpSettings, NamedToken, Tls};
use kanade_model::{Caller, PcId, ScheduleId, api};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::{
    agent,
    config::{self, AuthMode, Config},
    deployment::Deployment,
    doctor,
};

/// Requests in flight get this long at a stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);
/// Requests and agents that take longer to stop are given up: what was answered is durable.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// The loops and then the files get this long each after that.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A server that has opened everything and takes requests once [`run`](Self::run).
pub(crate) struct Server {
    config: Config,
    listener: TcpListener,
    tls: Option<Tls>,
    deployment: Deployment,
    services: Services,
    running: Running,
    agents: Vec<Agent>,
}

impl Server {
    /// Binds first, so that a port in use is told before any file is touched.
    pub(crate) async fn start(config: Config, agents: Vec<PcId>, log: LogTail) -> Result<Self> {
        let bind = config.server.bind;
        let listener = listen(bind)
            .with_context(|| format!("cannot listen on {bind}; is something else using this port?"))?;
        let tls = match &config.server.tls {
            Some(files) => Some(Tls::load(&files.cert, &files.key)?),
            None => None,
        };
        let deployment = Deployment::open(&config).await?;
        let (services, running) = Services::start(deployment.ports.clone(), config.core_settings()).await;
        let mut server = Self {
            config,
            listener,
            tls,
            deployment,
            services,
            running,
            agents: Vec::new(),
        };
        for pc_id in agents {
            let agent = server.start_agent(pc_id, log.clone()).await?;
            server.agents.push(agent);
        }
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> Result<String> {
        let address = self.listener.local_addr();
        let address = address.context("cannot tell the address that is listened on")?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{address}"))
    }

    /// Settles what counts from before this server, where its operator says that nothing does, and tells which
    /// schedules are held until that is settled.
    pub(crate) async fn look_back(&self, start_fresh: bool) -> Result<()> {
        let schedules = &self.services.schedules;
        if start_fresh
            && schedules
                .start_fresh(&Caller::operator())
                .await
                .context("cannot note the fresh start")?
        {
            tracing::info!("nothing from before this server counts from now on");
        }
        match schedules.look_back().await {
            Ok(held) if held.is_empty() => {}
            Ok(held) => tracing::warn!(
                "held: {}. This server does not know where their jobs have succeeded before, and would run them there \
                 again; stop it and run `kanade import --from-0.30 backend.db`, or start it with `--start-fresh`",
                some(&held)
            ),
            Err(error) => tracing::warn!(
                error = %error.report(),
                "cannot tell which schedules are held; they are held all the same"
            ),
        }
        Ok(())
    }

    /// The services, for those in the same process.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Takes requests until `shutdown`, then stops in order: requests, agents, loops, files.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        tracing::info!("listening on {}", self.url()?);
        let Self {
            config,
            listener,
            tls,
            deployment,
            services,
            running,
            agents,
        } = self;
        let stopping = CancellationToken::new();
        let told = stopping.clone();
        let shutdown = async move {
            shutdown.await;
            tracing::info!("stopping");
            told.cancel();
        };
        let pages = kanade_dashboard::router();
        let router =
            kanade_http::router_with_pages(services.clone(), http_settings(&config, &services)?, pages);
        let mut serving = tokio::spawn(kanade_http::serve(
            listener,
            router,
            accept_limits(&config),
            tls,
            shutdown,
        ));
        // Serving may also end by itself, with an error.
        let ended = tokio::select! {
            () = stopping.cancelled() => None,
            served = &mut serving => Some(served),
        };
        let orderly = async {
            let served = match ended {
                Some(served) => served,
                None => serving.await,
            };
            futures::future::join_all(agents.into_iter().map(Agent::stop)).await;
            served
                .context("the HTTP server failed")?
                .context("cannot take requests")
        };
        let served = tokio::time::timeout(STOP_WITHIN, orderly)
            .await
            .unwrap_or_else(|_| {
                tracing::warn!("requests or agents did not stop within {STOP_WITHIN:?} and are given up");
                Ok(())
            });
        drop(services);
        running.stop(CLOSE_WITHIN).await;
        tokio::time::timeout(CLOSE_WITHIN, deployment.close())
            .await
            .map_err(|_| anyhow!("the data files could not be closed within {CLOSE_WITHIN:?}"))??;
        served?;
        tracing::info!("stopped");
        Ok(())
    }

    async fn start_agent(&self, pc_id: PcId, log: LogTail) -> Result<Agent> {
        let ports = &self.deployment.ports;
        let agent = agent::settings(&self.config, &pc_id, log);
        let (bus, catalog) = (Arc::clone(&ports.bus), Arc::clone(&ports.catalog));
        let agent = Agent::start(
            agent,
            bus,
            catalog,
            Arc::clone(&ports.clock),
            Arc::clone(&ports.ids),
        )
        .await
        .with_context(|| format!("cannot start agent `{pc_id}`"))?;
        agent.leaves_updates_to_its_server();
        Ok(agent)
    }
}

/// The first of many names.
fn some(names: &[ScheduleId]) -> String {
    const NAMED: usize = 10;
    let named: Vec<&str> = names.iter().take(NAMED).map(ScheduleId::as_str).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", named.join(", "))
}

/// A fleet comes back all at once when its server does: whoever finds the queue full tries again only after a second,
/// then after two, after four.
const BACKLOG: u32 = 4096;

fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = match bind {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again gets its port while old connections linger; on Windows this would mean another thing.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
}

fn http_settings(config: &Config, services: &Services) -> Result<HttpSettings> {
    let secret = |secret: &Option<config::Secret>| {
        secret
            .as_ref()
            .map(|secret| secret.expose().to_owned())
            .context("a checked configuration has its secrets")
    };
    let auth = match config.auth.mode {
        AuthMode::None => Auth::None,
        AuthMode::Token => {
            let mut tokens = Vec::new();
            for token in &config.auth.tokens {
                tokens.push(NamedToken {
                    name: token.name.clone(),
                    token: secret(&token.token)?,
                });
            }
            Auth::Tokens(tokens)
        }
        AuthMode::Jwt => Auth::Jwt {
            secret: secret(&config.auth.jwt_secret)?,
        },
    };
    let agent_token = |token: &config::AgentToken| {
        AgentToken::new(&token.name, token.hash.clone(), token.pc_ids.as_deref())
    };
    Ok(HttpSettings {
        auth,
        gateway: GatewaySettings {
            tokens: config.auth.agent_tokens.iter().map(agent_token).collect(),
            max_agents: config.gateway.max_agents,
            ping_every: config.gateway.ping_every.0,
            idle_timeout: config.gateway.idle_timeout.0,
            ..GatewaySettings::default()
        },
        request_timeout: config.server.request_timeout.0,
        max_requests: config.server.max_requests,
        upload_limit: config.releases.max_size,
        about: about(config, services),
        spool: Some(config.data_path(Path::new("spool"))),
        ..HttpSettings::default()
    })
}

/// What the server tells of itself.
fn about(config: &Config, services: &Services) -> About {
    let deployment = api::Deployment {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: kind(&config.store),
        catalog: kind(&config.catalog),
        bus: kind(&config.bus),
        data_dir: config.data_dir.display().to_string(),
    };
    let (config, services) = (config.clone(), services.clone());
    About::new(deployment, move || {
        Box::pin(doctor::examine_own(config.clone(), services.clone()))
    })
}

/// The `kind` of a part of the configuration.
fn kind(part: &impl serde::Serialize) -> String {
    let kind = serde_json::to_value(part).ok();
    let kind = kind.and_then(|part| Some(part.get("kind")?.as_str()?.to_owned()));
    kind.unwrap_or_default()
}

fn accept_limits(config: &Config) -> AcceptLimits {
    AcceptLimits {
        header_timeout: config.server.header_timeout.0,
        max_connections: config.server.max_connections,
        drain: DRAIN_WITHIN,
    }
}
