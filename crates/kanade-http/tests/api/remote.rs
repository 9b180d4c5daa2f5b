//! An agent on another machine, in the test's hand: frames over a WebSocket.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use kanade_model::Pattern;
use kanade_ports::frame::{AgentFrame, Call, KEY_HEADER, SUBPROTOCOL, ServerFrame, decode, encode};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, protocol::Role},
};

use crate::{server::Server, world::DEADLINE};

/// A key that nobody else has.
pub(crate) const KEY: &str = "0123456789abcdef-key-of-the-first";
/// A key of another agent.
pub(crate) const OTHER_KEY: &str = "0123456789abcdef-key-of-another";

/// An upgrade request.
#[derive(Clone)]
pub(crate) struct Knock {
    path: String,
    headers: Vec<(String, String)>,
}

/// Why an agent was not let in.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) detail: String,
}

impl Knock {
    pub(crate) fn new(pc: &str) -> Self {
        let knock = Self {
            path: format!("/api/agent/ws?pc_id={pc}"),
            headers: Vec::new(),
        };
        knock
            .with("host", "localhost")
            .with("connection", "Upgrade")
            .with("upgrade", "websocket")
            .with("sec-websocket-version", "13")
            .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .with("sec-websocket-protocol", SUBPROTOCOL)
            .with(KEY_HEADER, KEY)
    }

    /// With this header, in the place of another one.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(there, _)| there != name);
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Asks to be let in.
    pub(crate) async fn at(&self, server: &Server) -> Result<Remote<TcpStream>, Refusal> {
        self.over(TcpStream::connect(server.address).await.unwrap()).await
    }

    pub(crate) async fn over<S>(&self, mut stream: S) -> Result<Remote<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!("GET {} HTTP/1.1\r\n", self.path);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            let mut chunk = [0; 4096];
            let count = timeout(DEADLINE, stream.read(&mut chunk)).await;
            let count = count.expect("an answer comes").unwrap();
            assert_ne!(count, 0, "closed without an answer");
            read.extend(&chunk[..count]);
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let rest = read.split_off(end);
        let head = String::from_utf8(read).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        if status == 101 {
            assert!(
                head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
                "{head}"
            );
            assert!(
                head.contains(&format!("sec-websocket-protocol: {SUBPROTOCOL}")),
                "{head}"
            );
            let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
            return Ok(Remote { socket, last_id: 0 });
        }
        let mut body = rest;
        while !body.ends_with(b"}") {
            assert_ne!(
                stream.read_buf(&mut body).await.unwrap(),
                0,
                "{status} without a problem"
            );
        }
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], status);
        Err(Refusal {
            status,
            head,
            detail: problem["detail"].as_str().unwrap().to_owned(),
        })
    }
}

/// An agent that has been let in.
pub(crate) struct Remote<S> {
    pub(crate) socket: WebSocketStream<S>,
    last_id: u64,
}

impl<S> std::fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Remote<S> {
    pub(crate) async fn send(&mut self, call: Call, payload: &[u8]) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let frame = encode(&AgentFrame { id, call }, payload).unwrap();
        self.socket.send(Message::Binary(frame)).await.unwrap();
        id
    }

    /// The next thing it is told; the status of the goodbye if that is it.
    pub(crate) async fn next(&mut self) -> Result<(ServerFrame, Bytes), u16> {
        let told = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(frame))) => return Ok(decode(frame).unwrap()),
                    Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        timeout(DEADLINE, told).await.expect("something is told")
    }

    pub(crate) async fn told(&mut self) -> (ServerFrame, Bytes) {
        self.next().await.unwrap()
    }

    /// Calls, and waits for the answer when nothing else is told.
    pub(crate) async fn call(&mut self, call: Call, payload: &[u8]) -> ServerFrame {
        let id = self.send(call, payload).await;
        let (told, _) = self.told().await;
        let answers = match &told {
            ServerFrame::Done { id } | ServerFrame::Failed { id, .. } | ServerFrame::Found { id, .. } => *id,
            other => panic!("{other:?}"),
        };
        assert_eq!(answers, id);
        told
    }

    pub(crate) async fn subscribe(&mut self, pattern: &str) -> u64 {
        let pattern: Pattern = pattern.parse().unwrap();
        let told = self.call(Call::Subscribe { pattern }, b"").await;
        assert!(matches!(told, ServerFrame::Done { .. }), "{told:?}");
        self.last_id
    }

    /// Whether it can still do something.
    pub(crate) async fn is_served(&mut self) -> bool {
        let told = self.call(Call::End { of: 0 }, b"").await;
        matches!(told, ServerFrame::Done { .. })
    }

    /// Says something that need not be a frame; the status of the goodbye.
    pub(crate) async fn goodbye_to(&mut self, message: Message) -> u16 {
        // What is too large may be refused before all of it was sent.
        match self.socket.send(message).await {
            Ok(()) | Err(Error::Io(_)) => {}
            Err(error) => panic!("{error}"),
        }
        self.next().await.unwrap_err()
    }

    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = timeout(DEADLINE, self.socket.next()).await.unwrap() {}
    }
}
