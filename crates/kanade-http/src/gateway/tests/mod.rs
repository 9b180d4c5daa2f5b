//! Sessions over pipes, with ports in the test's hand.

mod calls;
mod load;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt, future::join_all};
use kanade_core::AgentPorts;
use kanade_memory::{BusLimits, EmbeddedBus, MemoryCatalog};
use kanade_model::{Pattern, Subject};
use kanade_ports::{
    Batch, Bucket, Bus, BusError, BusErrorKind, Catalog, Consumer, Durable, Message as Carried, MessageId,
    Precondition, PubSub, Subscription,
    frame::{AgentFrame, Call, ServerFrame, close, decode, encode},
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tokio_util::sync::CancellationToken;

use super::{
    calls::{CALLS, FEEDS},
    room::Rooms,
    session::Session,
};
use crate::{GatewaySettings, accept::Closing};

/// No condition takes longer than this.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server for agents that come through pipes.
struct Server {
    ports: AgentPorts,
    rooms: Rooms,
    settings: GatewaySettings,
}

/// An agent at its end of a pipe.
struct Agent {
    socket: WebSocketStream<DuplexStream>,
    /// Says why the session ended.
    session: JoinHandle<String>,
    replaced: CancellationToken,
    last_id: u64,
}

impl Server {
    fn with(bus: impl PubSub, catalog: Arc<MemoryCatalog>) -> Self {
        let settings = GatewaySettings::default();
        Self {
            ports: AgentPorts {
                bus: Arc::new(bus),
                catalog,
            },
            rooms: Rooms::new(settings.in_flight_bytes),
            settings,
        }
    }

    fn over(bus: &EmbeddedBus) -> Self {
        Self::with(bus.clone(), Arc::default())
    }

    /// An agent whose pipe holds so many bytes.
    async fn agent(&self, pipe: usize) -> Agent {
        let (near, far) = duplex(pipe);
        let replaced = CancellationToken::new();
        let (ports, share, settings) = (self.ports.clone(), self.rooms.share(), self.settings.clone());
        let cancelled = replaced.clone();
        let session = tokio::spawn(async move {
            let closing = Closing::default();
            let session = Session {
                ports,
                share,
                settings: &settings,
                replaced: &cancelled,
                closing: &closing,
            };
            let parting = session.run(far).await;
            let end = parting.end.to_string();
            parting.say_goodbye(&closing).await;
            end
        });
        Agent {
            socket: WebSocketStream::from_raw_socket(near, Role::Client, None).await,
            session,
            replaced,
            last_id: 0,
        }
    }
}

impl Agent {
    async fn send(&mut self, call: Call, payload: &[u8]) -> u64 {
        self.last_id += 1;
        let head = AgentFrame {
            id: self.last_id,
            call,
        };
        let frame = Message::Binary(encode(&head, payload).unwrap());
        self.socket.send(frame).await.unwrap();
        self.last_id
    }

    /// The next thing it is told; the status of the goodbye if that is it.
    async fn next(&mut self) -> Result<(ServerFrame, Bytes), u16> {
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

    async fn told(&mut self) -> (ServerFrame, Bytes) {
        self.next().await.unwrap()
    }

    async fn call(&mut self, call: Call) -> ServerFrame {
        let id = self.send(call, b"").await;
        let (told, _) = self.told().await;
        assert_eq!(answered(&told), Some(id), "{told:?}");
        told
    }

    async fn subscribe(&mut self, pattern: &str) -> u64 {
        let pattern = pattern.parse().unwrap();
        let told = self.call(Call::Subscribe { pattern }).await;
        assert!(matches!(told, ServerFrame::Done { .. }), "{told:?}");
        self.last_id
    }
}

/// Which call this answers.
fn answered(told: &ServerFrame) -> Option<u64> {
    match told {
        ServerFrame::Done { id } | ServerFrame::Failed { id, .. } | ServerFrame::Found { id, .. } => {
            Some(*id)
        }
        _ => None,
    }
}

fn durable(number: usize) -> Call {
    Call::PublishDurable {
        subject: subject(&format!("results.{number}")),
        message: number.to_string(),
    }
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn is_refused(told: &ServerFrame, why: &str) -> bool {
    matches!(told, ServerFrame::Failed { kind: BusErrorKind::Refused, detail, .. } if detail.contains(why))
}
