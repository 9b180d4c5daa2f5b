//! What can go wrong between asking and having the answer.

use std::time::Duration;

use kanade_model::api::Problem;
use reqwest::StatusCode;

/// Why a request has no answer of the kind that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server says no, and why.
    #[error("{}", told(.problem))]
    Problem {
        /// The status of the answer.
        status: StatusCode,
        /// What it says.
        problem: Box<Problem>,
    },
    /// Something answered that does not speak as kanade does: a proxy, another program, a much older server.
    #[error("{request} was answered {status}{}", remark(.text))]
    Foreign {
        /// The method and the URL.
        request: String,
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of what it says, in one line.
        text: String,
    },
    /// No connection could be made; nothing was sent.
    #[error("no kanade server answers at {url}; is `kanade serve` running?")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The connection broke before the answer was whole: a change may or may not have been made.
    #[error("the connection broke during {request}; if it was a change, look whether it was made")]
    Interrupted {
        /// The method and the URL.
        request: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time: a change may or may not have been made.
    #[error("{request} was not answered within {}s; if it was a change, look whether it was made", .after.as_secs())]
    TimedOut {
        /// The method and the URL.
        request: String,
        /// How long was waited.
        after: Duration,
    },
    /// The answer is not the JSON that belongs to the route.
    #[error("cannot read the answer to {request}; is the server of another version?")]
    Decode {
        /// The method and the URL.
        request: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A list leads back to where it came from.
    #[error("the list at {request} does not go on: its next page is the same page")]
    Circular {
        /// The method and the URL.
        request: String,
    },
    /// The base address cannot be used.
    #[error("`{0}` is not the address of a server; one looks like http://127.0.0.1:8080")]
    Address(String),
    /// An argument cannot be sent.
    #[error("{0}")]
    Argument(String),
    /// The transport could not be set up.
    #[error("cannot set up connections")]
    Transport(#[source] reqwest::Error),
}

impl Error {
    pub(crate) fn address(text: &str) -> Self {
        Self::Address(text.to_owned())
    }

    /// The status of the answer, where there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Problem { status, .. } | Self::Foreign { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the thing that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the same request may well succeed later: the server is away, busy or starting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::TimedOut { .. } => true,
            _ => self.status().is_some_and(|status| {
                status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
                    || status == StatusCode::TOO_MANY_REQUESTS
            }),
        }
    }

    /// Whether the connection failed, so that it is not known whether the server has seen the request.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Interrupted { .. })
    }
}

fn told(problem: &Problem) -> String {
    let said = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    match &problem.request_id {
        // 502 and 504 tell of an agent, about which the log knows no more.
        Some(id) if matches!(problem.status, 500 | 503) => {
            format!("{said} (request {id} in the server's log)")
        }
        _ => said.clone(),
    }
}

fn remark(text: &str) -> String {
    if text.is_empty() {
        "; is it a kanade server?".into()
    } else {
        format!(": {text}")
    }
}
