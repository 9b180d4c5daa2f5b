//! Why there is no connection, and what follows from it.

use std::time::Duration;

use reqwest::StatusCode;
use tokio_tungstenite::tungstenite::{
    self,
    protocol::frame::{CloseFrame, coding::CloseCode},
};

use kanade_ports::frame::{SUBPROTOCOL, close};

/// Why a connection could not be made, or has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The server, or something before it, has answered with a status that is none of a WebSocket.
    #[error("the server does not let this agent in: {text}")]
    Refused { status: StatusCode, text: String },
    /// It has agreed to something else.
    #[error("the server does not speak {SUBPROTOCOL}: {0}")]
    Foreign(&'static str),
    #[error("no connection could be made to {server}: {cause}")]
    Unreachable { server: String, cause: String },
    #[error("there was no answer within {}s", .0.as_secs_f32())]
    TooLate(Duration),
    /// The same agent is there twice.
    #[error(
        "another process with this agent's id and key has taken over the connection; run the agent once, and do not copy its folder to another machine"
    )]
    Replaced,
    #[error("the server stops")]
    Stopping,
    #[error("the server has closed the connection: {code}{}", because(.reason))]
    Closed { code: u16, reason: String },
    #[error("nothing was heard for {}s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("nothing could be sent for {}s", .0.as_secs_f32())]
    Stuck(Duration),
    #[error("what the server sends cannot be read: {0}")]
    Garbage(String),
    #[error("the connection broke: {0}")]
    Lost(String),
}

impl Broken {
    /// What the server says when it closes.
    pub(super) fn closed(frame: Option<CloseFrame>) -> Self {
        let Some(CloseFrame { code, reason }) = frame else {
            return Self::Lost("the server has closed it without a reason".into());
        };
        match u16::from(code) {
            close::GOING_AWAY => Self::Stopping,
            close::REPLACED => Self::Replaced,
            code => Self::Closed {
                code,
                reason: one_line(&reason),
            },
        }
    }

    /// Whether the next attempt will very likely end in the same way, until somebody changes something.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Foreign(_) => true,
            Self::Refused { status, .. } => {
                !status.is_server_error()
                    && !matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            _ => false,
        }
    }

    /// What is still to be done with the connection.
    pub(super) fn parting(&self) -> Parting {
        match self {
            Self::Garbage(_) => Parting::say(CloseCode::Policy, "what was sent cannot be read"),
            Self::TooLate(_) => Parting::say(CloseCode::Policy, "the subscriptions were not answered"),
            Self::Stopping | Self::Replaced | Self::Closed { .. } => Parting::Answer,
            _ => Parting::Leave,
        }
    }
}

/// How a connection is left.
#[derive(Debug)]
pub(super) enum Parting {
    /// With the first half of a closing handshake.
    Say(CloseFrame),
    /// With the second half.
    Answer,
    /// As it is: nobody is there any more.
    Leave,
}

impl Parting {
    pub(super) fn say(code: CloseCode, reason: &'static str) -> Self {
        Self::Say(CloseFrame {
            code,
            reason: reason.into(),
        })
    }
}

impl From<tungstenite::Error> for Broken {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Capacity(_) | tungstenite::Error::Utf8(_) => Self::Garbage(error.to_string()),
            error => Self::Lost(error.to_string()),
        }
    }
}

/// What somebody else says, as one line without control characters.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_somebody_must_mend_are_told_apart() {
        for (status, lasting) in [
            (200, true),
            (302, true),
            (400, true),
            (401, true),
            (403, true),
            (404, true),
            (408, false),
            (409, true),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let refused = Broken::Refused {
                status: StatusCode::from_u16(status).unwrap(),
                text: String::new(),
            };
            assert_eq!(refused.is_lasting(), lasting, "{status}");
        }
        assert!(!Broken::Lost(String::new()).is_lasting());
    }

    #[test]
    fn a_reason_is_one_line() {
        let frame = CloseFrame {
            code: CloseCode::Policy,
            reason: "no\r\n2026-05-01 INFO all is well\u{1b}[2J".into(),
        };
        assert_eq!(
            Broken::closed(Some(frame)).to_string(),
            "the server has closed the connection: 1008 (no 2026-05-01 INFO all is well [2J)"
        );
    }
}
