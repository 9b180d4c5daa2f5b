//! The groups of an agent.

use std::slice;

use axum::{Json, extract::State};
use kanade_core::Agents;
use kanade_model::{Caller, GroupName, PcId, api};

use crate::{
    extract::{self, Linked, PageParams, PageRequest, Path, by_id},
    problem::Problem,
};

const GROUPS: &str = "groups";
const MEMBERS: &str = "members";
/// About what a name takes in an answer, in bytes.
const ENVELOPE: usize = 64;

/// Lists the groups that have members
#[utoipa::path(
    get, path = "/api/groups", operation_id = "list_groups", tag = "groups",
    params(PageParams),
    responses((
        status = 200, description = "By name; all that fit 4 MiB unless `limit` says less", body = Vec<api::Group>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn list(
    State(agents): State<Agents>,
    page: PageRequest,
) -> Result<Linked<Vec<api::Group>>, Problem> {
    let (groups, after) = (agents.all_groups(), page.after(GROUPS)?);
    let name = |group: &api::Group| group.name.to_string();
    let bytes = |group: &api::Group| ENVELOPE + group.name.as_str().len();
    let groups = by_id(groups, page.limit(), after.as_ref(), name, bytes);
    Ok(page.answer(GROUPS, groups))
}

/// Lists the agents in a group
#[utoipa::path(
    get, path = "/api/groups/{name}/members", operation_id = "list_members", tag = "groups",
    params(("name" = String, Path, description = "The group"), PageParams),
    responses((
        status = 200, description = "Ids of agents, known or not; all that fit 4 MiB unless `limit` says less",
        body = Vec<PcId>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn members(
    State(agents): State<Agents>,
    Path(group): Path<GroupName>,
    page: PageRequest,
) -> Result<Linked<Vec<PcId>>, Problem> {
    let after = page.after(MEMBERS)?;
    let members = agents.members(slice::from_ref(&group)).into_iter().collect();
    let bytes = |pc: &PcId| ENVELOPE + pc.as_str().len();
    let members = by_id(members, page.limit(), after.as_ref(), ToString::to_string, bytes);
    Ok(page.answer(MEMBERS, members))
}

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
