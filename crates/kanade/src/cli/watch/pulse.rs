//! How a watched execution stands, whenever that changes: from live events, and from asking now and then, more often
//! when there are no events.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use kanade_client::{Client, Error, EventFilter, EventKind, Update};
use kanade_model::{ExecId, api, api::LiveEvent};
use tokio::time::{Instant, sleep_until};

use crate::cli::failure::Failure;

/// Between questions while events come: these are only in case one was lost on the way.
const WITH_EVENTS: Duration = Duration::from_secs(15);
/// Between questions while no events come.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// A server that is away for longer is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a watcher learns.
#[derive(Debug)]
pub(in super::super) enum Beat {
    /// How the execution stands.
    Stands(Box<api::Execution>),
    /// The server cannot be asked for the moment; told once until it can be asked again.
    Away(Error),
}

/// The heart beat of one execution.
pub(in super::super) struct Pulse<'a> {
    client: &'a Client,
    exec: &'a ExecId,
    updates: BoxStream<'static, Result<Update, Error>>,
    /// Whether a live connection stands.
    live: bool,
    /// When to ask next.
    due: Instant,
    /// Since when the server cannot be asked.
    away: Option<Instant>,
}

impl<'a> Pulse<'a> {
    pub(in super::super) fn new(client: &'a Client, exec: &'a ExecId) -> Self {
        let filter = EventFilter {
            kinds: vec![EventKind::Execution],
            exec_id: Some(exec.clone()),
        };
        let updates = client.events(&filter);
        Self {
            client,
            exec,
            updates,
            live: false,
            due: Instant::now(),
            away: None,
        }
    }

    /// The next beat: at once for the first time, then when something has changed or it is time to ask.
    pub(in super::super) async fn next(&mut self) -> Result<Beat, Failure> {
        loop {
            tokio::select! {
                Some(update) = self.updates.next() => match update {
                    Ok(Update::Event(LiveEvent::Execution(execution))) if execution.exec_id == *self.exec => {
                        return Ok(Beat::Stands(execution));
                    }
                    Ok(Update::Connected) => {
                        self.live = true;
                        self.due = Instant::now();
                    }
                    Ok(Update::Event(LiveEvent::Lagged { .. })) => self.due = Instant::now(),
                    Ok(Update::Event(_)) => {}
                    // Asking alone will do; if the server is away, asking finds out.
                    Ok(Update::Disconnected(_)) | Err(_) => {
                        self.live = false;
                        self.due = self.due.min(Instant::now() + WITHOUT_EVENTS);
                    }
                },
                () = sleep_until(self.due) => {
                    self.due = Instant::now() + if self.live { WITH_EVENTS } else { WITHOUT_EVENTS };
                    if let Some(beat) = self.ask().await? {
                        return Ok(beat);
                    }
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Option<Beat>, Failure> {
        match self.client.execution(self.exec).await {
            Ok(detail) => {
                self.away = None;
                Ok(Some(Beat::Stands(Box::new(detail.execution))))
            }
            Err(error) if !error.is_transient() => Err(error.into()),
            Err(error) => match self.away {
                None => {
                    self.away = Some(Instant::now());
                    Ok(Some(Beat::Away(error)))
                }
                Some(since) if since.elapsed() > PATIENCE => Err(error.into()),
                Some(_) => Ok(None),
            },
        }
    }
}
