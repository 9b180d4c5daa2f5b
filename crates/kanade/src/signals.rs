//! The first signal asks for a clean stop, the second ends the process.

/// Returns at the first SIGTERM or SIGINT (Ctrl-C). A second one ends the process at once.
pub(crate) async fn shutdown() {
    wait().await;
    tokio::spawn(async {
        wait().await;
        tracing::warn!("a second signal: ending at once");
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn wait() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened for");
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.expect("SIGINT can be listened for"),
    }
}

#[cfg(not(unix))]
async fn wait() {
    tokio::signal::ctrl_c().await.expect("Ctrl-C can be listened for");
}
