//! Live events: one connection (server-sent events) that is made again whenever it breaks. Events are not kept for
//! whoever was away, so the reader is told when there may be a gap and reads again what it shows.

use std::{io, time::Duration};

use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use kanade_model::{ExecId, api::LiveEvent};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE},
};

use crate::{Client, Error, executions::pairs};

/// The server says something at least every 15 s; a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(60);
const MEDIA_TYPE: &str = "text/event-stream";
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Which events are wanted; all by default.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of these kinds; of every kind when empty.
    pub kinds: Vec<EventKind>,
    /// Of this execution.
    pub exec_id: Option<ExecId>,
}

/// A kind of event that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An execution has changed.
    Execution,
    /// A run has started or ended.
    Run,
    /// An agent gave a sign of life.
    Agent,
    /// A document was written or deleted.
    Catalog,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Run => "run",
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        }
    }
}

/// What a live connection brings.
#[derive(Debug)]
pub enum Update {
    /// The connection stands. What happened before is not told: read what you show.
    Connected,
    /// Something has happened.
    Event(LiveEvent),
    /// The connection broke or could not be made; it is tried again after a pause.
    Disconnected(Error),
}

type Events = BoxStream<'static, Result<Event, Error>>;

/// Where a live connection stands.
enum Feed {
    /// To be made, after that many attempts that failed.
    Closed(u32),
    Open(Events),
    Over,
}

impl Client {
    /// What happens from now on. Goes on for ever, making the connection again when it breaks; ends after an error
    /// only when the server refuses or speaks another language.
    pub fn events(&self, filter: &EventFilter) -> BoxStream<'static, Result<Update, Error>> {
        let client = self.clone();
        let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
        let pairs = pairs([
            ("types", (!kinds.is_empty()).then(|| kinds.join(","))),
            ("exec_id", filter.exec_id.as_ref().map(ToString::to_string)),
        ]);
        stream::unfold(Feed::Closed(0), move |feed| {
            let (client, pairs) = (client.clone(), pairs.clone());
            async move {
                match feed {
                    Feed::Over => None,
                    Feed::Closed(failures) => {
                        tokio::time::sleep(pause(failures)).await;
                        Some(match client.connect(&pairs).await {
                            Ok(events) => (Ok(Update::Connected), Feed::Open(events)),
                            Err(error) if error.is_transient() => (
                                Ok(Update::Disconnected(error)),
                                Feed::Closed(failures.saturating_add(1)),
                            ),
                            Err(error) => (Err(error), Feed::Over),
                        })
                    }
                    Feed::Open(events) => Some(next(events).await),
                }
            }
        })
        .fuse()
        .boxed()
    }

    async fn connect(&self, pairs: &[(&'static str, String)]) -> Result<Events, Error> {
        let call = self.call(Method::GET, &["api", "events"])?;
        let answer = call
            .query(pairs)
            .header(ACCEPT.as_str(), MEDIA_TYPE)
            .open()
            .await?;
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
}

/// The next event that we know, and how the connection stands after it.
async fn next(mut events: Events) -> (Result<Update, Error>, Feed) {
    loop {
        match events.next().await {
            Some(Ok(event)) => match read(&event) {
                Ok(Some(event)) => return (Ok(Update::Event(event)), Feed::Open(events)),
                Ok(None) => {}
                Err(error) => return (Err(error), Feed::Over),
            },
            Some(Err(error)) if error.is_transient() => {
                return (Ok(Update::Disconnected(error)), Feed::Closed(1));
            }
            Some(Err(error)) => return (Err(error), Feed::Over),
            // Servers end the stream when they stop; whoever takes over is waited for.
            None => {
                let request = "GET /api/events".into();
                let source = io::Error::from(io::ErrorKind::UnexpectedEof).into();
                return (
                    Ok(Update::Disconnected(Error::Interrupted { request, source })),
                    Feed::Closed(1),
                );
            }
        }
    }
}

/// Reads an event; none for a kind that a newer server has.
fn read(event: &Event) -> Result<Option<LiveEvent>, Error> {
    if !matches!(
        event.event.as_str(),
        "execution" | "run" | "agent" | "catalog" | "lagged"
    ) {
        return Ok(None);
    }
    let request = format!("GET /api/events (event `{}`)", event.event);
    serde_json::from_str(&event.data)
        .map(Some)
        .map_err(|source| Error::Decode { request, source })
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

fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(n - 1))
            .min(LONGEST_PAUSE),
    }
}
