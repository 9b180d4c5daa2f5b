//! What the embedded bus promises beyond every bus: how much it holds, and what becomes of senders when nobody
//! consumes any more.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::join_all};
use kanade_conformance::within;
use kanade_memory::{BusLimits, EmbeddedBus};
use kanade_model::Subject;
use kanade_ports::{Bus, BusErrorKind, Consumer, Durable, MessageId, PubSub};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(60);

fn subject(text: &str) -> Subject {
    text.parse().expect("a valid subject")
}

fn small() -> BusLimits {
    BusLimits {
        max_payload: 1000,
        subscriber_messages: 4,
        subscriber_bytes: 4000,
        durable_messages: 3,
        durable_bytes: 6000,
    }
}

fn send(bus: &EmbeddedBus, to: &str, payload: impl Into<Bytes>) -> JoinHandle<Result<(), BusErrorKind>> {
    let (bus, to, payload) = (bus.clone(), subject(to), payload.into());
    tokio::spawn(async move {
        let sent = bus.publish_durable(&to, payload, MessageId("any".into())).await;
        sent.map_err(|error| error.kind())
    })
}

/// Lets everything run that can, on a runtime of one thread.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// How many messages a consumer can take at this moment.
fn at_hand(consumer: &mut Box<dyn Consumer>) -> usize {
    let batch = consumer.next(1000).now_or_never();
    batch.map_or(0, |batch| batch.expect("an open consumer").messages().len())
}

#[tokio::test]
async fn senders_wait_while_a_consumer_is_behind() {
    let bus = EmbeddedBus::with_limits(small());
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let sending: Vec<_> = (0..5).map(|_| send(&bus, "results.r", "x")).collect();
    settle().await;
    assert_eq!(at_hand(&mut consumer), 3, "three are held, two wait outside");
    let batch = consumer.next(1).await.unwrap();
    settle().await;
    assert_eq!(
        at_hand(&mut consumer),
        2,
        "what is in a consumer's hand takes room too"
    );
    batch.acknowledge().await.unwrap();
    settle().await;
    assert_eq!(
        at_hand(&mut consumer),
        3,
        "an acknowledgement makes room for the next"
    );
    for _ in 0..2 {
        within(SOON, "a batch", consumer.next(9))
            .await
            .unwrap()
            .acknowledge()
            .await
            .unwrap();
        settle().await;
    }
    assert!(
        join_all(sending)
            .await
            .into_iter()
            .all(|sent| sent.unwrap() == Ok(())),
        "each was kept"
    );
}

#[tokio::test]
async fn a_backlog_is_bounded_in_bytes() {
    let bus = EmbeddedBus::with_limits(BusLimits {
        durable_messages: 1000,
        ..small()
    });
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let sending: Vec<_> = (0..10).map(|_| send(&bus, "results.r", vec![0; 1000])).collect();
    settle().await;
    assert_eq!(
        at_hand(&mut consumer),
        5,
        "of 6,000 bytes, with what goes along with each message"
    );
    sending.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_message_larger_than_the_backlog_travels_alone() {
    let bus = EmbeddedBus::with_limits(BusLimits {
        durable_bytes: 500,
        ..small()
    });
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let sending = [
        send(&bus, "results.r", vec![0; 1000]),
        send(&bus, "results.r", "x"),
    ];
    for sending in sending {
        let batch = within(SOON, "a batch", consumer.next(9)).await.unwrap();
        assert_eq!(batch.messages().len(), 1, "the other one waits");
        batch.acknowledge().await.unwrap();
        assert_eq!(sending.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn senders_are_told_when_the_last_consumer_leaves() {
    let bus = EmbeddedBus::with_limits(small());
    let mut first = bus.consume(Durable::Results).await.unwrap();
    let second = bus.consume(Durable::Results).await.unwrap();
    let sending: Vec<_> = (0..6).map(|_| send(&bus, "results.r", "x")).collect();
    settle().await;
    let in_hand = first.next(1).await.unwrap();
    drop(second);
    settle().await;
    assert!(
        sending.iter().all(|sending| !sending.is_finished()),
        "somebody is still there"
    );
    drop(first);
    let mut told = 0;
    for sending in &sending {
        settle().await;
        told += usize::from(sending.is_finished());
    }
    assert_eq!(
        told, 5,
        "those in the queue and those before it; one is in a hand that may still acknowledge"
    );

    let mut later = bus.consume(Durable::Results).await.unwrap();
    assert_eq!(
        at_hand(&mut later),
        0,
        "nothing of it is left for the next consumer"
    );
    drop(in_hand);
    assert_eq!(
        at_hand(&mut later),
        0,
        "nor does it get what an earlier one drops"
    );
    for sent in join_all(sending).await {
        assert_eq!(
            sent.unwrap(),
            Err(BusErrorKind::Unavailable),
            "so that an outbox sends it again"
        );
    }
}

#[tokio::test]
async fn senders_that_wait_for_room_are_told_too() {
    let bus = EmbeddedBus::with_limits(small());
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let in_queue: Vec<_> = (0..3).map(|_| send(&bus, "results.r", "x")).collect();
    settle().await;
    let all_room = consumer.next(9).await.unwrap();
    let waiting = send(&bus, "results.r", "x");
    settle().await;
    assert!(
        !waiting.is_finished(),
        "a consumer has all the room there is in its hand"
    );
    drop(consumer);
    let told = within(SOON, "an answer to a sender outside", waiting)
        .await
        .unwrap();
    assert_eq!(
        told,
        Err(BusErrorKind::Unavailable),
        "whatever becomes of that batch"
    );
    all_room.acknowledge().await.unwrap();
    assert!(
        join_all(in_queue)
            .await
            .into_iter()
            .all(|sent| sent.unwrap() == Ok(())),
        "it was recorded"
    );
}

#[tokio::test]
async fn several_readers_wake_for_several_messages() {
    let bus = EmbeddedBus::new();
    let mut readers = Vec::new();
    let mut holder = bus.consume(Durable::Results).await.unwrap();
    let sending: Vec<_> = (0..3).map(|_| send(&bus, "results.r", "x")).collect();
    settle().await;
    let all = holder.next(9).await.unwrap();
    assert_eq!(all.messages().len(), 3);
    for _ in 0..3 {
        let mut reader = bus.consume(Durable::Results).await.unwrap();
        readers.push(tokio::spawn(async move {
            reader.next(1).await.unwrap().acknowledge().await.unwrap();
        }));
    }
    settle().await;
    // Three come back with one notice.
    drop(all);
    for reader in readers {
        within(SOON, "each reader's message", reader).await.unwrap();
    }
    assert!(
        join_all(sending)
            .await
            .into_iter()
            .all(|sent| sent.unwrap() == Ok(()))
    );
}

#[tokio::test]
async fn what_no_durable_covers_is_kept_by_whoever_listens() {
    let bus = EmbeddedBus::new();
    let to_agent = || send(&bus, "commands.pc.pc-1", "run");
    assert_eq!(
        to_agent().await.unwrap(),
        Err(BusErrorKind::Unavailable),
        "nobody listens"
    );
    let mut agent = bus.subscribe(&"commands.pc.*".parse().unwrap()).await.unwrap();
    assert_eq!(to_agent().await.unwrap(), Ok(()), "somebody has it");
    assert!(agent.next().await.is_some());
}

#[tokio::test]
async fn a_subscriber_may_be_so_far_behind_and_no_further() {
    let bus = EmbeddedBus::with_limits(small());
    let mut behind = bus.subscribe(&"noise.>".parse().unwrap()).await.unwrap();
    for number in 0..7 {
        bus.publish(&subject("noise.x"), Bytes::from(number.to_string()))
            .await
            .unwrap();
    }
    assert_eq!(bus.dropped(), 3, "four fit");
    for number in 0..4 {
        let heard = behind.next().await.unwrap();
        assert_eq!(heard.payload, number.to_string(), "the oldest are kept");
    }
    for _ in 0..4 {
        bus.publish(&subject("noise.x"), Bytes::from(vec![0; 1000]))
            .await
            .unwrap();
    }
    assert_eq!(bus.dropped(), 4, "three of a thousand bytes fit");
}

#[tokio::test]
async fn a_responder_that_is_behind_is_still_there() {
    let bus = EmbeddedBus::with_limits(small());
    let _behind = bus.subscribe(&"ping.pc-1".parse().unwrap()).await.unwrap();
    for _ in 0..4 {
        bus.publish(&subject("ping.pc-1"), Bytes::new()).await.unwrap();
    }
    let asked = bus
        .request(&subject("ping.pc-1"), Bytes::new(), Duration::from_millis(5))
        .await;
    assert_eq!(
        asked.unwrap_err().kind(),
        BusErrorKind::TimedOut,
        "it listens, but was too slow to hear"
    );
}

#[tokio::test]
async fn everything_ends_with_the_bus() {
    let bus = EmbeddedBus::new();
    let mut subscription = bus.subscribe(&">".parse().unwrap()).await.unwrap();
    let mut consumer = bus.consume(Durable::Events).await.unwrap();
    let waiting =
        tokio::spawn(async move { consumer.next(1).await.map(|_| ()).map_err(|error| error.kind()) });
    settle().await;
    drop(bus);
    assert!(
        within(SOON, "the end", subscription.next()).await.is_none(),
        "a subscription ends"
    );
    let ended = within(SOON, "the end", waiting).await.unwrap();
    assert_eq!(ended, Err(BusErrorKind::Unavailable), "a consumer is told");
}

#[tokio::test]
async fn waking_a_reader_may_drop_others() {
    // As a runtime does that is being shut down: it drops a task instead of running it.
    struct Drops<T>(Mutex<Option<T>>);
    impl<T: Send + 'static> Wake for Drops<T> {
        fn wake(self: Arc<Self>) {
            let dropped = self.0.lock().unwrap().take();
            drop(dropped);
        }
    }
    fn dropping<T: Send + 'static>(victim: T) -> Waker {
        Waker::from(Arc::new(Drops(Mutex::new(Some(victim)))))
    }

    let bus = EmbeddedBus::new();
    let pattern = "kill.>".parse().unwrap();
    let (mut reader, victim) = (
        bus.subscribe(&pattern).await.unwrap(),
        bus.subscribe(&pattern).await.unwrap(),
    );
    let waker = dropping(victim);
    assert!(
        reader
            .poll_next_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
    bus.publish(&subject("kill.e-1"), Bytes::new()).await.unwrap();
    assert!(reader.next().await.is_some(), "who stays still hears");

    let mut waiting = bus.consume(Durable::Results).await.unwrap();
    let last = bus.consume(Durable::Results).await.unwrap();
    let waker = dropping(last);
    let mut next = waiting.next(1);
    assert!(next.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    let sending = send(&bus, "results.r", "x");
    let batch = within(SOON, "a batch", next).await.unwrap();
    batch.acknowledge().await.unwrap();
    assert_eq!(sending.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn subscriptions_leave_nothing_behind() {
    let bus = EmbeddedBus::new();
    for number in 0..1000 {
        let pattern = format!("results.{number}.*").parse().unwrap();
        drop(bus.subscribe(&pattern).await.unwrap());
        let asked = bus
            .request(&subject(&format!("results.{number}.x")), Bytes::new(), SOON)
            .await;
        assert_eq!(
            asked.unwrap_err().kind(),
            BusErrorKind::NoResponders,
            "number {number} has left"
        );
    }
    let shared: Arc<dyn Bus> = Arc::new(bus);
    assert_eq!(shared.dropped(), 0, "nobody was there to miss anything");
}
