//! Executions that wait: pause, resume, abort.

use axum::extract::State;
use http::StatusCode;
use kanade_core::Steering;
use kanade_model::{Caller, ExecId};

use crate::{extract::Path, problem::Problem};

/// Pauses an execution
///
/// Nothing of it that is still to be sent goes out until it is resumed, and nothing of it expires meanwhile. What runs goes on.
#[utoipa::path(
    post, path = "/api/executions/{exec_id}/pause", operation_id = "pause_execution", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution")),
    responses(
        (status = 204, description = "It is paused"),
        (status = 404, description = "No such execution"),
        (status = 409, description = "Nothing of it is still to be sent"),
    )
)]
pub(super) async fn pause(
    State(steering): State<Steering>,
    caller: Caller,
    Path(id): Path<ExecId>,
) -> Result<StatusCode, Problem> {
    steering.pause(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Resumes a paused execution
///
/// What was due meanwhile goes out at once; what is due later keeps its time. A gate that has failed holds nothing any more.
#[utoipa::path(
    post, path = "/api/executions/{exec_id}/resume", operation_id = "resume_execution", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution")),
    responses(
        (status = 204, description = "It goes on"),
        (status = 404, description = "No such execution"),
        (status = 409, description = "It is not paused"),
    )
)]
pub(super) async fn resume(
    State(steering): State<Steering>,
    caller: Caller,
    Path(id): Path<ExecId>,
) -> Result<StatusCode, Problem> {
    steering.resume(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Aborts an execution
///
/// What has not been sent is withdrawn for good; what has been sent goes on, and a kill ends that. One that was aborted or
/// killed before is left alone.
#[utoipa::path(
    post, path = "/api/executions/{exec_id}/abort", operation_id = "abort_execution", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution")),
    responses(
        (status = 204, description = "Nothing more of it is sent"),
        (status = 404, description = "No such execution"),
        (status = 409, description = "It is over"),
    )
)]
pub(super) async fn abort(
    State(steering): State<Steering>,
    caller: Caller,
    Path(id): Path<ExecId>,
) -> Result<StatusCode, Problem> {
    steering.abort(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
