//! A clock that stands still until a test moves it.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use kanade_model::Timestamp;
use kanade_ports::Clock;

/// A [`Clock`] in a test's hand. Clones are the same clock.
///
/// [`advance`](Self::advance) lets time pass; [`set`](Self::set) only puts the hands of the wall clock elsewhere, as
/// a person or a time service does, so it moves who waits [until a moment](Clock::sleep_until) but not who waits
/// [for a while](Clock::sleep).
#[derive(Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

struct Hands {
    now: Timestamp,
    /// The time that has passed since the start, whatever the wall clock shows.
    passed: Duration,
    sleepers: BTreeMap<u64, Sleeper>,
    next_id: u64,
    /// Who waits for a number of sleepers.
    watchers: Vec<Waker>,
}

struct Sleeper {
    until: Until,
    waker: Waker,
}

#[derive(Clone, Copy)]
enum Until {
    Moment(Timestamp),
    Passed(Duration),
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Hands {
            now,
            passed: Duration::ZERO,
            sleepers: BTreeMap::new(),
            next_id: 0,
            watchers: Vec::new(),
        })))
    }

    /// Lets `by` pass, and wakes who waited for a time in it, the earliest first.
    pub fn advance(&self, by: Duration) {
        self.change(|hands| {
            hands.now = hands.now.plus(by);
            hands.passed = hands.passed.saturating_add(by);
        });
    }

    /// Puts the wall clock to `now`, forwards or backwards; no time passes.
    pub fn set(&self, now: Timestamp) {
        self.change(|hands| hands.now = now);
    }

    /// Returns when `count` sleepers or more are waiting: from then on, moving the clock reaches them.
    pub async fn sleepers(&self, count: usize) {
        std::future::poll_fn(|context| {
            let mut hands = self.hands();
            if hands.sleepers.len() >= count {
                return Poll::Ready(());
            }
            hands.watchers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut Hands)) {
        let mut hands = self.hands();
        change(&mut hands);
        let mut due: Vec<(Duration, u64)> = hands
            .sleepers
            .iter()
            .filter(|(_, sleeper)| hands.left(sleeper.until).is_zero())
            .map(|(id, sleeper)| (hands.overdue(sleeper.until), *id))
            .collect();
        due.sort_by_key(|(overdue, id)| (std::cmp::Reverse(*overdue), *id));
        let wakers: Vec<Waker> = due
            .iter()
            .filter_map(|(_, id)| Some(hands.sleepers.remove(id)?.waker))
            .collect();
        // Woken code may look at the clock at once.
        drop(hands);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, until: Until) -> Sleep {
        Sleep {
            clock: self.clone(),
            until,
            id: None,
        }
    }
}

impl Hands {
    fn left(&self, until: Until) -> Duration {
        match until {
            Until::Moment(moment) => moment.since(self.now),
            Until::Passed(passed) => passed.saturating_sub(self.passed),
        }
    }

    fn overdue(&self, until: Until) -> Duration {
        match until {
            Until::Moment(moment) => self.now.since(moment),
            Until::Passed(passed) => self.passed.saturating_sub(passed),
        }
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().now
    }

    async fn sleep_until(&self, until: Timestamp) {
        self.sleep(Until::Moment(until)).await;
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.hands().passed.saturating_add(duration);
        self.sleep(Until::Passed(until)).await;
    }
}

struct Sleep {
    clock: ManualClock,
    until: Until,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut hands = clock.hands();
        if hands.left(self.until).is_zero() {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            hands.next_id += 1;
            hands.next_id
        });
        let sleeper = Sleeper {
            until: self.until,
            waker: context.waker().clone(),
        };
        hands.sleepers.insert(id, sleeper);
        let watchers = std::mem::take(&mut hands.watchers);
        drop(hands);
        watchers.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.hands().sleepers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use futures::{FutureExt, task::noop_waker_ref};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> ManualClock {
        ManualClock::new("2026-05-01T08:30:00Z".parse().unwrap())
    }

    fn is_done(future: &mut Pin<Box<dyn Future<Output = ()> + Send + '_>>) -> bool {
        future
            .poll_unpin(&mut Context::from_waker(noop_waker_ref()))
            .is_ready()
    }

    #[test]
    fn a_sleep_ends_when_its_time_has_passed_and_not_before() {
        let clock = clock();
        let mut sleep = Clock::sleep(&clock, 2 * SECOND);
        assert!(!is_done(&mut sleep));
        clock.advance(SECOND);
        assert!(!is_done(&mut sleep));
        clock.advance(SECOND);
        assert!(is_done(&mut sleep));
    }

    #[test]
    fn setting_the_clock_moves_moments_and_not_durations() {
        let clock = clock();
        let start = clock.now();
        let mut moment = clock.sleep_until(start.plus(10 * SECOND));
        let mut duration = Clock::sleep(&clock, 10 * SECOND);
        assert!(!is_done(&mut moment) && !is_done(&mut duration));
        clock.set(start.minus(100 * SECOND));
        clock.advance(10 * SECOND);
        assert!(!is_done(&mut moment), "the wall clock was put back");
        assert!(is_done(&mut duration), "ten seconds have passed all the same");
        clock.set(start.plus(10 * SECOND));
        assert!(is_done(&mut moment));
    }

    #[test]
    fn sleepers_are_woken_in_the_order_of_their_times() {
        struct Note(u64, Arc<Mutex<Vec<u64>>>);
        impl Wake for Note {
            fn wake(self: Arc<Self>) {
                self.1.lock().unwrap().push(self.0);
            }
        }
        let clock = clock();
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut sleeps: Vec<_> = [3, 1, 2, 9]
            .map(|secs| (secs, Clock::sleep(&clock, Duration::from_secs(secs))))
            .into();
        for (secs, sleep) in &mut sleeps {
            let waker = Waker::from(Arc::new(Note(*secs, Arc::clone(&woken))));
            assert!(sleep.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        clock.advance(5 * SECOND);
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_test_can_wait_until_somebody_sleeps() {
        let clock = clock();
        let mut both = Box::pin(clock.sleepers(2)) as Pin<Box<dyn Future<Output = ()> + Send>>;
        let mut first = Clock::sleep(&clock, SECOND);
        assert!(!is_done(&mut first) && !is_done(&mut both));
        let mut second = Clock::sleep(&clock, SECOND);
        assert!(!is_done(&mut second) && is_done(&mut both));
        drop(second);
        let mut both = Box::pin(clock.sleepers(2)) as Pin<Box<dyn Future<Output = ()> + Send>>;
        assert!(!is_done(&mut both), "a sleep that was given up does not count");
    }
}
