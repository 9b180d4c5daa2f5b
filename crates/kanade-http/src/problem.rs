//! Errors as problem details (RFC 9457): which status a failure has, what the caller is told, and what only the log is
//! told. The one place where a kind of failure becomes a status.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use kanade_core::Error;
use kanade_model::{Invalid, api};
use kanade_ports::{BusError, BusErrorKind, ErrorKind, StoreError};

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// What a caller is asked to wait before it tries again, in seconds.
const RETRY_AFTER_SECS: u32 = 5;

/// An answer that says what went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
    /// What caused it, for the log only.
    cause: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            detail: detail.into(),
            field: None,
            header: None,
            cause: None,
        }))
    }

    /// A request that cannot be understood.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A request without (or with a wrong) token. `error` is one of RFC 6750's words.
    pub(crate) fn unauthorized(detail: &str, error: Option<&'static str>) -> Self {
        let challenge = match error {
            None => HeaderValue::from_static("Bearer realm=\"kanade\""),
            Some(error) => HeaderValue::try_from(format!("Bearer realm=\"kanade\", error=\"{error}\""))
                .expect("made of visible characters"),
        };
        Self::new(StatusCode::UNAUTHORIZED, detail).with_header(WWW_AUTHENTICATE, challenge)
    }

    /// Something that works again after a while.
    pub(crate) fn try_again(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(RETRY_AFTER, RETRY_AFTER_SECS.into())
    }

    /// A bug of the server.
    pub(crate) fn panicked(message: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed while it handled this request; its log says more under the request id",
        )
        .caused_by(format!("panic: {message}"))
    }

    #[must_use]
    pub(crate) fn with_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    #[must_use]
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    fn caused_by(mut self, report: String) -> Self {
        self.0.cause = Some(report).filter(|report| *report != self.0.detail);
        self
    }

    /// What caused it, if the caller is not told.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// What the caller is told.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The body, with the id under which the log has it.
    pub(crate) fn body(&self, request_id: Option<&str>) -> Body {
        let problem = api::Problem {
            kind: "about:blank".to_owned(),
            title: self.0.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.0.status.as_u16(),
            detail: self.0.detail.clone(),
            field: self.0.field.clone(),
            request_id: request_id.map(ToOwned::to_owned),
        };
        let text = serde_json::to_vec(&problem).expect("a problem has string keys only");
        Body::from(Bytes::from(text))
    }
}

impl IntoResponse for Problem {
    /// Leaves itself in the response's extensions, for the one place that logs.
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body(None));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some((name, value)) = &self.0.header {
            headers.insert(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let report = error.report();
        let detail = error.to_string();
        let problem = match &error {
            Error::Invalid(invalid) => Self::bad_request(detail).with_field(&invalid.field),
            Error::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, detail),
            Error::Referenced { .. }
            | Error::Targeted { .. }
            | Error::Revoked(_)
            | Error::Standing { .. }
            | Error::Changed { .. } => Self::new(StatusCode::CONFLICT, detail),
            Error::KeyReused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            Error::TimedOut(_) => Self::new(StatusCode::REQUEST_TIMEOUT, detail),
            Error::NobodyListens(_) => Self::new(StatusCode::BAD_GATEWAY, detail),
            Error::DeleteFailedPostRevoke { source, .. } => of_store(source.kind(), detail),
            Error::Store(error) => of_store(error.kind(), detail),
            Error::Bus(error) => of_bus(error.kind(), detail),
        };
        problem.caused_by(report)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        Error::from(error).into()
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Self {
        Error::from(error).into()
    }
}

fn of_store(kind: ErrorKind, detail: String) -> Problem {
    match kind {
        ErrorKind::Unavailable => Problem::try_again(detail),
        ErrorKind::Indeterminate => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{detail}; it may have been done, so look before you repeat it"),
        ),
        ErrorKind::NotFound => Problem::new(StatusCode::NOT_FOUND, detail),
        ErrorKind::AlreadyExists | ErrorKind::Conflict => Problem::new(StatusCode::CONFLICT, detail),
        ErrorKind::Corrupt | ErrorKind::Unsupported => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        }
    }
}

fn of_bus(kind: BusErrorKind, detail: String) -> Problem {
    match kind {
        BusErrorKind::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
        BusErrorKind::NoResponders
        | BusErrorKind::TimedOut
        | BusErrorKind::Unavailable
        | BusErrorKind::Refused => Problem::try_again(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: ErrorKind) -> Error {
        StoreError::new(kind, "write job `backup`")
            .because("SQLITE_FULL (13)")
            .into()
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let bus = |kind| Error::from(BusError::new(kind, "publish to kill.e-1"));
        let cases = [
            (Invalid::new("id", "x", "y").into(), 400),
            (
                Error::NotFound {
                    what: "job",
                    id: "x".into(),
                },
                404,
            ),
            (Error::Revoked("x".parse().unwrap()), 409),
            (
                Error::Referenced {
                    job: "x".parse().unwrap(),
                    schedule: "s".parse().unwrap(),
                },
                409,
            ),
            (
                Error::Changed {
                    what: "job",
                    id: "x".into(),
                },
                409,
            ),
            (
                Error::Targeted {
                    version: "1".parse().unwrap(),
                    attempt: "deleted",
                    scope: "the global configuration".into(),
                    advice: "wait",
                },
                409,
            ),
            (
                Error::Standing {
                    exec: "e-1".parse().unwrap(),
                    attempt: "resumed",
                    standing: "not paused",
                },
                409,
            ),
            (Error::KeyReused("k".into()), 422),
            (Error::TimedOut("late".into()), 408),
            (Error::NobodyListens("gone".into()), 502),
            (store(ErrorKind::Unavailable), 503),
            (store(ErrorKind::Indeterminate), 503),
            (store(ErrorKind::Corrupt), 500),
            (store(ErrorKind::Unsupported), 500),
            (store(ErrorKind::NotFound), 404),
            (store(ErrorKind::Conflict), 409),
            (store(ErrorKind::AlreadyExists), 409),
            (bus(BusErrorKind::TooLarge), 413),
            (bus(BusErrorKind::Unavailable), 503),
            (bus(BusErrorKind::TimedOut), 503),
            (bus(BusErrorKind::Refused), 503),
            (bus(BusErrorKind::NoResponders), 503),
        ];
        for (error, status) in cases {
            let text = format!("{error:?}");
            assert_eq!(Problem::from(error).0.status.as_u16(), status, "{text}");
        }
    }

    #[test]
    fn the_caller_is_told_what_failed_and_the_log_why() {
        let problem = Problem::from(store(ErrorKind::Unavailable));
        assert_eq!(
            problem.0.detail,
            "write job `backup`: the storage is not available"
        );
        assert!(problem.cause().unwrap().contains("SQLITE_FULL"));
        assert!(problem.into_response().headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn what_may_have_been_done_is_not_to_be_repeated_blindly() {
        let problem = Problem::from(store(ErrorKind::Indeterminate));
        assert!(
            problem.0.detail.contains("may have been done"),
            "{}",
            problem.0.detail
        );
        assert!(!problem.into_response().headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_failed_deletion_answers_as_its_cause_does() {
        for (kind, status) in [(ErrorKind::Unavailable, 503), (ErrorKind::Corrupt, 500)] {
            let error = Error::DeleteFailedPostRevoke {
                job: "backup".parse().unwrap(),
                source: StoreError::new(kind, "delete job `backup`"),
            };
            let problem = Problem::from(error);
            assert_eq!(problem.0.status.as_u16(), status);
            assert!(problem.0.detail.contains("kanade unrevoke backup"));
        }
    }
}
