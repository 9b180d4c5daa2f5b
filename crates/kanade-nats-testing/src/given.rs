//! A server that somebody else started: used by one test at a time, and left as it was found, which is empty.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_nats::Client;
use serde_json::{Value, json};

use super::js;

/// The stream that says that a test uses the server. Of those that try to create it one succeeds.
const CLAIM: &str = "KANADE_TESTS";
/// By then a test has ended one way or another.
const STALE: Duration = Duration::from_secs(300);
/// By then the tests before this one have ended.
const TURN: Duration = Duration::from_secs(90);

/// A claim to the server.
pub struct Given {
    url: String,
}

impl Given {
    pub async fn claim(url: String) -> Self {
        let client = async_nats::connect(&url).await;
        let client = client.unwrap_or_else(|error| panic!("KANADE_TEST_NATS_URL: {url}: {error}"));
        let deadline = Instant::now() + TURN;
        // An identical stream may be created twice, so each claim differs.
        let description = format!("{} {}", now(), uuid::Uuid::new_v4());
        let stream = json!({"name": CLAIM, "subjects": ["kanade.tests"], "description": description, "storage": "memory"});
        loop {
            let made = js(&client, &format!("STREAM.CREATE.{CLAIM}"), stream.clone()).await;
            if made.get("error").is_none() {
                break;
            }
            let there = js(&client, &format!("STREAM.INFO.{CLAIM}"), json!({})).await;
            let since = there["config"]["description"]
                .as_str()
                .and_then(|text| text.split(' ').next()?.parse().ok());
            if since.is_some_and(|since: u64| since + STALE.as_secs() < now()) {
                clear(&client).await;
            }
            assert!(Instant::now() < deadline, "{url} is not free: {made}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let streams = names(&client).await;
        if streams != [CLAIM] {
            js(&client, &format!("STREAM.DELETE.{CLAIM}"), json!({})).await;
            panic!("{url} holds {streams:?}: tests need a server with no streams on it");
        }
        Self { url }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let url = self.url.clone();
        let cleared = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                if let Ok(client) = async_nats::connect(&url).await {
                    clear(&client).await;
                }
            });
        });
        let _ = cleared.join();
    }
}

/// Deletes every stream, the claim last.
async fn clear(client: &Client) {
    let mut streams = names(client).await;
    streams.sort_by_key(|name| name == CLAIM);
    for name in streams {
        js(client, &format!("STREAM.DELETE.{name}"), json!({})).await;
    }
}

async fn names(client: &Client) -> Vec<String> {
    let answer = js(client, "STREAM.NAMES", json!({})).await;
    let names = answer["streams"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
