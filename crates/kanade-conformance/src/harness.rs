//! Running a case: a runtime of its own, a deadline for everything that is waited for, reproducible randomness.

use std::{future::Future, time::Duration};

use crate::store;

/// How long a case may take in all. Only reached by one that hangs.
const CASE: Duration = Duration::from_secs(280);

/// The same, where more steps are wanted of those that take steps.
fn case_time() -> Duration {
    CASE * store::model::steps().div_ceil(store::model::STEPS)
}

/// Runs one case to its end on a runtime of its own.
///
/// # Panics
/// When the case does, or when it does not end.
pub fn run_case(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a test process can start a runtime");
    runtime.block_on(async {
        tokio::time::timeout(case_time(), case)
            .await
            .expect("the case did not end");
    });
}

/// Waits for something that must come, `what` in words.
///
/// # Panics
/// When it does not come within `time`.
pub async fn within<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {time:?} in vain for {what}"),
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `end`, without `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end as u64).expect("less than a usize")
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
