//! Reads what `-f` names: files, folders, standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::failure::Failure;

/// A text and the name under which it is spoken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads every source: `-` is standard input, a folder stands for the documents in it, by name.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(stdin()?);
        } else if path.is_dir() {
            let files = documents_in(path)?;
            if files.is_empty() {
                let text = format!(
                    "{}: no .yaml, .yml or .json file is in this folder",
                    path.display()
                );
                return Err(Failure::Usage(text));
            }
            for file in files {
                sources.push(source(&file)?);
            }
        } else {
            sources.push(source(path)?);
        }
    }
    Ok(sources)
}

/// Reads one text: `-` is standard input.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let source = if path.as_os_str() == "-" {
        stdin()?
    } else {
        source(path)?
    };
    Ok(source.text)
}

fn source(path: &Path) -> Result<Source, Failure> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    utf8(name, bytes)
}

fn stdin() -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
    utf8("<stdin>".into(), bytes)
}

fn utf8(name: String, bytes: Vec<u8>) -> Result<Source, Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            Err(Failure::Usage(format!("{name}:{line}: this is not UTF-8 text")))
        }
    }
}

fn documents_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: io::Error| Failure::Usage(format!("cannot read {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_document = path
            .extension()
            .is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        if is_document && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_documents_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "notes.txt", ".hidden"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("d.yaml")).unwrap();
        let sources = sources(&[folder.path().to_owned()]).unwrap();
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a.yaml", "b.yml", "c.json"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.yaml");
        for (path, told) in [(missing, "missing.yaml"), (folder.path().to_owned(), "no .yaml")] {
            let Err(Failure::Usage(text)) = sources(&[path]) else {
                panic!("it was read")
            };
            assert!(text.contains(told), "{text}");
        }
        let latin1 = folder.path().join("latin1.yaml");
        fs::write(&latin1, b"id: a\ndescription: gr\xfc\xdfe\n").unwrap();
        let Err(Failure::Usage(text)) = sources(&[latin1]) else {
            panic!("it was read")
        };
        assert!(text.contains("latin1.yaml:2: this is not UTF-8"), "{text}");
    }
}
