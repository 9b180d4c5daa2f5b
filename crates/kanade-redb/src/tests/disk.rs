//! A disk in memory that can run out of room, refuse, hang and lose its power.
//!
//! It keeps two images: what a program reads back, and what would be left after a power cut. A write moves from the
//! first to the second when a flush succeeds. After a flush that failed, what it should have carried over is not
//! carried over by a later one: that is how Linux treats pages it could not write.

use std::{
    collections::HashSet,
    fmt, io,
    ops::Bound,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use redb::{BackendError, StorageBackend};

use crate::{device::Device, engine::Open, file};

const BLOCK: u64 = 4096;

/// How the disk misbehaves. Accesses that change it (writes, flushes, changes of length) are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// This access fails, half done; the others succeed.
    Once(u64),
    /// All from this one on fail; reads succeed.
    Stuck(u64),
    /// Everything from this access on fails, reads too.
    PowerCut(u64),
    /// There is room for so many blocks.
    Room(usize),
    /// This read fails, the others succeed.
    Read(u64),
}

#[derive(Clone)]
pub(super) struct Disk(Arc<(Mutex<State>, Condvar)>);

struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What the next flush makes durable.
    dirty: Vec<Access>,
    allocated: HashSet<u64>,
    trouble: Trouble,
    accesses: u64,
    reads: u64,
    locked: bool,
    gate: Gate,
}

#[derive(Clone)]
enum Access {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(PartialEq)]
enum Gate {
    Open,
    Closed { somebody_waits: bool },
}

impl Disk {
    /// A disk with an empty store and catalog.
    pub(super) fn new() -> Self {
        let disk = Self::holding(Vec::new());
        file::fill_device(disk.device()).unwrap();
        disk
    }

    /// A disk with this image.
    pub(super) fn holding(image: Vec<u8>) -> Self {
        let state = State {
            allocated: (0..(image.len() as u64).div_ceil(BLOCK)).collect(),
            live: image.clone(),
            durable: image,
            dirty: Vec::new(),
            trouble: Trouble::None,
            accesses: 0,
            reads: 0,
            locked: false,
            gate: Gate::Open,
        };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// What an engine is started with.
    pub(super) fn opener(&self) -> Open {
        let disk = self.clone();
        Box::new(move || Ok(disk.device()))
    }

    pub(super) fn device(&self) -> Device {
        Device::new(Handle(self.clone()))
    }

    /// From now on; accesses are counted anew.
    pub(super) fn trouble(&self, trouble: Trouble) {
        let mut state = self.state();
        state.trouble = trouble;
        state.accesses = 0;
        state.reads = 0;
    }

    /// How many accesses there were since the trouble began.
    pub(super) fn accesses(&self) -> u64 {
        self.state().accesses
    }

    /// How many reads there were since the trouble began.
    pub(super) fn reads(&self) -> u64 {
        self.state().reads
    }

    /// How many blocks are in use.
    pub(super) fn blocks(&self) -> usize {
        self.state().allocated.len()
    }

    /// What may be left after a power cut: what was flushed and, of what was not, whatever `seed` picks. A picked
    /// write may be cut off between sectors.
    pub(super) fn after_power_cut(&self, seed: u64) -> Vec<u8> {
        let state = self.state();
        let mut image = state.durable.clone();
        let mut random = Random(seed);
        for access in &state.dirty {
            match access {
                Access::Write(offset, data) => match random.below(3) {
                    0 => {}
                    1 => write(&mut image, *offset, data),
                    _ => {
                        let sectors = random.below(data.len() as u64 / 512 + 1);
                        write(
                            &mut image,
                            *offset,
                            &data[..usize::try_from(sectors * 512).unwrap()],
                        );
                    }
                },
                Access::SetLen(len) if random.below(2) == 0 => {
                    image.resize(usize::try_from(*len).unwrap(), 0);
                }
                Access::SetLen(_) => {}
            }
        }
        image
    }

    /// Lets the flushes of commits wait until [`open_gate`](Self::open_gate).
    pub(super) fn close_gate(&self) {
        self.state().gate = Gate::Closed {
            somebody_waits: false,
        };
    }

    /// Returns once a flush waits.
    pub(super) fn wait_for_flush(&self) {
        let waits = Gate::Closed { somebody_waits: true };
        let state = self.0.1.wait_while(self.state(), |state| state.gate != waits);
        drop(state.unwrap());
    }

    pub(super) fn open_gate(&self) {
        self.state().gate = Gate::Open;
        self.0.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }
}

impl State {
    /// Counts an access; says what becomes of it.
    fn access(&mut self) -> Fate {
        let number = self.accesses;
        self.accesses += 1;
        match self.trouble {
            Trouble::Once(at) if number == at => Fate::Half,
            Trouble::Stuck(from) | Trouble::PowerCut(from) if number >= from => Fate::Fails,
            _ => Fate::Succeeds,
        }
    }

    fn has_power(&self) -> io::Result<()> {
        match self.trouble {
            Trouble::PowerCut(from) if self.accesses > from => Err(broken()),
            _ => Ok(()),
        }
    }

    fn has_room(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let blocks = offset / BLOCK..(offset + len as u64).div_ceil(BLOCK);
        let new = blocks.clone().filter(|block| !self.allocated.contains(block));
        if let Trouble::Room(room) = self.trouble
            && self.allocated.len() + new.count() > room
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.allocated.extend(blocks);
        Ok(())
    }
}

enum Fate {
    Succeeds,
    Half,
    Fails,
}

fn broken() -> io::Error {
    io::Error::other("the simulated disk is broken")
}

fn write(image: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

/// An open file on the disk.
struct Handle(Disk);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.0.state();
        state.has_power()?;
        Ok(state.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.state();
        state.has_power()?;
        state.reads += 1;
        if state.trouble == Trouble::Read(state.reads - 1) {
            return Err(broken());
        }
        let offset = usize::try_from(offset).unwrap();
        let bytes = state.live.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let Fate::Succeeds = state.access() else {
            return Err(broken());
        };
        state.live.resize(usize::try_from(len).unwrap(), 0);
        state.allocated.retain(|block| block * BLOCK < len);
        state.dirty.push(Access::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        // A flush without the header is part of making the file longer, which readers do wait for.
        let commits = |access: &Access| matches!(access, Access::Write(0, _));
        let is_commit = state.dirty.iter().any(commits);
        if let Gate::Closed { somebody_waits } = &mut state.gate
            && is_commit
        {
            *somebody_waits = true;
            self.0.0.1.notify_all();
            let passed = self.0.0.1.wait_while(state, |state| state.gate != Gate::Open);
            state = passed.unwrap();
        }
        let fate = state.access();
        let dirty = match fate {
            // Nothing leaves a disk without power, and what was about to is what a power cut may pick from.
            Fate::Fails if matches!(state.trouble, Trouble::PowerCut(_)) => return Err(broken()),
            _ => std::mem::take(&mut state.dirty),
        };
        let carried = match fate {
            Fate::Succeeds => dirty.len(),
            Fate::Half => dirty.len() / 2,
            Fate::Fails => 0,
        };
        for access in dirty.into_iter().take(carried) {
            match access {
                Access::Write(offset, data) => write(&mut state.durable, offset, &data),
                Access::SetLen(len) => state.durable.resize(usize::try_from(len).unwrap(), 0),
            }
        }
        if let Fate::Succeeds = fate {
            Ok(())
        } else {
            Err(broken())
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let fate = state.access();
        state.has_room(offset, data.len())?;
        let written = match fate {
            Fate::Succeeds => data,
            Fate::Half => &data[..data.len() / 2],
            Fate::Fails => return Err(broken()),
        };
        write(&mut state.live, offset, written);
        state.dirty.push(Access::Write(offset, written.to_vec()));
        if written.len() == data.len() {
            Ok(())
        } else {
            Err(broken())
        }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if (start, end) != (Bound::Unbounded, Bound::Unbounded) {
            return Err(BackendError::Unsupported);
        }
        Ok(!std::mem::replace(&mut self.0.state().locked, true))
    }

    fn close(&self) -> io::Result<()> {
        self.0.state().locked = false;
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Numbers that look random and are the same every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}
