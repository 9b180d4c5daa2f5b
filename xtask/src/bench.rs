//! `cargo xtask bench`: measures, in release, and prints tables for people.

use std::process::ExitCode;

use crate::cargo::{self, cargo};
use crate::error::Result;

pub(crate) fn run() -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["bench", "--package", "kanade", "--bench", "fleet"]);
    let status = cargo::status(&mut command)?;
    cargo::succeeded(&command, status)?;
    Ok(ExitCode::SUCCESS)
}
