//! One script, once, on one agent, while the caller waits.

use axum::{Json, extract::State};
use kanade_core::Agents;
use kanade_model::{Caller, ExecResult, api};

use crate::{extract, problem::Problem};

/// Runs a script once on one agent and waits for its end
#[utoipa::path(
    post, path = "/api/run", operation_id = "run", tag = "agents",
    request_body = api::RunRequest,
    responses(
        (status = 200, description = "It has ended", body = ExecResult),
        (status = 400, description = "The request cannot be read or is not valid"),
        (status = 408, description = "No result came within the timeout and 10 seconds; it is recorded if it still comes"),
        (status = 413, description = "The script is too large for a message"),
    )
)]
pub(super) async fn run(
    State(agents): State<Agents>,
    caller: Caller,
    extract::Json(request): extract::Json<api::RunRequest>,
) -> Result<Json<ExecResult>, Problem> {
    Ok(Json(agents.run(&request, &caller).await?))
}
