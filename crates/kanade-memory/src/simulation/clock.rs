//! The time of a simulation.

use std::time::Duration;

use async_trait::async_trait;
use kanade_model::Timestamp;
use kanade_ports::Clock;
use tokio::time::Instant;

/// A [`Clock`] that goes with the time of the runtime, which a paused one lets jump. Copies are the same clock.
#[derive(Debug, Clone, Copy)]
pub struct SimulatedClock {
    begin: Timestamp,
    since: Instant,
}

impl SimulatedClock {
    /// A clock that shows `begin` now.
    pub fn new(begin: Timestamp) -> Self {
        Self {
            begin,
            since: Instant::now(),
        }
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.begin.plus(self.since.elapsed())
    }

    async fn sleep_until(&self, until: Timestamp) {
        // A timer may be a fraction early.
        while self.now() < until {
            tokio::time::sleep(until.since(self.now())).await;
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
