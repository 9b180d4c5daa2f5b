//! What a run prints, as server-sent events (HTML living standard, section 9.2): while it goes on, and afterwards.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response, sse::Event},
};
use futures::StreamExt;
use http::{HeaderMap, StatusCode};
use kanade_core::{Place, Told};
use kanade_model::{Invalid, ResultId, api::OutputEvent};

use super::events::{LAST_EVENT_ID, answer, end, place};
use crate::{App, accept::Closing, auth::Identity, extract::Path, problem::Problem};

/// The id of the last event of a stream.
const END: &str = "end";

/// Follows the output of a run
///
/// The name of an event is its type, its data a JSON object. `output` is a piece of what was printed: of a run that goes
/// on, what the server has heard of it, then what comes, with at most 64 KiB a second; of one that has ended, its stored
/// output. Where `dropped` is not 0, so many bytes are missing before this piece. `end` is the last event; the result is
/// what counts, and where `complete` is false it may have more.
///
/// A reader that comes back says with `Last-Event-ID` where it was and is told what follows, as far as that is kept. One that
/// comes back after the `end` is answered 204, which ends an `EventSource`.
#[utoipa::path(
    get, path = "/api/results/{result_id}/output", operation_id = "follow_output", tag = "results",
    params(
        ("result_id" = uuid::Uuid, Path, description = "The run"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was read"),
    ),
    responses(
        (status = 200, description = "Events until the run ends, the reader goes, its token ends or the server stops",
            body = OutputEvent, content_type = "text/event-stream"),
        (status = 204, description = "The reader has had the end"),
        (status = 400, description = "There is no event with this id"),
        (status = 404, description = "No such run"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    Path(id): Path<ResultId>,
    identity: Option<Extension<Identity>>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match last_event(&headers)? {
        Some(END) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Some(id) => Some(id.parse::<Place>()?),
        None => None,
    };
    let permit = place(&app)?;
    let following = app.services.outputs.follow(id, after).await?;
    let events = futures::stream::unfold(following, |mut following| async {
        Some((following.next().await?, following))
    });
    let events = events.map(move |told| {
        let _held = &permit;
        Ok(written(&told))
    });
    let events = events.take_until(end(app.clone(), identity, closing));
    Ok(answer(&app, events).into_response())
}

/// Where a reader that comes back was; an empty id is none.
fn last_event(headers: &HeaderMap) -> Result<Option<&str>, Invalid> {
    let Some(id) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    match id.to_str() {
        Ok("") => Ok(None),
        Ok(id) => Ok(Some(id)),
        Err(_) => Err(Invalid::new("Last-Event-ID", "•••", "it is no text")),
    }
}

fn written(told: &Told) -> Event {
    let id = told
        .place
        .map_or_else(|| END.to_owned(), |place| place.to_string());
    Event::default()
        .event(told.event.kind())
        .id(id)
        .json_data(&told.event)
        .expect("an event has string keys only")
}
