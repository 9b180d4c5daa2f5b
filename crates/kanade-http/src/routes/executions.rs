//! Executions: fire a job, watch where it stands, kill it.

use std::sync::Arc;

use axum::{Json, extract::State, response::IntoResponse};
use http::{HeaderValue, StatusCode};
use kanade_core::{Error, Fires, Kills, shape};
use kanade_model::{Caller, ExecId, ExecutionStatus, FanoutPlan, JobId, TargetState, api};
use kanade_ports::{ExecutionQuery, ExecutionStore, MAX_LIMIT, RunQuery, TargetQuery, TextFilter};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{self, IdempotencyKey, Linked, PageParams, PageRequest, Path, Query, REPLAYED, parsed},
    problem::Problem,
};

const LIST: &str = "executions";
const DEFAULT_LIMIT: usize = 50;
const DEFAULT_TARGETS: usize = 100;

/// Fires a job
///
/// With an `Idempotency-Key`, a repetition answers what the first request led to and fires nothing.
#[utoipa::path(
    post, path = "/api/exec/{job_id}", operation_id = "fire", tag = "executions",
    params(
        ("job_id" = String, Path, description = "The job"),
        IdempotencyKey,
    ),
    request_body = FanoutPlan,
    responses(
        (status = 200, description = "It is recorded and on its way", body = api::Fired,
            headers(("Idempotency-Replayed" = String, description = "`true` when this was answered before"))),
        (status = 400, description = "The plan cannot be read or aims at nobody, or a parameter does not fit"),
        (status = 404, description = "No such job"),
        (status = 409, description = "The job is revoked"),
        (status = 422, description = "The key came with another request before"),
    )
)]
pub(super) async fn fire(
    State(fires): State<Fires>,
    caller: Caller,
    key: IdempotencyKey,
    Path(job): Path<JobId>,
    extract::Json(plan): extract::Json<FanoutPlan>,
) -> Result<impl IntoResponse, Problem> {
    let repeatable = key.repeatable(&caller, &job, &plan);
    let firing = match fires.firing(&job, &plan, &caller, repeatable).await {
        Err(Error::KeyReused(_)) => return Err(Error::KeyReused(key.as_written().to_owned()).into()),
        firing => firing?,
    };
    let replayed = firing
        .repeated
        .then_some([(REPLAYED, HeaderValue::from_static("true"))]);
    Ok((replayed, Json(firing.fired)))
}

/// Which executions are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Of this job.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// With this status.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    status: Option<ExecutionStatus>,
}

/// Lists executions
#[utoipa::path(
    get, path = "/api/executions", operation_id = "list_executions", tag = "executions",
    params(PageParams, Filter),
    responses(
        (status = 200, description = "Newest first, 50 unless `limit` says otherwise", body = Vec<api::Execution>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn list(
    State(store): State<Arc<dyn ExecutionStore>>,
    page: PageRequest,
    Query(filter): Query<Filter>,
) -> Result<Linked<Vec<api::Execution>>, Problem> {
    let query = ExecutionQuery {
        job_id: filter.job_id,
        status: filter.status,
        limit: page.limit().unwrap_or(DEFAULT_LIMIT),
        after: page.after(LIST)?,
    };
    let found = store.executions(&query).await?;
    Ok(page.answer(LIST, found.map(shape::listed)))
}

/// Shows an execution with its newest runs
#[utoipa::path(
    get, path = "/api/executions/{exec_id}", operation_id = "get_execution", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution")),
    responses(
        (status = 200, description = "The execution", body = api::ExecutionDetail),
        (status = 404, description = "No such execution"),
    )
)]
pub(super) async fn get(
    State(store): State<Arc<dyn ExecutionStore>>,
    Path(id): Path<ExecId>,
) -> Result<Json<api::ExecutionDetail>, Problem> {
    let execution = store.execution(&id).await?.ok_or_else(|| unknown(&id))?;
    let query = RunQuery {
        exec_id: Some(TextFilter::Exact(id.to_string())),
        limit: MAX_LIMIT,
        ..RunQuery::default()
    };
    let runs = store.runs(&query).await?;
    let order = store.order(&id).await?;
    Ok(Json(api::ExecutionDetail {
        execution: shape::execution(execution),
        results: runs
            .items
            .into_iter()
            .map(|record| shape::run_head(record.run))
            .collect(),
        params: order.map(|order| order.params.shown()).unwrap_or_default(),
    }))
}

/// Kills an execution
///
/// Nothing more of it is sent, and every agent that runs it is told to end it, until each has answered or is taken
/// to be unreachable. One that is final already is left alone.
#[utoipa::path(
    post, path = "/api/executions/{exec_id}/kill", operation_id = "kill_execution", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution")),
    responses(
        (status = 204, description = "The kill is recorded and on its way"),
        (status = 404, description = "No such execution"),
    )
)]
pub(super) async fn kill(
    State(kills): State<Kills>,
    caller: Caller,
    Path(id): Path<ExecId>,
) -> Result<StatusCode, Problem> {
    kills.execution(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Kills executions by what they have in common
///
/// Every execution in flight of a job, with a member of a group or with one agent that is not at its end, or all of them. A kill is
/// of whole executions: it also ends what they run on other agents. With `dry_run` nothing is killed.
#[utoipa::path(
    post, path = "/api/kill", operation_id = "kill", tag = "executions",
    request_body = api::KillRequest,
    responses(
        (status = 200, description = "The kills are recorded and on their way", body = api::Killed),
        (status = 400, description = "Not exactly one thing is named, or all without `confirm`"),
    )
)]
pub(super) async fn kill_many(
    State(kills): State<Kills>,
    caller: Caller,
    extract::Json(request): extract::Json<api::KillRequest>,
) -> Result<Json<api::Killed>, Problem> {
    Ok(Json(kills.many(&request, &caller).await?))
}

/// Which targets are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TargetFilter {
    /// In this state.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    state: Option<TargetState>,
}

/// Lists where an execution stands on each agent
#[utoipa::path(
    get, path = "/api/executions/{exec_id}/targets", operation_id = "list_targets", tag = "executions",
    params(("exec_id" = String, Path, description = "The execution"), PageParams, TargetFilter),
    responses(
        (status = 200, description = "By agent, 100 unless `limit` says otherwise", body = Vec<api::ExecutionTarget>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
        (status = 404, description = "No such execution"),
    )
)]
pub(super) async fn targets(
    State(store): State<Arc<dyn ExecutionStore>>,
    Path(id): Path<ExecId>,
    page: PageRequest,
    Query(filter): Query<TargetFilter>,
) -> Result<Linked<Vec<api::ExecutionTarget>>, Problem> {
    let list = format!("targets/{id}");
    let query = TargetQuery {
        exec_id: id.clone(),
        state: filter.state,
        limit: page.limit().unwrap_or(DEFAULT_TARGETS),
        after: page.after(&list)?,
    };
    let found = store.targets(&query).await?;
    if found.items.is_empty() && store.execution(&id).await?.is_none() {
        return Err(unknown(&id));
    }
    Ok(page.answer(&list, found.map(shape::target)))
}

fn unknown(id: &ExecId) -> Problem {
    Error::NotFound {
        what: "execution",
        id: id.to_string(),
    }
    .into()
}
