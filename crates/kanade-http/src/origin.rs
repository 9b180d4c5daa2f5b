//! Without authentication being on this machine is all that is asked of a caller, and every web page that is open in
//! a browser here is. So requests must be addressed to loopback (a foreign name may have been rebound to it), and must
//! not come from a page of another origin.

use std::net::IpAddr;

use axum::{extract::Request, middleware::Next, response::Response};
use http::{
    HeaderMap, StatusCode, Uri,
    header::{HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};

use crate::{accept::Peer, problem::Problem};

const WHY: &str = "a server without authentication only answers callers on its own machine; see `auth.mode`";
/// What proxies add. Whoever comes through one on this machine looks as if he were here.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Lets a request through that comes from this machine, is addressed to it, and comes from no other site.
pub(crate) async fn require_loopback(request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    require_local(&parts, WHY)?;
    if let Some(page) = foreign_page(&parts.uri, &parts.headers) {
        let detail = format!("the page `{page}` is of another origin: {WHY}");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Refuses a request that does not come from this machine or is not addressed to it; `why` says why that matters.
pub(crate) fn require_local(request: &Parts, why: &str) -> Result<(), Problem> {
    let peer = request.extensions.get::<Peer>();
    match stranger(peer, &request.uri, &request.headers) {
        None => Ok(()),
        Some(stranger) => Err(Problem::new(StatusCode::FORBIDDEN, format!("{stranger}: {why}"))),
    }
}

fn stranger(peer: Option<&Peer>, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if peer.is_some_and(|peer| !peer.is_loopback()) {
        return Some("this request comes from another machine".to_owned());
    }
    if let Some(header) = FORWARDED.iter().find(|header| headers.contains_key(**header)) {
        return Some(format!(
            "this request comes through a proxy, as its header `{header}` says"
        ));
    }
    let host = host(uri, headers)?;
    (!is_loopback(host)).then(|| format!("`{host}` is not a name of this machine's loopback"))
}

fn foreign_page<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or_default();
    let own = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    (own.is_none() || own != host(uri, headers)).then_some(origin)
}

/// Whom a request is addressed to.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    host.or(uri.authority().map(Authority::as_str))
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
            let uri = Uri::from_static("/api/jobs");
            let stranger = stranger(None, &uri, &headers);
            let page = foreign_page(&uri, &headers);
            assert_eq!(
                stranger.is_none() && page.is_none(),
                welcome,
                "host {host:?}, origin {origin:?}: {stranger:?} {page:?}"
            );
        }
    }

    #[test]
    fn who_is_elsewhere_is_not_answered_whatever_he_says() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost:8080".parse().unwrap());
        for (peer, welcome) in [
            ("127.0.0.1:5000", true),
            ("127.8.0.1:5000", true),
            ("[::1]:5000", true),
            ("[::ffff:127.0.0.1]:5000", true),
            ("192.168.0.7:5000", false),
            ("[::ffff:192.168.0.7]:5000", false),
            ("[fe80::1]:5000", false),
        ] {
            let peer_of = Peer(peer.parse().unwrap());
            let stranger = stranger(Some(&peer_of), &Uri::from_static("/"), &headers);
            assert_eq!(stranger.is_none(), welcome, "{peer}");
        }
    }

    #[test]
    fn who_comes_through_a_proxy_on_this_machine_is_not_on_it() {
        for header in FORWARDED {
            let mut headers = HeaderMap::new();
            headers.insert(header, "203.0.113.9".parse().unwrap());
            let stranger = stranger(None, &Uri::from_static("/"), &headers).unwrap();
            assert!(stranger.contains(header), "{stranger}");
        }
    }
}
