//! What a browser gets, asked through the router.

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use rust_embed::RustEmbed;
use tower::ServiceExt as _;

use crate::serving;

/// A build in small.
#[derive(RustEmbed)]
#[folder = "tests/build"]
struct Built;

/// No build at all.
#[derive(RustEmbed)]
#[folder = "tests/nothing-was-built"]
#[allow_missing = true]
struct Nothing;

const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn ask(router: Router, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

async fn get(path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(serving::<Built>(), Method::GET, path, headers).await
}

#[tokio::test]
async fn the_page_is_asked_for_each_time_and_sent_when_it_changed() {
    let page = get("/", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-cache");
    assert!(page.text().contains("<title>kanade</title>"));

    let tag = page.header("etag");
    assert!(tag.starts_with("W/\""), "{tag}");
    for known in [tag, "*", &format!("\"other\", {tag}")] {
        let again = get("/", &[("if-none-match", known)]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{known}");
        assert!(again.body.is_empty());
        assert_eq!(again.header("etag"), tag);
    }
    let other = get("/", &[("if-none-match", "W/\"other\"")]).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn what_bears_a_hash_is_kept_for_good() {
    let script = get("/assets/app-1a2b3c.js", &[]).await;
    assert_eq!(script.status, StatusCode::OK);
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(
        script.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    let icon = get("/favicon.svg", &[]).await;
    assert_eq!(icon.header("content-type"), "image/svg+xml");
    assert_eq!(icon.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn a_packed_file_is_sent_to_whoever_takes_it() {
    for (accepted, encoding, body) in [
        ("gzip, deflate, br", "br", "packed by brotli\n"),
        ("gzip, br;q=0", "gzip", "packed by gzip\n"),
    ] {
        let script = get("/assets/app-1a2b3c.js", &[("accept-encoding", accepted)]).await;
        assert_eq!(script.header("content-encoding"), encoding);
        assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(script.header("vary"), "accept-encoding");
        assert_eq!(script.text(), body);
    }
    for headers in [
        &[][..],
        &[("accept-encoding", "identity")],
        &[("accept-encoding", "zstd")],
    ] {
        let script = get("/assets/app-1a2b3c.js", headers).await;
        assert_eq!(script.header("content-encoding"), "");
        assert_eq!(script.text(), "document.title = \"kanade\";\n");
    }
}

#[tokio::test]
async fn an_address_within_the_page_is_answered_with_the_page() {
    for path in ["/executions/01", "/agents/pc.example", "/jobs?q=a", "/a/b/c.html"] {
        let page = get(path, &[("accept", PAGE)]).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.header("cache-control"), "no-cache", "{path}");
        assert!(page.text().contains("<title>kanade</title>"), "{path}");
        assert_eq!(get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn neither_the_api_nor_a_script_that_is_gone_nor_a_write_is_answered_with_the_page() {
    for (method, path) in [
        (Method::GET, "/api"),
        (Method::GET, "/api/nothing"),
        (Method::GET, "/assets/app-gone.js"),
        (Method::GET, "/assets/../../../Cargo.toml"),
        (Method::POST, "/jobs"),
        (Method::DELETE, "/"),
    ] {
        let answer = ask(serving::<Built>(), method.clone(), path, &[("accept", PAGE)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert!(answer.body.is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn no_script_runs_that_this_server_has_not_sent() {
    for answer in [
        get("/", &[]).await,
        get("/assets/app-1a2b3c.js", &[]).await,
        get("/jobs", &[("accept", PAGE)]).await,
        ask(serving::<Nothing>(), Method::GET, "/", &[("accept", PAGE)]).await,
    ] {
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
}

#[tokio::test]
async fn a_server_without_the_page_says_which_command_builds_it() {
    for path in ["/", "/jobs"] {
        let page = ask(serving::<Nothing>(), Method::GET, path, &[("accept", PAGE)]).await;
        assert_eq!(page.status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.text().contains("cargo xtask dashboard"), "{}", page.text());
    }
    let data = ask(serving::<Nothing>(), Method::GET, "/", &[]).await;
    assert_eq!(data.status, StatusCode::NOT_FOUND);
}
