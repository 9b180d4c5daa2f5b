//! The output of a run: followed over any number of connections, to its end and no further.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Sse, sse},
    routing::get,
};
use futures::{StreamExt, stream};
use kanade_client::{Client, Error, OutputUpdate};
use kanade_model::{ResultId, api::OutputEvent};

use crate::double::{client_of, soon};

const PATH: &str = "/api/results/00000000-0000-0000-0000-000000000001/output";

fn run() -> ResultId {
    "00000000-0000-0000-0000-000000000001".parse().expect("an id")
}

fn output(id: &str, text: &str) -> sse::Event {
    let data = format!(r#"{{"type":"output","seq":0,"stream":"stdout","text":"{text}","dropped":0}}"#);
    sse::Event::default().event("output").id(id).data(data)
}

fn end() -> sse::Event {
    let data = format!(
        r#"{{"type":"end","result_id":"{}","state":"failed","exit_code":3,"finished_at":null,"complete":true}}"#,
        run()
    );
    sse::Event::default().event("end").id("end").data(data)
}

fn named(update: Option<Result<OutputUpdate, Error>>) -> String {
    match update {
        Some(Ok(OutputUpdate::Connected)) => "connected".into(),
        Some(Ok(OutputUpdate::Disconnected(_))) => "disconnected".into(),
        Some(Ok(OutputUpdate::Event(OutputEvent::Output { text, .. }))) => text,
        Some(Ok(OutputUpdate::Event(OutputEvent::End { exit_code, .. }))) => format!("end {exit_code:?}"),
        Some(Err(error)) => format!("error {error}"),
        None => "over".into(),
    }
}

async fn updates(client: &Client, count: usize) -> Vec<String> {
    let mut updates = client.output(run());
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(named(soon(updates.next()).await));
    }
    seen
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_was() {
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let answer = move |headers: HeaderMap| async move {
        let last = headers
            .get("last-event-id")
            .map(|id| id.to_str().unwrap().to_owned());
        let mut asked = heard.lock().unwrap();
        asked.push(last);
        let events = match asked.len() {
            1 => vec![output("0.4.0", "one"), output("1.8.0", "two")],
            2 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => vec![
                sse::Event::default().event("weather").data("{}"),
                output("2.12.0", "three"),
                end(),
            ],
        };
        Sse::new(stream::iter(events.into_iter().map(Ok::<_, Infallible>))).into_response()
    };
    let client = client_of(Router::new().route(PATH, get(answer))).await;
    assert_eq!(
        updates(&client, 10).await,
        [
            "connected",
            "one",
            "two",
            "disconnected",
            "disconnected",
            "connected",
            "three",
            "end Some(3)",
            "over",
            "over"
        ]
    );
    let there = || Some("1.8.0".to_owned());
    assert_eq!(*asked.lock().unwrap(), [None, there(), there()]);
}

#[tokio::test]
async fn an_unknown_run_and_what_cannot_be_read_end_it() {
    let client = client_of(Router::new()).await;
    let seen = updates(&client, 2).await;
    assert!(seen[0].starts_with("error") && seen[1] == "over", "{seen:?}");
    let broken = || async {
        let event = sse::Event::default().event("end").data("{}");
        Sse::new(stream::iter([Ok::<_, Infallible>(event)]))
    };
    let client = client_of(Router::new().route(PATH, get(broken))).await;
    let seen = updates(&client, 3).await;
    assert!(
        seen[1].starts_with("error cannot read") && seen[2] == "over",
        "{seen:?}"
    );
}
