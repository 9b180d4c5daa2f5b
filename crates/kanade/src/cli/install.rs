//! `kanade agent install`: makes this machine an agent that starts by itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kanade_client::LinkSettings;
use kanade_model::PcId;
use serde::Serialize;

use super::{
    DEFAULT_SERVER, Global,
    failure::{Done, Failure},
    output::Output,
    tls::{Secrecy, write},
};

const UNIT: &str = include_str!("../../../../config/systemd/kanade-agent.service");
/// The program, as the unit names it.
const PROGRAM: &str = "/usr/local/bin/kanade";
const SERVICE: &str = "kanade-agent";

/// Make this machine an agent that systemd starts
///
/// Writes /etc/systemd/system/kanade-agent.service and what it needs: /etc/kanade/agent.toml, agent.token and agent-ca.pem.
/// Takes --server, --token or --token-file and --ca as every command does. Needs root.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade agent install --server https://fleet.example:8443 --token-file agent.token --ca ca.pem --start\n  \
                  kanade agent install --server https://fleet.example:8443 --token-file agent.token --root ./image"
)]
pub(crate) struct Install {
    /// The agent's name; the host's name without it
    #[arg(long, value_name = "PC")]
    id: Option<PcId>,
    /// Connect without encryption, though the server is on another machine
    #[arg(long)]
    allow_plaintext: bool,
    /// Write below this folder instead of /, to build an image of a machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Replace what an earlier installation wrote
    #[arg(long)]
    force: bool,
    /// Start the agent now
    #[arg(long, conflicts_with = "root")]
    start: bool,
}

/// `agent.toml`.
#[derive(Serialize)]
struct File<'a> {
    data_dir: &'a str,
    agent: AgentPart<'a>,
}

#[derive(Serialize)]
struct AgentPart<'a> {
    server: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a PcId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    allow_plaintext: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize)]
struct Installed {
    written: Vec<PathBuf>,
    started: bool,
}

impl Install {
    pub(super) fn run(&self, global: &Global, out: &Output) -> Done {
        let installed = self
            .install(global)
            .map_err(|error| Failure::Failed(format!("{error:#}")))?;
        out.show(&installed, |installed| {
            let mut lines: Vec<String> = installed
                .written
                .iter()
                .map(|path| format!("wrote {}", path.display()))
                .collect();
            lines.push(if installed.started {
                format!("started {SERVICE}; `journalctl -u {SERVICE} -f` shows its log")
            } else {
                format!("start it with: systemctl daemon-reload && systemctl enable --now {SERVICE}")
            });
            lines.join("\n")
        })
    }

    fn install(&self, global: &Global) -> Result<Installed> {
        let server = global.server.as_deref().unwrap_or(DEFAULT_SERVER);
        let (token, ca) = (
            global.token()?,
            global.ca.as_deref().map(crate::agent::read_ca).transpose()?,
        );
        if let Some(id) = &self.id {
            id.check()?;
        }
        // What the agent would refuse at its start is told now.
        let settings = LinkSettings {
            token: token.clone(),
            ca: ca.clone(),
            allow_plaintext: self.allow_plaintext,
            ..LinkSettings::new(server, "check".parse()?, "0".repeat(64))
        };
        settings.check()?;
        let unit = unit(&std::env::current_exe().context("cannot tell where this program is")?)?;
        let file = File {
            data_dir: "/var/lib/kanade-agent",
            agent: AgentPart {
                server,
                id: self.id.as_ref(),
                token_file: token.as_ref().map(|_| "/etc/kanade/agent.token"),
                ca: ca.as_ref().map(|_| "/etc/kanade/agent-ca.pem"),
                allow_plaintext: self.allow_plaintext,
            },
        };
        let config = toml::to_string(&file).context("cannot write the configuration")?;
        let ca = ca
            .map(String::from_utf8)
            .transpose()
            .context("the certificates are not PEM")?;
        let mut files = Vec::new();
        files.extend(token.map(|token| ("etc/kanade/agent.token", format!("{token}\n"), Secrecy::Secret)));
        files.extend(ca.map(|ca| ("etc/kanade/agent-ca.pem", ca, Secrecy::Public)));
        files.push(("etc/kanade/agent.toml", config, Secrecy::Public));
        files.push(("etc/systemd/system/kanade-agent.service", unit, Secrecy::Public));
        self.write(&files)
    }

    fn write(&self, files: &[(&str, String, Secrecy)]) -> Result<Installed> {
        for (name, text, _) in files {
            let path = self.root.join(name);
            let is_other = std::fs::read_to_string(&path).is_ok_and(|found| found != *text);
            ensure!(
                self.force || !is_other,
                "{} is there already and says something else; --force replaces it",
                path.display()
            );
        }
        let mut written = Vec::new();
        for (name, text, secrecy) in files {
            let path = self.root.join(name);
            let folder = path.parent().expect("a file below the root");
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}; are you root?", folder.display()))?;
            write(&path, text, *secrecy)?;
            written.push(path);
        }
        if self.start {
            systemctl(&["daemon-reload"])?;
            systemctl(&["enable", "--now", SERVICE])?;
        }
        Ok(Installed {
            written,
            started: self.start,
        })
    }
}

/// The unit for a program at this place.
fn unit(program: &Path) -> Result<String> {
    let program = program.to_str().context("the path of this program is not text")?;
    // What systemd would take for a separator, a quote, a specifier or a variable.
    ensure!(
        !program.contains(|c: char| c.is_whitespace()
            || c.is_control()
            || matches!(c, '"' | '\'' | '\\' | '%' | '$' | ';')),
        "systemd cannot start `{program}` as it is; copy it to {PROGRAM} and call that"
    );
    Ok(UNIT.replace(PROGRAM, program))
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let shown = format!("systemctl {}", arguments.join(" "));
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `{shown}`; is this machine run by systemd?"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_program() {
        let text = unit(Path::new("/opt/kanade/kanade")).unwrap();
        assert!(
            text.contains("ExecStart=/opt/kanade/kanade agent --config /etc/kanade/agent.toml\n"),
            "{text}"
        );
        for path in [
            "/home/me/my programs/kanade",
            "/opt/%n/kanade",
            "/opt/$HOME/kanade",
        ] {
            assert!(unit(Path::new(path)).is_err(), "{path}");
        }
    }
}
