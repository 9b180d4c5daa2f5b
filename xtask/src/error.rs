//! What can stop a command. The exit code alone would not do: each variant says what was attempted on what.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::layers::Violation;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start `{command}`")]
    Start { command: String, source: io::Error },
    #[error("`{command}` ended with {status}")]
    Ended { command: String, status: ExitStatus },
    #[error("cannot read the output of `{command}`")]
    Output { command: String, source: io::Error },
    #[error("cannot read the workspace with `cargo metadata`")]
    Metadata(#[from] cargo_metadata::Error),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the dashboard: {0}")]
    Dashboard(String),
    #[error("{} is not a JUnit report with a count of tests and failures", path.display())]
    NotAReport { path: PathBuf },
    #[error("the layers are broken:{}", listed(.0))]
    Layers(Vec<Violation>),
    #[error("the backends differ in what they are tested for:{}", listed(.0))]
    Conformance(Vec<String>),
    #[error("tests failed")]
    TestsFailed,
    #[error("no test ran{}", for_filter(.filter.as_deref()))]
    NoTests { filter: Option<String> },
}

fn listed<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(|item| format!("\n  - {}", item.to_string()))
        .collect()
}

fn for_filter(filter: Option<&str>) -> String {
    filter.map_or_else(String::new, |text| format!(": no name contains `{text}`"))
}
