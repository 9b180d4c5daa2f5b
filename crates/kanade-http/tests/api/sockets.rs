//! What only shows over a socket: connections that say nothing, how many there may be, how they end.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use kanade_http::AcceptLimits;
use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc};

use crate::{
    server::{NEVER, Server},
    world::{DEADLINE, World},
};

#[tokio::test]
async fn a_connection_that_does_not_bring_a_request_is_closed() {
    let world = World::new().await;
    let limits = AcceptLimits {
        header_timeout: Duration::from_millis(300),
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    for beginning in [
        "",
        "G",
        "GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow:",
        // HTTP/2 without a request.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * HTT",
    ] {
        let mut connection = server.connect().await;
        connection.write(beginning).await;
        let mut all = Vec::new();
        let closed = tokio::time::timeout(DEADLINE, connection.0.read_to_end(&mut all)).await;
        drop(closed.unwrap_or_else(|_| panic!("still open after {beginning:?}")));
        assert!(!String::from_utf8_lossy(&all).contains("200 OK"));
    }
}

#[tokio::test]
async fn a_connection_that_brings_no_other_request_is_closed_after_its_answer() {
    let world = World::new().await;
    let limits = AcceptLimits {
        header_timeout: Duration::from_millis(200),
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    world
        .until("a request was in time", async || {
            let mut connection = server.connect().await;
            connection.try_ask("/health").await;
            connection.read_to_end().await.starts_with("HTTP/1.1 200")
        })
        .await;
}

#[tokio::test]
async fn a_slow_answer_does_not_count_as_silence() {
    let world = World::new().await;
    world.store.hold_letters();
    let limits = AcceptLimits {
        header_timeout: Duration::from_millis(50),
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut slow = loop {
        let mut connection = server.connect().await;
        connection.try_ask("/api/dead_letters").await;
        let handled = world.until("the request is being handled", async || {
            world.store.letters_wanted() > 0
        });
        tokio::select! {
            () = handled => break connection,
            _ = connection.0.readable() => {}
        }
    };
    // Once this one has been closed, the time of the other is over too.
    let mut silent = server.connect().await;
    assert_eq!(silent.read_to_end().await, "");
    world.store.letters.add_permits(1);
    assert!(slow.read_until("[]").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_in_flight_are_finished_at_shutdown() {
    let world = World::new().await;
    world.store.hold_letters();
    let server = Server::start(
        &world,
        AcceptLimits {
            drain: NEVER,
            ..AcceptLimits::default()
        },
    )
    .await;
    let mut idle = server.connect().await;
    idle.ask("GET", "/health").await;
    idle.read_until("ok").await;
    let mut busy = server.connect().await;
    busy.ask("GET", "/api/dead_letters").await;
    world
        .until("the request is being handled", async || {
            world.store.letters_wanted() == 1
        })
        .await;

    let (address, serving) = (server.address, server.stop());
    assert_eq!(
        idle.read_to_end().await,
        "",
        "an idle connection is closed at once"
    );
    world
        .until("nobody is let in", async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
    assert!(!serving.is_finished());
    world.store.letters.add_permits(1);
    assert!(busy.read_to_end().await.ends_with("[]"));
    Server::stopped(serving).await;
}

#[tokio::test]
async fn what_is_not_finished_in_time_is_told_that_the_server_stops() {
    let world = World::new().await;
    world.store.hold_letters();
    let limits = AcceptLimits {
        drain: Duration::from_millis(20),
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut busy = server.connect().await;
    busy.ask("GET", "/api/dead_letters").await;
    let mut pings = kanade_ports::PubSub::subscribe(&*world.bus, &"ping.>".parse().unwrap())
        .await
        .unwrap();
    let mut pinging = server.connect().await;
    pinging.ask("POST", "/api/agents/pc-1/ping").await;
    futures::StreamExt::next(&mut pings).await.unwrap();
    world
        .until("the request is being handled", async || {
            world.store.letters_wanted() == 1
        })
        .await;
    let serving = server.stop();
    for connection in [&mut busy, &mut pinging] {
        let answer = connection.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer:?}");
        assert!(answer.contains("the server is stopping"), "{answer:?}");
    }
    Server::stopped(serving).await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_does_not_hold_up_the_shutdown() {
    let world = World::new().await;
    let limits = AcceptLimits {
        drain: Duration::from_millis(20),
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut half = server.connect().await;
    half.write("POST /api/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await;
    Server::stopped(server.stop()).await;
}

#[tokio::test]
async fn event_streams_end_at_once_at_shutdown() {
    let world = World::new().await;
    let server = Server::start(
        &world,
        AcceptLimits {
            drain: NEVER,
            ..AcceptLimits::default()
        },
    )
    .await;
    let mut reader = server.connect().await;
    reader.ask("GET", "/api/events?types=catalog").await;
    assert!(reader.read_until("\r\n\r\n").await.contains("text/event-stream"));
    world.job("backup").await;
    let event = reader.read_until("\n\n").await;
    assert!(
        event.contains("event: catalog") && event.contains("\"key\":\"backup\""),
        "{event:?}"
    );
    let serving = server.stop();
    assert!(
        reader.read_to_end().await.ends_with("0\r\n\r\n"),
        "the stream ends as it should"
    );
    Server::stopped(serving).await;
}

#[tokio::test]
async fn there_are_only_so_many_connections_at_once() {
    let world = World::new().await;
    let server = Server::start(
        &world,
        AcceptLimits {
            max_connections: 1,
            ..AcceptLimits::default()
        },
    )
    .await;
    let (answered, mut order) = mpsc::unbounded_channel();
    let mut first = server.connect().await;
    first.ask("GET", "/health").await;
    first.read_until("ok").await;
    let mut second = server.connect().await;
    let second = tokio::spawn({
        let answered = answered.clone();
        async move {
            second.ask("GET", "/livez").await;
            second.read_until("ok").await;
            answered.send("second").unwrap();
        }
    });
    // Plenty of turns in which the second would be answered if it were let in.
    for _ in 0..200 {
        first.ask("GET", "/health").await;
        first.read_until("ok").await;
    }
    answered.send("first").unwrap();
    drop(first);
    second.await.unwrap();
    assert_eq!(
        (order.recv().await, order.recv().await),
        (Some("first"), Some("second"))
    );
}

#[tokio::test]
async fn a_bad_request_line_does_no_harm() {
    let world = World::new().await;
    let server = Server::start(&world, AcceptLimits::default()).await;
    for garbage in [
        "\x16\x03\x01 hello\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
        "GET  \r\n\r\n",
    ] {
        let mut connection = server.connect().await;
        connection.write(garbage).await;
        assert!(!connection.read_to_end().await.contains("200 OK"));
    }
    let mut connection = server.connect().await;
    connection.ask("GET", "/health").await;
    connection.read_until("ok").await;
}

#[tokio::test]
async fn one_connection_carries_many_requests_at_once_over_http2() {
    let world = World::new().await;
    world.store.hold_letters();
    let server = Server::start(
        &world,
        AcceptLimits {
            drain: NEVER,
            ..AcceptLimits::default()
        },
    )
    .await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let get = |path: &str| {
        let request = http::Request::get(format!("http://localhost{path}"))
            .body(String::new())
            .unwrap();
        client.clone().send_request(request)
    };
    let slow = tokio::spawn(get("/api/dead_letters"));
    world
        .until("the request is being handled", async || {
            world.store.letters_wanted() == 1
        })
        .await;
    assert_eq!(get("/health").await.unwrap().status(), 200);
    let serving = server.stop();
    world.store.letters.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    Server::stopped(serving).await;
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_one_that_does() {
    let world = World::new().await;
    let limits = AcceptLimits {
        max_connections: 4,
        header_timeout: NEVER,
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut talking = server.connect().await;
    talking.ask("GET", "/health").await;
    talking.read_until("ok").await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut connection = server.connect().await;
        if number % 2 == 0 {
            connection.write("GET /health HTTP/1.1\r\nx-slow:").await;
        }
        silent.push(connection);
    }
    let mut healthy = server.connect().await;
    healthy.ask("GET", "/health").await;
    healthy.read_until("ok").await;
    // The oldest went first, and one that has spoken stays.
    for connection in &mut silent[..90] {
        assert_eq!(connection.read_to_end().await, "");
    }
    talking.ask("GET", "/health").await;
    talking.read_until("ok").await;
}
