//! Without authentication being on this machine is all that is asked of a caller, and every web page that is open in
//! a browser here is. So requests must be addressed to loopback (a foreign name may have been rebound to it), and must
//! not come from a page of another origin.

use std::net::IpAddr;

use axum::{extract::Request, middleware::Next, response::Response};
use http::{
    HeaderMap, StatusCode, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::{accept::Peer, problem::Problem};

const WHY: &str = "a server without authentication only answers callers on its own machine; see `auth.mode`";

/// Lets a request through that is addressed to loopback and comes from no other site.
pub(crate) async fn require_loopback(request: Request, next: Next) -> Result<Response, Problem> {
    let from_afar = request
        .extensions()
        .get::<Peer>()
        .is_some_and(|peer| !peer.is_loopback());
    if from_afar {
        return Err(Problem::new(StatusCode::FORBIDDEN, WHY));
    }
    match stranger(request.uri(), request.headers()) {
        Some(detail) => Err(Problem::new(StatusCode::FORBIDDEN, detail)),
        None => Ok(next.run(request).await),
    }
}

fn stranger(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    let host = host.or(uri.authority().map(Authority::as_str));
    if let Some(host) = host
        && !is_loopback(host)
    {
        return Some(format!(
            "`{host}` is not a name of this machine's loopback: {WHY}"
        ));
    }
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or_default();
    let own = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    (own.is_none() || own != host).then(|| format!("the page `{origin}` is of another origin: {WHY}"))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_answered_and_no_foreign_page() {
        for (host, origin, welcome) in [
            ("127.0.0.1:8080", None, true),
            ("[::1]:8080", None, true),
            ("localhost", None, true),
            ("kanade.localhost:8080", None, true),
            ("evil.example:8080", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("192.168.0.7:8080", None, false),
            ("localhost.evil.example", None, false),
            ("", None, false),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("localhost:8080", Some("http://localhost:9090"), false),
            ("localhost:8080", Some("https://evil.example"), false),
            ("localhost:8080", Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let refused = stranger(&Uri::from_static("/api/jobs"), &headers);
            assert_eq!(
                refused.is_none(),
                welcome,
                "host {host:?}, origin {origin:?}: {refused:?}"
            );
        }
    }
}
