//! Agents that break the rules, or are broken, over real sockets: each harms itself only.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use kanade_http::{AcceptLimits, GatewaySettings, HttpSettings};
use kanade_model::Subject;
use kanade_ports::{
    PubSub,
    frame::{Call, MAX_FRAME, ServerFrame, close},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    remote::{Knock, OTHER_KEY, Remote},
    server::Server,
    world::{DEADLINE, World},
};

async fn serve(world: &World) -> Server {
    Server::start(world, AcceptLimits::default()).await
}

/// An agent whose side of the connection holds little.
async fn narrow(server: &Server, pc: &str) -> Remote<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    Knock::new(pc).over(stream).await.unwrap()
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

#[tokio::test]
async fn garbage_ends_the_connection_it_came_on_and_no_other() {
    let world = World::new().await;
    let server = serve(&world).await;
    let mut bystander = Knock::new("pc-0").at(&server).await.unwrap();
    let binary = |text: &str| Message::Binary(Bytes::from(text.to_owned()));
    for (message, status) in [
        (
            Message::text("{\"id\":1,\"call\":\"end\",\"of\":1}\n"),
            close::POLICY,
        ),
        (binary(""), close::POLICY),
        (binary("hello"), close::POLICY),
        (binary("{}\n"), close::POLICY),
        (
            binary("{\"id\":1,\"call\":\"get\",\"bucket\":\"secrets\",\"key\":\"x\"}\n"),
            close::POLICY,
        ),
        (binary(&format!("{}\n", " ".repeat(5000))), close::POLICY),
        (Message::Binary(vec![b' '; MAX_FRAME].into()), close::POLICY),
        (
            Message::Binary(vec![b' '; MAX_FRAME + 1].into()),
            close::TOO_LARGE,
        ),
        (Message::Binary(vec![b' '; 8 << 20].into()), close::TOO_LARGE),
    ] {
        let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
        let shown = message.len();
        assert_eq!(agent.goodbye_to(message).await, status, "{shown} bytes");
        assert!(bystander.is_served().await);
    }
    // Not even a WebSocket frame.
    let agent = Knock::new("pc-1").at(&server).await.unwrap();
    let mut stream = agent.socket.into_inner();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut said))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&said[..1], [0x88]);
    assert_eq!(&said[2..4], close::POLICY.to_be_bytes());
    assert!(bystander.is_served().await);
}

#[tokio::test]
async fn one_that_never_reads_is_left_and_another_hears_everything_at_once() {
    let world = World::with(HttpSettings {
        gateway: GatewaySettings {
            write_timeout: Duration::from_secs(1),
            ..GatewaySettings::default()
        },
        ..HttpSettings::default()
    })
    .await;
    let server = serve(&world).await;
    let mut deaf = narrow(&server, "pc-1").await;
    deaf.subscribe("commands.all").await;
    let mut other = Knock::new("pc-2").at(&server).await.unwrap();
    other.subscribe("commands.all").await;
    for _ in 0..15 {
        let payload = Bytes::from(vec![b'x'; 1 << 20]);
        world
            .bus
            .publish(&subject("commands.all"), payload)
            .await
            .unwrap();
    }
    for _ in 0..15 {
        let (told, payload) = other.told().await;
        assert!(matches!(told, ServerFrame::Message { .. }), "{told:?}");
        assert_eq!(payload.len(), 1 << 20);
    }
    world
        .until("it has been left", async || {
            let stranger = Knock::new("pc-1").with("kanade-agent-key", OTHER_KEY);
            stranger.at(&server).await.is_ok()
        })
        .await;
    assert!(other.is_served().await);
    drop(deaf);
}

#[tokio::test]
async fn a_kill_overtakes_commands_that_wait() {
    let world = World::new().await;
    let server = serve(&world).await;
    let mut agent = narrow(&server, "pc-1").await;
    agent.subscribe("commands.all").await;
    let kills = agent.subscribe("kill.>").await;
    for _ in 0..15 {
        let payload = Bytes::from(vec![b'x'; 1 << 20]);
        world
            .bus
            .publish(&subject("commands.all"), payload)
            .await
            .unwrap();
    }
    world
        .bus
        .publish(&subject("kill.e-1"), Bytes::new())
        .await
        .unwrap();
    let mut before = 0;
    while let (ServerFrame::Message { of, .. }, _) = agent.told().await
        && of != kills
    {
        before += 1;
    }
    // Those that were on their way already: as much as sockets hold.
    assert!(before < 14, "{before}");
}

#[tokio::test]
async fn an_agent_whose_results_are_not_recorded_is_not_read_from() {
    let world = World::new().await;
    world.durable(&subject("results.warm-up"), "{}".into()).await;
    let server = serve(&world).await;
    let mut heard = world
        .bus
        .subscribe(&"heartbeat.pc-1".parse().unwrap())
        .await
        .unwrap();
    let mut other = Knock::new("pc-2").at(&server).await.unwrap();
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    world.store.hold_commits();
    for _ in 0..40 {
        let request = Uuid::new_v4();
        let result = serde_json::json!({
            "request_id": request, "pc_id": "pc-1", "exit_code": 0, "stdout": "", "stderr": "",
            "started_at": "2026-05-01T08:00:00Z", "finished_at": "2026-05-01T08:00:01Z"
        });
        let call = Call::PublishDurable {
            subject: subject(&format!("results.{request}")),
            message: request.to_string(),
        };
        agent.send(call, result.to_string().as_bytes()).await;
    }
    let heartbeat = r#"{"pc_id":"pc-1","at":"2026-05-01T08:00:00Z","agent_version":"1.2.3"}"#;
    let call = Call::Publish {
        subject: subject("heartbeat.pc-1"),
    };
    let last = agent.send(call, heartbeat.as_bytes()).await;
    // Plenty of turns in which it would have been read.
    for _ in 0..200 {
        assert!(other.is_served().await);
    }
    assert!(futures::poll!(heard.next()).is_pending());
    world.store.release_commits();
    let mut answers = 0;
    while answers < 41 {
        let (told, _) = agent.told().await;
        assert!(matches!(told, ServerFrame::Done { .. }), "{told:?}");
        answers += 1;
    }
    assert!(last == 41 && timeout(DEADLINE, heard.next()).await.unwrap().is_some());
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_behind() {
    let world = World::with(HttpSettings {
        gateway: GatewaySettings {
            max_agents: 3,
            ..GatewaySettings::default()
        },
        ..HttpSettings::default()
    })
    .await;
    let server = serve(&world).await;
    for number in 0..60 {
        let knock = Knock::new(&format!("pc-{number}"));
        let agent = loop {
            // The last one may still be on its way out.
            if let Ok(agent) = knock.at(&server).await {
                break agent;
            }
        };
        match number % 3 {
            0 => agent.leave().await,
            1 => drop(agent),
            _ => {
                let mut agent = agent;
                agent.socket.send(Message::text("garbage")).await.unwrap();
                drop(agent);
            }
        }
    }
}
