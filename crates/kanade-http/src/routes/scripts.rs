//! Whether agents may start the scripts of jobs.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
};

use axum::{Json, extract::State};
use http::StatusCode;
use kanade_core::Jobs;
use kanade_model::{Caller, JobId, ScriptStatus};

use crate::{extract::Path, problem::Problem};

/// Lists the status of every job that has one
#[utoipa::path(
    get, path = "/api/scripts/status", operation_id = "script_status", tag = "scripts",
    responses((
        status = 200, description = "By job; a job that is not named is active", body = BTreeMap<String, ScriptStatus>
    ))
)]
pub(super) fn status(State(jobs): State<Jobs>) -> Ready<Json<BTreeMap<JobId, ScriptStatus>>> {
    ready(Json(jobs.statuses()))
}

/// Forbids agents to start a job
#[utoipa::path(
    post, path = "/api/scripts/{job_id}/revoke", operation_id = "revoke", tag = "scripts",
    params(("job_id" = String, Path, description = "The job, known or not")),
    responses((status = 204, description = "It is revoked"))
)]
pub(super) async fn revoke(
    State(jobs): State<Jobs>,
    caller: Caller,
    Path(job): Path<JobId>,
) -> Result<StatusCode, Problem> {
    jobs.set_status(&job, ScriptStatus::Revoked, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Allows agents to start a job again
#[utoipa::path(
    post, path = "/api/scripts/{job_id}/unrevoke", operation_id = "unrevoke", tag = "scripts",
    params(("job_id" = String, Path, description = "The job, known or not")),
    responses((status = 204, description = "It is active"))
)]
pub(super) async fn unrevoke(
    State(jobs): State<Jobs>,
    caller: Caller,
    Path(job): Path<JobId>,
) -> Result<StatusCode, Problem> {
    jobs.set_status(&job, ScriptStatus::Active, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
