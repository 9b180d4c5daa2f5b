//! Reads the documents of a YAML text, strictly: what is wrong is told with file, line and column, before anything is
//! sent.

use std::{collections::BTreeMap, fmt};

use kanade_model::{Invalid, Manifest, Schedule};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::files::Source;

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
    let name = &source.name;
    let told = |error: &serde_saphyr::Error| {
        let message = UserMessageFormatter.format_message(error);
        match error.location() {
            Some(at) => format!("{name}:{}:{}: {message}", at.line(), at.column()),
            None => format!("{name}: {message}"),
        }
    };
    let outlines: Vec<Spanned<Outline>> = parse(&source.text).map_err(|error| vec![told(&error)])?;
    let strangers = outlines
        .iter()
        .filter_map(|outline| stranger::<T>(name, &outline.value))
        .collect::<Vec<_>>();
    if !strangers.is_empty() {
        return Err(strangers);
    }
    let strict: Vec<Strict<T>> = parse(&source.text).map_err(|error| vec![told(&error)])?;
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for (Strict { document, unknown }, outline) in strict.into_iter().zip(outlines) {
        let at = |field: &str| {
            let (line, column) = outline.value.place(field).unwrap_or(position(&outline));
            format!("{name}:{line}:{column}")
        };
        complaints.extend(
            unknown
                .iter()
                .map(|field| format!("{}: unknown field `{field}`", at(field))),
        );
        if let Err(invalid) = document.check() {
            complaints.push(format!("{}: {invalid}", at(&invalid.field)));
        }
        let place = format!("{name}:{}", position(&outline).0);
        found.push(Found { document, place });
    }
    if complaints.is_empty() {
        Ok(found)
    } else {
        Err(complaints)
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, serde_saphyr::Error> {
    serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { with_snippet: false })
}

/// A complaint about a document that is of another kind.
fn stranger<T: Document>(name: &str, outline: &Outline) -> Option<String> {
    let (kind, field, command) = T::OTHER;
    let (line, column) = outline.place(field).filter(|_| outline.has(field))?;
    Some(format!(
        "{name}:{line}:{column}: `{field}` belongs to a {kind}: `{command}` takes it"
    ))
}

fn position<T>(spanned: &Spanned<T>) -> (u64, u64) {
    (spanned.referenced.line(), spanned.referenced.column())
}

/// A document, and the fields in it that it does not have.
struct Strict<T> {
    document: T,
    unknown: Vec<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let document = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))?;
        Ok(Self { document, unknown })
    }
}

/// Where the fields of a document stand.
enum Outline {
    Map(Vec<(Spanned<String>, Outline)>),
    List(Vec<Spanned<Outline>>),
    Value,
}

impl Outline {
    /// Line and column of the field with a dotted path, or of the nearest field around it.
    fn place(&self, path: &str) -> Option<(u64, u64)> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let (at, inner) = match self {
            Self::Map(fields) => {
                let (key, inner) = fields.iter().find(|(key, _)| key.value == first)?;
                (position(key), inner)
            }
            Self::List(items) => {
                let item = items.get(first.parse::<usize>().ok()?)?;
                (position(item), &item.value)
            }
            Self::Value => return None,
        };
        inner.place(rest).or(Some(at))
    }

    fn has(&self, field: &str) -> bool {
        matches!(self, Self::Map(fields) if fields.iter().any(|(key, _)| key.value == field))
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Outline::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Outline, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Outline::List(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_none<E>(self) -> Result<Outline, E> {
        Ok(Outline::Value)
    }
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
                "jobs.yaml:7:12: duration: `30` is not valid",
            ),
            ("timeout: 30s", "timeuot: 30s", "jobs.yaml:6:"),
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
            ("version: 1.0", "\tversion: 1.0", "jobs.yaml:2:"),
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
