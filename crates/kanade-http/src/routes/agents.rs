//! Agents as they show themselves, and what can be asked of one directly.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use http::StatusCode;
use kanade_core::{Agents, Error, shape};
use kanade_model::{Caller, PcId, api};
use kanade_ports::{Agent, ExecutionStore, MAX_LIMIT, Position};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{Linked, PageParams, PageRequest, Path, Query, parsed, whole},
    problem::Problem,
};

const LIST: &str = "agents";
/// About what an agent takes in an answer, in bytes.
const ENVELOPE: usize = 256;

/// Lists the agents
#[utoipa::path(
    get, path = "/api/agents", operation_id = "list_agents", tag = "agents",
    params(PageParams),
    responses((
        status = 200, description = "By id; all that fit 4 MiB unless `limit` says less", body = Vec<api::Agent>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn list(
    State(store): State<Arc<dyn ExecutionStore>>,
    page: PageRequest,
) -> Result<Linked<Vec<api::Agent>>, Problem> {
    let after = page.after(LIST)?;
    let agents = match page.limit() {
        Some(limit) => store.agents(after.as_ref(), limit).await?,
        None => {
            let store = &store;
            let fetch =
                |after: Option<Position>| async move { store.agents(after.as_ref(), MAX_LIMIT).await };
            whole(after, fetch, place, |_| ENVELOPE).await?
        }
    };
    Ok(page.answer(LIST, agents.map(shape::agent)))
}

fn place(agent: &Agent) -> Position {
    Position {
        at: 0,
        id: agent.pc_id.to_string(),
    }
}

/// Shows an agent
#[utoipa::path(
    get, path = "/api/agents/{pc_id}", operation_id = "get_agent", tag = "agents",
    params(("pc_id" = String, Path, description = "The agent")),
    responses(
        (status = 200, description = "The agent", body = api::Agent),
        (status = 404, description = "No such agent has reported"),
    )
)]
pub(super) async fn get(
    State(store): State<Arc<dyn ExecutionStore>>,
    Path(pc): Path<PcId>,
) -> Result<Json<api::Agent>, Problem> {
    let agent = store.agent(&pc).await?.ok_or_else(|| Error::NotFound {
        what: "agent",
        id: pc.to_string(),
    })?;
    Ok(Json(shape::agent(agent)))
}

/// How long a sign of life is waited for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Waiting {
    /// In seconds, 1 to 300; 45 when not given, as agents show life every 30 seconds by themselves.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 300)]
    wait_secs: Option<Within<1, 300>>,
}

/// Waits for a sign of life of an agent
#[utoipa::path(
    post, path = "/api/agents/{pc_id}/ping", operation_id = "ping", tag = "agents",
    params(("pc_id" = String, Path, description = "The agent"), Waiting),
    responses(
        (status = 200, description = "It lives", body = api::Ping),
        (status = 400, description = "`wait_secs` is not valid"),
        (status = 408, description = "It gave no sign of life in time"),
    )
)]
pub(super) async fn ping(
    State(agents): State<Agents>,
    caller: Caller,
    Path(pc): Path<PcId>,
    Query(waiting): Query<Waiting>,
) -> Result<Json<api::Ping>, Problem> {
    let wait = Duration::from_secs(waiting.wait_secs.map_or(45, |secs| secs.0.into()));
    let heartbeat = agents.ping(&pc, wait, &caller).await?;
    Ok(Json(api::Ping { heartbeat }))
}

/// How much of a log is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Tail {
    /// The number of lines, 1 to 10,000; 500 when not given.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    tail: Option<Within<1, 10_000>>,
}

/// Reads the end of an agent's log
#[utoipa::path(
    get, path = "/api/agents/{pc_id}/logs", operation_id = "agent_logs", tag = "agents",
    params(("pc_id" = String, Path, description = "The agent"), Tail),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "text/plain"),
        (status = 400, description = "`tail` is not valid"),
        (status = 502, description = "The agent is not connected"),
        (status = 504, description = "It did not answer within 10 seconds"),
    )
)]
pub(super) async fn logs(
    State(agents): State<Agents>,
    Path(pc): Path<PcId>,
    Query(tail): Query<Tail>,
) -> Result<String, Problem> {
    let lines = tail.tail.map_or(500, |lines| lines.0);
    match agents.logs(&pc, lines).await {
        Err(error @ Error::TimedOut(_)) => Err(Problem::from(error).with_status(StatusCode::GATEWAY_TIMEOUT)),
        read => Ok(read?),
    }
}

/// A number between two others, both included.
struct Within<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> FromStr for Within<LEAST, MOST> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => Err(format!("a number from {LEAST} to {MOST} is wanted")),
        }
    }
}
