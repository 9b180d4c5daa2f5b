//! A line to the server that a test can cut, keep cut, and make deaf.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// By then a client has noticed that its connection is gone.
const NOTICED: Duration = Duration::from_secs(30);

/// Passes connections on to a server.
#[derive(Clone)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
}

struct Line {
    server: String,
    /// Refuses new connections.
    down: AtomicBool,
    /// How many connections were refused.
    refused: watch::Sender<u64>,
    /// Changes to cut every connection.
    cut: watch::Sender<u64>,
    /// When the client has sent this text, its connection goes deaf, then ends.
    trap: Mutex<Option<Vec<u8>>>,
    trapped: AtomicU64,
    /// About how many messages clients have published.
    published: AtomicU64,
}

impl Proxy {
    /// A line to `url`.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Line {
            server: url.rsplit_once('/').unwrap().1.to_owned(),
            down: AtomicBool::new(false),
            refused: watch::Sender::new(0),
            cut: watch::Sender::new(0),
            trap: Mutex::new(None),
            trapped: AtomicU64::new(0),
            published: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&line);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if accepting.down.load(Ordering::SeqCst) {
                    accepting.refused.send_modify(|count| *count += 1);
                } else {
                    tokio::spawn(pass(client, Arc::clone(&accepting)));
                }
            }
        });
        Self { port, line }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.line.cut.send_modify(|count| *count += 1);
    }

    /// Cuts every connection and refuses new ones until [`mend`](Self::mend). Returns when the client has noticed,
    /// which is when it tries to connect again.
    pub async fn keep_cut(&self) {
        let mut refused = self.line.refused.subscribe();
        self.line.down.store(true, Ordering::SeqCst);
        self.cut();
        tokio::time::timeout(NOTICED, refused.changed())
            .await
            .unwrap()
            .unwrap();
    }

    /// Refuses new connections until [`mend`](Self::mend).
    pub fn close_door(&self) {
        self.line.down.store(true, Ordering::SeqCst);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.line.down.store(false, Ordering::SeqCst);
    }

    /// Once: when the client sends this text, the server gets it, and the client gets no answer but the end of its
    /// connection.
    pub fn lose_the_answer_to(&self, text: &str) {
        *self.line.trap.lock().unwrap() = Some(text.as_bytes().to_vec());
    }

    /// About how many messages the client has published over it; whoever asks the server something publishes.
    pub fn requests(&self) -> u64 {
        self.line.published.load(Ordering::SeqCst)
    }

    /// How often that happened.
    pub fn lost(&self) -> u64 {
        self.line.trapped.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, line: Arc<Line>) {
    let mut cut = line.cut.subscribe();
    let Ok(mut server) = TcpStream::connect(&line.server).await else {
        return;
    };
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            biased;
            _ = cut.changed() => return,
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                let sent = &from_client[..count];
                line.published.fetch_add(published(sent), Ordering::SeqCst);
                if server.write_all(sent).await.is_err() {
                    return;
                }
                let trapped = {
                    let mut trap = line.trap.lock().unwrap();
                    let found = trap.as_ref().is_some_and(|text| sent.windows(text.len()).any(|part| part == text));
                    found && trap.take().is_some()
                };
                if trapped {
                    // The server has done it when it says something.
                    let _ = server.read(&mut from_server).await;
                    line.trapped.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                if client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// How many `PUB` and `HPUB` lines begin in this part of a connection.
fn published(sent: &[u8]) -> u64 {
    let lines = sent.split(|byte| *byte == b'\n');
    let published = lines.filter(|line| line.starts_with(b"PUB ") || line.starts_with(b"HPUB "));
    published.count() as u64
}
