//! The accept side: how many connections there are, how long one may take to say what it wants, and how they end.

mod places;

use std::{convert::Infallible, error::Error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tower::ServiceExt;

use self::places::{Place, Places};
use crate::{Tls, problem::Problem};

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
    /// Connections at once, without those of agents that are connected. When there are more, the one that has brought
    /// no request for the longest time since it came is closed; when all have brought one, more wait.
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
pub(crate) struct Peer(pub(crate) SocketAddr);

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
    tasks: TaskTracker,
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

    /// Does what goes on after its request was answered. The shutdown waits for it, so it must end with it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(work));
    }
}

/// Serves `router` until `shutdown`, over TLS if there is a certificate; then stops accepting, ends event streams and
/// connections of agents, lets requests in flight finish (for [`AcceptLimits::drain`] at most) and returns.
///
/// # Errors
/// When the listener cannot accept at all any more. Shortages are waited out.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: AcceptLimits,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let closing = Closing::default();
    let cut = CancellationToken::new();
    let graceful = GracefulShutdown::new();
    let places = Places::new(limits.max_connections);
    let acceptor = tls.as_ref().map(Tls::acceptor);
    let _following = tls.map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow())));
    let protocol = Arc::new(protocol(&limits));
    tokio::pin!(shutdown);

    let outcome = loop {
        let arrived = async {
            // Accepted first: only for somebody who is there does another give up its place.
            let (stream, peer) = accept(&listener).await?;
            io::Result::Ok((stream, peer, places.take().await))
        };
        let (stream, peer, place) = tokio::select! {
            () = &mut shutdown => break Ok(()),
            arrived = arrived => match arrived {
                Ok(arrived) => arrived,
                Err(error) => break Err(error),
            },
        };
        // Answers are small and wanted at once. A peer that is gone already shows when it is read from.
        drop(stream.set_nodelay(true));
        let place = Arc::new(place);
        let conversation = Conversation {
            router: router.clone(),
            protocol: Arc::clone(&protocol),
            graceful: graceful.watcher(),
            closing: closing.clone(),
            place: Arc::clone(&place),
            peer: Peer(peer),
        };
        let connection = conversation.hold(stream, acceptor.clone());
        let (cut, patience) = (cut.clone(), limits.header_timeout);
        closing.spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%peer, error = %error, "a connection broke");
                },
                () = place.silence(patience) => {
                    tracing::debug!(%peer, "a connection was closed as it brought no request");
                }
                () = place.wanted() => {
                    tracing::debug!(%peer, "a connection that had brought no request gave up its place");
                }
                () = cut.cancelled() => {}
            }
        });
    };

    drop(listener);
    let connections = &closing.tasks;
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

/// One connection: what it is served with.
struct Conversation {
    router: Router,
    protocol: Arc<auto::Builder<TokioExecutor>>,
    graceful: Watcher,
    closing: Closing,
    place: Arc<Place>,
    peer: Peer,
}

type Broken = Box<dyn Error + Send + Sync>;

impl Conversation {
    /// Answers requests until the connection ends or becomes something else.
    async fn hold(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Result<(), Broken> {
        let Some(acceptor) = acceptor else {
            return self.talk(stream).await;
        };
        let stream = tokio::select! {
            stream = acceptor.accept(stream) => stream?,
            () = self.closing.begun() => return Ok(()),
        };
        self.talk(stream).await
    }

    async fn talk<IO>(self, stream: IO) -> Result<(), Broken>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            router,
            protocol,
            graceful,
            closing,
            place,
            peer,
        } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let is_in_time = place.speak();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(closing.clone());
            let router = router.clone();
            async move {
                if !is_in_time {
                    // Its connection is being closed for another: nobody would hear what becomes of it.
                    return Ok(Problem::try_again("the server has too many connections").into_response());
                }
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
        graceful.watch(connection).await
    }
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

/// The next connection.
async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        match listener.accept().await {
            Ok(accepted) => return Ok(accepted),
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
