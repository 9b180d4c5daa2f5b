//! The ports an agent uses, as frames on one WebSocket connection (RFC 6455): what it calls, what it is told.
//!
//! A frame is one binary message: a line of JSON, a line feed, and then, as it is, the payload, if there is one:
//!
//! ```text
//! {"id":7,"call":"publish","subject":"heartbeat.web-1"}
//! {"pc_id":"web-1","at":"2026-05-01T08:30:00Z","agent_version":"0.1.0"}
//! ```
//!
//! Every call is answered once, by [`ServerFrame::Done`], [`ServerFrame::Found`] or [`ServerFrame::Failed`], in any
//! order. The id of a subscription's or a watch's call names it from then on.

use bytes::{BufMut, Bytes, BytesMut};
use kanade_model::{Pattern, Subject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Bucket, BusErrorKind, Key, Revision};

/// The WebSocket subprotocol that speaks these frames.
pub const SUBPROTOCOL: &str = "kanade.agent.v1";
/// The header of the upgrade request in which an agent proves that it is the one that was here before: a random text
/// that it keeps in its folder.
pub const KEY_HEADER: &str = "kanade-agent-key";
/// The largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The longest first line of a frame, in bytes, without its line feed.
pub const MAX_HEAD: usize = 4 << 10;
/// The largest frame, in bytes.
pub const MAX_FRAME: usize = MAX_HEAD + 1 + MAX_PAYLOAD;

/// Why a server closes a connection, as status codes of the closing handshake.
pub mod close {
    /// The server stops; another one, or the same, will be there soon.
    pub const GOING_AWAY: u16 = 1001;
    /// What was sent is no frame, or breaks a rule; the reason says which.
    pub const POLICY: u16 = 1008;
    /// The frame is larger than [`MAX_FRAME`](super::MAX_FRAME).
    pub const TOO_LARGE: u16 = 1009;
    /// The same agent has connected once more: that connection counts from now on.
    pub const REPLACED: u16 = 4001;
    /// The connection does not take what it is sent.
    pub const TOO_SLOW: u16 = 4002;
}

/// What an agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFrame {
    /// Names the call in its answer; no other call of this connection has it.
    pub id: u64,
    /// What is asked for.
    #[serde(flatten)]
    pub call: Call,
}

/// What an agent can ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// [`PubSub::publish`](crate::PubSub::publish) of the frame's payload.
    Publish {
        /// Where to.
        subject: Subject,
    },
    /// [`PubSub::publish_durable`](crate::PubSub::publish_durable) of the frame's payload.
    PublishDurable {
        /// Where to.
        subject: Subject,
        /// Names the message, for brokers that drop repetitions.
        message: String,
    },
    /// [`PubSub::reply`](crate::PubSub::reply) with the frame's payload.
    Reply {
        /// The `reply` of what was received.
        to: Subject,
    },
    /// [`PubSub::subscribe`](crate::PubSub::subscribe).
    Subscribe {
        /// Which subjects.
        pattern: Pattern,
    },
    /// [`CatalogReader::get`](crate::CatalogReader::get).
    Get {
        /// Where it is kept.
        bucket: Bucket,
        /// Its key.
        key: Key,
    },
    /// [`CatalogReader::watch`](crate::CatalogReader::watch).
    Watch {
        /// What is watched.
        bucket: Bucket,
    },
    /// Ends a subscription or a watch.
    End {
        /// The id of its call.
        of: u64,
    },
    /// A call that a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The call is done.
    Done {
        /// The call.
        id: u64,
    },
    /// The call has failed.
    Failed {
        /// The call.
        id: u64,
        /// How.
        kind: BusErrorKind,
        /// The same in words.
        detail: String,
    },
    /// The document that was asked for is the payload; it is not there when there is no revision.
    Found {
        /// The call.
        id: u64,
        /// The revision of the document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
    },
    /// A message with this payload.
    Message {
        /// The subscription.
        of: u64,
        /// Where it was sent to.
        subject: Subject,
        /// Where an answer is expected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Subject>,
    },
    /// A document as it stands, or as it was just written, is the payload.
    Put {
        /// The watch.
        of: u64,
        /// Its key.
        key: Key,
        /// Its revision.
        revision: Revision,
    },
    /// A document was deleted.
    Deleted {
        /// The watch.
        of: u64,
        /// Its key.
        key: Key,
    },
    /// Everything that was there when the watch began has been told.
    Current {
        /// The watch.
        of: u64,
    },
    /// A subscription or a watch has ended: what came after has been missed.
    Ended {
        /// The id of its call.
        of: u64,
    },
    /// What a newer server tells.
    #[serde(other)]
    Unknown,
}

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// There is no line of JSON at its beginning, or it is too long.
    #[error("a frame begins with a line of JSON of at most {MAX_HEAD} bytes")]
    NoHead,
    /// The line does not say what it should.
    #[error("the first line of a frame cannot be read")]
    Head(#[source] serde_json::Error),
    /// Its payload is too large.
    #[error("the payload of a frame has at most {MAX_PAYLOAD} bytes, not {0}")]
    TooLarge(usize),
}

/// Writes a frame.
///
/// # Errors
/// When it would not be read: its first line or its payload is too long.
pub fn encode(head: &impl Serialize, payload: &[u8]) -> Result<Bytes, FrameError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLarge(payload.len()));
    }
    let mut frame = BytesMut::with_capacity(128 + payload.len()).writer();
    serde_json::to_writer(&mut frame, head).map_err(FrameError::Head)?;
    let mut frame = frame.into_inner();
    if frame.len() > MAX_HEAD {
        return Err(FrameError::NoHead);
    }
    frame.put_u8(b'\n');
    frame.put_slice(payload);
    Ok(frame.freeze())
}

/// Reads a frame; the payload shares its memory.
///
/// # Errors
/// When it is none, or does not say what a `T` says.
pub fn decode<T: DeserializeOwned>(mut frame: Bytes) -> Result<(T, Bytes), FrameError> {
    let end = frame
        .iter()
        .take(MAX_HEAD + 1)
        .position(|byte| *byte == b'\n')
        .ok_or(FrameError::NoHead)?;
    let head = serde_json::from_slice(&frame[..end]).map_err(FrameError::Head)?;
    let payload = frame.split_off(end + 1);
    if payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLarge(payload.len()));
    }
    Ok((head, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_line_of_json_and_its_payload() {
        let head = AgentFrame {
            id: 7,
            call: Call::Publish {
                subject: "heartbeat.web-1".parse().unwrap(),
            },
        };
        let frame = encode(&head, b"\n{}\n\0").unwrap();
        assert_eq!(
            frame,
            &b"{\"id\":7,\"call\":\"publish\",\"subject\":\"heartbeat.web-1\"}\n\n{}\n\0"[..]
        );
        let (read, payload) = decode::<AgentFrame>(frame).unwrap();
        assert_eq!((read, payload), (head, Bytes::from_static(b"\n{}\n\0")));
    }

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        let subject: Subject = "kill.e-1".parse().unwrap();
        let key: Key = "a/b = c\n".parse().unwrap();
        let calls = [
            Call::PublishDurable {
                subject: subject.clone(),
                message: "m".into(),
            },
            Call::Reply { to: subject.clone() },
            Call::Subscribe {
                pattern: "kill.>".parse().unwrap(),
            },
            Call::Get {
                bucket: Bucket::ScriptStatus,
                key: key.clone(),
            },
            Call::Watch {
                bucket: Bucket::AgentConfig,
            },
            Call::End { of: 3 },
        ];
        for (id, call) in (u64::MAX - 9..).zip(calls) {
            let frame = AgentFrame { id, call };
            assert_eq!(
                decode(encode(&frame, b"").unwrap()).unwrap(),
                (frame, Bytes::new())
            );
        }
        let told = [
            ServerFrame::Done { id: 1 },
            ServerFrame::Failed {
                id: 1,
                kind: BusErrorKind::NoResponders,
                detail: "nobody".into(),
            },
            ServerFrame::Found {
                id: 1,
                revision: None,
            },
            ServerFrame::Found {
                id: 1,
                revision: Some(Revision(u64::MAX)),
            },
            ServerFrame::Message {
                of: 1,
                subject: subject.clone(),
                reply: Some(subject),
            },
            ServerFrame::Put {
                of: 1,
                key: key.clone(),
                revision: Revision(4),
            },
            ServerFrame::Deleted { of: 1, key },
            ServerFrame::Current { of: 1 },
            ServerFrame::Ended { of: 1 },
        ];
        for frame in told {
            assert_eq!(
                decode(encode(&frame, b"x").unwrap()).unwrap(),
                (frame, Bytes::from_static(b"x"))
            );
        }
    }

    #[test]
    fn what_a_newer_peer_says_is_told_apart_from_garbage() {
        let newer = Bytes::from_static(b"{\"id\":1,\"call\":\"dance\",\"how\":\"fast\"}\n");
        let (read, _) = decode::<AgentFrame>(newer).unwrap();
        assert_eq!(
            read,
            AgentFrame {
                id: 1,
                call: Call::Unknown
            }
        );
        let newer = Bytes::from_static(b"{\"told\":\"song\",\"of\":1}\n");
        assert_eq!(decode::<ServerFrame>(newer).unwrap().0, ServerFrame::Unknown);
        for garbage in [
            "",
            "\n",
            "{}",
            "{}\n",
            "{\"id\":1}\n",
            "[]\n",
            "\u{0}\n",
            "{\"id\":-1,\"call\":\"end\",\"of\":1}\n",
        ] {
            assert!(decode::<AgentFrame>(Bytes::from(garbage)).is_err(), "{garbage:?}");
        }
        let outside = "{\"id\":1,\"call\":\"get\",\"bucket\":\"secrets\",\"key\":\"x\"}\n";
        assert!(
            decode::<AgentFrame>(Bytes::from(outside)).is_err(),
            "a bucket that does not exist"
        );
        let outside = "{\"id\":1,\"call\":\"publish\",\"subject\":\"a..b\"}\n";
        assert!(
            decode::<AgentFrame>(Bytes::from(outside)).is_err(),
            "a subject that is none"
        );
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let end = AgentFrame {
            id: 1,
            call: Call::End { of: 1 },
        };
        let largest = vec![b'x'; MAX_PAYLOAD];
        let frame = encode(&end, &largest).unwrap();
        assert!(frame.len() <= MAX_FRAME);
        assert!(decode::<AgentFrame>(frame).is_ok());
        let larger = vec![b'x'; MAX_PAYLOAD + 1];
        assert!(matches!(encode(&end, &larger), Err(FrameError::TooLarge(_))));
        let mut frame = b"{\"id\":1,\"call\":\"end\",\"of\":1}\n".to_vec();
        frame.extend(&larger);
        assert!(matches!(
            decode::<AgentFrame>(frame.into()),
            Err(FrameError::TooLarge(_))
        ));
        let subject: Subject = "x".repeat(MAX_HEAD).parse().unwrap();
        let long = AgentFrame {
            id: 1,
            call: Call::Publish { subject },
        };
        assert!(matches!(encode(&long, b""), Err(FrameError::NoHead)));
        let mut line = vec![b' '; MAX_HEAD + 1];
        line.push(b'\n');
        assert!(matches!(
            decode::<AgentFrame>(line.into()),
            Err(FrameError::NoHead)
        ));
    }
}
