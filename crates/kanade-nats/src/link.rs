//! The one connection, as both ports use it: requests that end when the connection does, and what became of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, Event, HeaderMap, Request, StatusCode,
    connection::State,
    jetstream::{self, publish::PublishAck, response::Response},
};
use bytes::Bytes;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::watch, time};
use uuid::Uuid;

/// How long something may wait for a connection.
const CONNECTION: Duration = Duration::from_secs(5);
/// How long JetStream may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The end of subjects on which a connection speaks to itself.
pub(crate) const ECHO: &str = ".kanade-echo";
/// Where answers of agents are expected: below this and the subject of the question.
const ANSWERS: &str = "_REPLY";
/// The header that names a message for a stream.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What happened to the connection, as the driver tells it.
#[derive(Debug)]
pub(crate) struct Signals {
    /// How often it was made.
    made: watch::Sender<u64>,
    /// How often it was lost.
    lost: watch::Sender<u64>,
    /// Whether it was closed for good.
    closed: watch::Sender<bool>,
    /// How many messages the driver dropped because they were not read in time.
    dropped: AtomicU64,
    /// Whether it was said that the first connection cannot be made.
    told: AtomicBool,
    /// Whether it was said that output of runs cannot be sent.
    told_output: AtomicBool,
}

impl Signals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            told: AtomicBool::new(false),
            told_output: AtomicBool::new(false),
            made: watch::Sender::new(0),
            lost: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn heard(&self, event: &Event) {
        match event {
            Event::Connected => self.made.send_modify(|count| *count += 1),
            Event::Disconnected => {
                tracing::warn!("the connection to NATS is lost; it will be made again");
                self.lost.send_modify(|count| *count += 1);
            }
            Event::SlowConsumer(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Event::Closed => {
                self.closed.send_replace(true);
            }
            // Only an old server says anything there.
            Event::ServerError(error) if of_group(&error.to_string()) => {
                tracing::info!(%error, "these credentials are for no groups; a server of 0.30 would need them to be");
            }
            // There may be several in a second, and results come all the same.
            Event::ServerError(error) if of_output(&error.to_string()) => {
                if !self.told_output.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error, "these credentials may not send what runs print; nobody can follow that here while they run"
                    );
                }
            }
            // A subscription or a publish that is not permitted is told in no other way.
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses something"),
            Event::LameDuckMode => tracing::info!("this NATS server is about to stop"),
            Event::ClientError(error)
                if *self.made.borrow() == 0 && !self.told.swap(true, Ordering::Relaxed) =>
            {
                tracing::warn!(%error, "cannot connect to NATS; it will be tried again");
            }
            // Attempts to connect again, many in one outage.
            Event::ClientError(error) => tracing::debug!(%error, "NATS"),
            Event::Draining => {}
        }
    }
}

/// Whether a refusal is of the Commands of a group.
fn of_group(refusal: &str) -> bool {
    let refusal = refusal.to_ascii_lowercase();
    refusal.contains("permissions violation for subscription to \"commands.group.")
}

/// Whether a refusal is of what a run prints.
fn of_output(refusal: &str) -> bool {
    let refusal = refusal.to_ascii_lowercase();
    refusal.contains("permissions violation for publish to \"output.")
}

/// Why something could not be asked of NATS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no connection to NATS")]
    Offline,
    #[error("the connection to NATS was lost meanwhile")]
    Lost,
    #[error("NATS did not answer in time")]
    TimedOut,
    #[error("nobody answers this on NATS")]
    NoResponders,
    #[error("it is larger than the server's max_payload")]
    TooLarge,
    #[error("NATS answered: {0}")]
    Api(jetstream::Error),
    #[error("the NATS client failed")]
    Client(#[source] async_nats::Error),
}

impl Fault {
    /// Whether what was asked may have been done, or be done yet.
    pub(crate) fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Lost | Self::TimedOut)
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    signals: Arc<Signals>,
    /// How often everything stood again after a loss.
    restored: watch::Sender<u64>,
    /// Subscriptions that were dropped and of which the server does not know it yet.
    leaving: watch::Sender<usize>,
    dropped: AtomicU64,
}

impl Link {
    pub(crate) fn new(client: Client, signals: Arc<Signals>) -> Arc<Self> {
        let made = signals.made.subscribe();
        let link = Arc::new(Self {
            client,
            signals,
            restored: watch::Sender::new(0),
            leaving: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
        });
        tokio::spawn(follow(Arc::downgrade(&link), made));
        link
    }

    pub(crate) fn is_up(&self) -> bool {
        !*self.signals.closed.borrow() && self.client.connection_state() == State::Connected
    }

    /// Waits a little for a connection, if there is none.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        if self.is_up() {
            return Ok(());
        }
        let mut made = self.signals.made.subscribe();
        let up = async {
            while !self.is_up() {
                // The driver may drop an event when there are many: look again anyway.
                let _ = time::timeout(Duration::from_millis(100), made.changed()).await;
            }
        };
        time::timeout(CONNECTION, up).await.map_err(|_| Fault::Offline)
    }

    /// Asks and waits for one answer, at most as long as this connection stands.
    pub(crate) async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        patience: Duration,
    ) -> Result<async_nats::Message, Fault> {
        let mut request = Request::new().payload(payload).timeout(Some(patience));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        self.request(subject, request).await
    }

    /// Asks whoever listens there. The answer is expected below the subject of the question, so that whoever is asked
    /// can be let answer to that and no other inbox.
    pub(crate) async fn question(
        &self,
        subject: &str,
        payload: Bytes,
        patience: Duration,
    ) -> Result<async_nats::Message, Fault> {
        let inbox = format!("{ANSWERS}.{subject}.{}", Uuid::new_v4().simple());
        let request = Request::new()
            .payload(payload)
            .timeout(Some(patience))
            .inbox(inbox);
        self.request(subject.to_owned(), request).await
    }

    async fn request(&self, subject: String, request: Request) -> Result<async_nats::Message, Fault> {
        self.ready().await?;
        let mut lost = self.losses();
        tokio::select! {
            biased;
            answer = self.client.send_request(subject, request) => answer.map_err(Fault::from),
            _ = lost.changed() => Err(Fault::Lost),
        }
    }

    /// Asks JetStream something.
    pub(crate) async fn api<V: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<V, Fault> {
        let subject = format!("$JS.API.{path}");
        let answer = self.ask(subject, None, body.to_string().into(), ANSWER).await?;
        decoded(&answer.payload)
    }

    /// Publishes into a stream and waits until it is kept.
    pub(crate) async fn keep(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, Fault> {
        let answer = self.ask(subject, Some(headers), payload, ANSWER).await?;
        decoded(&answer.payload)
    }

    /// Returns when the server has taken in everything that was sent to it before.
    pub(crate) async fn settled(&self) -> Result<(), Fault> {
        let mut leaving = self.leaving.subscribe();
        let left = leaving.wait_for(|count| *count == 0);
        let _ = time::timeout(ANSWER, left).await;
        self.echoed(None).await
    }

    /// Publishes to whoever listens now, and fails with [`Fault::NoResponders`] where nobody does.
    pub(crate) async fn tell(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Fault> {
        self.echoed(Some((subject, headers, payload))).await
    }

    /// Publishes, then says something to itself: the server handles in order what it reads, so that comes back after
    /// its refusal of what nobody listens to, and after all that was sent before.
    async fn echoed(&self, message: Option<(String, HeaderMap, Bytes)>) -> Result<(), Fault> {
        self.ready().await?;
        let mut lost = self.losses();
        let inbox = self.client.new_inbox() + ECHO;
        let mut echo = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| Fault::Client(error.into()))?;
        if let Some((subject, headers, payload)) = message {
            let publish =
                self.client
                    .publish_with_reply_and_headers(subject, inbox.clone(), headers, payload);
            publish.await?;
        }
        self.client.publish(inbox, Bytes::new()).await?;
        tokio::select! {
            biased;
            heard = time::timeout(ANSWER, echo.next()) => match heard {
                Ok(Some(refusal)) if refusal.status == Some(StatusCode::NO_RESPONDERS) => Err(Fault::NoResponders),
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(Fault::Lost),
                Err(_) => Err(Fault::TimedOut),
            },
            _ = lost.changed() => Err(Fault::Lost),
        }
    }

    /// Changes each time the connection is lost from now on.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.signals.lost.subscribe()
    }

    /// Changes each time everything stands again after a loss.
    pub(crate) fn restorations(&self) -> watch::Receiver<u64> {
        self.restored.subscribe()
    }

    /// How often the connection has been lost.
    pub(crate) fn outages(&self) -> u64 {
        *self.signals.lost.borrow()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) + self.signals.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscription is about to be given up, or has been.
    pub(crate) fn leaving(&self, begins: bool) {
        self.leaving.send_modify(|count| {
            *count = if begins {
                *count + 1
            } else {
                count.saturating_sub(1)
            }
        });
    }

    pub(crate) async fn close(&self) {
        let _ = self.settled().await;
        let mut closed = self.signals.closed.subscribe();
        if self.client.drain().await.is_ok() {
            let _ = time::timeout(ANSWER, closed.wait_for(|closed| *closed)).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The driver ends with its last handle and forgets what it has not written yet.
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { time::timeout(ANSWER, client.flush()).await });
        }
    }
}

/// Says that everything stands again once the server has taken in the subscriptions of a new connection.
async fn follow(link: std::sync::Weak<Link>, mut made: watch::Receiver<u64>) {
    let mut known = 1;
    loop {
        let Ok(count) = made.wait_for(|count| *count > known).await.map(|count| *count) else {
            return;
        };
        known = count;
        let Some(link) = link.upgrade() else { return };
        while link.settled().await.is_err() && *made.borrow() == known {
            time::sleep(Duration::from_millis(100)).await;
        }
        tracing::info!(outages = known - 1, "connected to NATS again");
        link.restored.send_modify(|count| *count += 1);
    }
}

fn decoded<V: DeserializeOwned>(payload: &[u8]) -> Result<V, Fault> {
    match serde_json::from_slice(payload) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => Err(Fault::Api(error)),
        Err(error) => Err(Fault::Client(error.into())),
    }
}

impl From<async_nats::RequestError> for Fault {
    fn from(error: async_nats::RequestError) -> Self {
        use async_nats::RequestErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut => Self::TimedOut,
            Kind::NoResponders => Self::NoResponders,
            Kind::MaxPayloadExceeded => Self::TooLarge,
            Kind::InvalidSubject | Kind::Other => Self::Client(error.into()),
        }
    }
}

impl From<async_nats::PublishError> for Fault {
    fn from(error: async_nats::PublishError) -> Self {
        use async_nats::client::PublishErrorKind as Kind;
        match error.kind() {
            Kind::MaxPayloadExceeded => Self::TooLarge,
            Kind::InvalidSubject | Kind::Send => Self::Client(error.into()),
        }
    }
}
