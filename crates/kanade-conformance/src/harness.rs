//! Running a case: a runtime of its own, a deadline for everything that is waited for, reproducible randomness.

use std::{future::Future, time::Duration};

/// How long a case may take in all. Only reached by one that hangs.
const CASE: Duration = Duration::from_secs(110);

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
        tokio::time::timeout(CASE, case)
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
