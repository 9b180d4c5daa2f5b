//! A disk that a test fills and frees.

use std::{
    io,
    ops::Bound,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::{Journal, OpenError, disk::Disk};

#[derive(Debug, Clone, Default)]
pub(crate) struct FullDisk {
    is_full: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl FullDisk {
    /// A journal on this disk.
    pub(crate) fn journal(&self, path: &Path) -> Result<Journal, OpenError> {
        let disk = self.clone();
        let create = move |builder: &redb::Builder, file| {
            builder.create_with_backend(Layer {
                file,
                disk: disk.clone(),
            })
        };
        Journal::on(Disk::with(path, Box::new(create))?)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    /// How many writes it had no room for.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct Layer {
    file: FileBackend,
    disk: FullDisk,
}

impl StorageBackend for Layer {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
