//! The file on the disk: who may use it, what it is, how it comes to be. A file that is refused is left as it was.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use kanade_ports::ErrorKind;

use crate::fault::Fault;

/// The application id of our files, set by the first migration.
const OURS: u32 = 0x6b61_6e61;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where a database lives: its file and those beside it.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

/// What was found there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No file.
    Nothing,
    /// One of ours, closed cleanly.
    Database {
        /// The newest migration it has seen.
        schema: u32,
    },
    /// One of ours with changes that only its log holds; whether it is whole and how new, SQLite must say.
    WithLog {
        /// The file ends before it says it does, which is only right if the log holds the rest.
        short: bool,
    },
}

impl Place {
    /// # Errors
    /// When the folder is not there.
    pub(crate) fn new(path: &Path) -> Result<Self, Fault> {
        // An absolute path is also one that SQLite takes for nothing else (`:memory:`, `file:…`).
        let path = std::path::absolute(path).map_err(|error| Fault::new(ErrorKind::Unavailable, error))?;
        let folder = path.parent().unwrap_or(&path);
        if !folder.is_dir() {
            return Err(unavailable(format!(
                "there is no folder `{}`; create it, or choose another path",
                folder.display()
            )));
        }
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a new database is prepared, so that a crash meanwhile leaves nothing half-made at its path.
    pub(crate) fn nursery(&self) -> Self {
        Self(self.beside("-new"))
    }

    /// The log of changes that are not in the file itself yet.
    pub(crate) fn log(&self) -> PathBuf {
        self.beside("-wal")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.0);
        path.push(suffix);
        path.into()
    }

    /// Claims the database for this process until the returned file is dropped, be it by a crash.
    ///
    /// This comes before everything else: closing any handle of a file takes away the locks that SQLite has on it in
    /// the same process, so the file may only be looked at by whoever knows that nobody here has it open.
    pub(crate) fn claim(&self) -> Result<File, Fault> {
        let path = self.beside("-lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| {
                Fault::explained(
                    ErrorKind::Unavailable,
                    format!(
                        "the folder of the database must be writable, but `{}` is not",
                        path.display()
                    ),
                    error,
                )
            })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(unavailable(
                "the file is used by another kanade process; stop that one, or choose another path",
            )),
            Err(TryLockError::Error(error)) => Err(Fault::explained(
                ErrorKind::Unavailable,
                format!("cannot lock `{}`", path.display()),
                error,
            )),
        }
    }

    /// Looks at the file without changing anything; `newest` is the newest schema this program knows.
    pub(crate) fn inspect(&self, newest: u32) -> Result<Found, Fault> {
        let logged = fs::metadata(self.log()).is_ok_and(|log| log.len() > 0);
        let mut file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && logged => {
                return Err(corrupt(format!(
                    "the file is gone, but its log `{}` is still there; put the file back, or remove the log",
                    self.log().display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(unreadable(error)),
        };
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(corrupt("it is not a file"));
        }
        let mut header = Vec::new();
        file.by_ref()
            .take(Header::BYTES)
            .read_to_end(&mut header)
            .map_err(unreadable)?;
        let header = Header::parse(&header)?;
        if header.application != OURS {
            return Err(corrupt("it is a SQLite database, but not one of kanade"));
        }
        check_schema(header.schema, newest)?;
        let short = about.len() < header.length;
        match (logged, short) {
            (true, short) => Ok(Found::WithLog { short }),
            (false, true) => Err(truncated(about.len(), header.length)),
            (false, false) => Ok(Found::Database {
                schema: header.schema,
            }),
        }
    }

    /// Moves a database that has been closed to `target`, durably.
    pub(crate) fn settle_at(&self, target: &Self) -> io::Result<()> {
        fs::rename(&self.0, &target.0)?;
        // A rename is only durable once the folder is. Windows has no such call and needs none.
        #[cfg(unix)]
        if let Some(folder) = target.0.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the file and what SQLite may have left beside it.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for path in [
            self.0.clone(),
            self.log(),
            self.beside("-shm"),
            self.beside("-journal"),
        ] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses a file whose schema this program does not know.
pub(crate) fn check_schema(found: u32, newest: u32) -> Result<(), Fault> {
    if found > newest {
        return Err(Fault::new(
            ErrorKind::Unsupported,
            format!(
                "the file was written by a newer kanade (schema {found}, this program knows up to {newest}); \
                 start that version, or restore a backup from before its first start"
            ),
        ));
    }
    Ok(())
}

/// The parts of the file header (<https://www.sqlite.org/fileformat2.html#the_database_header>) that tell our files
/// from others and whole ones from cut ones.
struct Header {
    application: u32,
    schema: u32,
    /// In bytes.
    length: u64,
}

impl Header {
    const BYTES: u64 = 100;

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(corrupt(
                "the file is empty; restore it from a backup, or remove it to start afresh",
            ));
        }
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(corrupt("it is not a SQLite database"));
        }
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let read = || {
            let page_size = match number(16)? >> 16 {
                1 => 65_536,
                size => u64::from(size),
            };
            Some(Self {
                application: number(68)?,
                schema: number(60)?,
                length: u64::from(number(28)?) * page_size,
            })
        };
        read().ok_or_else(|| truncated(bytes.len() as u64, Self::BYTES))
    }
}

/// Refuses a part of a database.
pub(crate) fn cut_off(how: &str) -> Fault {
    corrupt(format!("the file is cut off, {how}; restore it from a backup"))
}

fn truncated(found: u64, wanted: u64) -> Fault {
    cut_off(&format!("{found} of {wanted} bytes are left"))
}

fn corrupt(reason: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::Corrupt, reason.into())
}

fn unavailable(reason: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::Unavailable, reason.into())
}

fn unreadable(error: io::Error) -> Fault {
    Fault::explained(ErrorKind::Unavailable, "the file cannot be read", error)
}
