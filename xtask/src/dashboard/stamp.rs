//! Whether something has changed since a stamp was written. A stamp that is taken for another one by chance, or by
//! another version of the hash, costs a build and nothing else.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What is not a source: installed, built, or only used by the browser tests.
const LEFT_OUT: [&str; 2] = ["node_modules", "e2e"];

/// The page's sources, and what was built of them.
pub(super) fn of_build() -> Result<String> {
    let mut files = Vec::new();
    walk(&super::ui(), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let content = fs::read(&file).map_err(|source| Error::Read {
            path: file.clone(),
            source,
        })?;
        (file, content).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether the stamp in a file is this one.
pub(super) fn says(file: &Path, wanted: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|stamp| stamp == wanted)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| Error::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
