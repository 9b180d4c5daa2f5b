//! A server on a socket, and connections to it.

use std::{net::SocketAddr, time::Duration};

use kanade_http::{AcceptLimits, Tls, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::world::{DEADLINE, World};

/// Longer than any test: what ends within the deadline has not waited for it.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(world: &World, limits: AcceptLimits) -> Self {
        Self::over(world, limits, None).await
    }

    pub(crate) async fn over(world: &World, limits: AcceptLimits, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let serving = tokio::spawn(serve(listener, world.router.clone(), limits, tls, shutdown));
        Self {
            address,
            stop,
            serving,
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address).await.unwrap())
    }

    /// Begins the shutdown; what is returned ends with it.
    pub(crate) fn stop(self) -> JoinHandle<std::io::Result<()>> {
        self.stop.send(()).unwrap();
        self.serving
    }

    pub(crate) async fn stopped(serving: JoinHandle<std::io::Result<()>>) {
        let served = tokio::time::timeout(DEADLINE, serving).await;
        served.expect("the server stops").unwrap().unwrap();
    }
}

/// A connection, by hand.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    pub(crate) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str) {
        self.write(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await;
    }

    /// Asks on a connection that may have been closed already.
    pub(crate) async fn try_ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        drop(self.0.write_all(request.as_bytes()).await);
    }

    /// Reads until `end` has come.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let read = async {
            while !text.contains(end) {
                let mut chunk = [0; 4096];
                let read = self.0.read(&mut chunk).await.unwrap();
                assert_ne!(read, 0, "closed after {text:?}");
                text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
            }
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("an answer comes");
        text
    }

    /// Reads until the server closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        // A reset is an end too.
        let read = tokio::time::timeout(DEADLINE, self.0.read_to_string(&mut text));
        drop(read.await.expect("the connection is closed"));
        text
    }
}
