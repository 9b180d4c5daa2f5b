//! The reading side of a WebSocket (RFC 6455). It says how long a message is before it reads it, so that there can be
//! room first, and keeps no memory of one that has been read: the streams at hand keep their largest buffer for as
//! long as a connection lives, which with thousands of agents is what a server is made of.

use std::{
    io::{self, Cursor},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kanade_ports::frame::MAX_FRAME;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::end::End;

const BUFFER: usize = 8 << 10;
/// The longest header of a WebSocket frame.
const LONGEST_HEADER: usize = 14;
const LONGEST_CONTROL: u64 = 125;

/// Reads messages.
pub(super) struct Source<R> {
    io: BufReader<R>,
    limits: Patience,
    pings: watch::Sender<Bytes>,
}

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For anything at all.
    pub(super) idle: Duration,
    /// For the whole of a message that has begun.
    pub(super) message: Duration,
}

/// A message that has begun.
pub(super) struct Announced {
    header: FrameHeader,
    length: usize,
}

impl Announced {
    /// How long it can be, in bytes.
    pub(super) fn at_most(&self) -> usize {
        if self.header.is_final {
            self.length
        } else {
            MAX_FRAME
        }
    }
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Reads from `io`. Who holds the other end of `pings` answers the latest of them.
    pub(super) fn new(io: R, limits: Patience, pings: watch::Sender<Bytes>) -> Self {
        Self {
            io: BufReader::with_capacity(BUFFER, io),
            limits,
            pings,
        }
    }

    /// Waits for the next message. It is to be read then.
    pub(super) async fn next(&mut self) -> Result<Announced, End> {
        loop {
            let (header, length) = self.header().await?;
            match header.opcode {
                OpCode::Control(control) => self.control(control, &header, length).await?,
                OpCode::Data(Data::Binary) => {
                    let length = fitting(0, length)?;
                    return Ok(Announced { header, length });
                }
                OpCode::Data(Data::Text) => return Err(garbage("frames are binary messages, not text")),
                OpCode::Data(Data::Continue | Data::Reserved(_)) => {
                    return Err(garbage("a message does not begin with its continuation"));
                }
            }
        }
    }

    /// Reads the message that was announced.
    pub(super) async fn message(&mut self, begun: Announced) -> Result<Bytes, End> {
        let patience = self.limits.message;
        match timeout(patience, self.whole(begun)).await {
            Ok(message) => message,
            Err(_) => Err(End::Garbage(format!(
                "a message that has begun must be whole within {patience:?}"
            ))),
        }
    }

    /// What it reads from.
    pub(super) fn into_inner(self) -> R {
        self.io.into_inner()
    }

    async fn whole(&mut self, begun: Announced) -> Result<Bytes, End> {
        let mut message = BytesMut::with_capacity(begun.at_most());
        self.payload(&begun.header, begun.length, &mut message).await?;
        let mut is_whole = begun.header.is_final;
        while !is_whole {
            let (header, length) = self.header().await?;
            match header.opcode {
                OpCode::Control(control) => self.control(control, &header, length).await?,
                OpCode::Data(Data::Continue) => {
                    let length = fitting(message.len(), length)?;
                    self.payload(&header, length, &mut message).await?;
                    is_whole = header.is_final;
                }
                OpCode::Data(_) => return Err(garbage("a message begins before the last one has ended")),
            }
        }
        Ok(message.freeze())
    }

    async fn control(&mut self, control: Control, header: &FrameHeader, length: u64) -> Result<(), End> {
        if length > LONGEST_CONTROL || !header.is_final {
            return Err(garbage("a control frame is short and in one piece"));
        }
        let mut payload = BytesMut::new();
        self.payload(header, usize::try_from(length).expect("short"), &mut payload)
            .await?;
        match control {
            Control::Ping => drop(self.pings.send_replace(payload.freeze())),
            Control::Close => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                return Err(End::Left(code));
            }
            Control::Pong | Control::Reserved(_) => {}
        }
        Ok(())
    }

    async fn header(&mut self) -> Result<(FrameHeader, u64), End> {
        let mut bytes = [0; LONGEST_HEADER];
        for read in 0..LONGEST_HEADER {
            bytes[read] = self.available().await?[0];
            self.io.consume(1);
            let parsed = FrameHeader::parse(&mut Cursor::new(&bytes[..=read]))
                .map_err(|_| garbage("this is no WebSocket frame"))?;
            let Some((header, length)) = parsed else { continue };
            if header.rsv1 || header.rsv2 || header.rsv3 {
                return Err(garbage("no extension was agreed on"));
            }
            if header.mask.is_none() {
                return Err(garbage("what a client sends is masked"));
            }
            return Ok((header, length));
        }
        Err(garbage("this is no WebSocket frame"))
    }

    async fn payload(&mut self, header: &FrameHeader, length: usize, into: &mut BytesMut) -> Result<(), End> {
        let (start, end) = (into.len(), into.len() + length);
        while into.len() < end {
            let missing = end - into.len();
            let available = self.available().await?;
            let read = available.len().min(missing);
            into.extend_from_slice(&available[..read]);
            self.io.consume(read);
        }
        let mask = header.mask.unwrap_or_default();
        for (byte, mask) in into[start..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// At least one byte.
    async fn available(&mut self) -> Result<&[u8], End> {
        let idle = self.limits.idle;
        if self.io.buffer().is_empty() {
            // Only while somebody reads: who is kept waiting himself is not silent.
            let read = timeout(idle, self.io.fill_buf())
                .await
                .map_err(|_| End::Silent(idle))?;
            if read.map_err(End::Lost)?.is_empty() {
                return Err(End::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(self.io.buffer())
    }
}

fn fitting(before: usize, length: u64) -> Result<usize, End> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_FRAME - before)
        .ok_or(End::TooLarge)
}

fn garbage(what: &str) -> End {
    End::Garbage(what.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(45),
        message: Duration::from_secs(120),
    };
    const MASK: [u8; 4] = [1, 20, 90, 255];

    fn piece(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some(MASK),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    fn binary(is_final: bool, payload: &[u8]) -> Vec<u8> {
        piece(OpCode::Data(Data::Binary), is_final, payload)
    }

    fn more(is_final: bool, payload: &[u8]) -> Vec<u8> {
        piece(OpCode::Data(Data::Continue), is_final, payload)
    }

    /// What a reader makes of these bytes: the messages, how it ended, the last ping.
    async fn read(bytes: &[u8]) -> (Vec<Bytes>, End, Bytes) {
        let (pings, pinged) = watch::channel(Bytes::new());
        let mut source = Source::new(bytes, PATIENCE, pings);
        let mut messages = Vec::new();
        let end = loop {
            let message = match source.next().await {
                Ok(begun) => source.message(begun).await,
                Err(end) => break end,
            };
            match message {
                Ok(message) => messages.push(message),
                Err(end) => break end,
            }
        };
        let pinged = pinged.borrow().clone();
        (messages, end, pinged)
    }

    #[tokio::test]
    async fn messages_are_read_whole_or_in_pieces_with_pings_in_between() {
        let large = vec![b'x'; MAX_FRAME];
        let ping = piece(OpCode::Control(Control::Ping), true, b"there?");
        let bytes = [
            binary(true, b"hello"),
            binary(false, b"in "),
            more(false, b""),
            ping,
            more(true, b"pieces"),
            piece(OpCode::Control(Control::Pong), true, b""),
            binary(true, b""),
            binary(true, &large),
            piece(
                OpCode::Control(Control::Close),
                true,
                &[0x03, 0xe9, b'b', b'y', b'e'],
            ),
        ]
        .concat();
        let (messages, end, pinged) = read(&bytes).await;
        assert_eq!(messages, [&b"hello"[..], b"in pieces", b"", &large]);
        assert!(matches!(end, End::Left(Some(1001))), "{end:?}");
        assert_eq!(pinged, "there?");
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_ends_it() {
        let unmasked = [0x82, 1, b'x'];
        let compressed = [0xc2, 0x81, 0, 0, 0, 0, b'x'];
        for bytes in [
            &unmasked[..],
            &compressed,
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x8b, 0x80, 0, 0, 0, 0],
            &piece(OpCode::Data(Data::Text), true, b"hello"),
            &more(true, b"of what?"),
            &[binary(false, b"one"), binary(true, b"two")].concat(),
            &piece(OpCode::Control(Control::Ping), false, b""),
            &piece(OpCode::Control(Control::Ping), true, &[0; 126]),
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let (messages, end, _) = read(bytes).await;
            assert!(messages.is_empty());
            assert!(matches!(end, End::Garbage(_)), "{bytes:?}: {end:?}");
        }
    }

    #[tokio::test]
    async fn nothing_larger_than_a_frame_is_read() {
        let endless = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            mask: Some(MASK),
            ..FrameHeader::default()
        };
        for length in [MAX_FRAME as u64 + 1, u64::MAX] {
            let mut bytes = Vec::new();
            endless.format(length, &mut bytes).unwrap();
            assert!(matches!(read(&bytes).await.1, End::TooLarge));
        }
        let mut bytes = binary(false, &vec![0; MAX_FRAME]);
        bytes.extend(more(true, b"x"));
        assert!(matches!(read(&bytes).await.1, End::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_a_message_that_never_ends_are_not_waited_for_forever() {
        let (mut agent, server) = tokio::io::duplex(64);
        let mut source = Source::new(server, PATIENCE, watch::Sender::default());
        assert!(matches!(source.next().await, Err(End::Silent(_))));

        let trickle = tokio::spawn(async move {
            agent.write_all(&binary(true, &[0; 100])[..6]).await.unwrap();
            while agent.write_all(b"x").await.is_ok() {
                tokio::time::sleep(PATIENCE.idle / 2).await;
            }
        });
        let begun = source.next().await.unwrap();
        assert_eq!(begun.at_most(), 100);
        let started = tokio::time::Instant::now();
        let end = source.message(begun).await.unwrap_err();
        assert!(end.to_string().contains("whole within"), "{end}");
        assert_eq!(started.elapsed(), PATIENCE.message);
        drop(source);
        trickle.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_a_message_is_lost() {
        let bytes = binary(true, b"hello");
        for length in 0..bytes.len() {
            let (messages, end, _) = read(&bytes[..length]).await;
            assert!(messages.is_empty() && matches!(end, End::Lost(_)), "{end:?}");
        }
    }
}
