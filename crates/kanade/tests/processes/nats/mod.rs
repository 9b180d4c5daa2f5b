//! A server whose catalog and bus are NATS, as a fleet of 0.30 has them.

mod agent;
mod doctor;
mod documents;
mod habits;
mod held;
mod old_agent;
mod outage;
mod reports;
mod takeover;

use std::time::{Duration, Instant};

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use kanade_nats_testing::Server as NatsServer;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::support::{DEADLINE, Place, Server};

/// A broker and the place of a server that uses it.
pub(crate) struct Deployment {
    pub(crate) broker: NatsServer,
    pub(crate) place: Place,
}

impl Deployment {
    /// An empty broker, and a server that has never run.
    async fn new() -> Self {
        Self::on(NatsServer::start().await)
    }

    /// The same with more settings of `[execution]`.
    async fn with(execution: &str) -> Self {
        let broker = NatsServer::start().await;
        let place = Self::place_with(&broker.url(), execution);
        Self { broker, place }
    }

    fn on(broker: NatsServer) -> Self {
        let place = Self::place(&broker.url());
        Self { broker, place }
    }

    /// A place for a server that finds the broker there.
    fn place(url: &str) -> Place {
        Self::place_with(url, "")
    }

    fn place_with(url: &str, execution: &str) -> Place {
        let more = format!(
            "[bus]\nkind = 'nats'\n[nats]\nurl = '{url}'\n[server]\nbind = '127.0.0.1:0'\n[execution]\nresend_after = '1s'\n{execution}\
             [kill]\nrepeat = '500ms'\nwindow = '3s'\n[log]\nlevel = 'info,kanade_http=warn'\n"
        );
        Place::without_agent("sqlite", "nats", &more)
    }

    async fn client(&self) -> Client {
        self.broker.stranger().await
    }

    async fn jetstream(&self) -> Context {
        jetstream::new(self.client().await)
    }
}

/// What the server answers to a question.
async fn get(server: &Server, path: &str) -> Value {
    let response = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn post(server: &Server, path: &str, body: &Value) -> Response {
    let client = reqwest::Client::new();
    let sent = client
        .post(format!("{}{path}", server.url))
        .json(body)
        .send()
        .await;
    sent.unwrap()
}

/// What a request that must be done is answered with.
async fn done(server: &Server, path: &str, body: &Value) -> Value {
    let response = post(server, path, body).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Publishes what a stream keeps.
async fn keep(jetstream: &Context, subject: &str, payload: impl Into<bytes::Bytes>) {
    let sent = jetstream.publish(subject.to_owned(), payload.into()).await;
    sent.unwrap().await.unwrap();
}

/// Waits until something holds.
async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(DEADLINE, what, &mut holds).await;
}

async fn within(limit: Duration, what: &str, holds: &mut impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
