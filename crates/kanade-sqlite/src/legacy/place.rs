//! Where the old file is read: in place, or in a copy when a log beside it holds its newest changes.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use kanade_ports::ErrorKind;
use sqlx::sqlite::SqliteConnectOptions;

use crate::fault::Fault;

/// What SQLite leaves beside a file that was not closed: the log of its newest changes, or how to undo half of one.
const BESIDE: [&str; 2] = ["-wal", "-journal"];

#[derive(Debug)]
pub(super) struct Place {
    original: PathBuf,
    copy: Option<PathBuf>,
    seen: Vec<Seen>,
}

/// What tells a file from itself after a change: its length and the time of the last change. None when there is none.
type Seen = Option<(u64, Option<SystemTime>)>;

impl Place {
    pub(super) fn at(path: &Path, scratch: &Path) -> Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(unreadable)?;
        check_kind(&path)?;
        let mut place = Self {
            seen: look(&path)?,
            original: path,
            copy: None,
        };
        // The file itself without what a log holds would be read as it once was.
        let has_log = place.seen[1..]
            .iter()
            .any(|seen| matches!(seen, Some((len, _)) if *len > 0));
        if has_log {
            place.copy = Some(place.copied_to(scratch)?);
        }
        Ok(place)
    }

    pub(super) fn original(&self) -> &Path {
        &self.original
    }

    pub(super) fn options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .row_buffer_size(4)
            .foreign_keys(false)
            .pragma("cache_size", "-16384");
        match &self.copy {
            // Nobody else has it, and its log must be read into it.
            Some(copy) => options.filename(copy),
            // Without locks and without files beside it: the folder may be read-only.
            None => options.filename(&self.original).read_only(true).immutable(true),
        }
    }

    /// Whether the original is still what was read.
    pub(super) fn check_unchanged(&self) -> Result<(), Fault> {
        if look(&self.original)? == self.seen {
            Ok(())
        } else {
            Err(Fault::new(
                ErrorKind::Unavailable,
                "it changed while it was read; stop the old server, then do this again",
            ))
        }
    }

    fn copied_to(&self, scratch: &Path) -> Result<PathBuf, Fault> {
        let copy = scratch.join("old.db");
        let from_to = [""].into_iter().chain(BESIDE).map(|suffix| {
            let (from, to) = (beside(&self.original, suffix), beside(&copy, suffix));
            (from, to)
        });
        for ((from, to), seen) in from_to.zip(&self.seen) {
            if seen.is_some() {
                fs::copy(&from, &to).map_err(|error| {
                    let words = format!(
                        "it was not closed, so it is read in a copy, which cannot be made in {}",
                        scratch.display()
                    );
                    Fault::explained(ErrorKind::Unavailable, words, error)
                })?;
                make_writable(&to).map_err(unreadable)?;
            }
        }
        self.check_unchanged()?;
        Ok(copy)
    }
}

/// The copy of a file that may only be read may only be read.
fn make_writable(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions)
}

fn check_kind(path: &Path) -> Result<(), Fault> {
    let unusable = |kind, words: &str| Err(Fault::new(kind, words.to_owned()));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return unusable(ErrorKind::Unavailable, "there is no such file");
        }
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return unusable(ErrorKind::Unavailable, "it is not a file");
    }
    let mut magic = Vec::new();
    file.by_ref()
        .take(16)
        .read_to_end(&mut magic)
        .map_err(unreadable)?;
    if magic != b"SQLite format 3\0" {
        return unusable(ErrorKind::Corrupt, "it is not a SQLite database");
    }
    Ok(())
}

fn look(path: &Path) -> Result<Vec<Seen>, Fault> {
    let suffixes = [""].into_iter().chain(BESIDE);
    suffixes
        .map(|suffix| match fs::metadata(beside(path, suffix)) {
            Ok(about) => Ok(Some((about.len(), about.modified().ok()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        })
        .collect()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn unreadable(error: io::Error) -> Fault {
    Fault::explained(ErrorKind::Unavailable, "it cannot be read", error)
}
