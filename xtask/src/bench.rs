//! `cargo xtask bench`: measures, in release, and prints tables for people.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::browser;
use crate::cargo::{self, cargo};
use crate::dashboard;
use crate::error::Result;
use crate::nats;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// What a fleet of 1,000 agents costs a server, and how fast a kill reaches them.
    Fleet,
    /// How fast results get from NATS into the store.
    Ingest,
    /// How long writes wait while retention removes a million runs.
    Prune,
    /// How fast the web page is there, and how smoothly it scrolls.
    Dashboard,
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
    if wanted(Bench::Prune) {
        for store in ["sqlite", "redb"] {
            let mut command = cargo();
            command
                .args(["bench", "--package", "kanade", "--bench", "prune"])
                .env("KANADE_BENCH_STORE", store);
            let status = cargo::status(&mut command)?;
            cargo::succeeded(&command, status)?;
        }
    }
    if wanted(Bench::Dashboard) {
        let Some(node) = dashboard::ensure(true)? else {
            return Ok(ExitCode::FAILURE);
        };
        let mut build = cargo();
        build.args(["build", "--release", "--package", "kanade"]);
        let status = cargo::status(&mut build)?;
        cargo::succeeded(&build, status)?;
        let target = cargo::workspace()?.target_directory;
        browser::measure(node, target.join("release/kanade").as_std_path())?;
    }
    Ok(ExitCode::SUCCESS)
}
