//! Which licences the page's packages may have, and the list of them that goes out with the page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::lock::{Lock, Package};
use super::{ui, write};
use crate::error::Result;

/// Of what goes out with the page.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unlicense",
];
/// Also of what only helps to build and to test.
const ALLOWED_FOR_DEVELOPMENT: &[&str] = &[
    "BlueOak-1.0.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "MIT-0",
    "MPL-2.0",
    "Python-2.0",
];

/// Where the list is served.
const LIST: &str = "licenses.txt";

/// Refuses a package whose licence is on no list.
pub(super) fn check(package: &Package) -> std::result::Result<(), String> {
    let listed = |licence: &str| {
        ALLOWED.contains(&licence) || package.for_development && ALLOWED_FOR_DEVELOPMENT.contains(&licence)
    };
    if allows(&package.licence, listed) {
        return Ok(());
    }
    Err(format!(
        "`{}` has the licence `{}`, which is not listed in xtask/src/dashboard/licences.rs",
        package.name(),
        package.licence
    ))
}

/// An SPDX expression without nesting, which is what packages have.
fn allows(expression: &str, listed: impl Fn(&str) -> bool) -> bool {
    let plain = expression.trim().trim_start_matches('(').trim_end_matches(')');
    plain
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|licence| listed(licence.trim())))
}

/// Writes which packages the page contains, with their licences word by word.
pub(super) fn write_list(dist: &Path) -> Result<()> {
    let lock = Lock::read()?;
    let mut list = String::from("The dashboard of kanade contains these packages.\n");
    for package in lock.packages.iter().filter(|package| !package.for_development) {
        let (name, version, licence) = (package.name(), &package.version, &package.licence);
        let _infallible = write!(list, "\n{}\n{name} {version}: {licence}\n", "-".repeat(72));
        if let Some(text) = text_of(&ui().join(&package.place)) {
            let _infallible = write!(list, "\n{}\n", text.trim());
        }
    }
    write(&dist.join(LIST), &list)
}

fn text_of(package: &Path) -> Option<String> {
    let files = fs::read_dir(package).ok()?;
    let mut names: Vec<_> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_ascii_lowercase();
            name.starts_with("licen") || name.starts_with("copying")
        })
        .collect();
    names.sort();
    fs::read_to_string(names.first()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_choice_of_an_expression_must_be_listed_whole() {
        let listed = |licence: &str| licence == "MIT" || licence == "CC0-1.0";
        for (expression, wanted) in [
            ("MIT", true),
            ("(MIT OR GPL-3.0)", true),
            ("(MIT AND CC0-1.0)", true),
            ("(MIT AND GPL-3.0)", false),
            ("GPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(allows(expression, listed), wanted, "{expression}");
        }
    }
}
