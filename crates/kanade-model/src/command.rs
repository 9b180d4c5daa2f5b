//! What an agent is told to run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ExecId, HumanDuration, JobId, RequestId, Timestamp, Version, param::ParamText};

/// One order to run a script. Travels on `commands.all` and `commands.pc.{pc_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The job.
    pub id: JobId,
    /// The version of the job that was pinned when it was fired.
    pub version: Version,
    /// One per subject, the same when the Command is sent again: an agent runs it once.
    pub request_id: RequestId,
    /// The execution; none for an ad-hoc run.
    #[serde(default, alias = "job_id")]
    pub exec_id: Option<ExecId>,
    /// The interpreter.
    pub shell: Shell,
    /// The text the interpreter gets.
    pub script: String,
    /// The run is ended after so many seconds.
    pub timeout_secs: u64,
    /// The agent waits a random time up to so many seconds before it starts.
    #[serde(default)]
    pub jitter_secs: Option<u64>,
    /// The account to run as.
    #[serde(default)]
    pub run_as: RunAs,
    /// Working directory; the agent's own when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Not started after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// How fresh the agent's knowledge of revocations must be.
    #[serde(default)]
    pub staleness: Staleness,
    /// What the script finds in its environment, by the names of the parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, ParamText>,
    /// The same for what is secret: an agent keeps it in memory only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, ParamText>,
}

/// Why an agent of this version cannot run a job with parameters, if it cannot: it would run it without them.
pub fn params_unknown_to(agent_version: &str) -> Option<String> {
    is_before(agent_version, &FIRST_OF_OURS).then(|| {
        format!(
            "its agent is {agent_version} and would run it without its parameters; {FIRST_OF_OURS} is the first that \
             passes them"
        )
    })
}

/// The first version of the agent that says what it cannot do.
const FIRST_OF_OURS: semver::Version = semver::Version::new(0, 31, 0);

/// Whether an agent is of an earlier version. One that nobody can read is given the benefit of the doubt.
fn is_before(agent_version: &str, version: &semver::Version) -> bool {
    semver::Version::parse(agent_version.trim_start_matches('v')).is_ok_and(|agent| agent < *version)
}

/// The interpreter of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Shell {
    /// Windows PowerShell.
    #[serde(alias = "ps")]
    Powershell,
    /// The Windows command interpreter.
    Cmd,
    /// POSIX shell.
    Sh,
    /// GNU bash.
    Bash,
    /// PowerShell 7 and later.
    Pwsh,
}

impl Shell {
    /// The first version of the agent that knows it. Older ones drop a Command with a shell they do not know, and say
    /// nothing.
    pub fn known_since(self) -> Option<semver::Version> {
        match self {
            Self::Powershell | Self::Cmd => None,
            Self::Sh | Self::Bash | Self::Pwsh => Some(FIRST_OF_OURS),
        }
    }

    /// Why an agent of this version cannot run it, if it cannot.
    pub fn unknown_to(self, agent_version: &str) -> Option<String> {
        let since = self.known_since()?;
        is_before(agent_version, &since).then(|| {
            format!(
                "its agent is {agent_version} and knows no shell `{}`; {since} is the first that does",
                self.as_str()
            )
        })
    }

    /// The name as it is written in manifests, which is also the program's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Powershell => "powershell",
            Self::Cmd => "cmd",
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Pwsh => "pwsh",
        }
    }
}

/// The account a script runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// The account of the agent.
    #[default]
    System,
    /// The user at the console.
    User,
    /// The agent's account in the session of the user at the console.
    SystemGui,
}

impl RunAs {
    /// Why the result of an agent of this version would tell nothing, if that is so: off Windows, old ones answer success for
    /// another account without running anything.
    pub fn pretended_by(self, agent_version: &str, windows: bool) -> Option<String> {
        (!windows && !self.is_default() && is_before(agent_version, &FIRST_OF_OURS)).then(|| {
            format!(
                "its agent is {agent_version} and cannot run as another account on this system, but would report success; \
                 {FIRST_OF_OURS} is the first that says so"
            )
        })
    }

    /// Whether this is the default, which is left out of documents.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How fresh an agent's knowledge of revocations must be when it starts a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Staleness {
    /// The last known status counts, however old.
    #[default]
    Cached,
    /// Refused when the last contact with the catalog is older than this.
    Strict {
        /// The oldest knowledge that is still accepted.
        max_cache_age: HumanDuration,
    },
    /// Not asked.
    Unchecked,
}

impl Staleness {
    /// Whether this is the default, which is left out of documents.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_agents_are_known_by_their_version() {
        for (version, old) in [
            ("0.30.0", true),
            ("v0.30.4", true),
            ("0.31.0-rc.1", true),
            ("0.31.0", false),
            ("1.0.0", false),
            ("", false),
            ("main", false),
        ] {
            assert_eq!(Shell::Sh.unknown_to(version).is_some(), old, "{version}");
            assert_eq!(Shell::Cmd.unknown_to(version), None, "{version}");
            assert_eq!(
                RunAs::User.pretended_by(version, false).is_some(),
                old,
                "{version}"
            );
            assert_eq!(RunAs::User.pretended_by(version, true), None, "{version}");
            assert_eq!(params_unknown_to(version).is_some(), old, "{version}");
            assert_eq!(RunAs::System.pretended_by(version, false), None, "{version}");
        }
    }

    #[test]
    fn a_command_has_exactly_the_fields_of_the_contract() {
        let full = json!({
            "id": "backup", "version": "1.0.0", "request_id": "00000000-0000-0000-0000-000000000007",
            "exec_id": "e-1", "shell": "sh", "script": "true", "timeout_secs": 30, "jitter_secs": 5,
            "run_as": "system_gui", "cwd": "/tmp", "deadline_at": "2026-05-01T08:30:00Z",
            "staleness": {"mode": "strict", "max_cache_age": "5m"},
            "params": {"region": "eu"}, "secrets": {"token": "t"}
        });
        let command: Command = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(&command).unwrap(), full);
    }

    #[test]
    fn only_the_required_fields_and_the_old_name_are_enough() {
        let command: Command = serde_json::from_value(json!({
            "id": "backup", "version": "1", "request_id": "00000000-0000-0000-0000-000000000007",
            "job_id": "old-exec", "shell": "powershell", "script": "", "timeout_secs": 1, "future": {"x": 1}
        }))
        .unwrap();
        assert_eq!(command.exec_id.unwrap().as_str(), "old-exec");
        assert_eq!(command.staleness, Staleness::Cached);
        assert_eq!(command.run_as, RunAs::System);
    }
}
