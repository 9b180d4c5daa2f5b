//! The file itself: made whole or not at all, and looked into before it is touched.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use kanade_ports::{ErrorKind, StoreError};
use redb::{DatabaseError, ReadableDatabase, backends::FileBackend};

use crate::{
    device::{Device, Overlay},
    document, engine,
    fault::Fault,
    meta::{self, Counter},
    output::OUTPUTS,
    record,
};

/// Files up to this size are verified at every start; larger ones only after a stop that was not clean.
const VERIFIED: u64 = 256 << 20;

/// Makes sure that `path` is a data file that this program can use; makes one where there is nothing.
pub(crate) fn prepare(path: &Path) -> Result<(), StoreError> {
    match path.metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(failure(path, ErrorKind::Unavailable).because(error)),
    }
    inspect(path)
}

/// The device of a file that is there.
pub(crate) fn device(path: &Path) -> io::Result<Device> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(Device::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Looks at a file without changing it.
fn inspect(path: &Path) -> Result<(), StoreError> {
    look_at(path, VERIFIED).map_err(|problem| match problem {
        Problem::Sentence(kind, sentence) => failure(path, kind).because(sentence),
        Problem::Fault(fault) => fault.of(format!("open the data file {}", path.display())),
    })
}

fn failure(path: &Path, kind: ErrorKind) -> StoreError {
    StoreError::new(kind, format!("open the data file {}", path.display()))
}

/// Why a file is refused: a kind and a sentence, or a failure that speaks for itself.
#[derive(Debug)]
pub(crate) enum Problem {
    Sentence(ErrorKind, String),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Problem {
    fn from(error: E) -> Self {
        match error.into() {
            Fault::Engine(error) => why_not(error),
            fault => Self::Fault(fault),
        }
    }
}

pub(crate) fn look_at(path: &Path, verified: u64) -> Result<(), Problem> {
    let len = match path.metadata()? {
        found if found.is_dir() => {
            let sentence = "it is a folder; name a file in it".to_owned();
            return Err(Problem::Sentence(ErrorKind::Unavailable, sentence));
        }
        found => found.len(),
    };
    if len == 0 {
        let sentence =
            "it is empty, which a data file never is; put its backup there, or remove it to start anew";
        return Err(Problem::Sentence(ErrorKind::Corrupt, sentence.to_owned()));
    }
    let verify = len <= verified || !was_closed(path)?;
    // Whatever opening it writes (a repair, the mark that it is in use) stays in memory.
    let overlay = Overlay::new(device(path)?)?;
    let database = engine::builder(engine::CACHE)
        .set_check_integrity_on_open(verify)
        .create_with_backend(overlay)?;
    match meta::format(&database.begin_read()?)? {
        Some(meta::FORMAT) => Ok(()),
        Some(newer) if newer > meta::FORMAT => Err(Problem::Sentence(
            ErrorKind::Unsupported,
            format!(
                "it was written by a newer kanade (format {newer}, this one knows {}); run that one, or name another file",
                meta::FORMAT
            ),
        )),
        _ => Err(Problem::Sentence(
            ErrorKind::Corrupt,
            "it belongs to another program; name another file".to_owned(),
        )),
    }
}

/// Whether the file was closed by its last user.
fn was_closed(path: &Path) -> Result<bool, Problem> {
    let file = FileBackend::new(File::open(path)?)?;
    match engine::builder(engine::CACHE).open_read_only_with_backend(file) {
        Ok(_) => Ok(true),
        Err(DatabaseError::RepairAborted) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn why_not(error: redb::Error) -> Problem {
    let (kind, sentence) = match &error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => (
            ErrorKind::Unavailable,
            "another process has it open; stop that one, or name another file".to_owned(),
        ),
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => (
            ErrorKind::Corrupt,
            "it is not a redb database; name another file".to_owned(),
        ),
        redb::Error::UpgradeRequired(_) => (
            ErrorKind::Unsupported,
            "it was written by an older redb, which kanade never used; name another file".to_owned(),
        ),
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            damaged("it ends too early")
        }
        redb::Error::Corrupted(what) => damaged(what),
        _ => return Problem::Fault(Fault::Engine(error)),
    };
    Problem::Sentence(kind, sentence)
}

fn damaged(how: &str) -> (ErrorKind, String) {
    let sentence =
        format!("it is damaged or was cut off ({how}) and was left as it is; put its backup there");
    (ErrorKind::Corrupt, sentence)
}

/// Makes a new file: complete under another name first, so that a crash never leaves half of one.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: Box<dyn Error + Send + Sync>| {
        StoreError::new(
            ErrorKind::Unavailable,
            format!("create the data file {}", path.display()),
        )
        .because(error)
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let whole = tempfile::Builder::new()
        .prefix(".kanade-")
        .suffix(".new")
        .tempfile_in(&folder)
        .map_err(|error| failed(error.into()))?;
    fill(whole.path()).map_err(|fault| failed(fault.into()))?;
    match whole.persist_noclobber(path) {
        Ok(_) => {}
        // Somebody else was faster; theirs is the file then.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.error.into())),
    }
    #[cfg(unix)]
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(error.into()))?;
    Ok(())
}

fn fill(path: &Path) -> Result<(), Fault> {
    fill_device(device(path)?)
}

/// Makes an empty store and catalog in an empty device.
pub(crate) fn fill_device(device: Device) -> Result<(), Fault> {
    let database = engine::builder(engine::CACHE).create_with_backend(device)?;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    for (rows, lists) in record::tables() {
        txn.open_table(rows)?;
        lists.map(|lists| txn.open_table(lists)).transpose()?;
    }
    for table in [OUTPUTS, document::DOCUMENTS, document::VERSIONS] {
        txn.open_table(table)?;
    }
    meta::write(&txn, Counter::Format, meta::FORMAT)?;
    txn.commit()?;
    Ok(database.close()?)
}
