//! The file: a line for each commit, only ever appended to.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
};

use kanade_ports::{ErrorKind, StoreError};
use serde::{Serialize, de::DeserializeOwned};

pub(super) struct Journal {
    file: File,
    /// Everything up to here is whole lines.
    end: u64,
}

impl Journal {
    /// Opens the file, or makes it, and hands every commit in it to `redo`, the oldest first.
    pub(super) fn open<C: DeserializeOwned>(
        path: &Path,
        mut redo: impl FnMut(C),
    ) -> Result<Self, StoreError> {
        let failed = |kind| StoreError::new(kind, format!("open the journal {}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .and_then(|file| {
                // One at a time: an earlier handle may still be finishing a commit whose caller went away.
                file.lock()?;
                Ok(file)
            })
            .map_err(|error| failed(ErrorKind::Unavailable).because(error))?;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        let mut end = 0;
        loop {
            line.clear();
            let read = reader
                .read_until(b'\n', &mut line)
                .map_err(|error| failed(ErrorKind::Unavailable).because(error))?;
            // A line without an end was being written when the machine stopped: nobody was told that it is kept.
            if line.last() != Some(&b'\n') {
                break;
            }
            redo(serde_json::from_slice(&line).map_err(|error| failed(ErrorKind::Corrupt).because(error))?);
            end += read as u64;
        }
        Ok(Self { file, end })
    }

    /// Adds a commit. When this returns, it is on the disk.
    pub(super) fn append(&mut self, commit: &impl Serialize, operation: &str) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(commit)
            .map_err(|error| StoreError::new(ErrorKind::Unsupported, operation).because(error))?;
        line.push(b'\n');
        self.write(&line).map_err(|error| {
            // Whether the line is on the disk is only known once the file is read again. Had it been cut off here,
            // it would be `Unavailable`.
            StoreError::new(ErrorKind::Indeterminate, operation).because(error)
        })?;
        self.end += line.len() as u64;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // Over whatever a failed attempt has left.
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}
