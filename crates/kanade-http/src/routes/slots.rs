//! What schedules did and will do: slots that came, slots that come, firing out of turn, the freeze.

use axum::{Json, extract::State};
use http::StatusCode;
use kanade_core::{Freezes, Scheduler, Schedules, shape};
use kanade_model::{Caller, Freeze, Invalid, ScheduleId, Timestamp, api};
use kanade_ports::{MAX_LIMIT, SlotQuery};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{self, Linked, PageParams, PageRequest, Path, Query, parsed},
    problem::Problem,
};

const LIST: &str = "slots";
const DEFAULT_LIMIT: usize = 50;
const DEFAULT_AHEAD: usize = 10;

/// How many slots are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Count {
    /// 1 to 1,000; larger is taken as 1,000, missing as 10.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u32>, minimum = 1)]
    n: Option<usize>,
}

impl Count {
    fn get(&self) -> Result<usize, Problem> {
        match self.n {
            Some(0) => Err(Invalid::new("n", "0", "a number from 1 to 1000 is wanted").into()),
            n => Ok(n.unwrap_or(DEFAULT_AHEAD).min(MAX_LIMIT)),
        }
    }
}

/// Lists the slots of a schedule that came, and what became of them
#[utoipa::path(
    get, path = "/api/schedules/{id}/slots", operation_id = "list_slots", tag = "schedules",
    params(("id" = String, Path, description = "The schedule, also one that was deleted"), PageParams),
    responses(
        (status = 200, description = "Newest first, 50 unless `limit` says otherwise", body = Vec<api::Slot>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn list(
    State(scheduler): State<Scheduler>,
    Path(id): Path<ScheduleId>,
    page: PageRequest,
) -> Result<Linked<Vec<api::Slot>>, Problem> {
    let query = SlotQuery {
        schedule_id: id,
        limit: page.limit().unwrap_or(DEFAULT_LIMIT),
        after: page.after(LIST)?,
    };
    let slots = scheduler.slots(&query).await?;
    Ok(page.answer(LIST, slots.map(shape::slot)))
}

/// Shows when a schedule is due next
///
/// Whether it is enabled or not. A slot that lies in a freeze says so.
#[utoipa::path(
    get, path = "/api/schedules/{id}/preview", operation_id = "preview_schedule", tag = "schedules",
    params(("id" = String, Path, description = "The schedule"), Count),
    responses(
        (status = 200, description = "The next slots, by time; fewer when there are no more", body = Vec<api::SlotAhead>),
        (status = 400, description = "`n` is not valid, or the schedule is not"),
        (status = 404, description = "No such schedule"),
    )
)]
pub(super) async fn preview(
    State(scheduler): State<Scheduler>,
    Path(id): Path<ScheduleId>,
    Query(count): Query<Count>,
) -> Result<Json<Vec<api::SlotAhead>>, Problem> {
    Ok(Json(scheduler.preview(&id, count.get()?).await?))
}

/// Which time is asked about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Span {
    /// Slots after this moment; now, when missing.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Slots up to this moment; no end, when missing.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
}

/// Shows what the schedules would fire
///
/// Those that the server runs and that are enabled, as they stand now; nothing is fired.
#[utoipa::path(
    get, path = "/api/schedules/upcoming", operation_id = "list_upcoming", tag = "schedules",
    params(Span, Count),
    responses(
        (status = 200, description = "The slots of every schedule, by time, `n` at most", body = Vec<api::SlotAhead>),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn upcoming(
    State(scheduler): State<Scheduler>,
    Query(span): Query<Span>,
    Query(count): Query<Count>,
) -> Result<Json<Vec<api::SlotAhead>>, Problem> {
    let from = span.from.unwrap_or_else(|| scheduler.now());
    let until = span.until.unwrap_or(Timestamp::from_micros(i64::MAX));
    if until < from {
        let wanted = "a moment that is not before `from` is wanted";
        return Err(Invalid::new("until", until.to_string(), wanted).into());
    }
    Ok(Json(scheduler.upcoming(from, until, count.get()?).await?))
}

/// Lets a schedule fire again
///
/// Slots that passed while it was disabled are not made up for.
#[utoipa::path(
    post, path = "/api/schedules/{id}/enable", operation_id = "enable_schedule", tag = "schedules",
    params(("id" = String, Path, description = "The schedule")),
    responses(
        (status = 204, description = "It is enabled"),
        (status = 400, description = "The schedule is not valid"),
        (status = 404, description = "No such schedule"),
    )
)]
pub(super) async fn enable(
    State(schedules): State<Schedules>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<StatusCode, Problem> {
    schedules.enable(&id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fires a schedule's job now
///
/// At its whole target, whatever its mode, and also when it is disabled or frozen. This is not a slot: the schedule goes on
/// as if it had not been.
#[utoipa::path(
    post, path = "/api/schedules/{id}/trigger", operation_id = "trigger_schedule", tag = "schedules",
    params(("id" = String, Path, description = "The schedule")),
    responses(
        (status = 200, description = "It is recorded and on its way", body = api::Fired),
        (status = 400, description = "It aims at nobody"),
        (status = 404, description = "No such schedule, or no such job"),
        (status = 409, description = "The job is revoked"),
    )
)]
pub(super) async fn trigger(
    State(scheduler): State<Scheduler>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<Json<api::Fired>, Problem> {
    Ok(Json(scheduler.trigger(&id, &caller).await?))
}

/// Fires the slots of a time that has passed
///
/// The oldest first, each at most once in all: one that has fired stays as it is. The schedule's mode holds; its overlap and
/// its starting deadline do not, and a freeze does not stop it.
#[utoipa::path(
    post, path = "/api/schedules/{id}/backfill", operation_id = "backfill_schedule", tag = "schedules",
    params(("id" = String, Path, description = "The schedule")),
    request_body = api::Backfill,
    responses(
        (status = 200, description = "What became of each slot", body = Vec<api::Slot>),
        (status = 400, description = "The time is not over, or holds more than a hundred slots"),
        (status = 404, description = "No such schedule"),
    )
)]
pub(super) async fn backfill(
    State(scheduler): State<Scheduler>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
    extract::Json(span): extract::Json<api::Backfill>,
) -> Result<Json<Vec<api::Slot>>, Problem> {
    let slots = scheduler.backfill(&id, span.from, span.until, &caller).await?;
    Ok(Json(slots))
}

/// Shows the freeze of the schedules
#[utoipa::path(
    get, path = "/api/freeze", operation_id = "get_freeze", tag = "schedules",
    responses((status = 200, description = "The freeze that holds or is to come; null when there is none",
        body = Option<Freeze>)),
)]
pub(super) async fn freeze(State(freezes): State<Freezes>) -> Result<Json<Option<Freeze>>, Problem> {
    Ok(Json(freezes.get().await?))
}

/// Keeps the schedules from firing for a while
///
/// Slots that come meanwhile are skipped, with the reason. Replaces the freeze before.
#[utoipa::path(
    put, path = "/api/freeze", operation_id = "set_freeze", tag = "schedules",
    request_body = Freeze,
    responses(
        (status = 200, description = "It is set", body = Freeze),
        (status = 400, description = "No reason, or an end that is not in the future"),
    )
)]
pub(super) async fn set_freeze(
    State(freezes): State<Freezes>,
    caller: Caller,
    extract::Json(freeze): extract::Json<Freeze>,
) -> Result<Json<Freeze>, Problem> {
    Ok(Json(freezes.set(freeze, &caller).await?))
}

/// Lets the schedules fire again
#[utoipa::path(
    delete, path = "/api/freeze", operation_id = "clear_freeze", tag = "schedules",
    responses((status = 204, description = "There is no freeze"))
)]
pub(super) async fn clear_freeze(
    State(freezes): State<Freezes>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    freezes.clear(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
