//! The queue of one subscriber: bounded in number and bytes; what does not fit is dropped, so that nobody waits for a
//! slow one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use kanade_ports::Message;
use tokio::sync::mpsc;

use super::weight;

/// The end that messages are put into.
pub(super) struct Mailbox {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The end that a subscriber reads.
pub(super) struct Inbox {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

/// A queue of at most so many messages and bytes.
pub(super) fn mailbox(messages: usize, bytes: usize) -> (Mailbox, Inbox) {
    let (sender, receiver) = mpsc::channel(messages);
    let used = Arc::new(AtomicUsize::new(0));
    let mailbox = Mailbox {
        messages: sender,
        bytes: Arc::clone(&used),
        limit: bytes,
    };
    let inbox = Inbox {
        messages: receiver,
        bytes: used,
    };
    (mailbox, inbox)
}

impl Mailbox {
    /// Puts a message in. Says whether it was dropped for want of room.
    pub(super) fn put(&self, message: &Message) -> Put {
        let weight = weight(message);
        if self.bytes.fetch_add(weight, Ordering::Relaxed) + weight > self.limit {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return Put::Dropped;
        }
        match self.messages.try_send(message.clone()) {
            Ok(()) => Put::Queued,
            Err(error) => {
                self.bytes.fetch_sub(weight, Ordering::Relaxed);
                match error {
                    mpsc::error::TrySendError::Full(_) => Put::Dropped,
                    // The subscriber is about to be removed.
                    mpsc::error::TrySendError::Closed(_) => Put::Gone,
                }
            }
        }
    }
}

/// What became of a message at one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Queued,
    Dropped,
    Gone,
}

impl Stream for Inbox {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let message = std::task::ready!(self.messages.poll_recv(context));
        if let Some(message) = &message {
            self.bytes.fetch_sub(weight(message), Ordering::Relaxed);
        }
        Poll::Ready(message)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn message(payload: &str) -> Message {
        Message {
            subject: "a.b".parse().unwrap(),
            payload: payload.to_owned().into(),
            reply: None,
        }
    }

    #[test]
    fn a_full_mailbox_drops_the_newest_and_has_room_again_after_a_read() {
        let (mailbox, mut inbox) = mailbox(2, 1 << 20);
        assert_eq!(mailbox.put(&message("1")), Put::Queued);
        assert_eq!(mailbox.put(&message("2")), Put::Queued);
        assert_eq!(mailbox.put(&message("3")), Put::Dropped);
        assert_eq!(inbox.next().now_or_never().flatten(), Some(message("1")));
        assert_eq!(mailbox.put(&message("4")), Put::Queued);
        assert_eq!(inbox.next().now_or_never().flatten(), Some(message("2")));
        assert_eq!(inbox.next().now_or_never().flatten(), Some(message("4")));
        drop(inbox);
        assert_eq!(mailbox.put(&message("5")), Put::Gone);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let large = message(&"x".repeat(600));
        let (mailbox, mut inbox) = mailbox(100, 1000);
        assert_eq!(mailbox.put(&large), Put::Queued);
        assert_eq!(mailbox.put(&large), Put::Dropped);
        assert!(inbox.next().now_or_never().is_some());
        assert_eq!(mailbox.put(&large), Put::Queued);
    }
}
