//! How a command fails: what is told, and with which exit code it ends.

use std::{
    error::Error as _,
    io::{self, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use kanade_client::Error;
use kanade_model::Invalid;

/// What a command returns.
pub(super) type Done = Result<(), Failure>;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command or its input is wrong; nothing was sent.
    Usage(String),
    /// It was tried and failed.
    Failed(String),
    /// It was done, runs did not succeed, and that has been told.
    Unsuccessful,
    /// The server cannot be asked or says no.
    Server(Error),
    /// The answer cannot be written.
    Output(io::Error),
    /// Ctrl-C while watching; what goes on, and how to stop it.
    Interrupted(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Invalid> for Failure {
    fn from(error: Invalid) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// Puts what was being done in front of what is told.
    pub(super) fn within(self, what: &str) -> Self {
        match self {
            Self::Usage(text) => Self::Usage(format!("{what}: {text}")),
            Self::Failed(text) => Self::Failed(format!("{what}: {text}")),
            Self::Server(error) if code(&error) == 2 => Self::Usage(format!("{what}: {}", told(&error))),
            Self::Server(error) => Self::Failed(format!("{what}: {}", told(&error))),
            other => other,
        }
    }

    /// Tells on stderr, in one line, and returns the exit code.
    pub(super) fn report(&self, colors: bool) -> ExitCode {
        if let Some(message) = self.message() {
            let red = if colors {
                AnsiColor::Red.on_default().bold()
            } else {
                Style::new()
            };
            // Nobody is left to tell when this cannot be written either.
            drop(writeln!(io::stderr(), "{red}kanade:{red:#} {message}"));
        }
        ExitCode::from(self.code())
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Usage(text) | Self::Failed(text) | Self::Interrupted(text) => Some(text.clone()),
            Self::Server(error) => Some(told(error)),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(format!("cannot write the answer: {error}")),
            Self::Unsuccessful => None,
        }
    }

    fn code(&self) -> u8 {
        match self {
            // Whoever reads has seen enough: `kanade results list | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed(_) | Self::Unsuccessful | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Server(error) => code(error),
            Self::Interrupted(_) => 130,
        }
    }
}

fn code(error: &Error) -> u8 {
    let refused = matches!(
        error.status().map(|status| status.as_u16()),
        Some(400 | 413 | 414 | 415 | 422)
    );
    if refused || matches!(error, Error::Argument(_) | Error::Address(_)) {
        2
    } else {
        1
    }
}

/// The error, its innermost cause, and what to do about it, in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    if let Some(cause) = cause {
        text = format!("{text} ({cause})");
    }
    let text = match error.status().map(|status| status.as_u16()) {
        Some(401) => format!("{text}; give a token with --token, --token-file or KANADE_TOKEN"),
        Some(412) => format!("{text}; run the command again to see what it is now"),
        _ => text,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::api::Problem;

    fn problem(status: u16) -> Failure {
        let problem = Problem {
            kind: "about:blank".into(),
            title: "x".into(),
            status,
            detail: "it is so".into(),
            field: None,
            request_id: None,
        };
        let status = kanade_client::StatusCode::from_u16(status).unwrap();
        Failure::Server(Error::Problem {
            status,
            problem: Box::new(problem),
        })
    }

    #[test]
    fn bad_input_and_failed_work_have_their_own_codes() {
        for (failure, code) in [
            (Failure::Usage("x".into()), 2),
            (Failure::Failed("x".into()), 1),
            (Failure::Unsuccessful, 1),
            (problem(400), 2),
            (problem(422), 2),
            (problem(404), 1),
            (problem(409), 1),
            (problem(503), 1),
            (Failure::Server(Error::Address("x".into())), 2),
            (problem(400).within("job `x`"), 2),
            (problem(409).within("job `x`"), 1),
            (Failure::Output(io::ErrorKind::StorageFull.into()), 1),
            (Failure::Interrupted("x".into()), 130),
        ] {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.code(), failure.message()), (0, None));
    }

    #[test]
    fn a_missing_token_is_told_with_where_it_goes() {
        let message = problem(401).message().unwrap();
        assert!(
            message.starts_with("it is so") && message.contains("KANADE_TOKEN"),
            "{message}"
        );
        assert_eq!(
            problem(409).within("job `x`").message().unwrap(),
            "job `x`: it is so"
        );
    }
}
