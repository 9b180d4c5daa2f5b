//! Work on the file, away from the threads that drive futures. What has begun ends, whether or not its caller waits.

use std::sync::Arc;

use redb::ReadTransaction;
use tokio::task::JoinError;

use crate::{
    engine::{Engine, Writer},
    fault::Fault,
};

/// Reads one state of the file.
pub(crate) async fn read<T: Send + 'static>(
    engine: &Arc<Engine>,
    look: impl Fn(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || engine.read(look))
        .await
        .unwrap_or_else(|error| Err(broken_off(&error, false)))
}

/// Does something that only one may do at a time. A caller that goes away before its turn wants nothing done.
pub(crate) async fn write<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine, &Writer) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let writer = engine.writer().await;
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || work(&engine, &writer))
        .await
        .unwrap_or_else(|error| Err(broken_off(&error, true)))
}

fn broken_off(error: &JoinError, writing: bool) -> Fault {
    if error.is_panic() {
        Fault::Panicked { writing }
    } else {
        // The runtime is shutting down, and had not begun with it.
        Fault::Closed
    }
}
