//! Live events: one connection (server-sent events) that is made again whenever it breaks. Events are not kept for
//! whoever was away, so the reader is told when there may be a gap and reads again what it shows.

use std::io;

use eventsource_stream::Event;
use futures::{StreamExt, stream, stream::BoxStream};
use kanade_model::{ExecId, api::LiveEvent};
use reqwest::Method;

use crate::{
    Client, Error,
    executions::pairs,
    sse::{Events, Feed, open, pause},
};

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
        open(self.call(Method::GET, &["api", "events"])?.query(pairs)).await
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
