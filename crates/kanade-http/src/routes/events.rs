//! What happens now, as server-sent events (HTML living standard, section 9.2).

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    sync::Arc,
};

use axum::{
    Extension,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt};
use http::HeaderMap;
use kanade_model::{ExecId, Invalid, api::LiveEvent};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use utoipa::IntoParams;

use crate::{
    App,
    accept::Closing,
    auth::Identity,
    extract::{Query, parsed},
    problem::Problem,
};

/// Sent by a reader that was here before.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// Which events are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Of these types, separated by commas: `execution`, `run`, `agent`, `slot`, `catalog`. `lagged` always comes.
    #[serde(default)]
    types: Option<String>,
    /// Of this execution; then only `execution` and `run` come.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    exec_id: Option<ExecId>,
}

/// Follows what happens
///
/// The name of an event is its type, its data a JSON object. `lagged` says that events are missing: read again what
/// you show. A reader that comes back (`Last-Event-ID`) is told so first.
#[utoipa::path(
    get, path = "/api/events", operation_id = "events", tag = "events",
    params(Filter),
    responses(
        (status = 200, description = "Events until the reader goes, its token ends or the server stops",
            body = LiveEvent, content_type = "text/event-stream"),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    Query(filter): Query<Filter>,
    identity: Option<Extension<Identity>>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let wanted = Wanted::new(filter)?;
    let permit = place(&app)?;
    let returning = headers
        .contains_key(LAST_EVENT_ID)
        .then_some(LiveEvent::Lagged { missed: 0 });
    let happening = BroadcastStream::new(app.services.live.subscribe()).map(|event| match event {
        Ok(event) => event,
        Err(BroadcastStreamRecvError::Lagged(missed)) => LiveEvent::Lagged { missed },
    });
    let events = futures::stream::iter(returning)
        .chain(happening)
        .filter(move |event| ready(wanted.takes(event)))
        .enumerate()
        .map(move |(number, event)| {
            let _held = &permit;
            Ok(written(number, &event))
        })
        .take_until(end(app.clone(), identity, closing));
    Ok(answer(&app, events))
}

/// A place for one more stream.
pub(super) fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::try_again("the server has too many event streams at once; try again in a few seconds")
    })
}

/// The answer with these events.
pub(super) fn answer<E>(app: &App, events: E) -> Sse<impl Stream<Item = E::Item> + use<E>>
where
    E: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    // The head of an answer leaves with the first piece of its body, and a reader wants to know at once that it hears.
    let begun = futures::stream::once(ready(Ok(Event::default().comment("following"))));
    Sse::new(begun.chain(events)).keep_alive(KeepAlive::new().interval(app.settings.keep_alive))
}

/// Returns when the server stops or the reader's token has ended.
pub(super) fn end(
    app: App,
    identity: Option<Extension<Identity>>,
    closing: Option<Extension<Closing>>,
) -> impl Future<Output = ()> {
    let expires = identity.and_then(|identity| identity.0.expires);
    async move {
        let stopping = async {
            match closing {
                Some(closing) => closing.begun().await,
                None => pending().await,
            }
        };
        let expired = async {
            match expires {
                Some(expires) => app.services.clock.sleep_until(expires).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stopping => {}
            () = expired => {}
        }
    }
}

fn written(number: usize, event: &LiveEvent) -> Event {
    Event::default()
        .event(event.kind())
        .id((number + 1).to_string())
        .json_data(event)
        .expect("an event has string keys only")
}

struct Wanted {
    types: Option<Vec<String>>,
    exec_id: Option<ExecId>,
}

impl Wanted {
    fn new(filter: Filter) -> Result<Self, Invalid> {
        let types = filter.types.map(|types| {
            types
                .split(',')
                .map(str::trim)
                .map(|kind| match kind {
                    "execution" | "run" | "agent" | "slot" | "catalog" | "lagged" => Ok(kind.to_owned()),
                    other => Err(Invalid::new(
                        "types",
                        other,
                        "`execution`, `run`, `agent`, `slot` and `catalog` are known, separated by commas",
                    )),
                })
                .collect()
        });
        Ok(Self {
            types: types.transpose()?,
            exec_id: filter.exec_id,
        })
    }

    fn takes(&self, event: &LiveEvent) -> bool {
        if matches!(event, LiveEvent::Lagged { .. }) {
            return true;
        }
        let of_type = self
            .types
            .as_ref()
            .is_none_or(|types| types.iter().any(|kind| kind == event.kind()));
        let of_execution = self
            .exec_id
            .as_ref()
            .is_none_or(|exec_id| event.exec_id() == Some(exec_id));
        of_type && of_execution
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::RunState;
    use uuid::Uuid;

    fn run(exec_id: Option<&str>) -> LiveEvent {
        LiveEvent::Run {
            result_id: kanade_model::ResultId(Uuid::nil()),
            exec_id: exec_id.map(|id| id.parse().unwrap()),
            pc_id: "pc-1".parse().unwrap(),
            exit_code: None,
            state: RunState::Running,
        }
    }

    fn document() -> LiveEvent {
        LiveEvent::Catalog {
            bucket: "jobs".into(),
            key: "backup".into(),
            deleted: false,
        }
    }

    fn wanted(types: Option<&str>, exec_id: Option<&str>) -> Wanted {
        Wanted::new(Filter {
            types: types.map(Into::into),
            exec_id: exec_id.map(|id| id.parse().unwrap()),
        })
        .unwrap()
    }

    #[test]
    fn only_what_is_wanted_comes_and_what_was_missed_always() {
        let lagged = LiveEvent::Lagged { missed: 3 };
        for (wanted, of_execution, ad_hoc, catalog) in [
            (wanted(None, None), true, true, true),
            (wanted(Some("run, agent"), None), true, true, false),
            (wanted(Some("catalog"), None), false, false, true),
            (wanted(None, Some("e-1")), true, false, false),
            (wanted(Some("catalog"), Some("e-1")), false, false, false),
            (wanted(None, Some("e-2")), false, false, false),
        ] {
            let taken = [run(Some("e-1")), run(None), document()].map(|event| wanted.takes(&event));
            assert_eq!(taken, [of_execution, ad_hoc, catalog]);
            assert!(wanted.takes(&lagged));
        }
    }
}
