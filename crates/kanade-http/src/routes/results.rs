//! Runs with their output; the wire calls a run a result.

use std::{str::FromStr, sync::Arc};

use axum::{Json, extract::State};
use kanade_core::{Error, shape};
use kanade_model::{Invalid, ResultId, Timestamp, api};
use kanade_ports::{ExecutionStore, Position, RunFilter, RunQuery};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{Linked, PageParams, PageRequest, Path, Query, filter, parsed},
    problem::Problem,
};

const LIST: &str = "results";
const DEFAULT_LIMIT: usize = 50;

/// Which runs are wanted. The texts are regular expressions, not anchored.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// On agents like this.
    #[serde(default)]
    pc_id: Option<String>,
    /// Of jobs like this.
    #[serde(default)]
    job_id: Option<String>,
    /// Of executions like this.
    #[serde(default)]
    exec_id: Option<String>,
    /// With such a standard output.
    #[serde(default)]
    stdout: Option<String>,
    /// With such a standard error.
    #[serde(default)]
    stderr: Option<String>,
    /// With such an outcome.
    #[serde(default, deserialize_with = "parsed")]
    #[param(inline)]
    status: Option<Status>,
    /// Started at or after this moment (RFC 3339).
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Started before this moment (RFC 3339).
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Whether the output is wanted; without it, `stdout` and `stderr` are empty. `true` when not given.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    output: Option<bool>,
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
enum Status {
    Success,
    Failure,
    Running,
}

impl FromStr for Status {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "success" => Ok(Self::Success),
            "failure" => Ok(Self::Failure),
            "running" => Ok(Self::Running),
            _ => Err("`success`, `failure` or `running` is wanted"),
        }
    }
}

impl From<Status> for RunFilter {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Failure => Self::Failure,
            Status::Running => Self::Running,
        }
    }
}

impl Filter {
    fn query(self, limit: usize, after: Option<Position>) -> Result<RunQuery, Invalid> {
        Ok(RunQuery {
            pc_id: filter("pc_id", self.pc_id)?,
            job_id: filter("job_id", self.job_id)?,
            exec_id: filter("exec_id", self.exec_id)?,
            stdout: filter("stdout", self.stdout)?,
            stderr: filter("stderr", self.stderr)?,
            status: self.status.map(Into::into),
            since: self.since,
            with_output: self.output.unwrap_or(true),
            limit,
            // Whoever is further than `until` stays there.
            after: [after, self.until.map(Position::before_all_runs_at)]
                .into_iter()
                .flatten()
                .min(),
        })
    }
}

/// Lists runs with their output
///
/// With a text filter, a page looks at 10,000 runs at most: it may be empty and yet have a next one.
#[utoipa::path(
    get, path = "/api/results", operation_id = "list_results", tag = "results",
    params(PageParams, Filter),
    responses(
        (status = 200, description = "Newest first, 50 unless `limit` says otherwise, 4 MiB at most", body = Vec<api::Run>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn list(
    State(store): State<Arc<dyn ExecutionStore>>,
    page: PageRequest,
    Query(filter): Query<Filter>,
) -> Result<Linked<Vec<api::Run>>, Problem> {
    let query = filter.query(page.limit().unwrap_or(DEFAULT_LIMIT), page.after(LIST)?)?;
    let found = store.runs(&query).await?;
    Ok(page.answer(LIST, found.map(shape::run)))
}

/// Shows a run with its output
#[utoipa::path(
    get, path = "/api/results/{result_id}", operation_id = "get_result", tag = "results",
    params(("result_id" = uuid::Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "The run", body = api::Run),
        (status = 404, description = "No such run"),
    )
)]
pub(super) async fn get(
    State(store): State<Arc<dyn ExecutionStore>>,
    Path(id): Path<ResultId>,
) -> Result<Json<api::Run>, Problem> {
    let record = store.run(&id).await?.ok_or_else(|| Error::NotFound {
        what: "result",
        id: id.to_string(),
    })?;
    Ok(Json(shape::run(record)))
}
