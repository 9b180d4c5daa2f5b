//! `cargo xtask check-layers`: reads which crates the workspace has and what they depend on, and applies the
//! rules of the layers to it.

mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cargo_metadata::{DependencyKind, Package};

pub(crate) use self::rules::Violation;
use self::rules::{Crate, Dependency, SourceText};
use crate::cargo;
use crate::error::{Error, Result};

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = cargo::workspace()?;
    let crates: Vec<Crate> = workspace
        .workspace_packages()
        .into_iter()
        .map(described)
        .collect();
    let mut violations = rules::dependencies(&crates);
    for package in workspace.workspace_packages() {
        if rules::names_no_driver(&package.name) {
            let folder = package
                .manifest_path
                .parent()
                .expect("a manifest is in a folder")
                .as_std_path();
            for (path, text) in texts(folder)? {
                let path = path
                    .strip_prefix(cargo::root())
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                violations.extend(rules::source(&SourceText { path, text }));
            }
        }
    }
    if !violations.is_empty() {
        return Err(Error::Layers(violations));
    }
    println!(
        "layers: the dependencies of {} crates point down only",
        crates.len()
    );
    Ok(ExitCode::SUCCESS)
}

fn described(package: &Package) -> Crate {
    let folder = package
        .manifest_path
        .parent()
        .and_then(|folder| folder.file_name())
        .unwrap_or_default();
    Crate {
        name: package.name.to_string(),
        folder: folder.to_owned(),
        dependencies: package
            .dependencies
            .iter()
            .map(|dependency| Dependency {
                on: dependency.name.clone(),
                // A build script ends up in what is built, so it counts like normal code.
                for_tests: dependency.kind == DependencyKind::Development,
            })
            .collect(),
    }
}

/// Every file below a folder with its text; bytes that are no UTF-8 cannot hide a name.
fn texts(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let read = |path: &Path, source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| read(&folder, error))? {
            let path = entry.map_err(|error| read(&folder, error))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).map_err(|error| read(&path, error))?;
                found.insert(path, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_described_with_its_folders_and_dependencies() {
        let workspace = cargo::workspace().unwrap();
        let crates: Vec<Crate> = workspace
            .workspace_packages()
            .into_iter()
            .map(described)
            .collect();
        let sqlite = crates.iter().find(|krate| krate.name == "kanade-sqlite").unwrap();
        assert_eq!(sqlite.folder, "kanade-sqlite");
        for (on, for_tests) in [
            ("kanade-ports", false),
            ("sqlx", false),
            ("kanade-conformance", true),
        ] {
            assert!(
                sqlite.dependencies.contains(&Dependency {
                    on: on.into(),
                    for_tests
                }),
                "{on}"
            );
        }
    }

    #[test]
    fn the_source_of_a_crate_is_read_with_its_subfolders() {
        let files = texts(&cargo::root().join("xtask")).unwrap();
        assert!(
            files
                .keys()
                .any(|path| path.ends_with("xtask/src/layers/rules.rs"))
        );
        assert!(files.keys().any(|path| path.ends_with("xtask/Cargo.toml")));
    }
}
