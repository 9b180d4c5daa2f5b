//! Which file answers a request, and with which headers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::encoding;

const INDEX: &str = "index.html";
/// Where the build puts what bears a hash of its content in its name.
const HASHED: &str = "assets/";

/// Scripts come from this server only, and never from within a page. The component library and the editor write their
/// styles at run time; a style can deface the page and no more.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

const UNBUILT: &str = include_str!("unbuilt.html");

/// The answer to a request, out of these files.
pub(crate) fn to<Files: RustEmbed>(request: &Parts) -> Response {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let path = request.uri.path().trim_start_matches('/');
    if !reads || path == "api" || path.starts_with("api/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let named = if path.is_empty() { INDEX } else { path };
    let mut response = match Files::get(named) {
        Some(file) => send::<Files>(named, file, &request.headers),
        // An old page must not get another page for a script that is gone. Any other address is one within the page,
        // which knows whether there is something at it.
        None if path.starts_with(HASHED) || !wants_a_page(&request.headers) => {
            return StatusCode::NOT_FOUND.into_response();
        }
        None => match Files::get(INDEX) {
            Some(file) => send::<Files>(INDEX, file, &request.headers),
            None => unbuilt(),
        },
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}

fn send<Files: RustEmbed>(name: &str, file: EmbeddedFile, wanted: &HeaderMap) -> Response {
    let (caching, tag) = if name.starts_with(HASHED) {
        (FOREVER, None)
    } else {
        (ASK_EACH_TIME, Some(tag(&file.metadata.sha256_hash())))
    };
    let mut headers = HeaderMap::from_iter([
        (CACHE_CONTROL, caching),
        (VARY, HeaderValue::from_static("accept-encoding")),
    ]);
    if let Some(tag) = tag {
        let known = wanted.get(IF_NONE_MATCH).is_some_and(|known| names(known, &tag));
        headers.insert(ETAG, tag);
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
    }
    headers.insert(CONTENT_TYPE, media_type(&file));
    let body = match encoding::packed::<Files>(name, wanted) {
        Some((encoding, packed)) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            packed.data
        }
        None => file.data,
    };
    (headers, Body::from(body)).into_response()
}

fn unbuilt() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CACHE_CONTROL, NEVER),
    ];
    (StatusCode::NOT_IMPLEMENTED, headers, UNBUILT).into_response()
}

/// Weak, since it stands for the content and not for how it is packed.
fn tag(hash: &[u8; 32]) -> HeaderValue {
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("W/\"{digits}\"")).expect("hexadecimal digits and quotes")
}

/// Whether an `If-None-Match` names this tag.
fn names(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else {
        return false;
    };
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known
        .split(',')
        .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

fn media_type(file: &EmbeddedFile) -> HeaderValue {
    let guessed = file.metadata.mimetype();
    let named = if guessed.starts_with("text/") {
        HeaderValue::try_from(format!("{guessed}; charset=utf-8"))
    } else {
        HeaderValue::try_from(guessed)
    };
    named.unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Whether a browser asks for something to show, and not a script for data.
fn wants_a_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}
