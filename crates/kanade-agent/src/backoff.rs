//! How long to wait before the next attempt at something that failed.

use std::time::Duration;

/// Doubles from attempt to attempt up to a limit. A random half keeps a fleet from coming back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(Self::LONGEST);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Begins anew after a success.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new();
        let first = backoff.pause();
        assert!(
            first >= Backoff::FIRST / 2 && first <= Backoff::FIRST,
            "{first:?}"
        );
        for _ in 0..20 {
            backoff.pause();
        }
        let late = backoff.pause();
        assert!(
            late >= Backoff::LONGEST / 2 && late <= Backoff::LONGEST,
            "{late:?}"
        );
        backoff.reset();
        assert!(backoff.pause() <= Backoff::FIRST);
    }
}
