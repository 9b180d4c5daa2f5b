//! The writing side of a session: signs of life, then answers, then kills, then everything else.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use kanade_ports::frame::{FrameError, MAX_PAYLOAD, ServerFrame, encode};
use tokio::{
    io::AsyncWrite,
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval_at},
};
use tokio_stream::StreamMap;

use super::{
    answer::{Answer, Feed, Then, Told},
    end::End,
    sink::Sink,
};

/// Tells an agent things.
pub(super) struct Outbound<W> {
    sink: Sink<W>,
    answers: mpsc::Receiver<Answer>,
    pings: watch::Receiver<Bytes>,
    ask: Interval,
    urgent: StreamMap<u64, BoxStream<'static, Told>>,
    others: StreamMap<u64, BoxStream<'static, Told>>,
}

impl<W: AsyncWrite + Unpin> Outbound<W> {
    /// Writes to `sink`; answers the latest of `pings` and pings itself `every` so often.
    pub(super) fn new(
        sink: Sink<W>,
        answers: mpsc::Receiver<Answer>,
        pings: watch::Receiver<Bytes>,
        every: Duration,
    ) -> Self {
        let every = every.max(Duration::from_millis(1));
        let mut ask = interval_at(tokio::time::Instant::now() + every, every);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            sink,
            answers,
            pings,
            ask,
            urgent: StreamMap::new(),
            others: StreamMap::new(),
        }
    }

    /// Tells the agent whatever there is until the connection ends.
    pub(super) async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// What is written to.
    pub(super) fn into_inner(self) -> Sink<W> {
        self.sink
    }

    async fn step(&mut self) -> Result<(), End> {
        tokio::select! {
            biased;
            Ok(()) = self.pings.changed() => {
                let ping = self.pings.borrow_and_update().clone();
                self.sink.pong(ping).await
            }
            _ = self.ask.tick() => self.sink.ping().await,
            Some(answer) = self.answers.recv() => self.answer(answer).await,
            Some((_, told)) = self.urgent.next(), if !self.urgent.is_empty() => self.tell(told).await,
            Some((_, told)) = self.others.next(), if !self.others.is_empty() => self.tell(told).await,
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), End> {
        let Answer {
            told,
            then,
            slot,
            room,
        } = answer;
        match then {
            Then::Nothing => self.tell(told).await?,
            Then::Forget(of) => {
                self.forget(of);
                self.tell(told).await?;
            }
            Then::Follow(feed) => {
                // Nothing of it comes before the answer.
                self.tell(told).await?;
                self.follow(feed);
            }
        }
        drop((slot, room));
        Ok(())
    }

    fn follow(&mut self, feed: Feed) {
        // An id that is used again means the newer one.
        self.forget(feed.of);
        let feeds = if feed.is_urgent {
            &mut self.urgent
        } else {
            &mut self.others
        };
        feeds.insert(feed.of, feed.items);
    }

    fn forget(&mut self, of: u64) {
        drop(self.urgent.remove(&of));
        drop(self.others.remove(&of));
    }

    async fn tell(&mut self, (told, payload): Told) -> Result<(), End> {
        match head(&told, &payload) {
            Ok(head) => self.sink.message(&head, payload).await,
            Err(error) => {
                tracing::warn!(?told, %error, "something that fits no frame was not told an agent");
                Ok(())
            }
        }
    }
}

/// The first line of a frame.
fn head(told: &ServerFrame, payload: &Bytes) -> Result<Bytes, FrameError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLarge(payload.len()));
    }
    encode(told, b"")
}
