//! Gets messages out: from the journal to the bus, again and again until the bus has them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kanade_model::{ExecResult, Timestamp};
use kanade_ports::{BusError, BusErrorKind, Clock, PubSub};
use tokio::sync::{Notify, watch};

use crate::{
    backoff::Backoff,
    journal::{Journal, JournalError, Outgoing, Unsent},
    output::fit,
};

/// Messages on their way at the same time.
const AT_ONCE: usize = 32;
/// Their bytes.
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// A message that the bus has refused so often is set aside: it must not hold up the others.
const MOST_REFUSALS: u32 = 5;
const SET_ASIDE_FOR: Duration = Duration::from_secs(600);

pub(crate) struct Outbox {
    journal: Arc<Journal>,
    bus: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
    /// How many messages are in the journal's outbox, or about to be.
    waiting: watch::Sender<u64>,
    wake: Notify,
    /// The connection stands again: whoever waits for another attempt need not wait any longer.
    reconnected: Notify,
}

/// Messages on their way, and where to go on in the journal.
#[derive(Default)]
struct UnderWay<'a> {
    futures: FuturesUnordered<BoxFuture<'a, Done>>,
    numbers: HashSet<u64>,
    bytes: usize,
    last: u64,
    /// When to begin from the start, for those that were set aside.
    look_again_at: Option<Timestamp>,
}

struct Done {
    number: u64,
    bytes: usize,
    is_set_aside: bool,
}

impl Outbox {
    /// An outbox that begins with what an earlier life left behind.
    pub(crate) async fn new(
        journal: Arc<Journal>,
        bus: Arc<dyn PubSub>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let waiting = watch::Sender::new(journal.unsent_count().await?);
        Ok(Self {
            journal,
            bus,
            clock,
            waiting,
            wake: Notify::new(),
            reconnected: Notify::new(),
        })
    }

    /// Does `posting`, which puts so many messages into the journal, and sends them from there.
    pub(crate) async fn post<T>(
        &self,
        messages: usize,
        posting: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        // Counted before they can be out.
        self.waiting.send_modify(|waiting| *waiting += messages as u64);
        let posted = posting.await;
        match &posted {
            Ok(_) => self.wake.notify_one(),
            Err(_) => self.count_out(messages as u64),
        }
        posted
    }

    fn count_out(&self, messages: u64) {
        self.waiting
            .send_modify(|waiting| *waiting = waiting.saturating_sub(messages));
    }

    /// Returns when everything is out.
    pub(crate) async fn emptied(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender is `self`.
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// One attempt to get a message out that the journal could not keep.
    pub(crate) async fn send_unkept(&self, message: &Outgoing) -> Result<(), BusError> {
        let mut message = message.clone();
        loop {
            match self.publish(&message).await {
                Err(error) if error.kind() == BusErrorKind::TooLarge => match smaller(&message) {
                    Some(smaller) => message = smaller,
                    None => return Err(error),
                },
                outcome => return outcome,
            }
        }
    }

    /// Sends what is in the journal, for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut under_way = UnderWay::default();
        let mut backoff = Backoff::new();
        let mut reconnections = self.bus.reconnections();
        loop {
            let pause = match self.fill(&mut under_way).await {
                Ok(()) => {
                    backoff.reset();
                    under_way.look_again_at.map(|at| at.since(self.clock.now()))
                }
                Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::error!(error = %report(&error), "cannot read the outbox; it will be tried again");
                    Some(backoff.pause())
                }
            };
            tokio::select! {
                Some(done) = under_way.futures.next(), if !under_way.futures.is_empty() => {
                    under_way.numbers.remove(&done.number);
                    under_way.bytes -= done.bytes;
                    if done.is_set_aside {
                        let later = self.clock.now().plus(SET_ASIDE_FOR);
                        under_way.look_again_at.get_or_insert(later);
                    }
                }
                () = self.wake.notified() => {}
                Some(()) = reconnections.next() => self.reconnected.notify_waiters(),
                () = self.pause(pause) => {}
            }
        }
    }

    async fn pause(&self, pause: Option<Duration>) {
        match pause {
            Some(pause) => self.clock.sleep(pause).await,
            None => std::future::pending().await,
        }
    }

    /// Takes as much from the journal as there is room for.
    async fn fill<'a>(&'a self, under_way: &mut UnderWay<'a>) -> Result<(), JournalError> {
        if under_way.look_again_at.is_some_and(|at| at <= self.clock.now()) {
            under_way.look_again_at = None;
            under_way.last = 0;
        }
        loop {
            let count = AT_ONCE.saturating_sub(under_way.futures.len());
            let bytes = BYTES_AT_ONCE.saturating_sub(under_way.bytes);
            if count == 0 || bytes == 0 {
                return Ok(());
            }
            let found = self.journal.unsent(under_way.last, count, bytes).await?;
            if found.is_empty() {
                return Ok(());
            }
            for unsent in found {
                under_way.last = unsent.number;
                if under_way.numbers.insert(unsent.number) {
                    under_way.bytes += unsent.message.payload.len();
                    under_way.futures.push(self.send(unsent).boxed());
                }
            }
        }
    }

    /// Gets one message out, however long it takes; one that the bus refuses for itself is set aside after a while.
    async fn send(&self, unsent: Unsent) -> Done {
        let Unsent { number, mut message } = unsent;
        let mut done = Done {
            number,
            bytes: message.payload.len(),
            is_set_aside: false,
        };
        let mut backoff = Backoff::new();
        let mut refusals = 0;
        while let Err(error) = self.publish(&message).await {
            if error.kind() == BusErrorKind::TooLarge
                && let Some(smaller) = smaller(&message)
            {
                tracing::warn!(subject = %message.subject, %error, "a result is cut further");
                message = smaller;
                continue;
            }
            match error.kind() {
                BusErrorKind::NoResponders | BusErrorKind::TimedOut | BusErrorKind::Unavailable => {
                    tracing::debug!(subject = %message.subject, %error, "cannot send now");
                }
                BusErrorKind::TooLarge | BusErrorKind::Refused => refusals += 1,
            }
            if refusals == MOST_REFUSALS {
                tracing::error!(
                    subject = %message.subject, %error,
                    "the bus does not take a message; it is kept and tried again later"
                );
                done.is_set_aside = true;
                return done;
            }
            tokio::select! {
                () = self.clock.sleep(backoff.pause()) => {}
                () = self.reconnected.notified() => {}
            }
        }
        if let Err(error) = self.journal.sent(number).await {
            // It will be sent once more in the next life, which changes nothing at the server.
            tracing::warn!(subject = %message.subject, error = %report(&error), "cannot record that a message is out");
        }
        self.count_out(1);
        done
    }

    async fn publish(&self, message: &Outgoing) -> Result<(), BusError> {
        self.bus
            .publish_durable(&message.subject, message.payload.clone(), message.id.clone())
            .await
    }
}

/// The same result with half of its output; none if it is no result or has no output left.
fn smaller(message: &Outgoing) -> Option<Outgoing> {
    let mut result: ExecResult = serde_json::from_slice(&message.payload).ok()?;
    let size = result.stdout.len() + result.stderr.len();
    if size == 0 {
        return None;
    }
    (result.stdout, result.stderr) = fit(result.stdout, result.stderr, size / 2);
    let payload = serde_json::to_vec(&result)
        .expect("a result has string keys only")
        .into();
    Some(Outgoing {
        payload,
        ..message.clone()
    })
}

/// An error with its causes.
pub(crate) fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::{RequestId, Subject};
    use kanade_ports::MessageId;
    use uuid::Uuid;

    #[test]
    fn a_result_gets_smaller_until_nothing_is_left_to_cut() {
        let mut result: ExecResult = serde_json::from_value(serde_json::json!({
            "request_id": Uuid::nil(), "pc_id": "pc-1", "exit_code": 3, "stderr": "e",
            "stdout": "\u{1}".repeat(100_000), "started_at": "2026-05-01T08:30:00Z", "finished_at": "2026-05-01T08:30:00Z"
        }))
        .unwrap();
        result.stderr = "why".repeat(1000);
        let mut message = Outgoing {
            subject: Subject::result(RequestId(Uuid::nil())),
            id: MessageId("m".into()),
            payload: serde_json::to_vec(&result).unwrap().into(),
        };
        let mut steps = 0;
        while let Some(next) = smaller(&message) {
            assert!(next.payload.len() < message.payload.len());
            message = next;
            steps += 1;
            assert!(steps < 40, "it comes to an end");
        }
        let rest: ExecResult = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(
            (rest.exit_code, rest.stdout.as_str(), rest.stderr.as_str()),
            (3, "", "")
        );
    }
}
