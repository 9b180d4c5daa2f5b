//! Starting cargo in the workspace root, and reading the workspace from it.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::error::{Error, Result};

/// The root of the workspace: the folder above this crate's.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate's folder is inside the workspace root")
}

/// `cargo`, to be run in the workspace root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo run` describes xtask itself in these. Build scripts that watch them would otherwise run again
    // whenever `cargo xtask test` and `cargo test` take turns.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The crates of the workspace with what they declare, without resolving (so without network).
pub(crate) fn workspace() -> Result<Metadata> {
    Ok(MetadataCommand::new().current_dir(root()).no_deps().exec()?)
}

/// Whether `cargo nextest` can be run here.
pub(crate) fn has_nextest() -> bool {
    let mut command = cargo();
    command
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the command with this process's own input and output.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|source| Error::Start {
        command: line(command),
        source,
    })
}

/// Runs the command and hands each line of its standard output to `each`, while it runs.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start {
            command: line(command),
            source,
        })?;
    let output = |source| Error::Output {
        command: line(command),
        source,
    };
    let mut stdout = BufReader::new(child.stdout.take().expect("standard output was piped"));
    let mut buffer = Vec::new();
    while stdout.read_until(b'\n', &mut buffer).map_err(output)? > 0 {
        each(String::from_utf8_lossy(&buffer).trim_end_matches(['\r', '\n']));
        buffer.clear();
    }
    child.wait().map_err(output)
}

/// Like [`lines`], and shows each line as well.
pub(crate) fn shown_lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    lines(command, |text| {
        // A reader that went away (`| head`) must not end the run before its result is known.
        let _gone = writeln!(std::io::stdout(), "{text}");
        each(text);
    })
}

/// Refuses every end but success.
pub(crate) fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Error::Ended {
            command: line(command),
            status,
        })
    }
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_stem()
        .unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--workspace"]);
        assert_eq!(line(&command), "cargo test --workspace");
    }

    #[test]
    fn what_cargo_says_about_xtask_is_not_passed_on() {
        let removed: Vec<_> = cargo()
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect();
        assert!(removed.iter().any(|name| name == "CARGO_PKG_NAME"), "{removed:?}");
        assert!(
            removed.iter().any(|name| name == "CARGO_MANIFEST_DIR"),
            "{removed:?}"
        );
    }
}
