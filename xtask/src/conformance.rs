//! Which conformance cases each backend runs. A backend that leaves one out must not look complete, so the
//! names are read from the built test binaries and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Message, Metadata, TargetKind};

use crate::cargo::{self, cargo};
use crate::error::Result;

/// The integration test (`tests/conformance.rs`) in which a backend instantiates the cases.
const TEST_BINARY: &str = "conformance";

/// What each backend is called and which suites it is for; those crates that exist must run all cases of these.
const BACKENDS: &[(&str, &str, &[Port])] = &[
    (
        "kanade-memory",
        "memory",
        &[Port::Store, Port::Catalog, Port::Bus, Port::Agent, Port::Releases],
    ),
    ("kanade-sqlite", "sqlite", &[Port::Store, Port::Catalog]),
    ("kanade-redb", "redb", &[Port::Store, Port::Catalog]),
    ("kanade-files", "files", &[Port::Releases]),
    (
        "kanade-nats",
        "nats",
        &[Port::Catalog, Port::Bus, Port::Agent, Port::Releases],
    ),
    ("kanade-postgres", "postgres", &[Port::Store, Port::Catalog]),
    // The link of an agent and the gateway together.
    ("kanade-client", "websocket", &[Port::Agent, Port::Releases]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Store,
    Catalog,
    Bus,
    /// Bus and catalog as an agent sees them, with whatever lies between.
    Agent,
    Releases,
}

impl Port {
    /// Cases are named `store::…`, `catalog::…`, `bus::…`, `agent::…`,
    /// `releases::…`; anything else in the binary is the backend's own.
    fn of_case(name: &str) -> Option<Self> {
        match name.split_once("::")?.0 {
            "store" => Some(Self::Store),
            "catalog" => Some(Self::Catalog),
            "bus" => Some(Self::Bus),
            "agent" => Some(Self::Agent),
            "releases" => Some(Self::Releases),
            _ => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::Catalog => "catalog",
            Self::Bus => "bus",
            Self::Agent => "agent",
            Self::Releases => "releases",
        })
    }
}

/// The cases that one backend's test binary holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    backend: String,
    cases: BTreeMap<Port, BTreeSet<String>>,
}

/// Builds the tests of the workspace and asks each conformance binary for its cases.
pub(crate) fn suites(workspace: &Metadata) -> Result<Vec<Suite>> {
    // All of the workspace, as the tests are run: building some of its crates alone would unify features
    // differently and compile the dependencies a second time.
    let binaries = binaries(workspace)?;
    let existing = workspace.workspace_packages();
    let mut suites = Vec::new();
    for package in existing.iter().map(|package| package.name.as_str()) {
        let known = BACKENDS.iter().any(|(backend, ..)| *backend == package);
        match binaries.get(package) {
            Some(binary) => suites.push(Suite::parse(package, &listing(binary)?)),
            None if known => suites.push(Suite::parse(package, "")),
            None => {}
        }
    }
    Ok(suites)
}

/// One row for each backend: how many cases of each port it runs.
pub(crate) fn table(suites: &[Suite]) -> Vec<String> {
    let width = suites
        .iter()
        .map(|suite| suite.short_name().len())
        .max()
        .unwrap_or(0);
    suites
        .iter()
        .map(|suite| {
            let counts: String = suite
                .cases
                .iter()
                .map(|(port, cases)| format!("  {port} {:<4}", cases.len()))
                .collect();
            format!("conformance  {:<width$}{counts}", suite.short_name())
                .trim_end()
                .to_owned()
        })
        .collect()
}

/// Where a backend runs fewer cases of a port than another one, or none at all.
pub(crate) fn differences(suites: &[Suite]) -> Vec<String> {
    let mut found = Vec::new();
    for suite in suites {
        let backend = &suite.backend;
        let Some((.., ports)) = BACKENDS.iter().find(|(name, ..)| name == backend) else {
            found.push(format!(
                "`{backend}` has conformance tests: add it to BACKENDS in xtask/src/conformance.rs"
            ));
            continue;
        };
        for port in *ports {
            let Some(own) = suite.cases.get(port) else {
                found.push(format!(
                    "`{backend}` runs no {port} case in tests/{TEST_BINARY}.rs"
                ));
                continue;
            };
            let all: BTreeSet<_> = suites
                .iter()
                .filter_map(|suite| suite.cases.get(port))
                .flatten()
                .collect();
            found.extend(
                all.into_iter()
                    .filter(|case| !own.contains(*case))
                    .map(|case| format!("`{backend}` does not run `{case}`")),
            );
        }
    }
    found
}

impl Suite {
    /// Reads what a test binary prints for `--list --format terse`: one `path::of::test: test` per line.
    fn parse(backend: &str, listing: &str) -> Self {
        let mut cases: BTreeMap<Port, BTreeSet<String>> = BTreeMap::new();
        for name in listing.lines().filter_map(|line| line.strip_suffix(": test")) {
            if let Some(port) = Port::of_case(name) {
                cases.entry(port).or_default().insert(name.to_owned());
            }
        }
        Self {
            backend: backend.to_owned(),
            cases,
        }
    }

    fn short_name(&self) -> &str {
        BACKENDS
            .iter()
            .find(|(backend, ..)| *backend == self.backend)
            .map_or(&self.backend, |(_, name, _)| name)
    }
}

/// The built conformance binary of each package that has one.
fn binaries(workspace: &Metadata) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    command.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let mut found = BTreeMap::new();
    let status = cargo::lines(&mut command, |line| {
        let mut messages = Message::parse_stream(line.as_bytes());
        let Some(Ok(Message::CompilerArtifact(artifact))) = messages.next() else {
            return;
        };
        let package = workspace
            .packages
            .iter()
            .find(|package| package.id == artifact.package_id);
        if let (Some(package), Some(binary)) = (package, artifact.executable)
            && artifact.target.is_kind(TargetKind::Test)
            && artifact.target.name == TEST_BINARY
        {
            found.insert(package.name.to_string(), binary.into_std_path_buf());
        }
    })?;
    cargo::succeeded(&command, status)?;
    Ok(found)
}

fn listing(binary: &Path) -> Result<String> {
    let mut command = Command::new(binary);
    command.args(["--list", "--format", "terse"]);
    let mut listing = String::new();
    let status = cargo::lines(&mut command, |line| {
        listing.push_str(line);
        listing.push('\n');
    })?;
    cargo::succeeded(&command, status)?;
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(backend: &str, cases: &[&str]) -> Suite {
        Suite::parse(
            backend,
            &cases
                .iter()
                .map(|case| format!("{case}: test\n"))
                .collect::<String>(),
        )
    }

    #[test]
    fn a_listing_gives_the_cases_of_each_port_and_nothing_else() {
        let listing = "agent::a_kill_reaches_every_agent: test\n\
                       bus::redelivers: test\n\
                       releases::a_program_is_whole: test\n\
                       catalog::a_write_race_has_one_winner: test\n\
                       store::a_late_result_replaces_lost: test\n\
                       store::pages::ties_are_kept: test\n\
                       store::speed: benchmark\n\
                       the_file_is_locked: test\n\
                       \n\
                       6 tests, 1 benchmarks\n";
        let suite = Suite::parse("kanade-memory", listing);
        let cases = |port| suite.cases[&port].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(
            cases(Port::Store),
            [
                "store::a_late_result_replaces_lost",
                "store::pages::ties_are_kept"
            ]
        );
        assert_eq!(cases(Port::Catalog), ["catalog::a_write_race_has_one_winner"]);
        assert_eq!(cases(Port::Bus), ["bus::redelivers"]);
        assert_eq!(cases(Port::Agent), ["agent::a_kill_reaches_every_agent"]);
        assert_eq!(cases(Port::Releases), ["releases::a_program_is_whole"]);
    }

    #[test]
    fn the_table_has_a_row_for_each_backend() {
        let suites = [
            suite(
                "kanade-memory",
                &[
                    "store::a",
                    "store::b",
                    "catalog::a",
                    "bus::a",
                    "agent::a",
                    "releases::a",
                ],
            ),
            suite("kanade-redb", &["store::a", "store::b", "catalog::a"]),
            suite("kanade-client", &["agent::a", "agent::b"]),
        ];
        assert_eq!(
            table(&suites),
            [
                "conformance  memory     store 2     catalog 1     bus 1     agent 1     releases 1",
                "conformance  redb       store 2     catalog 1",
                "conformance  websocket  agent 2",
            ]
        );
    }

    #[test]
    fn backends_that_run_the_same_cases_do_not_differ() {
        let suites = [
            suite(
                "kanade-memory",
                &["store::a", "catalog::a", "bus::a", "agent::a", "releases::a"],
            ),
            suite("kanade-sqlite", &["store::a", "catalog::a", "its_own_test"]),
            suite("kanade-client", &["agent::a", "releases::a"]),
        ];
        assert_eq!(differences(&suites), [""; 0]);
    }

    #[test]
    fn every_case_that_a_backend_leaves_out_is_named() {
        let suites = [
            suite("kanade-sqlite", &["store::a", "store::c", "catalog::a"]),
            suite("kanade-redb", &["store::a", "store::b", "catalog::a"]),
        ];
        // The counts are equal: only the names show that the two are not tested for the same.
        assert_eq!(
            differences(&suites),
            [
                "`kanade-sqlite` does not run `store::b`",
                "`kanade-redb` does not run `store::c`"
            ]
        );
    }

    #[test]
    fn a_port_without_a_case_is_a_difference_even_when_all_backends_agree() {
        let suites = [
            suite("kanade-sqlite", &["store::a"]),
            suite("kanade-redb", &["store::a"]),
        ];
        assert_eq!(
            differences(&suites),
            [
                "`kanade-sqlite` runs no catalog case in tests/conformance.rs",
                "`kanade-redb` runs no catalog case in tests/conformance.rs",
            ]
        );
    }

    #[test]
    fn agents_see_the_same_whatever_lies_between() {
        let suites = [
            suite(
                "kanade-memory",
                &[
                    "store::a",
                    "catalog::a",
                    "bus::a",
                    "agent::a",
                    "agent::b",
                    "releases::a",
                ],
            ),
            suite("kanade-client", &["agent::a", "releases::a"]),
        ];
        assert_eq!(differences(&suites), ["`kanade-client` does not run `agent::b`"]);
    }

    #[test]
    fn a_backend_that_is_not_listed_is_pointed_out() {
        let found = differences(&[suite("kanade-etcd", &["store::a"])]);
        assert!(found[0].contains("add it to BACKENDS"), "{found:?}");
    }
}
