//! Agents as they show themselves, and what can be asked of one directly.

use std::{slice, str::FromStr, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use http::StatusCode;
use kanade_core::{ACTIVE_WITHIN, Agents, Error, shape};
use kanade_model::{Caller, GroupName, PcId, Timestamp, api};
use kanade_ports::{
    Agent, ExecutionStore, MAX_LIMIT, PAGE_BYTES, Page, PageBuilder, Position, Progress, SCAN_LIMIT,
    StoreError,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    App,
    extract::{Linked, PageParams, PageRequest, Path, Query, parsed, whole},
    problem::Problem,
};

const LIST: &str = "agents";
/// About what an agent takes in an answer, in bytes.
const ENVELOPE: usize = 256;

/// Which agents are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// With this text in their id or the name of their host, in whatever case.
    #[serde(default)]
    q: Option<String>,
    /// In this group.
    #[serde(default)]
    group: Option<GroupName>,
    /// Heard of within two minutes, or not.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    alive: Option<bool>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.q.is_none() && self.group.is_none() && self.alive.is_none()
    }

    /// What decides whether an agent is wanted.
    fn decides(self, agents: &Agents, now: Timestamp) -> impl Fn(&Agent) -> bool + use<> {
        let members = self.group.map(|group| agents.members(slice::from_ref(&group)));
        let text = self.q.map(|text| text.to_lowercase());
        move |agent| {
            let contains = |text: &str, name: &str| name.to_lowercase().contains(text);
            members
                .as_ref()
                .is_none_or(|members| members.contains(&agent.pc_id))
                && self
                    .alive
                    .is_none_or(|alive| alive == (now.since(agent.updated_at) <= ACTIVE_WITHIN))
                && text.as_deref().is_none_or(|text| {
                    contains(text, agent.pc_id.as_str())
                        || agent.hostname.as_deref().is_some_and(|name| contains(text, name))
                })
        }
    }
}

/// Lists the agents
///
/// With a filter, a page looks at 10,000 agents at most: it may be empty and yet have a next one.
#[utoipa::path(
    get, path = "/api/agents", operation_id = "list_agents", tag = "agents",
    params(PageParams, Filter),
    responses((
        status = 200, description = "By id; all that fit 4 MiB unless `limit` says less", body = Vec<api::Agent>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn list(
    State(app): State<App>,
    page: PageRequest,
    Query(filter): Query<Filter>,
) -> Result<Linked<Vec<api::Agent>>, Problem> {
    let (store, after) = (&app.services.store, page.after(LIST)?);
    if !filter.is_empty() {
        let wanted = filter.decides(&app.services.agents, app.services.clock.now());
        let agents = those(&**store, page.limit(), after, wanted).await?;
        return Ok(page.answer(LIST, agents.map(shape::agent)));
    }
    let agents = match page.limit() {
        Some(limit) => store.agents(after.as_ref(), limit).await?,
        None => {
            let fetch =
                |after: Option<Position>| async move { store.agents(after.as_ref(), MAX_LIMIT).await };
            whole(after, fetch, place, |_| ENVELOPE).await?
        }
    };
    Ok(page.answer(LIST, agents.map(shape::agent)))
}

/// A page of those agents that are wanted.
async fn those(
    store: &dyn ExecutionStore,
    limit: Option<usize>,
    mut after: Option<Position>,
    wanted: impl Fn(&Agent) -> bool,
) -> Result<Page<Agent>, StoreError> {
    let mut page = PageBuilder::new(limit.unwrap_or(usize::MAX), SCAN_LIMIT, PAGE_BYTES);
    loop {
        let read = store.agents(after.as_ref(), MAX_LIMIT).await?;
        for agent in read.items {
            let at = place(&agent);
            let item = wanted(&agent).then_some(agent);
            if page.offer(item, || at, ENVELOPE) == Progress::Full {
                return Ok(page.finish(false));
            }
        }
        match read.next {
            Some(next) => after = Some(next),
            None => return Ok(page.finish(true)),
        }
    }
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
    let agent = store.agent(&pc).await?.ok_or_else(|| unknown(&pc))?;
    Ok(Json(shape::agent(agent)))
}

/// Says when an agent has shown life
///
/// Within the last day, as this server has heard it since it started: how often in each five minutes.
#[utoipa::path(
    get, path = "/api/agents/{pc_id}/heartbeats", operation_id = "agent_heartbeats", tag = "agents",
    params(("pc_id" = String, Path, description = "The agent")),
    responses(
        (status = 200, description = "The spans, oldest first", body = api::Heartbeats),
        (status = 404, description = "No such agent has reported"),
    )
)]
pub(super) async fn heartbeats(
    State(app): State<App>,
    Path(pc): Path<PcId>,
) -> Result<Json<api::Heartbeats>, Problem> {
    let services = &app.services;
    if services.store.agent(&pc).await?.is_none() {
        return Err(unknown(&pc));
    }
    Ok(Json(services.heartbeats.of(&pc, services.clock.now())))
}

fn unknown(pc: &PcId) -> Problem {
    Error::NotFound {
        what: "agent",
        id: pc.to_string(),
    }
    .into()
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
