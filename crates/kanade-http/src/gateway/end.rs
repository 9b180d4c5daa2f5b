//! Why a connection of an agent ends, for the agent and for the log.

use std::{fmt, io, time::Duration};

use kanade_ports::frame::{MAX_FRAME, close};

/// The longest reason that a closing frame holds, in bytes.
const LONGEST: usize = 123;
const NORMAL: u16 = 1000;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The agent has said goodbye.
    Left(Option<u16>),
    /// The connection broke.
    Lost(io::Error),
    /// Nothing was heard for this long.
    Silent(Duration),
    /// What was sent breaks a rule.
    Garbage(String),
    /// What was sent is too large.
    TooLarge,
    /// What it was sent was not taken within this time.
    TooSlow(Duration),
    /// The agent has connected once more.
    Replaced,
    /// The server stops.
    Stopping,
}

impl End {
    /// The status code and the reason that the agent is told, if there is somebody to tell.
    pub(super) fn told(&self) -> Option<(u16, String)> {
        let code = match self {
            Self::Lost(_) => return None,
            Self::Left(_) => return Some((NORMAL, String::new())),
            Self::Silent(_) | Self::Garbage(_) => close::POLICY,
            Self::TooLarge => close::TOO_LARGE,
            Self::TooSlow(_) => close::TOO_SLOW,
            Self::Replaced => close::REPLACED,
            Self::Stopping => close::GOING_AWAY,
        };
        let mut reason = self.to_string();
        reason.truncate(reason.floor_char_boundary(LONGEST));
        Some((code, reason))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(None) => f.write_str("the agent has left"),
            Self::Left(Some(code)) => write!(f, "the agent has left (status {code})"),
            Self::Lost(error) => write!(f, "the connection was lost: {error}"),
            Self::Silent(time) => write!(f, "nothing was heard for {time:?}"),
            Self::Garbage(what) => f.write_str(what),
            Self::TooLarge => write!(f, "a frame has at most {MAX_FRAME} bytes"),
            Self::TooSlow(time) => write!(f, "a message was not taken within {time:?}"),
            Self::Replaced => f.write_str("the agent has connected once more"),
            Self::Stopping => f.write_str("the server stops"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_its_frame() {
        let (code, reason) = End::Garbage("é".repeat(100)).told().unwrap();
        assert_eq!(code, close::POLICY);
        assert_eq!(reason, "é".repeat(61));
        assert!(End::Lost(io::ErrorKind::UnexpectedEof.into()).told().is_none());
    }
}
