//! Time and fresh ids, so that tests decide about both.

use std::time::Duration;

use async_trait::async_trait;
use kanade_model::Timestamp;
use uuid::Uuid;

/// What time it is, and waiting for a time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns when `until` has come. Wall clocks can be set: a wait follows such a step within a second.
    async fn sleep_until(&self, until: Timestamp);

    /// Returns when `duration` has passed.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(Timestamp::UNIX_EPOCH, |since| Timestamp::UNIX_EPOCH.plus(since))
    }

    async fn sleep_until(&self, until: Timestamp) {
        const STEP: Duration = Duration::from_secs(1);
        loop {
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(STEP)).await;
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Where fresh ids come from.
pub trait Ids: Send + Sync + 'static {
    /// An id nobody has had before.
    fn next(&self) -> Uuid;
}

/// Time-ordered random ids (UUID version 7), which keep index pages warm.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}
