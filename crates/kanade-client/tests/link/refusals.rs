//! Servers that do not agree to a connection, and what the operator reads of it.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kanade_client::{AgentLink, LinkState};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing_subscriber::fmt::MakeWriter;

use crate::server::{Server, error_of, quick, until};

#[tokio::test]
async fn the_request_says_who_connects() {
    let server = Server::start().await;
    let mut settings = server.settings(quick());
    settings.server = format!("ws://127.0.0.1:{}/fleet/", server.port());
    settings.token = Some(" t0ken\n".into());
    let _link = AgentLink::open(settings).unwrap();
    let peer = server.accept().await;
    assert_eq!(peer.request.uri(), "/fleet/api/agent/ws?pc_id=web-1");
    let header = |name| {
        peer.request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(header("sec-websocket-protocol"), Some("kanade.agent.v1"));
    assert_eq!(header("kanade-agent-key"), Some("k3y"));
    assert_eq!(header("authorization"), Some("Bearer t0ken"));
    assert_eq!(header("origin"), None);
}

#[tokio::test]
async fn what_the_server_says_is_passed_on() {
    let server = Server::start().await;
    let link = server.link(quick());
    for (status, detail, told) in [
        (401, "this token is not known", "this token is not known"),
        (
            409,
            "another agent is connected as web-1",
            "another agent is connected",
        ),
        (503, "10,000 agents are connected", "10,000 agents"),
        (
            404,
            "there is no such route",
            "is the server of an older version?",
        ),
    ] {
        server.refuse(status, detail).await;
        let state = until(&link, |state| match state {
            LinkState::Connecting { error, .. } => error.as_ref().is_some_and(|error| error.contains(told)),
            _ => false,
        });
        state.await;
    }
    let LinkState::Connecting { failures, .. } = link.state().borrow().clone() else {
        panic!("it cannot be connected");
    };
    assert!(failures >= 4);
    let _peer = server.accept().await;
    until(&link, |state| *state == LinkState::Connected).await;
}

#[tokio::test]
async fn answers_of_other_programs_are_told_as_such() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
    for (answer, told) in [
        (
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 16\r\n\r\n<html>\u{1b}[1m sorry".to_owned(),
            "502 Bad Gateway: <html> [1m sorry",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_owned(),
            "does a proxy stand between",
        ),
        (
            "HTTP/1.1 301 Moved\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "it points to https://elsewhere/",
        ),
        (
            format!(
                "{switching}\r\nsec-websocket-accept: {}\r\n\r\n",
                derive_accept_key(b"other")
            ),
            "belongs to another request",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n".to_owned(),
            "another protocol",
        ),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "no connection could be made"),
        (String::new(), "no connection could be made"),
    ] {
        let server = Server::start().await;
        let link = server.link(quick());
        server.answer(&answer).await;
        let error = error_of(&link).await;
        assert!(error.contains(told), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_long_answer_is_not_read_to_its_end() {
    let server = Server::start().await;
    let link = server.link(quick());
    let body = "x".repeat(16 << 10);
    // Longer than what is sent: whoever wants all of it waits for ever.
    let head = "HTTP/1.1 500 Oops\r\ncontent-length: 1000000000\r\n\r\n";
    let mut stream = server.stream().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    let error = error_of(&link).await;
    assert!(error.contains("500") && error.len() < 1000, "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left() {
    let server = Server::start().await;
    let mut timing = quick();
    timing.connect = Duration::from_millis(100);
    let link = server.link(timing);
    let silent = server.stream().await.unwrap();
    let error = error_of(&link).await;
    assert!(error.contains("no answer within 0.1s"), "{error}");
    drop(silent);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let server = Server::start().await;
    let settings = server.settings(quick());
    drop(server);
    let link = AgentLink::open(settings).unwrap();
    let state = until(
        &link,
        |state| matches!(state, LinkState::Connecting { failures, .. } if *failures >= 3),
    );
    let LinkState::Connecting {
        error: Some(error), ..
    } = state.await
    else {
        panic!("nobody is there");
    };
    assert!(error.contains("refused"), "{error}");
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines_with(&self, what: &str) -> usize {
        self.text().lines().filter(|line| line.contains(what)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_lasting_refusal_is_tried_again_after_a_long_pause_and_logged_once_without_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let server = Server::start().await;
    let mut settings = server.settings(quick());
    settings.token = Some("t0ken".into());
    settings.timing.longest_pause = Duration::from_millis(200);
    let _link = AgentLink::open(settings).unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        server.refuse(403, "this token is for web-2").await;
    }
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    server.refuse(403, "this token is revoked").await;
    drop(server.accept().await);
    let errors = |what: &str| {
        let text = log.text();
        text.lines()
            .filter(|line| line.contains("ERROR") && line.contains(what))
            .count()
    };
    assert_eq!(errors("this token is for web-2"), 1, "{}", log.text());
    assert_eq!(errors("this token is revoked"), 1, "{}", log.text());
    assert!(log.lines_with("DEBUG") >= 2, "{}", log.text());
    assert_eq!(
        log.lines_with("k3y") + log.lines_with("t0ken"),
        0,
        "{}",
        log.text()
    );
}
