//! The configuration of agents: what is set for all, for a group, for one agent, and what comes of it.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use kanade_core::{Agents, Error, Scope};
use kanade_model::{Caller, GroupName, PcId, api};

use crate::{
    extract::{self, ETag, IfMatch, IfNoneMatch, Path, Unless},
    problem::Problem,
};

/// Shows what holds for an agent
#[utoipa::path(
    get, path = "/api/agents/{pc_id}/effective_config", operation_id = "effective_config", tag = "config",
    params(("pc_id" = String, Path, description = "The agent, known or not")),
    responses((status = 200, description = "All scopes laid over each other", body = api::AgentConfig))
)]
pub(super) async fn effective(
    State(agents): State<Agents>,
    Path(pc_id): Path<PcId>,
) -> Result<Json<api::AgentConfig>, Problem> {
    let (effective, warnings) = agents.effective_config(&pc_id).await?;
    Ok(Json(api::AgentConfig {
        pc_id,
        effective,
        warnings,
    }))
}

/// Shows what is set for all agents
#[utoipa::path(
    get, path = "/api/config", operation_id = "get_config", tag = "config",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "Only what is set", body = api::Config,
            headers(("ETag" = String, description = "The revision; none where nothing is set"))),
        (status = 304, description = "The caller has it"),
    )
)]
pub(super) async fn get_global(
    State(agents): State<Agents>,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    show(&agents, &Scope::Global, known).await
}

/// Sets what holds for all agents
#[utoipa::path(
    put, path = "/api/config", operation_id = "set_config", tag = "config",
    params(IfMatch),
    request_body = api::Config,
    responses(
        (status = 200, description = "What is set now", body = api::Config,
            headers(("ETag" = String, description = "The revision"))),
        (status = 400, description = "A value is not valid"),
        (status = 412, description = "The condition does not hold"),
    )
)]
pub(super) async fn put_global(
    State(agents): State<Agents>,
    caller: Caller,
    condition: IfMatch,
    extract::Json(config): extract::Json<api::Config>,
) -> Result<(ETag, Json<api::Config>), Problem> {
    set(&agents, &Scope::Global, config, &condition, &caller).await
}

/// Shows what is set for a group
#[utoipa::path(
    get, path = "/api/groups/{name}/config", operation_id = "get_group_config", tag = "config",
    params(("name" = String, Path, description = "The group"), IfNoneMatch),
    responses(
        (status = 200, description = "Only what is set", body = api::Config,
            headers(("ETag" = String, description = "The revision; none where nothing is set"))),
        (status = 304, description = "The caller has it"),
    )
)]
pub(super) async fn get_group(
    State(agents): State<Agents>,
    Path(group): Path<GroupName>,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    show(&agents, &Scope::Group(group), known).await
}

/// Sets what holds for a group
#[utoipa::path(
    put, path = "/api/groups/{name}/config", operation_id = "set_group_config", tag = "config",
    params(("name" = String, Path, description = "The group"), IfMatch),
    request_body = api::Config,
    responses(
        (status = 200, description = "What is set now", body = api::Config,
            headers(("ETag" = String, description = "The revision"))),
        (status = 400, description = "A value is not valid"),
        (status = 412, description = "The condition does not hold"),
    )
)]
pub(super) async fn put_group(
    State(agents): State<Agents>,
    caller: Caller,
    Path(group): Path<GroupName>,
    condition: IfMatch,
    extract::Json(config): extract::Json<api::Config>,
) -> Result<(ETag, Json<api::Config>), Problem> {
    set(&agents, &Scope::Group(group), config, &condition, &caller).await
}

/// Removes what is set for a group
#[utoipa::path(
    delete, path = "/api/groups/{name}/config", operation_id = "delete_group_config", tag = "config",
    params(("name" = String, Path, description = "The group")),
    responses((status = 204, description = "Nothing is set for it"))
)]
pub(super) async fn delete_group(
    State(agents): State<Agents>,
    caller: Caller,
    Path(group): Path<GroupName>,
) -> Result<StatusCode, Problem> {
    agents.delete_config(&Scope::Group(group), &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows what is set for one agent
#[utoipa::path(
    get, path = "/api/pcs/{pc_id}/config", operation_id = "get_pc_config", tag = "config",
    params(("pc_id" = String, Path, description = "The agent, known or not"), IfNoneMatch),
    responses(
        (status = 200, description = "Only what is set", body = api::Config,
            headers(("ETag" = String, description = "The revision; none where nothing is set"))),
        (status = 304, description = "The caller has it"),
    )
)]
pub(super) async fn get_pc(
    State(agents): State<Agents>,
    Path(pc): Path<PcId>,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    show(&agents, &Scope::Pc(pc), known).await
}

/// Sets what holds for one agent
#[utoipa::path(
    put, path = "/api/pcs/{pc_id}/config", operation_id = "set_pc_config", tag = "config",
    params(("pc_id" = String, Path, description = "The agent, known or not"), IfMatch),
    request_body = api::Config,
    responses(
        (status = 200, description = "What is set now", body = api::Config,
            headers(("ETag" = String, description = "The revision"))),
        (status = 400, description = "A value is not valid"),
        (status = 412, description = "The condition does not hold"),
    )
)]
pub(super) async fn put_pc(
    State(agents): State<Agents>,
    caller: Caller,
    Path(pc): Path<PcId>,
    condition: IfMatch,
    extract::Json(config): extract::Json<api::Config>,
) -> Result<(ETag, Json<api::Config>), Problem> {
    set(&agents, &Scope::Pc(pc), config, &condition, &caller).await
}

/// Removes what is set for one agent
#[utoipa::path(
    delete, path = "/api/pcs/{pc_id}/config", operation_id = "delete_pc_config", tag = "config",
    params(("pc_id" = String, Path, description = "The agent, known or not")),
    responses((status = 204, description = "Nothing is set for it"))
)]
pub(super) async fn delete_pc(
    State(agents): State<Agents>,
    caller: Caller,
    Path(pc): Path<PcId>,
) -> Result<StatusCode, Problem> {
    agents.delete_config(&Scope::Pc(pc), &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(agents: &Agents, scope: &Scope, known: IfNoneMatch) -> Result<Response, Problem> {
    Ok(match agents.stored_config(scope).await? {
        Some(stored) => Unless(known, ETag(stored.revision), Json(stored.document)).into_response(),
        None => Json(api::Config::default()).into_response(),
    })
}

async fn set(
    agents: &Agents,
    scope: &Scope,
    config: api::Config,
    condition: &IfMatch,
    caller: &Caller,
) -> Result<(ETag, Json<api::Config>), Problem> {
    let current = async {
        let stored = agents.stored_config(scope).await?;
        stored.map(|stored| stored.revision).ok_or(Error::NotFound {
            what: "configuration",
            id: String::new(),
        })
    };
    let when = condition.precondition(current).await?;
    let revision = condition.judge(agents.set_config_when(scope, &config, when, caller).await)?;
    Ok((ETag(revision), Json(config)))
}
