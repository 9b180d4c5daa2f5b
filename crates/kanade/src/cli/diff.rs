//! What differs between two versions of a document, as people read it: a unified diff of their YAML.

use std::fmt::Write;

use similar::{ChangeTag, TextDiff};

use super::{document::Document, table::Tone};

/// What differs between two documents as a unified diff of their YAML, under their names; everything where there was
/// none before, nothing where nothing differs.
pub(super) fn difference<T: Document>(before: Option<(&T, &str)>, (after, name): (&T, &str)) -> String {
    let (old, old_name) = match before {
        Some((document, name)) => (yaml(document), format!("{}/{} ({name})", T::KIND, document.id())),
        None => (String::new(), "/dev/null".to_owned()),
    };
    let new = yaml(after);
    let new_name = format!("{}/{} ({name})", T::KIND, after.id());
    TextDiff::from_lines(old.as_str(), new.as_str())
        .unified_diff()
        .header(&old_name, &new_name)
        .to_string()
}

/// How many lines of `after` are new and how many of `before` are gone.
pub(super) fn lines_changed<T: Document>(before: &T, after: &T) -> (usize, usize) {
    let (old, new) = (yaml(before), yaml(after));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let count = |tag| {
        diff.iter_all_changes()
            .filter(|change| change.tag() == tag)
            .count()
    };
    (count(ChangeTag::Insert), count(ChangeTag::Delete))
}

/// The document as people would write it.
pub(super) fn yaml<T: Document>(document: &T) -> String {
    serde_saphyr::to_string(document).expect("a document has string keys only")
}

/// A diff with its lines coloured, where colours are wanted.
pub(super) fn colored(diff: &str, colors: bool) -> String {
    if !colors {
        return diff.to_owned();
    }
    let mut text = String::new();
    for line in diff.lines() {
        let style = match line.as_bytes() {
            [b'+', b'+', ..] | [b'-', b'-', ..] => anstyle::Style::new().bold(),
            [b'+', ..] => Tone::Good.style(),
            [b'-', ..] => Tone::Bad.style(),
            [b'@', ..] => Tone::Busy.style(),
            _ => anstyle::Style::new(),
        };
        writeln!(text, "{style}{line}{style:#}").expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::Manifest;
    use serde_json::json;

    fn manifest(version: &str, script: &str) -> Manifest {
        serde_json::from_value(json!({
            "id": "backup", "version": version, "execute": {"shell": "sh", "script": script, "timeout": "30s"}
        }))
        .unwrap()
    }

    #[test]
    fn a_difference_shows_the_lines_that_change() {
        let (old, new) = (
            manifest("1.0.0", "echo a\necho b\n"),
            manifest("1.1.0", "echo a\necho c\n"),
        );
        let diff = difference(Some((&old, "stored")), (&new, "given"));
        for line in [
            "--- job/backup (stored)",
            "+++ job/backup (given)",
            "-version: \"1.0.0\"",
            "+version: \"1.1.0\"",
            "     echo a",
            "-    echo b",
            "+    echo c",
        ] {
            assert!(
                diff.lines().any(|shown| shown == line),
                "{line:?} is missing in\n{diff}"
            );
        }
        assert_eq!(lines_changed(&old, &new), (2, 2));
    }

    #[test]
    fn a_new_document_is_all_new_and_the_same_one_is_no_difference() {
        let new = manifest("1", "true");
        let diff = difference(None, (&new, "given"));
        assert!(
            diff.starts_with("--- /dev/null\n+++ job/backup (given)\n"),
            "{diff}"
        );
        assert!(diff.contains("+id: backup\n"), "{diff}");
        assert_eq!(difference(Some((&new, "stored")), (&new, "given")), "");
    }

    #[test]
    fn what_is_shown_can_be_applied_again() {
        let manifest = manifest("1.10", "#!/bin/sh\necho 'a: b'\n\n  echo \"done\" # really\n");
        let again: Manifest = serde_saphyr::from_str(&yaml(&manifest)).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn only_whole_lines_are_coloured_and_only_when_wanted() {
        let diff = "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n z\n";
        assert_eq!(colored(diff, false), diff);
        let shown = colored(diff, true);
        assert!(
            shown.contains("\u{1b}[31m-x\u{1b}[0m\n") && shown.contains("\u{1b}[32m+y\u{1b}[0m\n"),
            "{shown:?}"
        );
        assert!(shown.ends_with(" z\n"), "{shown:?}");
    }
}
