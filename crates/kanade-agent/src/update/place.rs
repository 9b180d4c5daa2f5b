//! The files of an update: the program, the candidate and the copy of the program before, side by side, so that one takes
//! another's place in one step; and the download in the agent's folder.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::record::Steps;
use crate::file::sync_folder;

#[derive(Debug, Clone)]
pub(super) struct Place {
    program: PathBuf,
    download: PathBuf,
    pub(super) steps: Steps,
}

impl Place {
    pub(super) fn new(program: PathBuf, folder: &Path) -> Self {
        Self {
            program,
            download: folder.join("update.download"),
            steps: Steps::default(),
        }
    }

    /// Where a program is written as it comes.
    pub(super) fn download(&self) -> &Path {
        &self.download
    }

    /// The candidate.
    pub(super) fn next(&self) -> PathBuf {
        self.beside("next")
    }

    /// The program before the last update.
    pub(super) fn previous(&self) -> PathBuf {
        self.beside("previous")
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self
            .program
            .file_name()
            .map_or_else(OsString::new, OsString::from);
        name.push(".");
        name.push(what);
        self.program.with_file_name(name)
    }

    /// Whether this process may replace the program, by writing beside it.
    pub(super) fn check(&self) -> Result<(), String> {
        let program = self.program.display();
        if cfg!(not(unix)) {
            return Err(format!(
                "on this system an agent does not replace its program; install `{program}` by hand"
            ));
        }
        if !self.program.is_file() {
            return Err(format!("`{program}` is not there any more"));
        }
        let next = self.next();
        let tried = File::create(&next).and_then(|_| fs::remove_file(&next));
        tried.map_err(|error| format!("this agent may not replace `{program}`: {error}"))
    }

    /// Lays the download beside the program, as a program.
    pub(super) fn lay_beside(&self) -> io::Result<()> {
        let next = self.next();
        let mut from = File::open(&self.download)?;
        let mut to = File::create(&next)?;
        io::copy(&mut from, &mut to)?;
        to.set_permissions(fs::metadata(&self.program)?.permissions())?;
        to.sync_all()?;
        fs::remove_file(&self.download)
    }

    /// Removes what earlier attempts have left.
    pub(super) fn clear(&self) {
        for path in [self.download.clone(), self.next()] {
            // There is none, or it is written over later.
            let _ = fs::remove_file(path);
        }
    }

    /// Keeps a copy of the program.
    pub(super) fn keep_previous(&self) -> io::Result<()> {
        self.copy(&self.program, &self.previous())
    }

    /// The candidate becomes the program.
    pub(super) fn install(&self) -> io::Result<()> {
        self.steps.take()?;
        fs::rename(self.next(), &self.program)?;
        self.sync()
    }

    /// The copy becomes the program again. It stays.
    pub(super) fn restore(&self) -> io::Result<()> {
        self.copy(&self.previous(), &self.program)
    }

    /// One file becomes another in one step.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let draft = self.beside("draft");
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        self.steps.take()?;
        // A second name of the same file, where the file system has such.
        if fs::hard_link(from, &draft).is_err() {
            fs::copy(from, &draft)?;
            File::open(&draft)?.sync_all()?;
        }
        self.steps.take()?;
        fs::rename(&draft, to)?;
        // Two names of one file stay as they are.
        let _ = fs::remove_file(&draft);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        match self.program.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
            _ => sync_folder(Path::new(".")),
        }
    }
}
