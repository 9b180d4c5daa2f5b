//! A look at a server without changing anything: what `kanade doctor` tells about it.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::ErrorCode;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    ConnectError, Nats, NatsSettings,
    link::{Fault, Link},
    plan::{self, Action},
};

/// What was found on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Where it is, without secrets.
    pub servers: String,
    /// Its version.
    pub version: String,
    /// Whether that is new enough.
    pub supported: bool,
    /// The most bytes of a message.
    pub max_payload: usize,
    /// The streams, buckets, object stores and consumers of the contract; an error where there is no JetStream for us.
    pub resources: Result<Vec<Inspected>, String>,
    /// Nanoseconds that its clock is ahead of ours, give or take half a round trip; none where there is no stream to ask.
    pub clock_ahead: Option<i128>,
}

/// A resource of the contract, as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Its name on the server, with what it is: `stream RESULTS`, `consumer backend_results_projector`.
    pub what: String,
    /// How it is.
    pub state: State,
}

/// How a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As the contract has it, or wider.
    Sound,
    /// It is not there; a server creates it when it starts.
    Missing,
    /// It is narrower than the contract in these settings; a server widens it when it starts.
    Narrow(Vec<String>),
}

impl Nats {
    /// Connects and looks. Nothing is created or changed.
    ///
    /// # Errors
    /// Where the server cannot be reached or does not let us in.
    pub async fn inspect(settings: NatsSettings) -> Result<Inspection, ConnectError> {
        let link = Self::dial(&settings).await?;
        let info = link.client.server_info();
        let (resources, clock_ahead) = match resources(&link, settings.replicas).await {
            Ok(resources) => (Ok(resources), clock_ahead(&link).await),
            Err(fault) => (Err(told(fault)), None),
        };
        let inspection = Inspection {
            servers: settings.servers(),
            supported: link.client.is_server_compatible(2, 10, 0),
            version: info.version,
            max_payload: info.max_payload,
            resources,
            clock_ahead,
        };
        link.close().await;
        Ok(inspection)
    }
}

fn told(fault: Fault) -> String {
    match fault {
        Fault::NoResponders => "there is no JetStream for this account".into(),
        fault => fault.to_string(),
    }
}

async fn resources(link: &Link, replicas: usize) -> Result<Vec<Inspected>, Fault> {
    let streams = plan::streams(replicas);
    let looked = streams.iter().map(|wanted| async move {
        let path = format!("STREAM.INFO.{}", wanted.name);
        let there = configuration(link, &path, ErrorCode::STREAM_NOT_FOUND).await?;
        let (kind, name) = wanted.resource();
        Ok::<_, Fault>(Inspected {
            what: format!("{} {name}", kind_name(kind)),
            state: state(there.as_ref(), wanted.action(there.as_ref())),
        })
    });
    let mut found = try_join_all(looked).await?;
    let looked = plan::CONSUMERS.iter().map(|wanted| async move {
        let path = format!("CONSUMER.INFO.{}.{}", wanted.stream, wanted.name);
        let there = configuration(link, &path, ErrorCode::CONSUMER_NOT_FOUND).await?;
        Ok::<_, Fault>(Inspected {
            what: format!("consumer {}", wanted.name),
            state: state(there.as_ref(), wanted.action(there.as_ref())),
        })
    });
    found.extend(try_join_all(looked).await?);
    Ok(found)
}

fn kind_name(kind: kanade_ports::ResourceKind) -> &'static str {
    match kind {
        kanade_ports::ResourceKind::Stream => "stream",
        kanade_ports::ResourceKind::Bucket => "bucket",
        kanade_ports::ResourceKind::ObjectStore => "object store",
    }
}

async fn configuration(link: &Link, path: &str, missing: ErrorCode) -> Result<Option<Value>, Fault> {
    match crate::setup::config(link, path, missing).await {
        // The stream of a consumer that is not there either.
        Err(Fault::Api(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        other => other,
    }
}

fn state(there: Option<&Value>, action: Action) -> State {
    match (there, action) {
        (_, Action::Leave) => State::Sound,
        (Some(there), Action::Widen(wider)) => State::Narrow(differences(there, &wider)),
        (None, _) | (_, Action::Create(_)) => State::Missing,
    }
}

/// `max_age 172800000000000 instead of 2592000000000000`, for each setting that differs.
fn differences(there: &Value, wanted: &Value) -> Vec<String> {
    let Some(wanted) = wanted.as_object() else {
        return Vec::new();
    };
    let differing = wanted
        .iter()
        .filter(|(name, value)| there.get(name) != Some(value));
    differing
        .map(|(name, value)| {
            let is = there.get(name).unwrap_or(&Value::Null);
            format!("{name} {is} instead of {value}")
        })
        .collect()
}

/// How far the server's clock is ahead, by the time it puts into its answers.
async fn clock_ahead(link: &Link) -> Option<i128> {
    for wanted in plan::streams(1) {
        let begun = SystemTime::now();
        let Ok(info) = link
            .api::<Value>(&format!("STREAM.INFO.{}", wanted.name), &json!({}))
            .await
        else {
            continue;
        };
        let took = begun.elapsed().unwrap_or(Duration::ZERO);
        let theirs: kanade_model::Timestamp = info["ts"].as_str()?.parse().ok()?;
        let ours = begun + took / 2;
        let ours = ours.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let theirs = i128::from(theirs.as_micros()) * 1_000;
        return Some(theirs - i128::try_from(ours.as_nanos()).ok()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let there = json!({"max_age": 2, "subjects": ["a"], "description": "theirs"});
        let wanted = json!({"max_age": 30, "subjects": ["a"], "num_replicas": 3, "description": "theirs"});
        assert_eq!(
            differences(&there, &wanted),
            ["max_age 2 instead of 30", "num_replicas null instead of 3"]
        );
    }
}
