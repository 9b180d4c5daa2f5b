//! Live events: told with every gap, over any number of connections.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::double::{client_of, soon};
use axum::{
    Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response, Sse, sse},
    routing::get,
};
use futures::{StreamExt, stream};
use kanade_client::{Client, Error, EventFilter, EventKind, Update};
use kanade_model::api::LiveEvent;

fn heartbeat(pc: &str) -> sse::Event {
    let data = format!(r#"{{"type":"agent","pc_id":"{pc}","last_heartbeat":"2026-05-01T08:30:00Z"}}"#);
    sse::Event::default().event("agent").data(data)
}

fn sending(events: Vec<sse::Event>) -> Response {
    Sse::new(stream::iter(events.into_iter().map(Ok::<_, Infallible>))).into_response()
}

fn named(update: Option<Result<Update, Error>>) -> String {
    match update {
        Some(Ok(Update::Connected)) => "connected".into(),
        Some(Ok(Update::Disconnected(error))) => {
            format!(
                "disconnected {}",
                error.status().map_or("-".into(), |status| status.to_string())
            )
        }
        Some(Ok(Update::Event(LiveEvent::Agent { pc_id, .. }))) => format!("agent {pc_id}"),
        Some(Ok(Update::Event(event))) => format!("{event:?}"),
        Some(Err(error)) => format!("error {error}"),
        None => "end".into(),
    }
}

async fn updates(client: &Client, filter: &EventFilter, count: usize) -> Vec<String> {
    let mut events = client.events(filter);
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(named(soon(events.next()).await));
    }
    seen
}

#[tokio::test]
async fn a_broken_connection_is_told_and_made_again() {
    let connections = Arc::new(AtomicU32::new(0));
    let count = connections.clone();
    let events = move || async move {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => sending(vec![
                heartbeat("first"),
                sse::Event::default().comment("still here"),
            ]),
            1 => (StatusCode::SERVICE_UNAVAILABLE, "starting").into_response(),
            _ => Sse::new(stream::iter([Ok::<_, Infallible>(heartbeat("second"))]).chain(stream::pending()))
                .into_response(),
        }
    };
    let client = client_of(Router::new().route("/api/events", get(events))).await;
    let seen = updates(&client, &EventFilter::default(), 6).await;
    assert_eq!(
        seen,
        [
            "connected",
            "agent first",
            "disconnected -",
            "disconnected 503 Service Unavailable",
            "connected",
            "agent second"
        ]
    );
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refusal_ends_the_stream() {
    let client =
        client_of(Router::new().fallback(|| async { (StatusCode::UNAUTHORIZED, "who are you?") })).await;
    let seen = updates(&client, &EventFilter::default(), 3).await;
    assert!(
        seen[0].starts_with("error") && seen[0].contains("who are you?"),
        "{seen:?}"
    );
    assert_eq!(seen[1..], ["end", "end"], "and stays ended");
}

#[tokio::test]
async fn a_page_instead_of_events_ends_the_stream() {
    let client = client_of(Router::new().fallback(|| async { "<html>" })).await;
    let seen = updates(&client, &EventFilter::default(), 2).await;
    assert!(seen[0].contains("but not with events"), "{seen:?}");
    assert_eq!(seen[1], "end");
}

#[tokio::test]
async fn events_of_a_newer_server_are_passed_over() {
    let newer = sse::Event::default()
        .event("weather")
        .data(r#"{"type":"weather"}"#);
    let lagged = sse::Event::default()
        .event("lagged")
        .data(r#"{"type":"lagged","missed":7}"#);
    let events = vec![newer, lagged, heartbeat("pc")];
    let client =
        client_of(Router::new().route("/api/events", get(move || async move { sending(events) }))).await;
    let seen = updates(&client, &EventFilter::default(), 3).await;
    assert_eq!(seen, ["connected", "Lagged { missed: 7 }", "agent pc"]);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_ends_the_stream() {
    let broken = sse::Event::default().event("run").data(r#"{"type":"run"}"#);
    let events = vec![broken];
    let client =
        client_of(Router::new().route("/api/events", get(move || async move { sending(events) }))).await;
    let seen = updates(&client, &EventFilter::default(), 3).await;
    assert!(seen[1].starts_with("error cannot read"), "{seen:?}");
    assert_eq!(seen[2], "end");
}

#[tokio::test]
async fn the_filter_is_sent() {
    let events =
        |RawQuery(query): RawQuery| async move { sending(vec![heartbeat(&query.unwrap_or_default())]) };
    let client = client_of(Router::new().route("/api/events", get(events))).await;
    let filter = EventFilter {
        kinds: vec![EventKind::Execution, EventKind::Run],
        exec_id: Some("e-1".parse().unwrap()),
    };
    assert_eq!(
        updates(&client, &filter, 2).await[1],
        "agent types=execution%2Crun&exec_id=e-1"
    );
    assert_eq!(
        updates(
            &client,
            &EventFilter {
                kinds: vec![EventKind::Agent],
                ..Default::default()
            },
            2
        )
        .await[1],
        "agent types=agent"
    );
}
