//! The log: to standard error for people or collectors, and the tail of it for those who ask an agent.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use kanade_agent::LogTail;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Starts logging; returns the tail that agents of this process show.
pub(crate) fn start(log: &Log) -> Result<LogTail> {
    // The client of NATS tells each attempt to connect; what has become of a connection is logged once by us. A directive
    // of the operator for the same target counts more.
    let level = format!("async_nats=error,{}", log.level);
    let filter = EnvFilter::try_new(level).with_context(|| {
        format!(
            "`log.level`: `{}` is not a tracing filter such as `info`",
            log.level
        )
    })?;
    let tail = LogTail::default();
    let colours = std::io::stderr().is_terminal();
    let stderr = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    let stderr = match log.format {
        LogFormat::Text => stderr.with_target(false).boxed(),
        LogFormat::Json => stderr.json().boxed(),
    };
    let writer = tail.clone();
    let for_tail = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(stderr)
        .with(for_tail)
        .init();
    Ok(tail)
}
