//! Sees that the server has what [`plan`](crate::plan) wants.

use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode};
use futures::future::try_join_all;
use kanade_ports::Durable;
use serde_json::{Value, json};
use tokio::time;

use crate::{
    ConnectError,
    link::{Fault, Link},
    plan::{self, Action},
};

/// How often a stream is tried to be created.
const ATTEMPTS: u32 = 4;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Creates what is missing and widens what is too narrow. What cannot be widened is said and used as it is.
pub(crate) async fn prepare(link: &Link, replicas: usize, servers: &str) -> Result<(), ConnectError> {
    let failed = |failure: Failure| match failure.fault {
        Fault::NoResponders => ConnectError::NoJetStream {
            servers: servers.into(),
        },
        Fault::Api(error) if no_jetstream(error.error_code()) => ConnectError::NoJetStream {
            servers: servers.into(),
        },
        fault => ConnectError::Resource {
            servers: servers.into(),
            attempt: failure.attempt,
            source: fault.into(),
        },
    };
    let streams = plan::streams(replicas);
    try_join_all(streams.iter().map(|wanted| stream(link, wanted)))
        .await
        .map_err(failed)?;
    try_join_all(plan::CONSUMERS.iter().map(|wanted| consumer(link, wanted)))
        .await
        .map_err(failed)?;
    Ok(())
}

/// Sees that the consumer of a durable is there, in case somebody removed it.
pub(crate) async fn durable(link: &Link, durable: Durable) -> Result<(), Failure> {
    let wanted = plan::CONSUMERS
        .iter()
        .find(|wanted| wanted.name == durable.name());
    consumer(link, wanted.expect("every durable is in the plan")).await
}

/// What could not be done.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) attempt: String,
    pub(crate) fault: Fault,
}

async fn stream(link: &Link, wanted: &plan::Stream) -> Result<(), Failure> {
    let name = &wanted.name;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let there = config(link, &format!("STREAM.INFO.{name}"), ErrorCode::STREAM_NOT_FOUND).await;
        let there = there.map_err(|fault| failure("look for the stream", name, fault))?;
        match wanted.action(there.as_ref()) {
            Action::Leave => return Ok(()),
            Action::Create(config) => {
                match link.api::<Value>(&format!("STREAM.CREATE.{name}"), &config).await {
                    Ok(_) => return Ok(()),
                    // Another server was faster, or one of this name is just being deleted: look again.
                    Err(Fault::Api(error)) if attempts < ATTEMPTS && may_pass(&error) => {
                        time::sleep(PAUSE).await;
                    }
                    Err(fault) => return Err(failure("create the stream", name, fault)),
                }
            }
            Action::Widen(config) => {
                let widened = link.api::<Value>(&format!("STREAM.UPDATE.{name}"), &config).await;
                return go_on(widened, "stream", name);
            }
        }
    }
}

async fn consumer(link: &Link, wanted: &plan::Consumer) -> Result<(), Failure> {
    let (stream, name) = (wanted.stream, wanted.name);
    let there = config(
        link,
        &format!("CONSUMER.INFO.{stream}.{name}"),
        ErrorCode::CONSUMER_NOT_FOUND,
    )
    .await;
    let there = there.map_err(|fault| failure("look for the consumer", name, fault))?;
    if there
        .as_ref()
        .is_some_and(|there| there.get("deliver_subject").is_some())
    {
        let reason = format!("it is a push consumer; remove it with `nats consumer rm {stream} {name}`");
        return Err(failure(
            "read from the consumer",
            name,
            Fault::Client(reason.into()),
        ));
    }
    let path = format!("CONSUMER.CREATE.{stream}.{name}");
    match wanted.action(there.as_ref()) {
        Action::Leave => Ok(()),
        Action::Create(config) => {
            // Not "create": when another server is faster with the same, that is as good.
            let body = json!({"stream_name": stream, "config": config, "action": ""});
            let created = link.api::<Value>(&path, &body).await;
            created
                .map(drop)
                .map_err(|fault| failure("create the consumer", name, fault))
        }
        Action::Widen(config) => {
            let body = json!({"stream_name": stream, "config": config, "action": "update"});
            go_on(link.api::<Value>(&path, &body).await, "consumer", name)
        }
    }
}

/// The configuration of a stream or consumer, if there is one.
pub(crate) async fn config(link: &Link, path: &str, missing: ErrorCode) -> Result<Option<Value>, Fault> {
    match link.api::<Value>(path, &json!({})).await {
        Ok(mut info) => Ok(Some(info["config"].take())),
        Err(Fault::Api(error)) if error.error_code() == missing => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn go_on(widened: Result<Value, Fault>, what: &str, name: &str) -> Result<(), Failure> {
    match widened {
        Ok(_) => tracing::info!("widened the {what} {name} on NATS"),
        Err(Fault::Api(error)) => {
            tracing::warn!(%error, "the {what} {name} on NATS is narrower than kanade wants and cannot be widened");
        }
        Err(fault) => return Err(failure(&format!("widen the {what}"), name, fault)),
    }
    Ok(())
}

fn failure(attempt: &str, name: &str, fault: Fault) -> Failure {
    Failure {
        attempt: format!("{attempt} {name}"),
        fault,
    }
}

fn may_pass(error: &jetstream::Error) -> bool {
    error.error_code() == ErrorCode::STREAM_NAME_EXIST || error.code() >= 500
}

fn no_jetstream(code: ErrorCode) -> bool {
    code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
}
