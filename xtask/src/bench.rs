//! `cargo xtask bench`: measures, in release, and prints tables for people.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::cargo::{self, cargo};
use crate::error::Result;
use crate::nats;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// What a fleet of 1,000 agents costs a server, and how fast a kill reaches them.
    Fleet,
    /// How fast results get from NATS into the store.
    Ingest,
}

/// Measures one, or all.
pub(crate) fn run(only: Option<Bench>) -> Result<ExitCode> {
    let wanted = |bench| only.is_none_or(|only| only == bench);
    if wanted(Bench::Fleet) {
        let mut command = cargo();
        command.args(["bench", "--package", "kanade", "--bench", "fleet"]);
        let status = cargo::status(&mut command)?;
        cargo::succeeded(&command, status)?;
    }
    if wanted(Bench::Ingest) {
        // Runs until it is measured.
        let nats = nats::provide();
        let mut command = cargo();
        command
            .args(["bench", "--package", "kanade", "--bench", "ingest"])
            .envs(nats.variables.iter().map(|(name, value)| (name, value)));
        let status = cargo::status(&mut command)?;
        cargo::succeeded(&command, status)?;
    }
    Ok(ExitCode::SUCCESS)
}
