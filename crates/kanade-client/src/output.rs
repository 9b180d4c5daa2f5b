//! The output of a run while it goes on: a connection that is made again whenever it breaks, and goes on where it was.

use std::io;

use eventsource_stream::Event;
use futures::{StreamExt, stream, stream::BoxStream};
use kanade_model::{ResultId, api::OutputEvent};
use reqwest::Method;

use crate::{
    Client, Error,
    sse::{Events, Feed, open, pause},
};

/// What following a run brings.
#[derive(Debug)]
pub enum OutputUpdate {
    /// The connection stands.
    Connected,
    /// Something was printed, or the run has ended.
    Event(OutputEvent),
    /// The connection broke or could not be made; it is tried again after a pause.
    Disconnected(Error),
}

/// A reader and its place.
struct Reader {
    client: Client,
    id: ResultId,
    feed: Feed,
    /// The id of the last event.
    last: Option<String>,
}

impl Client {
    /// What a run prints, from its beginning to its [end](OutputEvent::End), after which nothing follows. Makes the
    /// connection again when it breaks; what the server did not keep meanwhile is marked as missing. Ends after an error
    /// only when the server refuses or speaks another language.
    pub fn output(&self, id: ResultId) -> BoxStream<'static, Result<OutputUpdate, Error>> {
        let reader = Reader {
            client: self.clone(),
            id,
            feed: Feed::Closed(0),
            last: None,
        };
        stream::unfold(reader, |mut reader| async move {
            let update = reader.next().await?;
            Some((update, reader))
        })
        .fuse()
        .boxed()
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<OutputUpdate, Error>> {
        // Over, unless something else is found.
        match std::mem::replace(&mut self.feed, Feed::Over) {
            Feed::Over => None,
            Feed::Closed(failures) => {
                tokio::time::sleep(pause(failures)).await;
                Some(match self.connect().await {
                    Ok(events) => {
                        self.feed = Feed::Open(events);
                        Ok(OutputUpdate::Connected)
                    }
                    Err(error) if error.is_transient() => {
                        self.feed = Feed::Closed(failures.saturating_add(1));
                        Ok(OutputUpdate::Disconnected(error))
                    }
                    Err(error) => Err(error),
                })
            }
            Feed::Open(events) => Some(self.read(events).await),
        }
    }

    async fn connect(&mut self) -> Result<Events, Error> {
        let id = self.id.to_string();
        let mut call = self
            .client
            .call(Method::GET, &["api", "results", &id, "output"])?;
        if let Some(last) = &self.last {
            call = call.header("last-event-id", last);
        }
        open(call).await
    }

    /// The next event that we know.
    async fn read(&mut self, mut events: Events) -> Result<OutputUpdate, Error> {
        loop {
            let event = match events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) if error.is_transient() => return Ok(self.disconnected(error)),
                Some(Err(error)) => return Err(error),
                None => {
                    let request = format!("GET /api/results/{}/output", self.id);
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof).into();
                    return Ok(self.disconnected(Error::Interrupted { request, source }));
                }
            };
            if let Some(read) = read(&event)? {
                self.last = Some(event.id);
                if !matches!(read, OutputEvent::End { .. }) {
                    self.feed = Feed::Open(events);
                }
                return Ok(OutputUpdate::Event(read));
            }
        }
    }

    fn disconnected(&mut self, error: Error) -> OutputUpdate {
        self.feed = Feed::Closed(1);
        OutputUpdate::Disconnected(error)
    }
}

/// Reads an event; none for a kind that a newer server has.
fn read(event: &Event) -> Result<Option<OutputEvent>, Error> {
    if !matches!(event.event.as_str(), "output" | "end") {
        return Ok(None);
    }
    let request = format!("GET /api/results/…/output (event `{}`)", event.event);
    serde_json::from_str(&event.data)
        .map(Some)
        .map_err(|source| Error::Decode { request, source })
}
