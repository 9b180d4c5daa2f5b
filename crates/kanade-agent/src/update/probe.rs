//! Runs a program that may be no good: not for longer than it is given, and never without an end.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use kanade_model::Version;
use kanade_ports::Clock;
use process_wrap::tokio::{ChildWrapper, CommandWrap};

use crate::output::SharedCapture;

/// What is kept of each output, in bytes.
const OUTPUT: usize = 4096;
/// Once the program has ended, its output is waited for this long.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// A process that was being started while the program was written holds the file open for a moment.
const BUSY: (u32, Duration) = (20, Duration::from_millis(100));

/// Asks a program for its version: `--version` prints it as a word of its own.
pub(super) async fn version(
    program: PathBuf,
    wanted: &Version,
    within: Duration,
    clock: &dyn Clock,
) -> Result<(), String> {
    let arguments = vec![OsString::from("--version")];
    let (status, stdout, stderr) = run(program, arguments, within, clock).await?;
    if !status.success() {
        return Err(format!(
            "asked for its version, it ends with {status}: {}",
            last_line(&stderr)
        ));
    }
    let is_wanted = |word: &str| word == wanted.as_str() || word.strip_prefix('v') == Some(wanted.as_str());
    match stdout.split_whitespace().any(is_wanted) {
        true => Ok(()),
        false => Err(format!("asked for its version, it says `{}`", last_line(&stdout))),
    }
}

/// Runs a program to its end, which has to be a success.
pub(super) async fn try_out(
    program: PathBuf,
    arguments: Vec<OsString>,
    within: Duration,
    clock: &dyn Clock,
) -> Result<(), String> {
    let (status, _, stderr) = run(program, arguments, within, clock).await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!(
            "tried out, it ends with {status}: {}",
            last_line(&stderr)
        )),
    }
}

async fn run(
    program: PathBuf,
    arguments: Vec<OsString>,
    within: Duration,
    clock: &dyn Clock,
) -> Result<(ExitStatus, String, String), String> {
    let mut child = start(&program, &arguments, clock)
        .await
        .map(Ending)
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let (stdout, stderr) = (SharedCapture::new(OUTPUT), SharedCapture::new(OUTPUT));
    let pipes = (child.0.stdout().take(), child.0.stderr().take());
    let (out, err) = (stdout.clone(), stderr.clone());
    let mut reading = tokio::spawn(async move {
        let (Some(stdout), Some(stderr)) = pipes else {
            return;
        };
        tokio::join!(out.fill(stdout), err.fill(stderr));
    });
    let status = tokio::select! {
        status = child.0.wait() => status.map_err(|error| format!("its end cannot be observed: {error}"))?,
        () = clock.sleep(within) => {
            return Err(format!("it takes longer than {within:?}: {}", last_line(&stderr.take())));
        }
    };
    if tokio::time::timeout(LAST_OUTPUT, &mut reading).await.is_err() {
        reading.abort();
    }
    Ok((status, stdout.take(), stderr.take()))
}

async fn start(
    program: &PathBuf,
    arguments: &[OsString],
    clock: &dyn Clock,
) -> io::Result<Box<dyn ChildWrapper>> {
    let mut tries = 0;
    loop {
        let mut command = CommandWrap::with_new(program, |command| {
            command
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        });
        #[cfg(unix)]
        command.wrap(process_wrap::tokio::ProcessGroup::leader());
        tries += 1;
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY.0 => {
                clock.sleep(BUSY.1).await;
            }
            started => return started,
        }
    }
}

/// Ends the program and what it has started, at the latest when it is dropped.
struct Ending(Box<dyn ChildWrapper>);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.start_kill();
    }
}

fn last_line(output: &str) -> &str {
    let lines = output.lines().map(str::trim);
    lines
        .rev()
        .find(|line| !line.is_empty())
        .unwrap_or("it says nothing")
}
