//! Programs on their way to the server and back, and how the fleet is.

use std::io;

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use futures::{TryStreamExt, stream};
use kanade_client::Error;
use kanade_model::api::FleetStatus;
use serde_json::json;

use crate::double::client_of;

fn pieces(text: &'static str) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter(
        text.as_bytes()
            .chunks(3)
            .map(|piece| Ok(Bytes::from_static(piece))),
    )
}

#[tokio::test]
async fn a_program_is_sent_as_a_form_whose_length_is_known() {
    let router = Router::new().route(
        "/api/agents/publish",
        post(|headers: HeaderMap, body: String| async move {
            let media_type = headers[header::CONTENT_TYPE].to_str().unwrap();
            assert!(
                media_type.starts_with("multipart/form-data; boundary="),
                "{media_type}"
            );
            assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
            let version = body.find("name=\"version\"\r\n\r\n0.31.0\r\n").unwrap();
            let file = body.find("name=\"file\"; filename=\"kanade\"").unwrap();
            assert!(
                version < file && body.contains("\r\n\r\nthe program\r\n"),
                "{body}"
            );
            Json(json!({ "version": "0.31.0", "size": 11, "digest": "SHA-256=x" }))
        }),
    );
    let client = client_of(router).await;
    let version = "0.31.0".parse().unwrap();
    let published = client
        .publish(pieces("the program"), 11, Some(&version))
        .await
        .unwrap();
    assert_eq!((published.size, published.digest.as_str()), (11, "SHA-256=x"));
}

#[tokio::test]
async fn a_program_that_cannot_be_read_is_not_published() {
    let router = Router::new().route(
        "/api/agents/publish",
        post(|_: Bytes| async { StatusCode::INTERNAL_SERVER_ERROR }),
    );
    let client = client_of(router).await;
    let broken = stream::iter([Ok(Bytes::from("half")), Err(io::Error::other("the disk is gone"))]);
    let error = client.publish(broken, 1000, None).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_release_is_read_as_it_comes() {
    let router = Router::new().route("/api/agents/releases/0.31.0", get(|| async { "the program" }));
    let client = client_of(router).await;
    let (size, program) = client.release(&"0.31.0".parse().unwrap()).await.unwrap();
    let program: Vec<Bytes> = program.try_collect().await.unwrap();
    assert_eq!((size, program.concat().as_slice()), (11, &b"the program"[..]));
}

#[tokio::test]
async fn a_fleet_that_is_not_well_is_an_answer() {
    let health = json!({
        "status": "degraded", "agents": { "known": 2, "active": 0, "stale": 2 },
        "jetstream": { "all_ok": false, "healthy": 12, "total": 13, "missing": ["jobs"] },
        "recent_results": { "window_hours": 24, "total": 7, "failed": 1 },
        "observed_at": "2026-05-01T08:00:00Z"
    });
    let router = Router::new().route(
        "/api/health/fleet",
        get(|| async move { (StatusCode::SERVICE_UNAVAILABLE, Json(health)) }),
    );
    let client = client_of(router).await;
    let health = client.fleet_health().await.unwrap();
    assert_eq!(health.status, FleetStatus::Degraded);
    assert_eq!(health.jetstream.missing, ["jobs"]);
}
