//! Where the engine's bytes go: a device, or an overlay on one that keeps the device as it is.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt, io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, StorageBackend};

/// Any storage, owned.
#[derive(Debug)]
pub(crate) struct Device(Box<dyn StorageBackend>);

impl Device {
    pub(crate) fn new(storage: impl StorageBackend) -> Self {
        Self(Box::new(storage))
    }
}

/// Passes locking on to the device in a field.
macro_rules! locks_of {
    ($field:tt) => {
        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.$field.try_lock_range(start, end)
        }

        fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.$field.try_lock_shared_range(start, end)
        }

        fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$field.lock_range(start, end)
        }

        fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$field.lock_shared_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$field.unlock_range(start, end)
        }

        fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.$field.query_lock_range(start, end)
        }

        fn close(&self) -> io::Result<()> {
            self.$field.close()
        }
    };
}

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    locks_of!(0);
}

const BLOCK: usize = 4096;
const BLOCK_LEN: u64 = BLOCK as u64;

/// A device that is only read: what is written stays in memory, and is gone when the overlay is. Opening a data file
/// writes to it (a repair, the mark that it is in use); an overlay lets one look into a file that must not change, or
/// that cannot be written.
pub(crate) struct Overlay {
    base: Device,
    sheet: Mutex<Sheet>,
}

struct Sheet {
    len: u64,
    /// How much of the base still shows.
    base_len: u64,
    /// What was written, by the number of the block.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    pub(crate) fn new(base: Device) -> io::Result<Self> {
        let len = base.len()?;
        Ok(Self {
            base,
            sheet: Mutex::new(Sheet {
                len,
                base_len: len,
                blocks: BTreeMap::new(),
            }),
        })
    }

    fn sheet(&self) -> MutexGuard<'_, Sheet> {
        self.sheet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the base as far as it shows; the rest is zeroes.
    fn read_base(&self, base_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown =
            usize::try_from(base_len.saturating_sub(offset)).map_or(out.len(), |shown| shown.min(out.len()));
        let (shown, rest) = out.split_at_mut(shown);
        rest.fill(0);
        if shown.is_empty() {
            Ok(())
        } else {
            self.base.read(offset, shown)
        }
    }
}

/// The parts of `len` bytes at `offset`, block by block: the block, where in it, and how many bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK_LEN).expect("less than a block");
        let part = (BLOCK - within).min(len - done);
        done += part;
        (part > 0).then_some((at / BLOCK_LEN, within, part))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.sheet().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let sheet = self.sheet();
        if offset + out.len() as u64 > sheet.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_base(sheet.base_len, offset, out)?;
        let mut done = 0;
        for (number, within, part) in parts(offset, out.len()) {
            if let Some(block) = sheet.blocks.get(&number) {
                out[done..done + part].copy_from_slice(&block[within..within + part]);
            }
            done += part;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sheet = self.sheet();
        sheet.base_len = sheet.base_len.min(len);
        sheet.blocks.retain(|number, block| {
            let left = usize::try_from(len.saturating_sub(number * BLOCK_LEN)).unwrap_or(BLOCK);
            // What comes back when the storage grows again must be zeroes.
            block[left.min(BLOCK)..].fill(0);
            left > 0
        });
        sheet.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sheet = self.sheet();
        let base_len = sheet.base_len;
        sheet.len = sheet.len.max(offset + data.len() as u64);
        let mut done = 0;
        for (number, within, part) in parts(offset, data.len()) {
            let block = match sheet.blocks.entry(number) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(new) => {
                    let mut block = Box::new([0; BLOCK]);
                    if part < BLOCK {
                        self.read_base(base_len, number * BLOCK_LEN, &mut block[..])?;
                    }
                    new.insert(block)
                }
            };
            block[within..within + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        Ok(())
    }

    locks_of!(base);
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({:?})", self.base)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn read(storage: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(storage.len().unwrap()).unwrap()];
        storage.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_overlay_behaves_like_a_device_and_leaves_its_own_alone() {
        let start: Vec<u8> = (0..30_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let device = || {
            let memory = InMemoryBackend::new();
            memory.set_len(30_000).unwrap();
            memory.write(0, &start).unwrap();
            memory
        };
        let plain = device();
        let overlay = Overlay::new(Device::new(device())).unwrap();
        let steps: [(u64, &[u8], u64); 7] = [
            (0, b"head", 30_000),
            (4090, &[7; 20], 30_000),
            (8192, &[8; 8192], 20_000),
            (19_990, b"end", 25_000),
            (24_000, &[9; 1000], 4096),
            (100, b"x", 50_000),
            (49_000, &[1; 1000], 50_000),
        ];
        for (offset, data, len) in steps {
            for storage in [&plain as &dyn StorageBackend, &overlay] {
                storage.write(offset, data).unwrap();
                storage.set_len(len).unwrap();
            }
            assert!(read(&plain) == read(&overlay), "after writing at {offset}");
        }
        assert!(overlay.read(49_999, &mut [0; 2]).is_err());
        assert!(read(&overlay.base) == start);
    }
}
