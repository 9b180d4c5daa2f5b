//! The writing side of a WebSocket (RFC 6455). A payload is written from where it is, so a message to a thousand agents
//! is kept once.

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Chain};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::end::End;

/// The longest header of a frame that is not masked.
const LONGEST_HEADER: usize = 10;

/// Writes frames.
pub(super) struct Sink<W> {
    io: W,
    within: Duration,
    /// What is left of the frame that is being written. It stays when a write is given up.
    rest: Chain<Bytes, Bytes>,
}

impl<W: AsyncWrite + Unpin> Sink<W> {
    /// Writes to `io`, each frame `within` this time.
    pub(super) fn new(io: W, within: Duration) -> Self {
        Self {
            io,
            within,
            rest: Bytes::new().chain(Bytes::new()),
        }
    }

    /// Writes a message, which is `head` and then `payload`.
    pub(super) async fn message(&mut self, head: &[u8], payload: Bytes) -> Result<(), End> {
        self.frame(OpCode::Data(Data::Binary), head, payload).await
    }

    /// Asks whether somebody is there.
    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.frame(OpCode::Control(Control::Ping), b"", Bytes::new())
            .await
    }

    /// Answers a ping.
    pub(super) async fn pong(&mut self, payload: Bytes) -> Result<(), End> {
        self.frame(OpCode::Control(Control::Pong), b"", payload).await
    }

    /// Says goodbye, after what is left of an earlier frame, and writes nothing more.
    pub(super) async fn close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        self.io.write_all_buf(&mut self.rest).await?;
        let mut payload = BytesMut::with_capacity(2 + reason.len());
        payload.put_u16(code);
        payload.put_slice(reason.as_bytes());
        self.rest = frame(OpCode::Control(Control::Close), b"", payload.freeze());
        self.io.write_all_buf(&mut self.rest).await?;
        self.io.shutdown().await
    }

    async fn frame(&mut self, opcode: OpCode, head: &[u8], payload: Bytes) -> Result<(), End> {
        self.rest = frame(opcode, head, payload);
        let within = self.within;
        let written = async {
            self.io.write_all_buf(&mut self.rest).await?;
            self.io.flush().await
        };
        match timeout(within, written).await {
            Ok(written) => written.map_err(End::Lost),
            Err(_) => Err(End::TooSlow(within)),
        }
    }
}

fn frame(opcode: OpCode, head: &[u8], payload: Bytes) -> Chain<Bytes, Bytes> {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let length = head.len() + payload.len();
    let mut front = BytesMut::with_capacity(LONGEST_HEADER + head.len()).writer();
    header
        .format(length as u64, &mut front)
        .expect("memory can be written to");
    let mut front = front.into_inner();
    front.put_slice(head);
    front.freeze().chain(payload)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_goodbye_comes_after_the_rest_of_a_frame() {
        let (server, mut agent) = tokio::io::duplex(8);
        let mut sink = Sink::new(server, Duration::from_secs(20));
        let large = Bytes::from(vec![b'x'; 1000]);
        assert!(sink.message(b"{}\n", large).now_or_never().is_none());
        let closing = tokio::spawn(async move { sink.close(1001, "bye").await });
        let mut told = Vec::new();
        agent.read_to_end(&mut told).await.unwrap();
        closing.await.unwrap().unwrap();
        let message = [&[0x82, 126, 3, 235], &b"{}\n"[..], &[b'x'; 1000]].concat();
        let goodbye = [&[0x88, 5, 3, 233], &b"bye"[..]].concat();
        assert_eq!(told, [message, goodbye].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_taken_is_not_waited_for_forever() {
        let (server, _agent) = tokio::io::duplex(8);
        let mut sink = Sink::new(server, Duration::from_secs(20));
        let end = sink.message(b"", Bytes::from_static(&[0; 100])).await;
        assert!(matches!(end, Err(End::TooSlow(_))), "{end:?}");
    }
}
