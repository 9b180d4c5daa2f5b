//! The folder: what is read and written in it, step by step, on a thread that may wait for the disk.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use kanade_model::Version;
use tempfile::{Builder, NamedTempFile, TempPath};

use crate::record::{self, Record};

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    /// What is there cannot be understood.
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
    /// It is done, and may be undone by a power cut.
    Unsettled(io::Error),
    Missing,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) struct Folder {
    path: PathBuf,
    /// Held while records change, so that each knows which program it replaces.
    changes: Mutex<()>,
}

impl Folder {
    /// Makes the folder if there is none, and removes what writes have left that did not come to their end.
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        fs::create_dir_all(path)?;
        let folder = Self {
            path: path.to_owned(),
            changes: Mutex::default(),
        };
        folder.sweep()?;
        Ok(folder)
    }

    /// Every record. One that cannot be read is left out and logged.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Fault> {
        Ok(self.readable()?.0)
    }

    /// The record of a version.
    pub(crate) fn record(&self, version: &Version) -> Result<Option<Record>, Fault> {
        match record::record_name(version) {
            Some(name) => self.read(&name),
            None => Ok(None),
        }
    }

    /// A program, open for reading: it stays readable when it is replaced or deleted meanwhile.
    pub(crate) fn program(&self, version: &Version) -> Result<Option<(Record, File)>, Fault> {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let Some(record) = self.record(version)? else {
                return Ok(None);
            };
            match File::open(self.path.join(&record.program)) {
                Ok(file) if file.metadata()?.len() == record.size => return Ok(Some((record, file))),
                Ok(_) => return Err(Fault::Unreadable("its program has another size".into())),
                // Replaced between the two steps: there is another record now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Fault::Unreadable("its program is gone".into()))
    }

    /// A file for a program that is to come; it goes away again when nothing becomes of it.
    pub(crate) fn incoming(&self) -> Result<(File, TempPath), Fault> {
        Ok(self.temporary(record::INCOMING)?.into_parts())
    }

    /// Makes a program that is wholly on the disk the one of its version.
    pub(crate) fn release(&self, program: TempPath, record: &Record, version: &Version) -> Result<(), Fault> {
        let name = record::record_name(version).ok_or_else(|| Fault::Unreadable("no such version".into()))?;
        let text = serde_json::to_vec(record).map_err(|error| Fault::Unreadable(error.into()))?;
        let mut draft = self.temporary(record::DRAFT)?;
        draft.write_all(&text)?;
        draft.as_file().sync_all()?;
        let kept = self.path.join(&record.program);
        program.persist_noclobber(&kept).map_err(|error| error.error)?;
        let changing = self.changing();
        let replaced = self.read(&name);
        // The program is in the folder before anything can name it.
        let placed = self.sync().and_then(|()| {
            let named = draft.persist(self.path.join(&name));
            named.map(drop).map_err(|error| error.error)
        });
        if let Err(error) = placed {
            self.remove(&record.program);
            return Err(error.into());
        }
        drop(changing);
        if let Ok(Some(replaced)) = replaced {
            self.remove(&replaced.program);
        }
        self.sync().map_err(Fault::Unsettled)
    }

    pub(crate) fn delete(&self, version: &Version) -> Result<(), Fault> {
        let name = record::record_name(version).ok_or(Fault::Missing)?;
        let changing = self.changing();
        let record = self.read(&name)?.ok_or(Fault::Missing)?;
        fs::remove_file(self.path.join(&name))?;
        drop(changing);
        self.remove(&record.program);
        self.sync().map_err(Fault::Unsettled)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().expect("no panic while locked")
    }

    fn temporary(&self, prefix: &str) -> io::Result<NamedTempFile> {
        Builder::new().prefix(prefix).tempfile_in(&self.path)
    }

    fn read(&self, name: &str) -> Result<Option<Record>, Fault> {
        match fs::read(self.path.join(name)) {
            Ok(text) => Record::read(&text).map(Some).map_err(Fault::Unreadable),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The records that can be read, and whether those are all.
    fn readable(&self) -> Result<(Vec<Record>, bool), Fault> {
        let (mut records, mut all) = (Vec::new(), true);
        for name in self.names()?.iter().filter(|name| record::is_record(name)) {
            match self.read(name) {
                Ok(record) => records.extend(record),
                Err(Fault::Unreadable(error)) => {
                    tracing::warn!(%error, file = name, folder = %self.path.display(), "a release cannot be read");
                    all = false;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok((records, all))
    }

    fn sweep(&self) -> Result<(), Fault> {
        let (records, all) = self.readable()?;
        let named: BTreeSet<&str> = records.iter().map(|record| record.program.as_str()).collect();
        for name in self.names()? {
            // What a record names that cannot be read is not known.
            let stray = all && record::is_program(&name) && !named.contains(name.as_str());
            if stray || record::is_unfinished(&name) {
                self.remove(&name);
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Removes what nobody names; what stays is tried again at the next start.
    fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = name, folder = %self.path.display(), "cannot remove an unused file");
        }
    }

    /// Sees that the names in the folder outlive a power cut.
    #[cfg(unix)]
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Elsewhere a folder cannot be synced, and names are as safe as the file system makes them.
    #[cfg(not(unix))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "as on the systems that can"
    )]
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
