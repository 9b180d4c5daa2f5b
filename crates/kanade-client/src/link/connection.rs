//! One connection at work: reads, writes and keeps awake, all at the same time.

use std::{future::pending, sync::Arc, time::Duration};

use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use kanade_ports::frame::{ServerFrame, decode};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{
    LinkTiming,
    broken::{Broken, Parting},
    dial::Socket,
    line::{Line, Outgoing},
    shared::Shared,
    traffic::Traffic,
};

/// How long a closing handshake may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// A connection to the server.
pub(super) struct Connection {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    traffic: Arc<Traffic>,
    timing: LinkTiming,
}

impl Connection {
    pub(super) fn new(socket: Socket, timing: LinkTiming) -> Self {
        let traffic = socket.get_ref().traffic();
        let (sink, stream) = socket.split();
        Self {
            sink,
            stream,
            traffic,
            timing,
        }
    }

    /// Carries frames in both directions until the connection breaks.
    pub(super) async fn carry(
        &mut self,
        line: &Line,
        queue: &mut mpsc::UnboundedReceiver<Outgoing>,
        shared: &Shared,
    ) -> Broken {
        let Self {
            sink,
            stream,
            traffic,
            timing,
        } = self;
        // All in one task: a write that waits holds up nothing else.
        let broken = tokio::select! {
            broken = read(stream, line, shared) => return broken,
            broken = write(sink, queue, traffic, timing) => broken,
            () = traffic.silence(timing.idle_timeout) => return Broken::Silent(timing.idle_timeout),
        };
        match broken {
            // A server that has closed takes nothing more, and its reason may wait to be read.
            Broken::Lost(_) => timeout(GOODBYE_WITHIN, read(stream, line, shared))
                .await
                .unwrap_or(broken),
            broken => broken,
        }
    }

    /// Ends the connection as it should be.
    pub(super) async fn part(mut self, how: Parting) {
        let parting = async {
            match how {
                Parting::Say(frame) => self.sink.send(Message::Close(Some(frame))).await?,
                // The answer was made when the question was read, but has to leave.
                Parting::Answer => self.sink.flush().await?,
                Parting::Leave => return Ok(()),
            }
            while self
                .stream
                .next()
                .await
                .transpose()?
                .is_some_and(|message| !message.is_close())
            {}
            Ok::<_, tungstenite::Error>(())
        };
        // A server that does not do its part in time finds out by itself.
        let _ = timeout(GOODBYE_WITHIN, parting).await;
    }
}

async fn read(stream: &mut SplitStream<Socket>, line: &Line, shared: &Shared) -> Broken {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(frame))) => match decode::<ServerFrame>(frame) {
                Ok((told, payload)) => shared.heard(&line.hear(told, &payload)),
                Err(error) => return Broken::Garbage(error.to_string()),
            },
            Some(Ok(Message::Text(_))) => return Broken::Garbage("it is text".into()),
            Some(Ok(Message::Close(frame))) => return Broken::closed(frame),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return error.into(),
            None => return Broken::Lost("the server has ended it".into()),
        }
    }
}

async fn write(
    sink: &mut SplitSink<Socket, Message>,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    traffic: &Traffic,
    timing: &LinkTiming,
) -> Broken {
    let mut ping_at = Instant::now() + timing.ping_every;
    loop {
        let first = tokio::select! {
            next = queue.recv() => match next {
                Some(outgoing) => Message::Binary(outgoing.frame),
                // The line is held by whoever reads.
                None => pending().await,
            },
            () = sleep_until(ping_at) => {
                ping_at = Instant::now() + timing.ping_every;
                Message::Ping("".into())
            }
        };
        match traffic.send(timing.idle_timeout, send(sink, first, queue)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return error.into(),
            None => return Broken::Stuck(timing.idle_timeout),
        }
    }
}

/// Sends a message and what else is in the queue by then.
async fn send(
    sink: &mut SplitSink<Socket, Message>,
    first: Message,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
) -> Result<(), tungstenite::Error> {
    sink.feed(first).await?;
    for _ in 0..queue.len() {
        match queue.try_recv() {
            Ok(outgoing) => sink.feed(Message::Binary(outgoing.frame)).await?,
            Err(_) => break,
        }
    }
    sink.flush().await
}
