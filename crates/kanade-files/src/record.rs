//! What stands beside a program, and the names of the files.

use kanade_model::{Timestamp, Version};
use kanade_ports::Release;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a program that is being written is called.
pub(crate) const INCOMING: &str = "incoming-";
/// What a record that is being written is called.
pub(crate) const DRAFT: &str = "draft-";
const PROGRAM: &str = "program-";
const RELEASE: &str = "release-";
const JSON: &str = ".json";

/// A release and the file that holds its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: Version,
    pub(crate) size: u64,
    digest: String,
    modified: Timestamp,
    pub(crate) program: String,
}

impl Record {
    pub(crate) fn new(release: Release, program: String) -> Self {
        Self {
            version: release.version,
            size: release.size,
            digest: release.digest,
            modified: release.modified,
            program,
        }
    }

    /// What it tells, if it is fit to be told: the text of a file that somebody may have written by hand.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let record: Self = serde_json::from_slice(text)?;
        if is_program(&record.program) {
            Ok(record)
        } else {
            Err(format!("`{}` is not the name of a program", record.program).into())
        }
    }

    pub(crate) fn release(self) -> Release {
        Release {
            version: self.version,
            size: self.size,
            digest: self.digest,
            modified: self.modified,
        }
    }
}

/// The name of the record of a version; none for a version that is not one we would store. Large letters are marked,
/// because there are file systems for which they are the same as small ones.
pub(crate) fn record_name(version: &Version) -> Option<String> {
    version.check().ok()?;
    let mut name = RELEASE.to_owned();
    for letter in version.as_str().chars() {
        if letter.is_ascii_uppercase() {
            name.push('%');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name.push_str(JSON);
    Some(name)
}

pub(crate) fn is_record(name: &str) -> bool {
    name.starts_with(RELEASE) && name.ends_with(JSON)
}

/// A name that no program has had.
pub(crate) fn program_name(id: Uuid) -> String {
    format!("{PROGRAM}{id}")
}

pub(crate) fn is_program(name: &str) -> bool {
    name.strip_prefix(PROGRAM)
        .is_some_and(|id| id.parse::<Uuid>().is_ok())
}

/// Whether it is of a write that did not come to its end.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(INCOMING) || name.starts_with(DRAFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_name_of_its_own_within_the_folder() {
        for (version, name) in [
            ("0.30.0", Some("release-0.30.0.json")),
            ("1.0-RC1+b", Some("release-1.0-%r%c1+b.json")),
            ("1.0-rc1+b", Some("release-1.0-rc1+b.json")),
            ("con", Some("release-con.json")),
            ("1..2", Some("release-1..2.json")),
            ("../1", None),
            ("a/b", None),
            ("a\\b", None),
            ("..", None),
            ("C:", None),
            ("ü", None),
        ] {
            let version: Version = version.parse().unwrap();
            assert_eq!(record_name(&version).as_deref(), name, "{version}");
        }
    }

    #[test]
    fn a_record_names_no_file_outside() {
        let text = |program: &str| {
            format!(
                r#"{{"version":"1","size":1,"digest":"","modified":"2026-05-01T08:00:00Z","program":"{program}"}}"#
            )
        };
        let inside = program_name(Uuid::from_u128(7));
        assert_eq!(Record::read(text(&inside).as_bytes()).unwrap().program, inside);
        for outside in ["../secret", "/etc/passwd", "program-../x", "release-1.json", ""] {
            assert!(Record::read(text(outside).as_bytes()).is_err(), "{outside}");
        }
    }
}
