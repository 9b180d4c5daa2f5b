//! The handle on a data file that everybody shares, which mends itself.
//!
//! After any failed access to the disk, redb refuses all further work on a handle. So a broken handle is opened again
//! by whoever needs it next: for reading and writing or, while the disk takes no writes, on an overlay, for reading.
//! Opening also settles what became of a commit that failed: commits are numbered in the file.

use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Builder, CommitError, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    device::{Device, Overlay},
    fault::Fault,
    meta::{self, Counter},
};

/// Bytes of memory for pages of the file, of which at most half for pages that are not written yet.
pub(crate) const CACHE: usize = 32 << 20;

/// Gives the device of a data file, each time it is opened.
pub(crate) type Open = Box<dyn Fn() -> io::Result<Device> + Send + Sync>;
/// What is written once it is decided.
pub(crate) type Write = Box<dyn FnOnce(&WriteTransaction) -> Result<(), Fault>>;
/// The right to write.
pub(crate) type Writer = OwnedMutexGuard<()>;

/// One data file.
pub(crate) struct Engine {
    name: String,
    open: Open,
    cache: usize,
    handle: RwLock<Handle>,
    /// Held from before a write is decided until its outcome is known, so that writes never overlap.
    writer: Arc<Mutex<()>>,
}

impl Engine {
    /// A handle on the device that `open` gives, called `name` in messages. It must hold a data file of ours.
    pub(crate) fn start(name: String, open: Open, cache: usize) -> Result<Self, Fault> {
        let database = open_ours(open()?, cache)?;
        Ok(Self {
            name,
            open,
            cache,
            handle: RwLock::new(Handle {
                database: Some(database),
                read_only: false,
                broken: AtomicBool::new(false),
                closed: false,
            }),
            writer: Arc::default(),
        })
    }

    /// Reads one state of the file. `look` may be called again, after the handle was mended.
    pub(crate) fn read<T>(&self, look: impl Fn(&ReadTransaction) -> Result<T, Fault>) -> Result<T, Fault> {
        // Not in the head of the match: the handle cannot be opened again while it is held there.
        let first = self.usable()?.read(&look);
        match first {
            Err(fault) if fault.breaks_handle() => self.usable()?.read(&look),
            other => other,
        }
    }

    /// What the file is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the right to write. Who drops the wait does not want it any more.
    pub(crate) async fn writer(&self) -> Writer {
        Arc::clone(&self.writer).lock_owned().await
    }

    /// The right to write, before anybody else has the engine.
    pub(crate) fn writer_now(&self) -> Writer {
        Arc::clone(&self.writer)
            .try_lock_owned()
            .expect("nobody else has the engine yet")
    }

    /// Decides on the newest state of the file, and writes what was decided in one durable commit. Where there is
    /// nothing to write, there is no commit.
    ///
    /// # Errors
    /// Nothing was kept, except for [`Fault::Unknown`].
    pub(crate) fn write<T>(
        &self,
        _: &Writer,
        decide: impl FnOnce(&ReadTransaction) -> Result<(T, Option<Write>), Fault>,
    ) -> Result<T, Fault> {
        let handle = self.writable()?;
        let (decided, write) = handle.read(decide)?;
        let Some(write) = write else {
            return Ok(decided);
        };
        let end = handle.commit(write);
        drop(handle);
        match end {
            End::Kept => Ok(decided),
            End::NotKept(fault) => Err(fault),
            End::Unsure { number, error } => self.settle(number, error).map(|()| decided),
        }
    }

    /// Finds out what became of a commit.
    fn settle(&self, number: u64, error: redb::Error) -> Result<(), Fault> {
        let commits = |txn: &ReadTransaction| meta::read(txn, Counter::Commits);
        // A handle that can write has written to the file and flushed it, so what it shows will stay.
        let found = self.writable().and_then(|handle| handle.read(commits));
        let will_stay = found.is_ok();
        let found = found.or_else(|_| self.read(commits));
        match found {
            Ok(newest) if newest < number => Err(Fault::Engine(error)),
            Ok(_) if will_stay => {
                tracing::info!(file = %self.name, "a commit that failed was found to be complete");
                Ok(())
            }
            _ => Err(Fault::Unknown(error)),
        }
    }

    /// Moves what is in the file to its front and cuts the file; says whether it could.
    pub(crate) fn compact(&self, writer: &Writer) -> Result<bool, Fault> {
        drop(self.writable()?);
        let moved = {
            let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
            if !handle.serves(true) {
                return Err(Fault::Engine(redb::Error::PreviousIo));
            }
            let Handle { database, broken, .. } = &mut *handle;
            let _watch = BrokenByPanic(broken);
            let database = database.as_mut().ok_or(Fault::Closed)?;
            let moved = database.compact().map_err(Fault::from);
            if moved.is_err() {
                broken.store(true, Ordering::Release);
            }
            moved?
        };
        self.write(writer, |_| {
            let forget: Write = Box::new(|txn| meta::write(txn, Counter::Removed, 0));
            Ok(((), Some(forget)))
        })?;
        Ok(moved)
    }

    /// Whether more of the file is free than is in use. Reads all of it.
    pub(crate) fn is_mostly_free(&self, _: &Writer) -> Result<bool, Fault> {
        let handle = self.writable()?;
        let _watch = BrokenByPanic(&handle.broken);
        let begun = handle.database()?.begin_write().map_err(Fault::from);
        let stats = handle.note(begun.and_then(|txn| Ok(txn.stats()?)))?;
        let used = stats.allocated_pages() * stats.page_size() as u64;
        let all = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        Ok(used < all / 2)
    }

    /// Closes the file. Waits for what is under way; everything after that fails.
    pub(crate) fn close(&self, _: &Writer) -> Result<(), Fault> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        handle.closed = true;
        match handle.database.take() {
            Some(database) => Ok(database.close()?),
            None => Ok(()),
        }
    }

    fn usable(&self) -> Result<RwLockReadGuard<'_, Handle>, Fault> {
        self.handle_for(false)
    }

    fn writable(&self) -> Result<RwLockReadGuard<'_, Handle>, Fault> {
        self.handle_for(true)
    }

    fn handle_for(&self, writing: bool) -> Result<RwLockReadGuard<'_, Handle>, Fault> {
        loop {
            let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
            if handle.closed {
                return Err(Fault::Closed);
            }
            if handle.serves(writing) {
                return Ok(handle);
            }
            drop(handle);
            self.reopen(writing)?;
        }
    }

    fn reopen(&self, writing: bool) -> Result<(), Fault> {
        // Nobody reads or writes while this is held.
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if handle.closed || handle.serves(writing) {
            return Ok(());
        }
        if let Some(database) = handle.database.take()
            && let Err(error) = database.close()
        {
            tracing::debug!(file = %self.name, %error, "closed a broken handle");
        }
        let device = || (self.open)().map_err(Fault::from);
        let failure = match device().and_then(|device| open_ours(device, self.cache)) {
            Ok(database) => {
                tracing::info!(file = %self.name, "the data file was opened again");
                handle.replace(database, false);
                return Ok(());
            }
            Err(failure) => failure,
        };
        let overlay = device().and_then(|device| Ok(Device::new(Overlay::new(device)?)));
        let database = overlay.and_then(|overlay| open_ours(overlay, self.cache));
        match database {
            Ok(database) => {
                if !handle.read_only {
                    let error: &dyn std::error::Error = &failure;
                    tracing::warn!(file = %self.name, error, "the data file can only be read for now");
                }
                handle.replace(database, true);
                if writing { Err(failure) } else { Ok(()) }
            }
            Err(_) => Err(failure),
        }
    }
}

struct Handle {
    database: Option<redb::Database>,
    /// On an overlay: what is written would be lost.
    read_only: bool,
    broken: AtomicBool,
    closed: bool,
}

/// How an attempt to write ended.
enum End {
    Kept,
    NotKept(Fault),
    Unsure { number: u64, error: redb::Error },
}

impl Handle {
    fn serves(&self, writing: bool) -> bool {
        self.database.is_some() && !self.broken.load(Ordering::Acquire) && !(writing && self.read_only)
    }

    fn replace(&mut self, database: redb::Database, read_only: bool) {
        self.database = Some(database);
        self.read_only = read_only;
        self.broken = AtomicBool::new(false);
    }

    fn database(&self) -> Result<&redb::Database, Fault> {
        self.database.as_ref().ok_or(Fault::Closed)
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, Fault> {
        let _watch = BrokenByPanic(&self.broken);
        let begun = self.database()?.begin_read().map_err(Fault::from);
        self.note(begun.and_then(|txn| look(&txn)))
    }

    fn commit(&self, write: Write) -> End {
        let _watch = BrokenByPanic(&self.broken);
        let begun = self.database().and_then(|database| Ok(database.begin_write()?));
        let mut txn = match self.note(begun) {
            Ok(txn) => txn,
            Err(fault) => return End::NotKept(fault),
        };
        // Two flushes instead of one: in return the file can be opened again without reading all of it, and whether a
        // commit is complete never hangs on a checksum of what a script printed.
        txn.set_quick_repair(true);
        let written = write(&txn).and_then(|()| meta::advance(&txn, Counter::Commits, 1));
        let number = match self.note(written) {
            Ok(number) => number,
            Err(fault) => {
                if txn.abort().is_err() {
                    self.broken.store(true, Ordering::Release);
                }
                return End::NotKept(fault);
            }
        };
        match txn.commit() {
            Ok(()) => End::Kept,
            Err(error) => {
                self.broken.store(true, Ordering::Release);
                match error {
                    CommitError::TransactionPoisoned => End::NotKept(error.into()),
                    error => End::Unsure {
                        number,
                        error: error.into(),
                    },
                }
            }
        }
    }

    fn note<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.as_ref().is_err_and(Fault::breaks_handle) {
            self.broken.store(true, Ordering::Release);
        }
        result
    }
}

/// A panic leaves redb with pages it does not account for: the handle must not be used again.
struct BrokenByPanic<'a>(&'a AtomicBool);

impl Drop for BrokenByPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

fn open_ours(device: Device, cache: usize) -> Result<redb::Database, Fault> {
    // The engine would make a new database in it.
    if device.len()? == 0 {
        return Err(Fault::Damaged("a data file that has become empty".into()));
    }
    let database = builder(cache).create_with_backend(device)?;
    match meta::format(&database.begin_read()?)? {
        Some(meta::FORMAT) => Ok(database),
        _ => Err(Fault::Damaged("a data file that was replaced".into())),
    }
}

/// How every data file is opened.
pub(crate) fn builder(cache: usize) -> Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(cache);
    builder
}
