//! Reads the documents of a YAML text, strictly: what is wrong is told with file, line and column, before anything is
//! sent.

mod outline;

use std::collections::BTreeMap;

use kanade_model::{Invalid, Manifest, Schedule};
use serde::{Serialize, de::DeserializeOwned};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::files::Source;
use outline::{Outline, position};

/// A document that operators write.
pub(super) trait Document: DeserializeOwned + Serialize + PartialEq {
    /// What it is called.
    const KIND: &'static str;
    /// What another kind of document is called, the field that gives it away, and what takes it.
    const OTHER: (&'static str, &'static str, &'static str);

    fn id(&self) -> &str;

    /// What the server would refuse.
    fn check(&self) -> Result<(), Invalid>;
}

impl Document for Manifest {
    const KIND: &'static str = "job";
    const OTHER: (&'static str, &'static str, &'static str) = ("schedule", "cron", "kanade schedule apply");

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn check(&self) -> Result<(), Invalid> {
        Manifest::check(self)
    }
}

impl Document for Schedule {
    const KIND: &'static str = "schedule";
    const OTHER: (&'static str, &'static str, &'static str) = ("job", "execute", "kanade job apply");

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn check(&self) -> Result<(), Invalid> {
        Schedule::check(self)
    }
}

/// A document and where it begins (`jobs.yaml:12`).
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) document: T,
    pub(super) place: String,
}

/// Reads all documents of all sources, or tells everything that is wrong with them.
pub(super) fn read<T: Document>(sources: &[Source]) -> Result<Vec<Found<T>>, Vec<String>> {
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for source in sources {
        match documents::<T>(source) {
            Ok(documents) if documents.is_empty() => {
                complaints.push(format!("{}: no {} is in it", source.name, T::KIND));
            }
            Ok(documents) => found.extend(documents),
            Err(more) => complaints.extend(more),
        }
    }
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for Found { document, place } in &found {
        if let Some(first) = places.insert(document.id(), place) {
            complaints.push(format!(
                "{place}: {} `{}` is also at {first}",
                T::KIND,
                document.id()
            ));
        }
    }
    if complaints.is_empty() {
        Ok(found)
    } else {
        Err(complaints)
    }
}

fn documents<T: Document>(source: &Source) -> Result<Vec<Found<T>>, Vec<String>> {
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for text in split(&source.text) {
        match document(&source.name, &text) {
            Ok(document) => found.extend(document),
            Err(more) => complaints.extend(more),
        }
    }
    if complaints.is_empty() {
        Ok(found)
    } else {
        Err(complaints)
    }
}

/// The documents of a stream, each behind as many empty lines as its place in the stream says, so that positions are
/// those in the stream. A line that begins with a document marker is one wherever it stands (YAML 1.2, 9.1.2).
fn split(text: &str) -> Vec<String> {
    let (mut documents, mut current) = (Vec::new(), String::new());
    let (mut marked, mut begun) = (false, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = ["---", "..."].into_iter().find(|marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        });
        // Directives and remarks in front of the first marker belong to the document behind it.
        if marker.is_some() && (marked || begun) {
            let ended = std::mem::replace(&mut current, "\n".repeat(number));
            documents.extend(begun.then_some(ended));
            (marked, begun) = (false, false);
        }
        if marker == Some("...") {
            current.push('\n');
            continue;
        }
        marked |= marker.is_some();
        let content = if marker.is_some() {
            line.get(3..).unwrap_or_default()
        } else {
            line
        }
        .trim();
        begun |= !content.is_empty() && !content.starts_with(['#', '%']);
        current.push_str(line);
    }
    documents.extend(begun.then_some(current));
    documents
}

/// Reads one document; none where there is nothing but a null.
fn document<T: Document>(name: &str, text: &str) -> Result<Option<Found<T>>, Vec<String>> {
    let options = || serde_saphyr::options! { with_snippet: false };
    let told = |error: &serde_saphyr::Error, path: &str| {
        let message = UserMessageFormatter.format_message(error);
        let field = if path.is_empty() || path == "." {
            String::new()
        } else {
            format!("{path}: ")
        };
        match error.location() {
            Some(at) => format!("{name}:{}:{}: {field}{message}", at.line(), at.column()),
            None => format!("{name}: {field}{message}"),
        }
    };
    let outline: Spanned<Outline> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| vec![told(&error, "")])?;
    if matches!(outline.value, Outline::Null) {
        return Ok(None);
    }
    if let Some(stranger) = stranger::<T>(name, &outline.value) {
        return Err(vec![stranger]);
    }
    let start = position(&outline);
    let at = |field: &str| {
        let (line, column) = outline.value.place(field).unwrap_or(start);
        format!("{name}:{line}:{column}")
    };
    let (mut track, mut complaints) = (serde_path_to_error::Track::new(), Vec::new());
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        let note = &mut |path: serde_ignored::Path<'_>| {
            complaints.push(format!("{}: unknown field `{path}`", at(&path.to_string())));
        };
        let tracked = serde_path_to_error::Deserializer::new(yaml, &mut track);
        T::deserialize(serde_ignored::Deserializer::new(tracked, note))
    });
    match read {
        Ok(document) => {
            if let Err(invalid) = document.check() {
                complaints.push(format!("{}: {invalid}", at(&invalid.field)));
            }
            let place = format!("{name}:{}", start.0);
            if complaints.is_empty() {
                Ok(Some(Found { document, place }))
            } else {
                Err(complaints)
            }
        }
        Err(error) => {
            complaints.push(told(&error, &track.path().to_string()));
            Err(complaints)
        }
    }
}

/// A complaint about a document that is of another kind.
fn stranger<T: Document>(name: &str, outline: &Outline) -> Option<String> {
    let (kind, field, command) = T::OTHER;
    let (line, column) = outline.place(field).filter(|_| outline.has(field))?;
    Some(format!(
        "{name}:{line}:{column}: `{field}` belongs to a {kind}: `{command}` takes it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Result<Vec<Found<Manifest>>, Vec<String>> {
        read(&[Source {
            name: "jobs.yaml".into(),
            text: text.into(),
        }])
    }

    const BACKUP: &str =
        "id: backup\nversion: 1.0\nexecute:\n  shell: sh\n  script: |\n    echo hi\n  timeout: 30s\n";

    #[test]
    fn several_documents_are_read_with_their_places() {
        let text = format!(
            "# jobs\n{BACKUP}---\n{}---\n",
            BACKUP.replace("backup", "restore")
        );
        let found = jobs(&text).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|found| (found.document.id.as_str(), found.place.as_str()))
            .collect();
        assert_eq!(seen, [("backup", "jobs.yaml:2"), ("restore", "jobs.yaml:10")]);
        assert_eq!(
            found[0].document.version.as_str(),
            "1.0",
            "as it was written, not as a number"
        );
    }

    #[test]
    fn json_is_yaml_too() {
        let json =
            r#"{"id": "a", "version": "1", "execute": {"shell": "sh", "script": "x", "timeout": "1s"}}"#;
        assert_eq!(jobs(json).unwrap()[0].document.id.as_str(), "a");
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        for (from, to, told) in [
            (
                "timeout: 30s",
                "timeout: 30",
                "jobs.yaml:7:12: execute.timeout: duration: `30` is not valid",
            ),
            ("  shell: sh", "  shell: zsh", "jobs.yaml:4:10: "),
            ("  shell: sh", "  shell: [sh]", "jobs.yaml:4:10: "),
            ("id: backup", "id: a/b", "jobs.yaml:1:1: id: `a/b` is not valid"),
            ("id: backup", "id:", "jobs.yaml:1:"),
            (
                "timeout: 30s",
                "timeout: 0s",
                "jobs.yaml:7:3: execute.timeout: `0s`",
            ),
            (
                "timeout: 30s",
                "timeout: 30s\n  user: root",
                "jobs.yaml:8:3: unknown field `execute.user`",
            ),
            (
                "version: 1.0",
                "version: 1.0\nversion: 2.0",
                "jobs.yaml:3:1: duplicate",
            ),
            ("version: 1.0", " version: 1.0", "jobs.yaml:2:"),
            ("version: 1.0", "\tversion: 1.0", "jobs.yaml:1:"),
        ] {
            let text = BACKUP.replace(from, to);
            let complaints = jobs(&text).unwrap_err();
            assert_eq!(complaints.len(), 1, "{text}\n{complaints:?}");
            assert!(
                complaints[0].starts_with(told),
                "{text}\n{complaints:?} does not start with {told}"
            );
        }
    }

    #[test]
    fn everything_that_can_be_told_at_once_is() {
        let other = BACKUP
            .replace("backup", "-.")
            .replace("shell: sh", "shell: sh\n  shel: sh");
        let complaints = jobs(&format!("{BACKUP}extra: 1\nmore: {{x: 1}}\n---\n{other}")).unwrap_err();
        let starts = [
            "jobs.yaml:8:1: unknown field `extra`",
            "jobs.yaml:9:1: unknown field `more`",
            "jobs.yaml:15:3: unknown field `execute.shel`",
            "jobs.yaml:11:1: id: `-.`",
        ];
        assert_eq!(complaints.len(), starts.len(), "{complaints:?}");
        for (complaint, start) in complaints.iter().zip(starts) {
            assert!(
                complaint.starts_with(start),
                "{complaint} does not start with {start}"
            );
        }
    }

    #[test]
    fn a_misspelt_field_is_named_beside_the_one_that_is_missing() {
        let complaints = jobs(&BACKUP.replace("timeout", "timeuot")).unwrap_err();
        assert_eq!(
            complaints,
            [
                "jobs.yaml:7:3: unknown field `execute.timeuot`",
                "jobs.yaml:7:3: execute: missing field `timeout`"
            ]
        );
    }

    #[test]
    fn a_mistake_in_one_document_does_not_hide_those_in_others() {
        let broken = BACKUP.replace("id: backup", "id: [");
        let text = format!(
            "%YAML 1.2\n---\n{broken}...\n---\n---\n# next\n{}--- {{id: x}}\n",
            BACKUP.replace("30s", "30")
        );
        let complaints = jobs(&text).unwrap_err();
        let lines: Vec<&str> = complaints
            .iter()
            .map(|told| told.split(':').nth(1).unwrap())
            .collect();
        assert_eq!(lines, ["5", "20", "21"], "{complaints:?}");
    }

    #[test]
    fn a_dash_line_within_a_script_is_no_marker() {
        let found = jobs(&BACKUP.replace("    echo hi", "    ---\n    echo hi\n    ...")).unwrap();
        assert_eq!(found[0].document.execute.script, "---\necho hi\n...\n");
    }

    #[test]
    fn a_document_of_another_kind_is_told_where_it_belongs() {
        let complaints = jobs("id: nightly\ncron: '0 0 2 * * *'\njob_id: backup\n").unwrap_err();
        assert_eq!(
            complaints,
            ["jobs.yaml:2:1: `cron` belongs to a schedule: `kanade schedule apply` takes it"]
        );
        let source = Source {
            name: "x.yaml".into(),
            text: BACKUP.into(),
        };
        let complaints = read::<Schedule>(&[source]).unwrap_err();
        assert!(
            complaints[0].contains("`kanade job apply` takes it"),
            "{complaints:?}"
        );
    }

    #[test]
    fn nothing_and_the_same_twice_are_refused() {
        for text in ["", "# only a remark\n", "---\n---\n"] {
            assert_eq!(
                jobs(text).unwrap_err(),
                ["jobs.yaml: no job is in it"],
                "{text:?}"
            );
        }
        let complaints = jobs(&format!("{BACKUP}---\n{BACKUP}")).unwrap_err();
        assert_eq!(complaints, ["jobs.yaml:9: job `backup` is also at jobs.yaml:1"]);
    }

    #[test]
    fn a_schedule_that_does_not_parse_is_told_at_its_cron() {
        let text = "id: nightly\njob_id: backup\ncron: '* * * * *'\ntarget: {all: true}\n".to_owned();
        let complaints = read::<Schedule>(&[Source {
            name: "s.yaml".into(),
            text,
        }])
        .unwrap_err();
        assert!(
            complaints[0].starts_with("s.yaml:3:1: cron: `* * * * *` is not valid"),
            "{complaints:?}"
        );
    }
}
