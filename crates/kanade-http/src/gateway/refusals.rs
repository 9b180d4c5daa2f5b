//! Says in the log who is not let in: a line per second at most, however many they are.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const EVERY: Duration = Duration::from_secs(1);

/// Counts those who were turned away and not named.
#[derive(Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// Whether this one is to be named in the log; if so, how many were not before it.
    pub(super) fn one_more(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.is_some_and(|told| now < told + EVERY) {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_a_line_per_second() {
        let refusals = Refusals::default();
        assert_eq!(refusals.one_more(), Some(0));
        for _ in 0..100 {
            assert_eq!(refusals.one_more(), None);
        }
        tokio::time::advance(EVERY).await;
        assert_eq!(refusals.one_more(), Some(100));
        tokio::time::advance(EVERY).await;
        assert_eq!(refusals.one_more(), Some(0));
    }
}
