//! The accept side: how many connections there are, how long one may take to say what it wants, and how they end.

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// A shortage (of file descriptors, of memory) is given this long to pass.
const SHORTAGE: Duration = Duration::from_millis(500);
/// Requests that are told that the server stops get this long to be answered.
const LAST_WORDS: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// Requests on one HTTP/2 connection at once.
const STREAMS: u32 = 128;

/// Limits of the accept side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptLimits {
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// A connection is closed when it has not brought a whole request head within this time, at its start and after
    /// each answer.
    pub header_timeout: Duration,
    /// Requests in flight get this long to finish at shutdown.
    pub drain: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            header_timeout: Duration::from_secs(15),
            drain: Duration::from_secs(8),
        }
    }
}

/// Whose connection a request came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(SocketAddr);

impl Peer {
    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far the shutdown is. Goes with every request that comes over a socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing {
    begun: CancellationToken,
    given_up: CancellationToken,
}

impl Closing {
    /// Returns when the shutdown begins: what has no end of its own ends now.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Returns when there is no time left: whatever is in flight answers now.
    pub(crate) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

/// Serves `router` until `shutdown`; then stops accepting, ends event streams, lets requests in flight finish (for
/// [`AcceptLimits::drain`] at most) and returns.
///
/// # Errors
/// When the listener cannot accept at all any more. Shortages are waited out.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: AcceptLimits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let closing = Closing::default();
    let cut = CancellationToken::new();
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let protocol = Arc::new(protocol(&limits));
    tokio::pin!(shutdown);

    let outcome = loop {
        let (stream, peer, permit) = tokio::select! {
            () = &mut shutdown => break Ok(()),
            accepted = accept(&listener, &permits) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => break Err(error),
            },
        };
        // Answers are small and wanted at once. A peer that is gone already shows when it is read from.
        drop(stream.set_nodelay(true));
        let head = watch::Sender::new(false);
        let first_head = head.subscribe();
        let (router, ending) = (router.clone(), closing.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            head.send_replace(true);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(ending.clone());
            let router = router.clone();
            async move {
                Ok::<_, Infallible>(
                    router
                        .oneshot(request)
                        .await
                        .unwrap_or_else(|never| match never {}),
                )
            }
        });
        let connection = protocol
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        let (cut, patience) = (cut.clone(), limits.header_timeout);
        connections.spawn(async move {
            let _permit = permit;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%peer, error = %error, "a connection broke");
                },
                () = silence(first_head, patience) => {
                    tracing::debug!(%peer, "a connection was closed as it brought no request");
                }
                () = cut.cancelled() => {}
            }
        });
    };

    drop(listener);
    connections.close();
    closing.begun.cancel();
    // Tells every connection; whether all have ended is for the tracker to say.
    let told = graceful.shutdown();
    let drained = async { tokio::join!(told, connections.wait()) };
    tokio::pin!(drained);
    if tokio::time::timeout(limits.drain, &mut drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests are cut short by the shutdown"
        );
        closing.given_up.cancel();
        if tokio::time::timeout(LAST_WORDS, &mut drained).await.is_err() {
            cut.cancel();
            drained.await;
        }
    }
    outcome
}

fn protocol(limits: &AcceptLimits) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(STREAMS);
    protocol
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, permit)),
            Err(error) => match error.kind() {
                // The peer went away before it was accepted.
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted => {}
                io::ErrorKind::InvalidInput => return Err(error),
                _ => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(SHORTAGE).await;
                }
            },
        }
    }
}

/// Returns when a connection has not brought its first request head in time. The protocol has a timer of its own, but
/// only once it knows which protocol it is.
async fn silence(mut first_head: watch::Receiver<bool>, patience: Duration) {
    let brought = first_head.wait_for(|brought| *brought);
    if tokio::time::timeout(patience, brought).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
