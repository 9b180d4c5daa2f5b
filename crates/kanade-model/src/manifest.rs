//! The manifest: what a job runs and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    HumanDuration, Invalid, InventoryHints, JobId, RunAs, Shell, Staleness, Version,
    param::{self, Params},
};

/// The document of a job. Readers in existing fleets refuse unknown top-level fields, so whatever is
/// unset is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Manifest {
    /// The job's id.
    pub id: JobId,
    /// The version of this document; pinned for each execution.
    pub version: Version,
    /// What the job is for, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What runs.
    pub execute: Execute,
    /// Kept for existing clients; not enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_approval: bool,
    /// Present when stdout is a JSON document of facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryHints>,
    /// How fresh an agent's knowledge of revocations must be.
    #[serde(default, skip_serializing_if = "Staleness::is_default")]
    pub staleness: Staleness,
    /// What a fire may or must supply, by name.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
}

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Execute {
    /// The interpreter.
    pub shell: Shell,
    /// The text the interpreter gets.
    pub script: String,
    /// A run is ended after this time.
    pub timeout: HumanDuration,
    /// The account to run as.
    #[serde(default, skip_serializing_if = "RunAs::is_default")]
    pub run_as: RunAs,
    /// Working directory on the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// How a run that fails is tried again on its agent; not at all when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// At most so many agents at once for one execution; all at once when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
}

/// How a run that fails is tried again. Only a script that ended by itself is: one that was killed, ran out of its
/// time or is lost is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often it is run on an agent, the first time included; 2 to 20.
    pub max_attempts: u32,
    /// The time from the end of the first attempt to the second. It doubles with each further one, up to an hour.
    #[serde(default = "Retry::default_backoff")]
    pub backoff: HumanDuration,
    /// The exit codes that are tried again; every one but 0 when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<i32>,
}

impl Retry {
    /// The most attempts.
    pub const MOST_ATTEMPTS: u32 = 20;
    /// The longest time between two attempts.
    pub const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

    fn default_backoff() -> HumanDuration {
        HumanDuration(Duration::from_secs(10))
    }

    /// How long after the end of attempt number `attempt`, from 1, the next one is due. None when this exit code is not
    /// tried again, or was the last attempt's.
    pub fn next_after(&self, attempt: u32, exit_code: i32) -> Option<Duration> {
        let counts = exit_code != 0 && (self.on.is_empty() || self.on.contains(&exit_code));
        (counts && attempt < self.max_attempts).then(|| self.wait_after(attempt))
    }

    /// The time from the end of attempt number `attempt`, from 1, to the next one.
    pub fn wait_after(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.backoff.0.saturating_mul(doubled).min(Self::LONGEST_BACKOFF)
    }

    fn check(&self) -> Result<(), Invalid> {
        if !(2..=Self::MOST_ATTEMPTS).contains(&self.max_attempts) {
            let allowed = format!("from 2, the first one included, to {}", Self::MOST_ATTEMPTS);
            let given = self.max_attempts.to_string();
            return Err(Invalid::new("execute.retry.max_attempts", given, allowed));
        }
        if self.backoff.0 > Self::LONGEST_BACKOFF {
            let given = self.backoff.to_string();
            return Err(Invalid::new("execute.retry.backoff", given, "an hour at most"));
        }
        if self.on.contains(&0) {
            return Err(Invalid::new("execute.retry.on", "0", "exit code 0 is a success"));
        }
        Ok(())
    }
}

impl Manifest {
    /// The largest script that still fits a message with room for the other fields, in bytes.
    pub const LONGEST_SCRIPT: usize = 512 * 1024;

    /// Whether this is a manifest we would store.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        self.id.check().map_err(|error| Invalid {
            field: "id".into(),
            ..error
        })?;
        self.version.check()?;
        if self.execute.timeout.0.is_zero() {
            return Err(Invalid::new(
                "execute.timeout",
                "0s",
                "at least one second is wanted",
            ));
        }
        if self.execute.script.trim().is_empty() {
            return Err(Invalid::new(
                "execute.script",
                &self.execute.script,
                "a script is wanted",
            ));
        }
        if self.execute.script.len() > Self::LONGEST_SCRIPT {
            return Err(Invalid::new(
                "execute.script",
                &self.execute.script,
                "512 KiB at most",
            ));
        }
        if self.execute.max_parallel == Some(0) {
            return Err(Invalid::new(
                "execute.max_parallel",
                "0",
                "at least one agent is wanted",
            ));
        }
        if let Some(retry) = &self.execute.retry {
            retry.check()?;
        }
        param::check(&self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minimal() -> serde_json::Value {
        json!({"id": "backup", "version": "1.0.0", "execute": {"shell": "sh", "script": "true", "timeout": "5m"}})
    }

    #[test]
    fn unset_fields_are_left_out() {
        let manifest: Manifest = serde_json::from_value(minimal()).unwrap();
        assert_eq!(serde_json::to_value(&manifest).unwrap(), minimal());
    }

    #[test]
    fn every_field_survives() {
        let full = json!({
            "id": "hw", "version": "2", "description": "hardware", "require_approval": true,
            "execute": {"shell": "pwsh", "script": "x", "timeout": "1h 5m", "run_as": "user", "cwd": "C:\\",
                "retry": {"max_attempts": 3, "backoff": "30s", "on": [75]}, "max_parallel": 5},
            "inventory": {"display": [{"field": "ram", "label": "RAM", "type": "bytes"}], "summary": "ram"},
            "staleness": {"mode": "unchecked"},
            "params": {"region": {"type": "choice", "choices": ["eu", "us"], "default": "eu"}}
        });
        let manifest: Manifest = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(&manifest).unwrap(), full);
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (pointer, value, field) in [
            ("/id", json!("a/b"), "id"),
            ("/version", json!("one two"), "version"),
            ("/execute/timeout", json!("0s"), "execute.timeout"),
            ("/execute/script", json!("  "), "execute.script"),
            ("/execute/max_parallel", json!(0), "execute.max_parallel"),
            (
                "/execute/retry",
                json!({"max_attempts": 1}),
                "execute.retry.max_attempts",
            ),
            (
                "/execute/retry",
                json!({"max_attempts": 21}),
                "execute.retry.max_attempts",
            ),
            (
                "/execute/retry",
                json!({"max_attempts": 2, "backoff": "61m"}),
                "execute.retry.backoff",
            ),
            (
                "/execute/retry",
                json!({"max_attempts": 2, "on": [1, 0]}),
                "execute.retry.on",
            ),
            ("/params", json!({"Region": {"type": "string"}}), "params.Region"),
        ] {
            let mut document = minimal();
            document["params"] = json!({});
            document["execute"]["max_parallel"] = json!(null);
            document["execute"]["retry"] = json!(null);
            *document.pointer_mut(pointer).unwrap() = value;
            let manifest: Manifest = serde_json::from_value(document).unwrap();
            assert_eq!(manifest.check().unwrap_err().field, field);
        }
    }

    #[test]
    fn attempts_come_less_and_less_often_until_there_are_no_more() {
        let retry = |on: &[i32], backoff: &str| Retry {
            max_attempts: 4,
            backoff: backoff.parse().unwrap(),
            on: on.to_vec(),
        };
        for (on, backoff, attempt, exit_code, wanted) in [
            (&[][..], "10s", 1, 1, Some(10)),
            (&[], "10s", 2, -1, Some(20)),
            (&[], "10s", 3, 1, Some(40)),
            (&[], "10s", 4, 1, None),
            (&[], "50m", 2, 1, Some(3600)),
            (&[], "10s", 1, 0, None),
            (&[75, 111], "10s", 1, 111, Some(10)),
            (&[75, 111], "10s", 1, 1, None),
            (&[], "0s", 1, 1, Some(0)),
        ] {
            let found = retry(on, backoff).next_after(attempt, exit_code);
            let wanted = wanted.map(Duration::from_secs);
            assert_eq!(
                found, wanted,
                "{exit_code} of attempt {attempt}, on {on:?} after {backoff}"
            );
        }
    }
}
