//! What a script prints, sent while it runs: to whoever listens now, kept nowhere. The script is never slowed down for
//! it: what cannot be sent is left out. The result, which is kept until it has arrived, stays the truth.

mod pending;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kanade_model::{ExecId, OutputChunk, OutputStream, PcId, RequestId, ResultId, Subject};
use kanade_ports::{BusErrorKind, Clock, PubSub};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{agent::Shared, journal::RunRecord, output::encoded_len};
use pending::{Part, Pending};

/// What is printed within this time is told together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Bytes sent in a second of one run, as they are encoded.
const A_SECOND: usize = 64 * 1024;

/// The live output of one run. Dropped, what is left is sent, and the end.
#[derive(Debug)]
pub(crate) struct Live(Tap);

/// Takes what is printed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Feed>);

struct Feed {
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Live {
    /// Begins to send what a run prints. None of an ad-hoc run: nobody could follow it.
    pub(crate) fn begin(shared: &Shared, run: &RunRecord) -> Option<Self> {
        let sending = Sending {
            run: Head {
                result_id: run.result_id,
                request_id: run.command.request_id,
                exec_id: run.command.exec_id.clone()?,
                pc_id: shared.config.pc_id.clone(),
            },
            bus: Arc::clone(&shared.bus),
            clock: Arc::clone(&shared.clock),
        };
        Some(Self::send(sending, shared.closing.clone()))
    }

    fn send(sending: Sending, closing: CancellationToken) -> Self {
        let tap = Tap(Arc::new(Feed {
            pending: Mutex::new(Pending::new()),
            changed: Notify::new(),
        }));
        let feed = Arc::clone(&tap.0);
        tokio::spawn(async move {
            closing.run_until_cancelled(sending.run(&feed)).await;
            // Whatever is printed now is for nobody.
            feed.close();
        });
        Self(tap)
    }

    pub(crate) fn tap(&self) -> Tap {
        self.0.clone()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.0.close();
    }
}

impl Tap {
    /// Never waits.
    pub(crate) fn push(&self, stream: OutputStream, bytes: &[u8]) {
        self.0.pending().push(stream, bytes);
        self.0.changed.notify_one();
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Feed {
    fn close(&self) {
        self.pending().close();
        self.changed.notify_one();
    }

    /// Only the task that sends waits here.
    async fn until(&self, holds: impl Fn(&Pending) -> bool) {
        while !holds(&self.pending()) {
            self.changed.notified().await;
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no panic while locked")
    }
}

/// Whose output it is.
struct Head {
    result_id: ResultId,
    request_id: RequestId,
    exec_id: ExecId,
    pc_id: PcId,
}

impl Head {
    fn chunk(&self, part: Part) -> OutputChunk {
        OutputChunk {
            result_id: self.result_id,
            request_id: self.request_id,
            exec_id: self.exec_id.clone(),
            pc_id: self.pc_id.clone(),
            seq: part.seq,
            stream: part.stream,
            offset: part.offset,
            text: part.text,
            last: part.last,
        }
    }
}

struct Sending {
    run: Head,
    bus: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
}

impl Sending {
    async fn run(self, feed: &Feed) {
        let subject = Subject::output(&self.run.exec_id, &self.run.pc_id);
        loop {
            feed.until(|pending| !pending.is_empty() || pending.is_closed())
                .await;
            tokio::select! {
                () = feed.until(|pending| pending.is_plenty() || pending.is_closed()) => {}
                () = self.clock.sleep(TOGETHER) => {}
            }
            let parts = feed.pending().take();
            let mut sent = 0;
            let is_end = parts.last().is_none_or(|part| part.last);
            for part in parts {
                sent += encoded_len(&part.text);
                let chunk = serde_json::to_vec(&self.run.chunk(part)).expect("a chunk has string keys only");
                if let Err(error) = self.bus.publish(&subject, chunk.into()).await {
                    tracing::debug!(%subject, %error, "cannot send what a script prints");
                    if error.kind() == BusErrorKind::Refused {
                        // An older server wants none of it.
                        return;
                    }
                }
            }
            if is_end {
                return;
            }
            // Whatever has been printed meanwhile waits, as far as there is room.
            self.clock.sleep(time_for(sent)).await;
        }
    }
}

/// How long so many bytes take at the most that is sent.
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64) / u32::try_from(A_SECOND).expect("a small number")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};
    use kanade_memory::{EmbeddedBus, ManualClock};
    use kanade_model::{
        OutputStream::{Stderr, Stdout},
        Pattern,
    };
    use kanade_ports::{BusError, Message, MessageId, Subscription};
    use uuid::Uuid;

    use super::*;

    struct World {
        clock: ManualClock,
        heard: Subscription,
        live: Live,
        closing: CancellationToken,
    }

    impl World {
        async fn new() -> Self {
            let bus = EmbeddedBus::new();
            let heard = bus.subscribe(&"output.>".parse().unwrap()).await.unwrap();
            let clock = ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap());
            let closing = CancellationToken::new();
            let live = Live::send(sending(Arc::new(bus), &clock), closing.clone());
            Self {
                clock,
                heard,
                live,
                closing,
            }
        }

        fn print(&self, stream: OutputStream, text: &str) {
            self.live.tap().push(stream, text.as_bytes());
        }

        async fn chunk(&mut self) -> OutputChunk {
            let message = tokio::time::timeout(Duration::from_secs(30), self.heard.next())
                .await
                .expect("a chunk comes")
                .unwrap();
            assert_eq!(message.subject.as_str(), "output.e-1.pc-1");
            serde_json::from_slice(&message.payload).unwrap()
        }

        fn chunk_by_now(&mut self) -> Option<OutputChunk> {
            let message = self.heard.next().now_or_never()??;
            Some(serde_json::from_slice(&message.payload).unwrap())
        }
    }

    fn sending(bus: Arc<dyn PubSub>, clock: &ManualClock) -> Sending {
        Sending {
            run: Head {
                result_id: ResultId(Uuid::from_u128(8)),
                request_id: RequestId(Uuid::from_u128(7)),
                exec_id: "e-1".parse().unwrap(),
                pc_id: "pc-1".parse().unwrap(),
            },
            bus,
            clock: Arc::new(clock.clone()),
        }
    }

    /// A bus that keeps whoever publishes waiting, or refuses.
    struct BadBus {
        tried: AtomicUsize,
        refuses: bool,
    }

    impl BadBus {
        fn new(refuses: bool) -> Arc<Self> {
            Arc::new(Self {
                tried: AtomicUsize::new(0),
                refuses,
            })
        }
    }

    #[async_trait]
    impl PubSub for BadBus {
        async fn publish(&self, _: &Subject, _: Bytes) -> Result<(), BusError> {
            self.tried.fetch_add(1, Ordering::SeqCst);
            if self.refuses {
                return Err(BusError::new(BusErrorKind::Refused, "publish"));
            }
            std::future::pending().await
        }

        async fn publish_durable(&self, _: &Subject, _: Bytes, _: MessageId) -> Result<(), BusError> {
            panic!("live output is kept by nobody")
        }

        async fn subscribe(&self, _: &Pattern) -> Result<Subscription, BusError> {
            unreachable!()
        }

        async fn reply(&self, _: &Message, _: Bytes) -> Result<(), BusError> {
            unreachable!()
        }

        fn dropped(&self) -> u64 {
            0
        }
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .expect("the condition comes true");
    }

    #[tokio::test]
    async fn what_is_printed_within_a_moment_is_told_together() {
        let mut world = World::new().await;
        world.print(Stdout, "one\n");
        world.clock.sleepers(1).await;
        world.print(Stderr, "oops\n");
        world.print(Stdout, "two\n");
        assert_eq!(world.chunk_by_now(), None);
        world.clock.advance(TOGETHER);
        let (out, err) = (world.chunk().await, world.chunk().await);
        assert_eq!((out.seq, out.offset, out.text.as_str()), (0, 0, "one\ntwo\n"));
        assert_eq!((err.seq, err.stream, err.text.as_str()), (1, Stderr, "oops\n"));
        assert!(!out.last && !err.last);
        drop(world.live);
        world.clock.sleepers(1).await;
        world.clock.advance(TOGETHER);
        let end = tokio::time::timeout(Duration::from_secs(30), world.heard.next()).await;
        let end: OutputChunk = serde_json::from_slice(&end.unwrap().unwrap().payload).unwrap();
        assert_eq!(
            (end.seq, end.offset, end.text.as_str(), end.last),
            (2, 8, "", true)
        );
    }

    #[tokio::test]
    async fn no_more_is_sent_in_a_second_than_is_allowed_and_the_rest_is_marked() {
        let mut world = World::new().await;
        let line = "0123456789abcde\n".repeat(64);
        // Prints 16 times as much as may be sent, for ten seconds.
        let (mut sent, mut end, mut gaps) = (0, 0, 0);
        for _ in 0..1000 {
            for _ in 0..10 {
                world.print(Stdout, &line);
            }
            world.clock.sleepers(1).await;
            world.clock.advance(Duration::from_millis(10));
            // Whoever is woken sends or waits again.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            while let Some(chunk) = world.chunk_by_now() {
                assert!(chunk.text.len() <= pending::CHUNK);
                sent += chunk.text.len();
                gaps += usize::from(chunk.offset > end);
                assert!(chunk.offset >= end);
                end = chunk.end();
            }
        }
        // As it is encoded, where a line end takes two bytes.
        let encoded = sent / 16 * 17;
        assert!(encoded <= 10 * A_SECOND + 2 * pending::CHUNK, "{sent}");
        assert!(encoded >= 9 * A_SECOND, "{sent}");
        assert!(gaps > 10, "{gaps}");
    }

    #[tokio::test]
    async fn a_bus_that_hangs_keeps_nobody_waiting() {
        let clock = ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap());
        let bus = BadBus::new(false);
        let closing = CancellationToken::new();
        let live = Live::send(sending(bus.clone(), &clock), closing.clone());
        let tap = live.tap();
        tap.push(Stdout, &[b'x'; 32 * 1024]);
        until(|| bus.tried.load(Ordering::SeqCst) == 1).await;
        for _ in 0..1000 {
            tap.push(Stdout, &[b'x'; 32 * 1024]);
        }
        drop(live);
        assert_eq!(bus.tried.load(Ordering::SeqCst), 1);
        closing.cancel();
        until(|| Arc::strong_count(&bus) == 1).await;
    }

    #[tokio::test]
    async fn where_it_is_refused_it_is_not_tried_again() {
        let clock = ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap());
        let bus = BadBus::new(true);
        let live = Live::send(sending(bus.clone(), &clock), CancellationToken::new());
        live.tap().push(Stdout, &[b'x'; 60 * 1024]);
        until(|| Arc::strong_count(&bus) == 1).await;
        assert_eq!(bus.tried.load(Ordering::SeqCst), 1);
        live.tap().push(Stdout, b"for nobody");
    }

    #[tokio::test]
    async fn of_a_run_that_ends_at_once_nothing_is_sent() {
        let clock = ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap());
        let bus = BadBus::new(true);
        let live = Live::send(sending(bus.clone(), &clock), CancellationToken::new());
        live.tap().push(Stdout, b"short\n");
        drop(live);
        until(|| Arc::strong_count(&bus) == 1).await;
        assert_eq!(bus.tried.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_agent_that_stops_sends_nothing_more() {
        let mut world = World::new().await;
        world.print(Stdout, "more\n");
        world.clock.sleepers(1).await;
        world.closing.cancel();
        until(|| world.live.0.0.pending().is_closed()).await;
        world.clock.advance(TOGETHER);
        assert_eq!(world.chunk_by_now(), None);
    }
}
