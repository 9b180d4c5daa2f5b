//! Jobs: the documents, and the kill of whatever runs of one.

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use kanade_core::{Jobs, Kills, ListedJob};
use kanade_model::{Caller, JobId, Manifest, Param, ParamValue, api};

use crate::{
    extract::{
        DeleteIf, Document, ETag, IfMatch, IfNoneMatch, Linked, PageParams, PageRequest, Path, Unless, by_id,
    },
    problem::Problem,
};

const LIST: &str = "jobs";
/// About what a job takes in an answer besides its script, in bytes.
const ENVELOPE: usize = 1024;

/// Lists the jobs, with what is live of each
#[utoipa::path(
    get, path = "/api/jobs", operation_id = "list_jobs", tag = "jobs",
    params(PageParams),
    responses((
        status = 200, description = "By id; all that fits 4 MiB unless `limit` says less", body = Vec<api::Job>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn list(
    State(jobs): State<Jobs>,
    page: PageRequest,
) -> Result<Linked<Vec<api::Job>>, Problem> {
    let after = page.after(LIST)?;
    let id = |job: &ListedJob| job.manifest.document.id.to_string();
    let bytes = |job: &ListedJob| {
        let Manifest { execute, params, .. } = &job.manifest.document;
        ENVELOPE + execute.script.len() + params.values().map(declaration).sum::<usize>()
    };
    let listed = by_id(jobs.list().await, page.limit(), after.as_ref(), id, bytes);
    Ok(page.answer(LIST, listed.map(shape)))
}

/// Stores a job
///
/// Creates it or replaces its document. A job that is revoked stays revoked. Unknown fields are refused.
#[utoipa::path(
    post, path = "/api/jobs", operation_id = "put_job", tag = "jobs",
    params(IfMatch),
    request_body(content((Manifest = "application/json"), (Manifest = "application/yaml"))),
    responses(
        (status = 200, description = "It is stored", body = api::JobStored,
            headers(("ETag" = String, description = "The revision of the document"))),
        (status = 400, description = "The manifest cannot be read or is not valid"),
        (status = 412, description = "The condition does not hold"),
        (status = 413, description = "The manifest is larger than 512 KiB"),
        (status = 415, description = "Neither JSON nor YAML"),
    )
)]
pub(super) async fn put(
    State(jobs): State<Jobs>,
    caller: Caller,
    condition: IfMatch,
    Document(manifest): Document<Manifest>,
) -> Result<impl IntoResponse, Problem> {
    let current = async { jobs.get(&manifest.id).await.map(|job| job.manifest.revision) };
    let when = condition.precondition(current).await?;
    let revision = condition.judge(jobs.put(&manifest, when, &caller).await)?;
    let stored = api::JobStored {
        inventory: manifest.inventory.is_some(),
        id: manifest.id,
        version: manifest.version,
        description: manifest.description,
    };
    Ok((ETag(revision), Json(stored)))
}

/// Shows a job
///
/// The entity tag stands for its manifest; what is live of it changes without it.
#[utoipa::path(
    get, path = "/api/jobs/{id}", operation_id = "get_job", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        IfNoneMatch,
    ),
    responses(
        (status = 200, description = "The job", body = api::Job,
            headers(("ETag" = String, description = "The revision of the document"))),
        (status = 304, description = "The caller has it"),
        (status = 404, description = "No such job"),
    )
)]
pub(super) async fn get(
    State(jobs): State<Jobs>,
    Path(id): Path<JobId>,
    known: IfNoneMatch,
) -> Result<impl IntoResponse, Problem> {
    let job = jobs.get(&id).await?;
    let tag = ETag(job.manifest.revision);
    Ok(Unless(known, tag, Json(shape(job))))
}

/// Shows the newest versions of a job
#[utoipa::path(
    get, path = "/api/jobs/{id}/history", operation_id = "job_history", tag = "jobs",
    params(("id" = String, Path, description = "The job; it may have been deleted")),
    responses(
        (status = 200, description = "Newest first, five at most", body = Vec<api::JobVersion>),
        (status = 404, description = "There never was such a job"),
    )
)]
pub(super) async fn history(
    State(jobs): State<Jobs>,
    Path(id): Path<JobId>,
) -> Result<Json<Vec<api::JobVersion>>, Problem> {
    let versions = jobs.history(&id).await?;
    let version = |stored: kanade_core::Stored<Manifest>| api::JobVersion {
        revision: stored.revision.to_string(),
        manifest: stored.document,
    };
    Ok(Json(versions.into_iter().map(version).collect()))
}

/// Deletes a job that no schedule refers to
///
/// Revokes it first, so that agents do not start what is on its way to them.
#[utoipa::path(
    delete, path = "/api/jobs/{id}", operation_id = "delete_job", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        DeleteIf,
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such job"),
        (status = 409, description = "A schedule refers to it"),
        (status = 412, description = "The condition does not hold"),
        (status = 500, description = "It was revoked and could not be deleted"),
    )
)]
pub(super) async fn delete(
    State(jobs): State<Jobs>,
    caller: Caller,
    DeleteIf(condition): DeleteIf,
    Path(id): Path<JobId>,
) -> Result<StatusCode, Problem> {
    let current = async { jobs.get(&id).await.map(|job| job.manifest.revision) };
    let when = condition.precondition(current).await?;
    condition.judge(jobs.delete(&id, when, &caller).await)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Kills every execution of a job that is not final
#[utoipa::path(
    post, path = "/api/jobs/{id}/kill", operation_id = "kill_job", tag = "jobs",
    params(("id" = String, Path, description = "The job, known or not")),
    responses((status = 204, description = "The kills are recorded and on their way; there may have been nothing to kill"))
)]
pub(super) async fn kill(
    State(kills): State<Kills>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Result<StatusCode, Problem> {
    kills.job(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// About how many bytes the declaration of a parameter takes.
fn declaration(param: &Param) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let default = match &param.default {
        Some(ParamValue::Text(text)) => text.len(),
        _ => 0,
    };
    let choices: usize = param.choices.iter().map(String::len).sum();
    ENVELOPE / 8 + length(&param.description) + length(&param.pattern) + choices + default
}

fn shape(job: ListedJob) -> api::Job {
    api::Job {
        manifest: job.manifest.document,
        live: api::Live {
            running: job.live.running,
            pending: job.live.pending,
        },
        script_status: Some(job.status),
    }
}
