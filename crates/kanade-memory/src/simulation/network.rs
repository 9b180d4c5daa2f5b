//! A network between a server and its agents that is as bad as it is told to be.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Batch, Bus, BusError, BusErrorKind, Consumer, Durable, Message, MessageId, PubSub, Subscription,
};
use tokio::sync::mpsc;

/// A bus with [lines](Line) to it. What is durable is never lost on them: it is refused, or comes more than once, as on
/// a broker. Everything else is at their mercy. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    bus: Arc<dyn Bus>,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    weather: Weather,
    cut: BTreeSet<String>,
}

/// How bad a network is. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// A message takes up to so long, and so overtakes others.
    pub delay: Duration,
    /// The share of messages that are lost.
    pub lost: f64,
    /// The share of messages that come twice.
    pub twice: f64,
    /// The share of acknowledgements that are lost.
    pub unsure: f64,
}

impl Weather {
    /// Everything arrives, once, in order.
    pub const CALM: Self = Self {
        delay: Duration::ZERO,
        lost: 0.0,
        twice: 0.0,
        unsure: 0.0,
    };
}

/// How long a message takes at least.
const LATENCY: Duration = Duration::from_millis(1);
/// After how long a batch comes again whose acknowledgement was lost.
const COMES_AGAIN: Duration = Duration::from_secs(3);

impl Network {
    /// A calm network to `bus`; its moods follow from `seed`.
    pub fn new(bus: Arc<dyn Bus>, seed: u64) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::CALM,
            cut: BTreeSet::new(),
        };
        Self(Arc::new(Shared {
            bus,
            state: Mutex::new(state),
        }))
    }

    /// Makes it better or worse from now on.
    pub fn set(&self, weather: Weather) {
        self.0.state().weather = weather;
    }

    /// Lets nothing through on one line.
    pub fn cut(&self, name: &str) {
        self.0.state().cut.insert(name.to_owned());
    }

    /// Lets things through again.
    pub fn mend(&self, name: &str) {
        self.0.state().cut.remove(name);
    }

    /// The line of an agent: everything on it is at the network's mercy.
    pub fn line(&self, name: &str) -> Line {
        Line {
            shared: Arc::clone(&self.0),
            name: name.to_owned(),
            is_rough: true,
        }
    }

    /// The line of a server, which stands beside the bus: nothing is lost on the way, but it can be cut, and an
    /// acknowledgement may be lost, so that a batch comes again.
    pub fn server(&self, name: &str) -> Line {
        Line {
            is_rough: false,
            ..self.line(name)
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self, name: &str) -> bool {
        self.state().cut.contains(name)
    }

    /// After how long a message arrives, each time that it does.
    fn arrivals(&self) -> Vec<Duration> {
        let mut state = self.state();
        let copies = if state.happens(|weather| weather.lost) {
            0
        } else {
            1 + usize::from(state.happens(|weather| weather.twice))
        };
        (0..copies).map(|_| state.delay()).collect()
    }
}

impl State {
    fn happens(&mut self, share: impl Fn(&Weather) -> f64) -> bool {
        self.random.f64() < share(&self.weather)
    }

    /// What it takes to hand something over.
    fn short_delay(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(0..=3))
    }

    fn delay(&mut self) -> Duration {
        LATENCY + self.weather.delay.mul_f64(self.random.f64())
    }
}

/// One end of the network: a [`Bus`] like any other, as good as the line to it. Clones are the same line.
#[derive(Clone)]
pub struct Line {
    shared: Arc<Shared>,
    name: String,
    is_rough: bool,
}

impl Line {
    fn unavailable(&self, what: &str) -> BusError {
        BusError::new(BusErrorKind::Unavailable, format!("{what} on a line that is cut"))
    }

    fn unless_cut(&self, what: &str) -> Result<(), BusError> {
        if self.shared.is_cut(&self.name) {
            return Err(self.unavailable(what));
        }
        Ok(())
    }
}

#[async_trait]
impl PubSub for Line {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        if !self.is_rough {
            let delay = self.shared.state().short_delay();
            tokio::time::sleep(delay).await;
            self.unless_cut("publish")?;
            return self.shared.bus.publish(subject, payload).await;
        }
        for delay in self.shared.arrivals() {
            let (line, subject, payload) = (self.clone(), subject.clone(), payload.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                if !line.shared.is_cut(&line.name) {
                    let _ = line.shared.bus.publish(&subject, payload).await;
                }
            });
        }
        Ok(())
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        let (delay, again) = {
            let mut state = self.shared.state();
            let again = state.happens(|weather| weather.twice).then(|| state.delay());
            (state.delay(), again)
        };
        tokio::time::sleep(delay).await;
        self.unless_cut("publish")?;
        if let Some(later) = again {
            let (line, subject, payload, id) = (self.clone(), subject.clone(), payload.clone(), id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                let _ = line.shared.bus.publish_durable(&subject, payload, id).await;
            });
        }
        self.shared.bus.publish_durable(subject, payload, id).await?;
        let is_unsure = self.shared.state().happens(|weather| weather.unsure);
        if is_unsure || self.shared.is_cut(&self.name) {
            let operation = format!("hear that a message to {subject} is kept");
            return Err(BusError::new(BusErrorKind::TimedOut, operation));
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        let mut messages = self.shared.bus.subscribe(pattern).await?;
        if !self.is_rough {
            return Ok(messages);
        }
        let (sender, receiver) = mpsc::unbounded_channel::<Message>();
        let line = self.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = sender.closed() => None,
                };
                let Some(message) = message else { return };
                if line.shared.is_cut(&line.name) {
                    continue;
                }
                for delay in line.shared.arrivals() {
                    let (line, sender, message) = (line.clone(), sender.clone(), message.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(delay).await;
                        if !line.shared.is_cut(&line.name) {
                            let _ = sender.send(message);
                        }
                    });
                }
            }
        });
        Ok(Subscription::new(futures::stream::unfold(
            receiver,
            |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
        )))
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        self.unless_cut("answer")?;
        self.shared.bus.reply(to, payload).await
    }

    fn dropped(&self) -> u64 {
        self.shared.bus.dropped()
    }
}

#[async_trait]
impl Bus for Line {
    async fn request(&self, subject: &Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.unless_cut("ask")?;
        self.shared.bus.request(subject, payload, timeout).await
    }

    async fn consume(&self, durable: Durable) -> Result<Box<dyn Consumer>, BusError> {
        self.unless_cut("consume")?;
        let consumer = self.shared.bus.consume(durable).await?;
        let line = self.clone();
        Ok(Box::new(Reader { consumer, line }))
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.unless_cut("flush")?;
        self.shared.bus.flush().await
    }

    fn durables(&self) -> &'static [Durable] {
        self.shared.bus.durables()
    }
}

struct Reader {
    consumer: Box<dyn Consumer>,
    line: Line,
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&mut self, max: usize) -> Result<Box<dyn Batch>, BusError> {
        self.line.unless_cut("consume")?;
        let batch = self.consumer.next(max).await?;
        let line = self.line.clone();
        Ok(Box::new(Delivered { batch, line }))
    }
}

struct Delivered {
    batch: Box<dyn Batch>,
    line: Line,
}

#[async_trait]
impl Batch for Delivered {
    fn messages(&self) -> &[Message] {
        self.batch.messages()
    }

    fn caught_up(&self) -> Option<Duration> {
        self.batch.caught_up()
    }

    async fn acknowledge(self: Box<Self>) -> Result<(), BusError> {
        let is_lost = self.line.shared.state().happens(|weather| weather.unsure);
        if is_lost || self.line.shared.is_cut(&self.line.name) {
            tokio::spawn(async move {
                tokio::time::sleep(COMES_AGAIN).await;
                // Dropped, it comes again.
                drop(self.batch);
            });
            return Ok(());
        }
        self.batch.acknowledge().await
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("weather", &self.0.state().weather)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.name).finish()
    }
}
