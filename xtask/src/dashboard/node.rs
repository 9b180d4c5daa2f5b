//! Node.js and npm: found, or installed from Debian as root.

use std::process::Command;

use crate::cargo;
use crate::error::{Error, Result};
use crate::setup;

/// As `engines` in the page's `package.json` has it.
const LEAST: (u32, u32) = (20, 19);

/// Node.js, new enough, with npm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node(());

impl Node {
    /// Sees that it is there.
    pub(crate) fn provide() -> Result<Self> {
        let found = || version("node").filter(|_| version("npm").is_some());
        let Some(version) = found().or_else(|| {
            setup::install(&["nodejs", "npm"]);
            found()
        }) else {
            return Err(Error::Dashboard(
                "it needs Node.js and npm (Debian: apt-get install nodejs npm)".into(),
            ));
        };
        if new_enough(&version) {
            return Ok(Self(()));
        }
        let (major, minor) = LEAST;
        Err(Error::Dashboard(format!(
            "it needs Node.js {major}.{minor} or later, and this is {version}"
        )))
    }

    /// Runs npm on the page.
    pub(crate) fn npm(self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command("npm");
        command.args(arguments);
        let status = cargo::status(&mut command)?;
        cargo::succeeded(&command, status)
    }

    /// A program of Node.js, to be run in the page's folder.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(super::ui());
        command
    }
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_node_is_not_new_enough() {
        for (version, wanted) in [
            ("v20.19.0", true),
            ("v20.20.2", true),
            ("v22.0.0", true),
            ("v20.18.9", false),
            ("v18.20.4", false),
            ("", false),
        ] {
            assert_eq!(new_enough(version), wanted, "{version}");
        }
    }
}
