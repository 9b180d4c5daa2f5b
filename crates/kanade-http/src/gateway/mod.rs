//! The gateway: agents on other machines use their ports over a WebSocket (the frames are those of
//! [`kanade_ports::frame`]). What an agent may do there is decided in the core; here it is let in, and its calls are
//! carried.
//!
//! - `admission` reads who comes, by its token and its key; `registry` knows who is there;
//! - `session` is one connection: `inbound` takes calls and has them done (`calls`), `outbound` tells, and neither
//!   waits for the other;
//! - `source` and `sink` are the WebSocket itself;
//! - `releases` gives an agent, beside its connection, the program that it updates itself to.
//!
//! One connection holds at most: a read buffer of 8 KiB and a message of 8 KiB; calls that are worked on, 64 and of
//! 4 MiB together, which count against [`GatewaySettings::in_flight_bytes`] too, so that a thousand connections hold
//! no thousand times that; the 64 answers to them; and 64 subscriptions and watches, each with what the bus or the
//! catalog queues for one before it drops or ends it. The message that is being written is shared with everybody else
//! who gets it.

mod admission;
mod answer;
mod calls;
mod end;
mod inbound;
mod outbound;
mod refusals;
mod registry;
mod releases;
mod room;
mod session;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kanade_core::AgentPorts;
use kanade_model::PcId;
use kanade_ports::frame::SUBPROTOCOL;
use tokio::sync::Semaphore;

pub(crate) use releases::*;
pub use token::{AgentToken, NoTokenHash, TokenHash};

use admission::Applicant;
use refusals::Refusals;
use registry::{Place, Refused, Registry};
use room::Rooms;
use session::Session;

use crate::{
    App, GatewaySettings,
    accept::{Closing, Peer},
    problem::Problem,
};

/// What the connections of agents have in common. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Shared>);

struct Shared {
    settings: GatewaySettings,
    registry: Arc<Registry>,
    rooms: Rooms,
    refusals: Refusals,
    /// One for each program that is being downloaded.
    downloads: Arc<Semaphore>,
}

impl Gateway {
    pub(crate) fn new(settings: &GatewaySettings) -> Self {
        Self(Arc::new(Shared {
            registry: Registry::new(settings.max_agents),
            rooms: Rooms::new(settings.in_flight_bytes),
            refusals: Refusals::default(),
            downloads: Arc::new(Semaphore::new(settings.max_downloads.min(Semaphore::MAX_PERMITS))),
            settings: settings.clone(),
        }))
    }

    fn enter(&self, applicant: &Applicant) -> Result<Place, Problem> {
        let pc = &applicant.pc;
        let entered = self.0.registry.enter(pc, applicant.key.clone());
        entered.map_err(|refused| match refused {
            Refused::Full => Problem::try_again("the server has too many agents at once; try again in a while"),
            Refused::Taken => {
                let detail = format!(
                    "another agent is connected as `{pc}`: stop that one, or give this one an id of its own; if this \
                     machine has been set up anew, it is let in once the old connection has timed out ({:?})",
                    self.0.settings.idle_timeout
                );
                Problem::new(StatusCode::CONFLICT, detail)
            }
        })
    }
}

/// Connects an agent
///
/// The agent uses the server's bus and catalog over a WebSocket, as far as an agent may. One connection per agent: a
/// second one replaces the first if it has the same key. Where no tokens for agents are configured, only agents on the
/// server's machine are let in.
#[utoipa::path(
    get, path = "/api/agent/ws", operation_id = "connect_agent", tag = "agents",
    params(
        ("pc_id" = String, Query, description = "The agent"),
        ("kanade-agent-key" = String, Header,
            description = "16 to 256 visible ASCII characters that the agent made up once, by which it is known again"),
        ("Sec-WebSocket-Protocol" = String, Header, description = "`kanade.agent.v1`"),
    ),
    responses(
        (status = 101, description = "The connection is a WebSocket from now on"),
        (status = 400, description = "The id, the key or the subprotocol is missing or not valid"),
        (status = 401, description = "No token, or one that is not known"),
        (status = 403, description = "The token is not for this agent; or there are no tokens and the agent is not on \
            the server's machine; or a web page asks"),
        (status = 409, description = "Another agent is connected under this id"),
        (status = 426, description = "The request does not ask for a WebSocket"),
        (status = 503, description = "There are too many agents; nothing was done"),
    ),
    security((), ("agent" = []))
)]
pub(crate) async fn connect(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let gateway = app.gateway.clone();
    let peer = parts.extensions.get::<Peer>().copied();
    let let_in = Applicant::new(&gateway.0.settings.tokens, &parts).and_then(|applicant| {
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
            Problem::new(
                StatusCode::UPGRADE_REQUIRED,
                "this connection cannot become a WebSocket",
            )
        })?;
        let place = gateway.enter(&applicant)?;
        Ok((applicant, upgrade, place))
    });
    let (applicant, upgrade, place) = let_in.inspect_err(|problem| {
        if let Some(others) = gateway.0.refusals.one_more() {
            let pc_id = admission::pc_id(&parts).ok().map(tracing::field::display);
            let peer = peer.map(tracing::field::display);
            let why = problem.detail();
            tracing::warn!(pc_id, peer, why, others, "an agent was not let in");
        }
    })?;
    let Applicant {
        pc, token, accept, ..
    } = applicant;
    let closing = parts.extensions.remove::<Closing>().unwrap_or_default();
    let visit = Visit {
        ports: app.services.agent_ports(&pc),
        pc,
        peer,
        token,
        place,
        closing: closing.clone(),
    };
    closing.spawn(visit.receive(gateway, upgrade));
    Ok(switching(accept))
}

fn switching(accept: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    response
}

/// An agent that has been let in.
struct Visit {
    ports: AgentPorts,
    pc: PcId,
    peer: Option<Peer>,
    token: Option<String>,
    place: Place,
    closing: Closing,
}

impl Visit {
    /// Stays with the agent until it leaves.
    async fn receive(self, gateway: Gateway, upgrade: OnUpgrade) {
        let Self {
            ports,
            pc: pc_id,
            peer,
            token,
            place,
            closing,
        } = self;
        let Place {
            replaces,
            replaced,
            entry,
            permit: _permit,
        } = place;
        let peer = peer.map(tracing::field::display);
        let settings = &gateway.0.settings;
        let io = match tokio::time::timeout(settings.idle_timeout, upgrade).await {
            Ok(Ok(io)) => TokioIo::new(io),
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(%pc_id, peer, "an agent went away before it was let in");
                return;
            }
        };
        if replaces {
            tracing::warn!(%pc_id, peer, token, "agent connected once more; its earlier connection is closed");
        } else {
            tracing::info!(%pc_id, peer, token, "agent connected");
        }
        let session = Session {
            ports,
            share: gateway.0.rooms.share(),
            settings,
            replaced: &replaced,
            closing: &closing,
        };
        let parting = session.run(io).await;
        // From now on another may come under its id.
        drop(entry);
        tracing::info!(%pc_id, peer, why = %parting.end, "agent disconnected");
        parting.say_goodbye(&closing).await;
    }
}
