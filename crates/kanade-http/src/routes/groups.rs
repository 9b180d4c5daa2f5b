//! The groups of an agent.

use axum::{Json, extract::State};
use kanade_core::Agents;
use kanade_model::{Caller, GroupName, PcId, api};

use crate::{
    extract::{self, Path},
    problem::Problem,
};

/// Shows the groups of an agent
#[utoipa::path(
    get, path = "/api/agents/{pc_id}/groups", operation_id = "get_groups", tag = "groups",
    params(("pc_id" = String, Path, description = "The agent, known or not")),
    responses((status = 200, description = "In alphabetical order", body = api::Groups))
)]
pub(super) async fn get(
    State(agents): State<Agents>,
    Path(pc): Path<PcId>,
) -> Result<Json<api::Groups>, Problem> {
    Ok(Json(agents.groups(&pc).await?))
}

/// Sets the groups of an agent
#[utoipa::path(
    put, path = "/api/agents/{pc_id}/groups", operation_id = "set_groups", tag = "groups",
    params(("pc_id" = String, Path, description = "The agent, known or not")),
    request_body = api::Groups,
    responses(
        (status = 200, description = "The groups it is in now", body = api::Groups),
        (status = 400, description = "A name is not valid"),
    )
)]
pub(super) async fn put(
    State(agents): State<Agents>,
    caller: Caller,
    Path(pc): Path<PcId>,
    extract::Json(groups): extract::Json<api::Groups>,
) -> Result<Json<api::Groups>, Problem> {
    Ok(Json(agents.set_groups(&pc, groups, &caller).await?))
}

/// Puts an agent into a group
#[utoipa::path(
    post, path = "/api/agents/{pc_id}/groups", operation_id = "join_group", tag = "groups",
    params(("pc_id" = String, Path, description = "The agent, known or not")),
    request_body = api::GroupJoin,
    responses(
        (status = 200, description = "The groups it is in now", body = api::Groups),
        (status = 400, description = "The name is not valid"),
    )
)]
pub(super) async fn join(
    State(agents): State<Agents>,
    caller: Caller,
    Path(pc): Path<PcId>,
    extract::Json(join): extract::Json<api::GroupJoin>,
) -> Result<Json<api::Groups>, Problem> {
    Ok(Json(agents.join(&pc, &join.group, &caller).await?))
}

/// Takes an agent out of a group
#[utoipa::path(
    delete, path = "/api/agents/{pc_id}/groups/{group}", operation_id = "leave_group", tag = "groups",
    params(
        ("pc_id" = String, Path, description = "The agent, known or not"),
        ("group" = String, Path, description = "The group; that the agent is in it is not needed"),
    ),
    responses((status = 200, description = "The groups it is in now", body = api::Groups))
)]
pub(super) async fn leave(
    State(agents): State<Agents>,
    caller: Caller,
    Path((pc, group)): Path<(PcId, GroupName)>,
) -> Result<Json<api::Groups>, Problem> {
    Ok(Json(agents.leave(&pc, &group, &caller).await?))
}
