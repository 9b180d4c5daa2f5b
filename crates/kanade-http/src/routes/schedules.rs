//! Schedules, as documents.

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use kanade_core::{Holds, Schedules};
use kanade_model::{Caller, Schedule, ScheduleId, Target, api};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{
        DeleteIf, Document, ETag, IfMatch, IfNoneMatch, Linked, PageParams, PageRequest, Path, Query, Unless,
        by_id, parsed,
    },
    problem::Problem,
};

const LIST: &str = "schedules";
/// About what a schedule takes in an answer besides its targets, in bytes.
const ENVELOPE: usize = 512;
/// About what naming an agent or a group takes.
const NAME: usize = 40;

/// Lists the schedules
#[utoipa::path(
    get, path = "/api/schedules", operation_id = "list_schedules", tag = "schedules",
    params(PageParams),
    responses((
        status = 200,
        description = "By id; all that fits 4 MiB unless `limit` says less. What is not a schedule is listed with its `problem`",
        body = Vec<api::ScheduleListed>,
        headers(("Link" = String, description = "`rel=\"next\"`: the rest"))
    ))
)]
pub(super) async fn list(
    State(schedules): State<Schedules>,
    page: PageRequest,
) -> Result<Linked<Vec<api::ScheduleListed>>, Problem> {
    let after = page.after(LIST)?;
    let holds = schedules.holds().await?;
    let readable = schedules.list().into_iter().map(|stored| Ok(stored.document));
    let mut all: Vec<Result<Schedule, (String, String)>> = readable
        .chain(schedules.unreadable().into_iter().map(Err))
        .collect();
    let id = |one: &Result<Schedule, (String, String)>| match one {
        Ok(schedule) => schedule.id.to_string(),
        Err((key, _)) => key.clone(),
    };
    all.sort_by_cached_key(id);
    let bytes = |one: &Result<Schedule, (String, String)>| {
        let target = one.as_ref().map(|schedule| &schedule.target);
        ENVELOPE + NAME * target.map_or(0, |target| target.pcs.len() + target.groups.len())
    };
    let listed = by_id(all, page.limit(), after.as_ref(), id, bytes);
    let shape = |one| match one {
        Ok(schedule) => api::ScheduleListed::Schedule(Box::new(shown(schedule, &schedules, &holds))),
        Err((id, problem)) => api::ScheduleListed::Unreadable(unreadable(id, problem)),
    };
    Ok(page.answer(LIST, listed.map(shape)))
}

fn unreadable(id: String, problem: String) -> api::UnreadableSchedule {
    api::UnreadableSchedule {
        id,
        problem,
        cron: String::new(),
        job_id: String::new(),
        target: Target::default(),
        enabled: false,
    }
}

/// Stores a schedule
///
/// Creates it or replaces its document. Its job must exist. Unknown fields are refused.
#[utoipa::path(
    post, path = "/api/schedules", operation_id = "put_schedule", tag = "schedules",
    params(IfMatch),
    request_body(content((Schedule = "application/json"), (Schedule = "application/yaml"))),
    responses(
        (status = 200, description = "It is stored", body = api::ScheduleStored,
            headers(("ETag" = String, description = "The revision of the document"))),
        (status = 400, description = "The schedule cannot be read or is not valid, or its job does not exist"),
        (status = 412, description = "The condition does not hold"),
        (status = 413, description = "The schedule is larger than 512 KiB"),
        (status = 415, description = "Neither JSON nor YAML"),
    )
)]
pub(super) async fn put(
    State(schedules): State<Schedules>,
    caller: Caller,
    condition: IfMatch,
    Document(schedule): Document<Schedule>,
) -> Result<impl IntoResponse, Problem> {
    let current = async { schedules.get(&schedule.id).await.map(|stored| stored.revision) };
    let when = condition.precondition(current).await?;
    let revision = condition.judge(schedules.put(&schedule, when, &caller).await)?;
    let stored = api::ScheduleStored {
        id: schedule.id,
        cron: schedule.cron,
        enabled: schedule.enabled,
        job_id: schedule.job_id,
    };
    Ok((ETag(revision), Json(stored)))
}

/// Shows a schedule
#[utoipa::path(
    get, path = "/api/schedules/{id}", operation_id = "get_schedule", tag = "schedules",
    params(
        ("id" = String, Path, description = "The schedule"),
        IfNoneMatch,
    ),
    responses(
        (status = 200, description = "The schedule", body = api::ScheduleShown,
            headers(("ETag" = String, description = "The revision of the document"))),
        (status = 304, description = "The caller has it"),
        (status = 404, description = "No such schedule"),
    )
)]
pub(super) async fn get(
    State(schedules): State<Schedules>,
    Path(id): Path<ScheduleId>,
    known: IfNoneMatch,
) -> Result<impl IntoResponse, Problem> {
    let (stored, holds) = (schedules.get(&id).await?, schedules.holds().await?);
    let schedule = shown(stored.document, &schedules, &holds);
    Ok(Unless(known, ETag(stored.revision), Json(schedule)))
}

fn shown(schedule: Schedule, schedules: &Schedules, holds: &Holds) -> api::ScheduleShown {
    api::ScheduleShown {
        held: holds.on(&schedule),
        next: schedules.next(&schedule),
        problem: schedule.check().err().map(|invalid| invalid.to_string()),
        schedule,
    }
}

/// Deletes a schedule
#[utoipa::path(
    delete, path = "/api/schedules/{id}", operation_id = "delete_schedule", tag = "schedules",
    params(
        ("id" = String, Path, description = "The schedule"),
        DeleteIf,
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such schedule"),
        (status = 412, description = "The condition does not hold"),
    )
)]
pub(super) async fn delete(
    State(schedules): State<Schedules>,
    caller: Caller,
    DeleteIf(condition): DeleteIf,
    Path(id): Path<ScheduleId>,
) -> Result<StatusCode, Problem> {
    let current = async { schedules.get(&id).await.map(|stored| stored.revision) };
    let when = condition.precondition(current).await?;
    condition.judge(schedules.delete(&id, when, &caller).await)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far a disabling goes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Disabling {
    /// Also revokes the job: agents do not start what is on its way to them.
    #[serde(default, deserialize_with = "parsed")]
    cascade: Option<bool>,
}

/// Stops a schedule from firing
#[utoipa::path(
    post, path = "/api/schedules/{id}/disable", operation_id = "disable_schedule", tag = "schedules",
    params(("id" = String, Path, description = "The schedule"), Disabling),
    responses(
        (status = 204, description = "It is disabled"),
        (status = 400, description = "`cascade` is neither `true` nor `false`"),
        (status = 404, description = "No such schedule"),
    )
)]
pub(super) async fn disable(
    State(schedules): State<Schedules>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
    Query(how): Query<Disabling>,
) -> Result<StatusCode, Problem> {
    schedules
        .disable(&id, how.cascade.unwrap_or(false), &caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
