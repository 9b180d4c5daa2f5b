//! Places for connections. Who has not said yet what he wants gives up his place to a newcomer: thousands of connections
//! that say nothing must not keep out one that does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places there are.
pub(super) struct Places {
    free: Arc<Semaphore>,
    silent: Arc<Silent>,
}

/// The connections that have brought no request yet, oldest first.
#[derive(Default)]
struct Silent(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    came: u64,
    wanted: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// So many of them.
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            silent: Arc::default(),
        }
    }

    /// A place for a newcomer, once there is one.
    pub(super) async fn take(&self) -> Place {
        let free = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(free) => free,
            Err(_) => {
                let oldest = self.silent.waiting().wanted.pop_first();
                // Nobody is woken under the lock.
                if let Some((_, wanted)) = oldest {
                    wanted.cancel();
                }
                let free = Arc::clone(&self.free).acquire_owned().await;
                free.expect("the semaphore is never closed")
            }
        };
        let wanted = CancellationToken::new();
        let mut waiting = self.silent.waiting();
        waiting.came += 1;
        let number = waiting.came;
        waiting.wanted.insert(number, wanted.clone());
        drop(waiting);
        Place {
            number,
            wanted,
            spoken: CancellationToken::new(),
            has_spoken: AtomicBool::new(false),
            silent: Arc::clone(&self.silent),
            _free: free,
        }
    }
}

impl Silent {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection.
pub(super) struct Place {
    number: u64,
    wanted: CancellationToken,
    spoken: CancellationToken,
    has_spoken: AtomicBool,
    silent: Arc<Silent>,
    _free: OwnedSemaphorePermit,
}

impl Place {
    /// A request has come. Says whether in time: otherwise the place is another's.
    pub(super) fn speak(&self) -> bool {
        if self.has_spoken.load(Ordering::Relaxed) {
            return true;
        }
        let is_in_time = self.silent.waiting().wanted.remove(&self.number).is_some();
        if is_in_time {
            self.has_spoken.store(true, Ordering::Relaxed);
            self.spoken.cancel();
        }
        is_in_time
    }

    /// Returns when no request has come within `patience`. The protocol has a timer of its own, but only once it knows
    /// which protocol it is.
    pub(super) async fn silence(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.spoken.cancelled())
            .await
            .is_ok()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when a newcomer gets the place.
    pub(super) async fn wanted(&self) {
        self.wanted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.has_spoken.load(Ordering::Relaxed) {
            self.silent.waiting().wanted.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_one_that_is_silent_for_the_longest_time_gives_up_its_place() {
        let places = Places::new(3);
        let (spoken, silent, newer) = (places.take().await, places.take().await, places.take().await);
        assert!(spoken.speak() && spoken.speak());
        let newcomer = places.take();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none(), "until it has left");
        assert!(silent.wanted().now_or_never().is_some());
        assert!(!silent.speak(), "too late");
        for stays in [&spoken, &newer] {
            assert!(stays.wanted().now_or_never().is_none());
        }
        drop(silent);
        let newcomer = newcomer.await;
        assert!(newer.speak() && newcomer.speak());

        // Nobody is silent any more, so the next one waits.
        let last = places.take();
        tokio::pin!(last);
        assert!(last.as_mut().now_or_never().is_none());
        assert!(newcomer.wanted().now_or_never().is_none());
        drop(newcomer);
        drop(last.await);
        drop((spoken, newer));
        assert!(places.silent.waiting().wanted.is_empty());
        assert_eq!(places.free.available_permits(), 3);
    }
}
