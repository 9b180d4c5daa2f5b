//! One connection of server-sent events.

use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::{Error, request::Call};

/// The server says something at least every 15 s; a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(60);
const MEDIA_TYPE: &str = "text/event-stream";
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The events of one connection.
pub(crate) type Events = BoxStream<'static, Result<Event, Error>>;

/// Where a live connection stands.
pub(crate) enum Feed {
    /// To be made, after that many attempts that failed.
    Closed(u32),
    Open(Events),
    Over,
}

/// Asks for events.
pub(crate) async fn open(call: Call) -> Result<Events, Error> {
    let answer = call.header(ACCEPT.as_str(), MEDIA_TYPE).open().await?;
    let request = answer.name.clone();
    if !answer
        .header(&CONTENT_TYPE)
        .is_some_and(|kind| kind.starts_with(MEDIA_TYPE))
    {
        let (status, text) = (answer.response.status(), "but not with events".into());
        return Err(Error::Foreign {
            request,
            status,
            text,
        });
    }
    let name = request.clone();
    let bytes = answer
        .response
        .bytes_stream()
        .map_err(move |source| Error::Interrupted {
            request: name.clone(),
            source: source.into(),
        });
    let name = request.clone();
    let events = audible(bytes, request)
        .eventsource()
        .map_err(move |error| match error {
            EventStreamError::Transport(error) => error,
            error => Error::Decode {
                request: name.clone(),
                source: serde::de::Error::custom(error),
            },
        });
    Ok(events.boxed())
}

/// The same bytes, ending with an error when none come for too long.
fn audible(
    bytes: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    name: String,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::unfold(Some((Box::pin(bytes), name)), |state| async move {
        let (mut bytes, name) = state?;
        match tokio::time::timeout(SILENCE, bytes.next()).await {
            Ok(Some(chunk)) => Some((chunk, Some((bytes, name)))),
            Ok(None) => None,
            Err(_) => Some((
                Err(Error::TimedOut {
                    request: name,
                    after: SILENCE,
                }),
                None,
            )),
        }
    })
}

/// How long to wait after so many attempts that failed.
pub(crate) fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(n - 1))
            .min(LONGEST_PAUSE),
    }
}
