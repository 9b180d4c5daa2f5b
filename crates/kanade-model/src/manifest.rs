//! The manifest: what a job runs and how.

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
            "execute": {"shell": "pwsh", "script": "x", "timeout": "1h 5m", "run_as": "user", "cwd": "C:\\"},
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
            ("/params", json!({"Region": {"type": "string"}}), "params.Region"),
        ] {
            let mut document = minimal();
            document["params"] = json!({});
            *document.pointer_mut(pointer).unwrap() = value;
            let manifest: Manifest = serde_json::from_value(document).unwrap();
            assert_eq!(manifest.check().unwrap_err().field, field);
        }
    }
}
