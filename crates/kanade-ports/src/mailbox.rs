//! The queue of one subscriber: bounded in number and bytes; what does not fit is dropped, so that nobody waits for a
//! slow one. For those who implement a port.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::mpsc;

/// The end that items are put into.
pub struct Mailbox<T> {
    items: mpsc::Sender<(T, usize)>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The end that a subscriber reads; it ends when the mailbox is dropped.
pub struct Inbox<T> {
    items: mpsc::Receiver<(T, usize)>,
    bytes: Arc<AtomicUsize>,
}

/// A queue of at most so many items, which together weigh at most so many bytes.
pub fn mailbox<T>(items: usize, bytes: usize) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = mpsc::channel(items);
    let used = Arc::new(AtomicUsize::new(0));
    let mailbox = Mailbox {
        items: sender,
        bytes: Arc::clone(&used),
        limit: bytes,
    };
    let inbox = Inbox {
        items: receiver,
        bytes: used,
    };
    (mailbox, inbox)
}

impl<T> Mailbox<T> {
    /// Puts an item in that holds `weight` bytes of memory. Says whether it was dropped for want of room.
    pub fn put(&self, item: T, weight: usize) -> Put {
        if self.bytes.fetch_add(weight, Ordering::Relaxed) + weight > self.limit {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return Put::Dropped;
        }
        match self.items.try_send((item, weight)) {
            Ok(()) => Put::Queued,
            Err(error) => {
                self.bytes.fetch_sub(weight, Ordering::Relaxed);
                match error {
                    mpsc::error::TrySendError::Full(_) => Put::Dropped,
                    mpsc::error::TrySendError::Closed(_) => Put::Gone,
                }
            }
        }
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It will be read.
    Queued,
    /// There was no room for it.
    Dropped,
    /// The reader has gone away.
    Gone,
}

impl<T> Stream for Inbox<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let read = std::task::ready!(self.items.poll_recv(context));
        Poll::Ready(read.map(|(item, weight)| {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            item
        }))
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_full_mailbox_drops_the_newest_and_has_room_again_after_a_read() {
        let (mailbox, mut inbox) = mailbox(2, 1 << 20);
        assert_eq!(mailbox.put(1, 8), Put::Queued);
        assert_eq!(mailbox.put(2, 8), Put::Queued);
        assert_eq!(mailbox.put(3, 8), Put::Dropped);
        assert_eq!(inbox.next().now_or_never().flatten(), Some(1));
        assert_eq!(mailbox.put(4, 8), Put::Queued);
        assert_eq!(inbox.next().now_or_never().flatten(), Some(2));
        assert_eq!(inbox.next().now_or_never().flatten(), Some(4));
        drop(inbox);
        assert_eq!(mailbox.put(5, 8), Put::Gone);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (mailbox, mut inbox) = mailbox(100, 1000);
        assert_eq!(mailbox.put("large", 600), Put::Queued);
        assert_eq!(mailbox.put("large", 600), Put::Dropped);
        assert!(inbox.next().now_or_never().is_some());
        assert_eq!(mailbox.put("large", 600), Put::Queued);
    }
}
