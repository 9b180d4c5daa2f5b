//! The page's lock file: what may stand in it, and whether something in it is known to be unsafe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use super::{Node, licences, read, ui};
use crate::cargo;
use crate::error::{Error, Result};

pub(super) fn path() -> PathBuf {
    ui().join("package-lock.json")
}

/// What npm installs.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) packages: Vec<Package>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// Where it is installed: `node_modules/react`.
    pub(super) place: String,
    pub(super) version: String,
    pub(super) licence: String,
    /// Whether it only helps to build and to test.
    pub(super) for_development: bool,
    /// Whether another system than this one may be without it.
    optional: bool,
    /// Where it would be fetched from.
    address: Option<String>,
}

impl Package {
    pub(super) fn name(&self) -> &str {
        self.place
            .rsplit_once("node_modules/")
            .map_or(self.place.as_str(), |(_, name)| name)
    }
}

impl Lock {
    pub(super) fn read() -> Result<Self> {
        Self::of(&read(&path())?)
    }

    fn of(text: &str) -> Result<Self> {
        let lock: Value = serde_json::from_str(text)
            .map_err(|error| Error::Dashboard(format!("its package-lock.json cannot be read: {error}")))?;
        let text = |package: &Value, field: &str| package[field].as_str().map(str::to_owned);
        let packages = lock["packages"].as_object().into_iter().flatten();
        let packages = packages
            .filter(|(place, _)| !place.is_empty())
            .map(|(place, package)| Package {
                place: place.clone(),
                version: text(package, "version").unwrap_or_default(),
                licence: text(package, "license").unwrap_or_default(),
                for_development: package["dev"] == true || package["devOptional"] == true,
                optional: package["optional"] == true || package["devOptional"] == true,
                address: text(package, "resolved"),
            });
        Ok(Self {
            packages: packages.collect(),
        })
    }

    /// Whether npm has installed exactly this, as far as its own notes tell.
    pub(super) fn is_installed(&self) -> bool {
        let Ok(installed) =
            read(&ui().join("node_modules/.package-lock.json")).and_then(|text| Self::of(&text))
        else {
            return false;
        };
        let versions = |lock: &Self| -> BTreeMap<String, String> {
            let packages = lock.packages.iter();
            packages
                .map(|package| (package.place.clone(), package.version.clone()))
                .collect()
        };
        let (wanted, there) = (versions(self), versions(&installed));
        there
            .iter()
            .all(|(place, version)| wanted.get(place) == Some(version))
            && self
                .packages
                .iter()
                .all(|package| package.optional || there.contains_key(&package.place))
    }

    /// Refuses addresses, which tie the build to one registry, and licences that are not on the list.
    pub(super) fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        for package in &self.packages {
            if let Some(address) = &package.address {
                wrong.push(format!("`{}` is fetched from {address}", package.name()));
            }
            if let Err(why) = licences::check(package) {
                wrong.push(why);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let listed: String = wrong.iter().map(|wrong| format!("\n  - {wrong}")).collect();
        Err(Error::Dashboard(format!(
            "its package-lock.json has what it must not have:{listed}"
        )))
    }
}

/// Asks the registry whether something is known to be unsafe. One that does not answer such questions is told, and is
/// no finding.
pub(super) fn audit(node: &Node) -> Result<()> {
    let mut command = node.command("npm");
    command
        .args(["audit", "--audit-level=high", "--json"])
        .stderr(Stdio::null());
    let output = command.output().map_err(|source| Error::Start {
        command: cargo::line(&command),
        source,
    })?;
    match judge(&output.stdout) {
        Audit::Unanswered(why) => {
            println!("dashboard: NOT AUDITED: the registry does not answer audits ({why})");
            Ok(())
        }
        Audit::Answered { serious, findings } if serious == 0 && output.status.success() => {
            println!("dashboard: npm audit: nothing serious known, {findings} findings in all");
            Ok(())
        }
        Audit::Answered { serious, .. } => Err(Error::Dashboard(format!(
            "`npm audit` knows {serious} findings that are high or critical; run it in {}",
            ui().display()
        ))),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Audit {
    Answered { serious: u64, findings: u64 },
    Unanswered(String),
}

fn judge(report: &[u8]) -> Audit {
    let report: Value = serde_json::from_slice(report).unwrap_or_default();
    let counts = &report["metadata"]["vulnerabilities"];
    let count = |level: &str| counts[level].as_u64();
    match (count("high"), count("critical"), count("total")) {
        (Some(high), Some(critical), Some(findings)) => Audit::Answered {
            serious: high + critical,
            findings,
        },
        _ => {
            let why = report["error"]["summary"].as_str().filter(|why| !why.is_empty());
            let why = why.or(report["message"].as_str()).unwrap_or("no report");
            Audit::Unanswered(why.lines().next().unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_licence_that_is_not_listed_are_refused() {
        let lock = |package: &str| {
            Lock::of(&format!(
                r#"{{ "packages": {{ "": {{}}, "node_modules/@a/b": {package} }} }}"#
            ))
            .unwrap()
        };
        let good = lock(r#"{ "version": "1.2.3", "license": "MIT" }"#);
        assert_eq!(good.packages[0].name(), "@a/b");
        assert!(good.check().is_ok());
        for (package, named) in [
            (
                r#"{ "license": "MIT", "resolved": "https://registry.example/b.tgz" }"#,
                "registry.example",
            ),
            (r#"{ "license": "SSPL-1.0" }"#, "SSPL-1.0"),
            (r"{}", "@a/b"),
        ] {
            let error = lock(package).check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_registry_that_does_not_answer_is_no_finding() {
        let report = |high: u64| {
            format!(
                r#"{{ "auditReportVersion": 2, "metadata": {{ "vulnerabilities":
                {{ "info": 0, "low": 1, "moderate": 0, "high": {high}, "critical": 0, "total": {} }} }} }}"#,
                high + 1
            )
        };
        for (text, wanted) in [
            (
                report(0),
                Audit::Answered {
                    serious: 0,
                    findings: 1,
                },
            ),
            (
                report(2),
                Audit::Answered {
                    serious: 2,
                    findings: 3,
                },
            ),
            (
                r#"{ "message": "request to https://r/audits failed\nmore", "error": { "summary": "" } }"#
                    .into(),
                Audit::Unanswered("request to https://r/audits failed".into()),
            ),
            (String::new(), Audit::Unanswered("no report".into())),
        ] {
            assert_eq!(judge(text.as_bytes()), wanted);
        }
    }
}
