//! The first signal asks for a clean stop, the second ends the process.

use anyhow::{Context, Result};

/// SIGTERM and SIGINT (Ctrl-C), listened for from [`listen`](Self::listen) on.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over; needs a runtime.
    pub(crate) fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let listened = |kind| signal(kind).context("cannot listen for signals");
            let (terminate, interrupt) = (
                listened(SignalKind::terminate())?,
                listened(SignalKind::interrupt())?,
            );
            Ok(Self { terminate, interrupt })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Returns at the first signal. A second one ends the process at once.
    pub(crate) async fn shutdown(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("a second signal: ending at once");
            std::process::exit(130);
        });
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        tokio::signal::ctrl_c().await.expect("Ctrl-C can be listened for");
    }
}
