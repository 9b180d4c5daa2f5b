//! Gives every request an id and logs it once, with what went wrong and why.

use std::time::Instant;

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;
use uuid::Uuid;

use crate::{accept::Peer, problem::Problem};

/// Under which a caller may give a request id, and finds it in the answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;
/// Asked by machines every few seconds.
const PROBES: [&str; 3] = ["/health", "/livez", "/readyz"];

/// The only place where requests are logged.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let header = HeaderValue::try_from(&id).expect("checked to be visible characters");
    request.headers_mut().insert(REQUEST_ID, header.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<Peer>().copied();
    let span = tracing::info_span!("request", %id);

    let mut response = next.run(request).instrument(span).await;

    response.headers_mut().insert(REQUEST_ID, header);
    let status = response.status().as_u16();
    let peer = peer.map(tracing::field::display);
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.body(Some(&id));
        let error = problem.cause().unwrap_or(problem.detail());
        if response.status().is_server_error() {
            tracing::error!(%id, %method, path, status, ms, peer, error, "request failed");
        } else {
            tracing::info!(%id, %method, path, status, ms, peer, error, "request refused");
        }
    } else if PROBES.contains(&path.as_str()) {
        tracing::debug!(%id, %method, path, status, ms, peer, "request");
    } else {
        tracing::info!(%id, %method, path, status, ms, peer, "request");
    }
    response
}

/// The caller's own id if it fits a log line, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_that_fits_a_log_line_is_taken_over() {
        let given = |id: &[u8]| {
            let value = HeaderValue::from_bytes(id).unwrap();
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        assert_eq!(given(b"abc-123"), "abc-123");
        for odd in [&b""[..], b"with space", b"\xff", &[b'x'; 129]] {
            assert!(given(odd).parse::<Uuid>().is_ok(), "{odd:?}");
        }
    }
}
