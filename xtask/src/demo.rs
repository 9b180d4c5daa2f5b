//! `cargo xtask demo`: builds the web page and kanade, and becomes `kanade demo`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::cargo::{cargo, root};
use crate::dashboard;
use crate::error::Result;

pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    // The demo works without it, and then says how it is built.
    dashboard::ensure(false)?;
    let mut command = cargo();
    command
        // Paths among the arguments are meant from where the person is, perhaps a folder of the workspace.
        .current_dir(".")
        .args(["run", "--release", "--package", "kanade", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["--", "demo"])
        .args(args);
    hand_over(&mut command)
}

/// Replaces this process, as `cargo run` does in its turn, so that kanade has this process's id: every signal
/// reaches it, whoever sends it, and whoever waits for this process waits for kanade's clean end.
#[cfg(unix)]
fn hand_over(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;

    let source = command.exec();
    Err(crate::error::Error::Start {
        command: crate::cargo::line(command),
        source,
    })
}

/// Elsewhere the console hands Ctrl-C to every process that is attached to it.
#[cfg(not(unix))]
fn hand_over(command: &mut Command) -> Result<ExitCode> {
    let status = crate::cargo::status(command)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from)
    })
}
