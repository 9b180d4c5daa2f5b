//! The tests of the web page: in a real browser, against the real server. They run where `KANADE_TEST_REQUIRE` names
//! `browser`; elsewhere they are left out, loudly.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cargo::{self, root};
use crate::dashboard::Node;
use crate::error::{Error, Result};
use crate::setup;
use crate::tally::Tally;

/// In `KANADE_TEST_REQUIRE` and among the tools.
const NAME: &str = "browser";

/// Whether a run without these tests is a failure.
pub(crate) fn required() -> bool {
    env::var("KANADE_TEST_REQUIRE").is_ok_and(|names| names.split(',').any(|name| name.trim() == NAME))
}

/// Whether these tests can run where they are wanted. Asked before all others, which take many times longer.
pub(crate) fn look(node: Option<&Node>) -> Result<()> {
    let missing = match (required(), node) {
        (false, _) => return Ok(()),
        (true, None) => "Node.js (packages nodejs and npm)",
        (true, Some(_)) if !setup::has(NAME) => "the program `chromium` (package chromium)",
        (true, Some(_)) => return Ok(()),
    };
    Err(Error::Dashboard(format!(
        "KANADE_TEST_REQUIRE names `{NAME}`, but {missing} is missing; on Debian it is installed for root"
    )))
}

/// Runs them with the server that was built for the other tests; says how many passed and how the run ended.
pub(crate) fn run(node: Option<Node>, program: &Path, filter: Option<&str>) -> Result<(Tally, Result<()>)> {
    let Some(node) = node.filter(|_| required()) else {
        println!("\nNOT TESTED: the web page in a browser; KANADE_TEST_REQUIRE=browser tests it");
        return Ok((Tally::default(), Ok(())));
    };
    println!("\nthe web page in a browser");
    ended(node, program, filter, &root().join("target/dashboard/img"))
}

/// Takes the pictures of the guide anew.
pub(crate) fn take_pictures(node: Node, program: &Path) -> Result<()> {
    setup::run();
    ended(node, program, None, &root().join("docs/img"))?.1
}

/// Measures the page, as this server serves it, and prints the figures.
pub(crate) fn measure(node: Node, program: &Path) -> Result<()> {
    setup::run();
    let mut command = node.command("npx");
    command
        .args([
            "--no-install",
            "vitest",
            "run",
            "--config",
            "e2e/vitest.config.ts",
        ])
        .env("KANADE_BIN", program)
        .env("KANADE_MEASURE", "1");
    let status = cargo::status(&mut command)?;
    cargo::succeeded(&command, status)
}

fn ended(node: Node, program: &Path, filter: Option<&str>, pictures: &Path) -> Result<(Tally, Result<()>)> {
    let report = root().join("target/dashboard/e2e.json");
    // What is left of an earlier run must not be counted.
    let _gone = fs::remove_file(&report);
    let mut command = node.command("npx");
    command
        .args([
            "--no-install",
            "vitest",
            "run",
            "--config",
            "e2e/vitest.config.ts",
            "--reporter=verbose",
            "--reporter=json",
        ])
        .arg(format!("--outputFile.json={}", report.display()))
        .args(filter.map(|text| format!("--testNamePattern={}", literally(text))))
        .env("KANADE_BIN", program)
        .env("KANADE_TEST_PICTURES", pictures);
    let status = cargo::status(&mut command)?;
    let counted = fs::read(&report)
        .ok()
        .and_then(|report| tally(&report))
        .ok_or_else(|| Error::Read {
            path: PathBuf::from(&report),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
    Ok((counted, cargo::succeeded(&command, status)))
}

fn tally(report: &[u8]) -> Option<Tally> {
    let report: Value = serde_json::from_slice(report).ok()?;
    let mut failed = report["numFailedTests"].as_u64()?;
    // A file that breaks before its first test has none that failed.
    if failed == 0 && report["success"] == false {
        failed = 1;
    }
    Some(Tally {
        passed: report["numPassedTests"].as_u64()?,
        failed,
    })
}

/// The text as a regular expression that finds just it.
fn literally(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || c == '_';
    text.chars()
        .flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_counted_and_what_broke_before_is_a_failure() {
        for (report, wanted) in [
            (
                r#"{ "numPassedTests": 7, "numFailedTests": 2, "success": false }"#,
                Some((7, 2)),
            ),
            (
                r#"{ "numPassedTests": 0, "numFailedTests": 0, "success": false }"#,
                Some((0, 1)),
            ),
            (
                r#"{ "numPassedTests": 3, "numFailedTests": 0, "success": true }"#,
                Some((3, 0)),
            ),
            (r#"{ "success": true }"#, None),
            ("", None),
        ] {
            let counted = tally(report.as_bytes()).map(|tally| (tally.passed, tally.failed));
            assert_eq!(counted, wanted, "{report}");
        }
    }

    #[test]
    fn a_filter_is_taken_literally() {
        assert_eq!(literally("a.b (c)"), r"a\.b \(c\)");
    }
}
