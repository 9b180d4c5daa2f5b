//! `cargo xtask test`: the layers, every test and doc test of the workspace, the web page in a browser, and whether all backends are
//! tested for the same behaviour. It ends with one line that counts what ran.

use std::env;
use std::fs;
use std::io;
use std::process::{Command, ExitCode};

use cargo_metadata::Metadata;

use crate::browser;
use crate::cargo::{self, cargo};
use crate::conformance;
use crate::dashboard;
use crate::error::{Error, Result};
use crate::layers;
use crate::nats;
use crate::setup;
use crate::tally::Tally;

pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode> {
    let strict = env::var_os("CI").is_some_and(|value| !value.is_empty());
    setup::run();
    layers::run()?;
    let node = dashboard::ensure(browser::required())?;
    browser::look(node.as_ref())?;
    let workspace = cargo::workspace()?;
    // Builds every test binary, so a compile error ends the command here and not between two summaries.
    let suites = conformance::suites(&workspace)?;

    let mut run = Run::default();
    // Runs until the tests have ended.
    let nats = nats::provide();
    let tests = || {
        let mut command = cargo();
        command.envs(nats.variables.iter().map(|(name, value)| (name, value)));
        command
    };
    if cargo::has_nextest() {
        run.nextest(tests(), &workspace, strict, filter)?;
    } else {
        run.libtest(
            tests().args(["test", "--workspace", "--lib", "--bins", "--tests"]),
            strict,
            filter,
        )?;
    }
    drop(nats);
    let program = workspace.target_directory.join("debug/kanade");
    let (counted, ended) = browser::run(node, program.as_std_path(), filter)?;
    run.add(counted, ended);
    // On their own in both cases: nextest knows no doc tests, and `cargo test` leaves them out when it filters.
    run.libtest(cargo().args(["test", "--workspace", "--doc"]), strict, filter)?;

    println!();
    for row in conformance::table(&suites) {
        println!("{row}");
    }
    let differences = conformance::differences(&suites);
    println!("\n{}", run.tally);

    run.verdict(filter)?;
    if differences.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Error::Conformance(differences))
    }
}

/// What the test runners reported so far. One that fails does not keep the next from running.
#[derive(Default)]
struct Run {
    tally: Tally,
    failure: Option<Error>,
}

impl Run {
    /// The counts come from the JUnit report: what nextest prints is for people.
    fn nextest(
        &mut self,
        mut command: Command,
        workspace: &Metadata,
        strict: bool,
        filter: Option<&str>,
    ) -> Result<()> {
        let profile = if strict { "ci" } else { "default" };
        let report = workspace
            .target_directory
            .join("nextest")
            .join(profile)
            .join("junit.xml");
        let read = |source| Error::Read {
            path: report.clone().into(),
            source,
        };
        match fs::remove_file(&report) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(read(error)),
            _ => {}
        }
        // No test in these binaries may still be fine: the filter can name a doc test. The total decides.
        command
            .args([
                "nextest",
                "run",
                "--workspace",
                "--no-tests",
                "pass",
                "--profile",
                profile,
            ])
            .args(filter);
        let status = cargo::status(&mut command)?;
        let counted = match fs::read_to_string(&report) {
            Ok(text) => Tally::of_junit(&text).ok_or_else(|| Error::NotAReport {
                path: report.clone().into(),
            })?,
            // It writes none when it had nothing to run, or could not start; its exit code tells which.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Tally::default(),
            Err(error) => return Err(read(error)),
        };
        self.add(counted, cargo::succeeded(&command, status));
        Ok(())
    }

    /// `cargo test` prints one closing line per binary; they are added up while they pass by.
    fn libtest(&mut self, command: &mut Command, strict: bool, filter: Option<&str>) -> Result<()> {
        command.args(strict.then_some("--no-fail-fast")).args(filter);
        let mut counted = Tally::default();
        let status = cargo::shown_lines(command, |line| {
            if let Some(binary) = Tally::of_libtest_line(line) {
                counted += binary;
            }
        })?;
        self.add(counted, cargo::succeeded(command, status));
        Ok(())
    }

    fn add(&mut self, counted: Tally, ended: Result<()>) {
        self.tally += counted;
        if let Err(error) = ended {
            self.failure.get_or_insert(error);
        }
    }

    fn verdict(self, filter: Option<&str>) -> Result<()> {
        match self.failure {
            _ if self.tally.failed > 0 => Err(Error::TestsFailed),
            Some(error) => Err(error),
            None if self.tally.ran() == 0 => Err(Error::NoTests {
                filter: filter.map(str::to_owned),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(passed: u64, failed: u64, ended: Result<()>) -> Run {
        let mut run = Run::default();
        run.add(Tally { passed, failed }, ended);
        run
    }

    fn ended_badly() -> Result<()> {
        Err(Error::NotAReport {
            path: "junit.xml".into(),
        })
    }

    #[test]
    fn only_a_run_in_which_something_passed_and_nothing_failed_is_a_success() {
        assert!(run(3, 0, Ok(())).verdict(None).is_ok());
        assert!(matches!(
            run(0, 0, Ok(())).verdict(Some("x")),
            Err(Error::NoTests { .. })
        ));
        assert!(matches!(
            run(3, 1, ended_badly()).verdict(None),
            Err(Error::TestsFailed)
        ));
        assert!(matches!(run(3, 1, Ok(())).verdict(None), Err(Error::TestsFailed)));
        assert!(matches!(
            run(3, 0, ended_badly()).verdict(None),
            Err(Error::NotAReport { .. })
        ));
    }

    #[test]
    fn a_runner_that_fails_is_not_forgotten_when_the_next_one_succeeds() {
        let mut run = run(2, 0, ended_badly());
        run.add(Tally { passed: 5, failed: 0 }, Ok(()));
        assert_eq!(run.tally, Tally { passed: 7, failed: 0 });
        assert!(matches!(run.verdict(None), Err(Error::NotAReport { .. })));
    }
}
