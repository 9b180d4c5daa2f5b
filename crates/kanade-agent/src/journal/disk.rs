//! The file under the journal: opened with care, and again after a failure.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, backends::FileBackend};

use super::OpenError;

/// A journal holds little; the rest of redb's cache would only be memory.
const CACHE: usize = 4 * 1024 * 1024;
/// A file that has grown beyond this is compacted when the agent starts.
const COMPACT_ABOVE: u64 = 32 * 1024 * 1024;

/// Creates or opens the database in a file.
type Create = Box<dyn Fn(&Builder, FileBackend) -> Result<Database, DatabaseError> + Send>;

pub(super) struct Disk {
    path: PathBuf,
    database: Option<Database>,
    create: Create,
}

impl Disk {
    pub(super) fn at(path: &Path) -> Result<Self, OpenError> {
        Self::with(path, Box::new(Builder::create_with_backend))
    }

    /// The same, where the caller may put a layer of its own between redb and the file.
    pub(super) fn with(path: &Path, create: Create) -> Result<Self, OpenError> {
        let mut disk = Self {
            path: path.to_owned(),
            database: None,
            create,
        };
        let mut database = disk.open(true).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse,
            error => OpenError::Unusable(error.into()),
        })?;
        if std::fs::metadata(path).is_ok_and(|file| file.len() > COMPACT_ABOVE)
            && let Err(error) = database.compact()
        {
            tracing::warn!(path = %path.display(), %error, "cannot compact the journal; it is used as it is");
        }
        disk.database = Some(database);
        Ok(disk)
    }

    /// The database; opened again if it had failed.
    pub(super) fn database(&mut self) -> Result<&Database, redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open(false)?,
        };
        Ok(self.database.insert(database))
    }

    /// Closes the database, so that its next use opens it again.
    pub(super) fn reopen_later(&mut self) {
        self.database = None;
    }

    fn open(&self, check_integrity: bool) -> Result<Database, DatabaseError> {
        let file = private_file(&self.path)?;
        let mut builder = Database::builder();
        // Without the check, redb may panic on a file that was damaged by others.
        builder
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(check_integrity);
        (self.create)(&builder, FileBackend::new(file)?)
    }
}

/// Scripts and their output are in it: nobody else may read it.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
