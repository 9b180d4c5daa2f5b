//! Room for the payloads of calls that are being worked on: so much for one connection, so much for all together.

use std::sync::Arc;

use kanade_ports::frame::MAX_FRAME;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the calls of one connection may take, in bytes.
pub(super) const OF_ONE: usize = 4 << 20;
const UNIT: usize = 1 << 10;

/// The room of all connections.
pub(super) struct Rooms(Arc<Semaphore>);

impl Rooms {
    /// Room for so many bytes, and at the least for one frame.
    pub(super) fn new(bytes: usize) -> Self {
        let units = bytes.max(MAX_FRAME).div_ceil(UNIT);
        Self(Arc::new(Semaphore::new(units.min(u32::MAX as usize >> 1))))
    }

    /// The share of one connection.
    pub(super) fn share(&self) -> Share {
        Share {
            own: Arc::new(Semaphore::new(OF_ONE.div_ceil(UNIT))),
            all: Arc::clone(&self.0),
        }
    }
}

/// What one connection may take.
pub(super) struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Share {
    /// Waits for room for `bytes`, which are at most [`MAX_FRAME`]; first come, first served.
    pub(super) async fn take(&self, bytes: usize) -> Room {
        let units = units(bytes);
        // One's own first: who waits for that does not keep room from others.
        let own = Arc::clone(&self.own).acquire_many_owned(units).await;
        let all = Arc::clone(&self.all).acquire_many_owned(units).await;
        Room {
            own: own.expect("never closed"),
            all: all.expect("never closed"),
        }
    }
}

/// Room that is taken; it is given back when this is dropped.
pub(super) struct Room {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back what is not needed for `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        for permit in [&mut self.own, &mut self.all] {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.min(MAX_FRAME).div_ceil(UNIT)).expect("a frame is small")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn room_is_bounded_for_one_and_for_all() {
        let rooms = Rooms::new(6 << 20);
        let (one, other) = (rooms.share(), rooms.share());
        let mut held: Vec<Room> = std::iter::from_fn(|| one.take(1 << 20).now_or_never()).collect();
        assert_eq!(held.len(), 4);
        let others: Vec<Room> = std::iter::from_fn(|| other.take(1 << 20).now_or_never()).collect();
        assert_eq!(others.len(), 2, "the rest");
        held[0].shrink(1);
        assert!(
            other.take(1 << 20).now_or_never().is_none(),
            "a little is missing"
        );
        held[0].shrink(0);
        assert!(other.take(1 << 20).now_or_never().is_some());
        drop((held, others));
        assert_eq!(rooms.0.available_permits(), 6 << 10);
    }

    #[test]
    fn a_frame_fits_however_little_room_there_is() {
        assert!(Rooms::new(0).share().take(MAX_FRAME).now_or_never().is_some());
    }
}
