//! A server that says what the test says, on a real socket.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use kanade_client::{AgentLink, LinkSettings, LinkState, LinkTiming};
use kanade_model::{Pattern, Subject};
use kanade_ports::frame::{AgentFrame, Call, SUBPROTOCOL, ServerFrame, decode, encode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::HeaderValue,
        protocol::frame::{CloseFrame, coding::CloseCode},
    },
};

/// How long anything may take that must happen.
const SOON: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("within 20 s")
}

pub(crate) fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

pub(crate) fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// Times under which a test about something else is quick and never runs into a limit.
pub(crate) fn quick() -> LinkTiming {
    LinkTiming {
        connect: SOON,
        ping_every: SOON,
        idle_timeout: 2 * SOON,
        patience: SOON,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(20),
        pause_when_replaced: Duration::from_millis(20),
    }
}

/// Waits until it stands so with the connection of a link.
pub(crate) async fn until(link: &AgentLink, is_so: impl FnMut(&LinkState) -> bool) -> LinkState {
    let mut state = link.state();
    soon(state.wait_for(is_so)).await.unwrap().clone()
}

/// Waits until a link says why it has no connection.
pub(crate) async fn error_of(link: &AgentLink) -> String {
    let state = until(link, |state| {
        matches!(state, LinkState::Connecting { error: Some(_), .. })
    });
    match state.await {
        LinkState::Connecting { error, .. } => error.unwrap(),
        state => panic!("{state:?}"),
    }
}

/// What a connection is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with_tls(None).await
    }

    pub(crate) async fn with_tls(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) fn settings(&self, timing: LinkTiming) -> LinkSettings {
        LinkSettings {
            timing,
            ..LinkSettings::new(
                format!("http://127.0.0.1:{}", self.port()),
                "web-1".parse().unwrap(),
                "k3y",
            )
        }
    }

    /// A link to this server.
    pub(crate) fn link(&self, timing: LinkTiming) -> Arc<AgentLink> {
        Arc::new(AgentLink::open(self.settings(timing)).unwrap())
    }

    /// A link that is connected, and the server's end of the connection.
    pub(crate) async fn connected(&self, timing: LinkTiming) -> (Arc<AgentLink>, Peer) {
        let link = self.link(timing);
        let peer = self.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
        (link, peer)
    }

    /// The next connection, on which nothing was said yet.
    pub(crate) async fn stream(&self) -> std::io::Result<Box<dyn Stream>> {
        let (stream, _) = soon(self.listener.accept()).await?;
        Ok(match &self.tls {
            Some(tls) => Box::new(soon(tls.accept(stream)).await?),
            None => Box::new(stream),
        })
    }

    /// Agrees to the next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let mut asked = None;
        #[expect(clippy::result_large_err, reason = "so it is defined there")]
        let agree = |request: &Request, mut response: Response| {
            asked = Some(request.clone());
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let stream = self.stream().await.unwrap();
        let socket = soon(accept_hdr_async(stream, agree)).await.unwrap();
        Peer {
            socket,
            request: asked.unwrap(),
        }
    }

    /// Answers the next request with these bytes and returns the request.
    pub(crate) async fn answer(&self, answer: &str) -> String {
        let mut stream = self.stream().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(soon(stream.read_u8()).await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(request).unwrap()
    }

    /// Answers the next request with a problem.
    pub(crate) async fn refuse(&self, status: u16, detail: &str) -> String {
        let body = format!(r#"{{"type":"about:blank","title":"No","status":{status},"detail":"{detail}"}}"#);
        let head = format!(
            "HTTP/1.1 {status} No\r\ncontent-type: application/problem+json\r\ncontent-length: {}",
            body.len()
        );
        self.answer(&format!("{head}\r\n\r\n{body}")).await
    }
}

/// The server's end of a connection.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<Box<dyn Stream>>,
    pub(crate) request: Request,
}

impl Peer {
    /// The next call and its payload.
    pub(crate) async fn call(&mut self) -> (AgentFrame, Bytes) {
        loop {
            match soon(self.socket.next())
                .await
                .expect("a call, not the end")
                .unwrap()
            {
                Message::Binary(frame) => return decode(frame).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next call must be a subscription; its id.
    pub(crate) async fn subscription(&mut self, of: &str) -> u64 {
        let (AgentFrame { id, call }, _) = self.call().await;
        assert_eq!(call, Call::Subscribe { pattern: pattern(of) });
        id
    }

    /// The next call must be the end of a subscription or a watch.
    pub(crate) async fn end_of(&mut self, of: u64) {
        let (AgentFrame { id, call }, _) = self.call().await;
        assert_eq!(call, Call::End { of });
        self.done(id).await;
    }

    pub(crate) async fn tell(&mut self, told: ServerFrame, payload: &[u8]) {
        let frame = encode(&told, payload).unwrap();
        soon(self.socket.send(Message::Binary(frame))).await.unwrap();
    }

    pub(crate) async fn done(&mut self, id: u64) {
        self.tell(ServerFrame::Done { id }, b"").await;
    }

    pub(crate) async fn failed(&mut self, id: u64, kind: kanade_ports::BusErrorKind) {
        let detail = "because".into();
        self.tell(ServerFrame::Failed { id, kind, detail }, b"").await;
    }

    pub(crate) async fn message(&mut self, of: u64, to: &str, payload: &[u8]) {
        let (subject, reply) = (subject(to), None);
        self.tell(ServerFrame::Message { of, subject, reply }, payload)
            .await;
    }

    /// The link has read everything that was told, and sent nothing meanwhile.
    pub(crate) async fn nothing_came(&mut self) {
        soon(self.socket.send(Message::Ping("now".into()))).await.unwrap();
        loop {
            match soon(self.socket.next())
                .await
                .expect("a pong, not the end")
                .unwrap()
            {
                Message::Pong(payload) if payload == "now" => return,
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for the end of the connection; how the link has closed it, if it has.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = soon(self.socket.next()).await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }

    /// Closes the connection as a server does.
    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "because".into(),
        };
        soon(self.socket.close(Some(frame))).await.unwrap();
        assert_eq!(self.closed().await, Some(code), "the link answers");
    }
}
