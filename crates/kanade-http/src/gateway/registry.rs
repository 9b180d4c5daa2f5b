//! Which agents are connected: each once, and nobody in the name of another.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kanade_model::PcId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The digest of the text by which an agent is known again.
#[derive(Clone)]
pub(super) struct AgentKey([u8; 32]);

impl AgentKey {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The agents that are connected.
pub(super) struct Registry {
    max: usize,
    connected: Mutex<HashMap<PcId, Connected>>,
    /// Connections, with those that are being replaced: they take a moment to say goodbye.
    places: Arc<Semaphore>,
    numbers: AtomicU64,
}

struct Connected {
    number: u64,
    key: AgentKey,
    replaced: CancellationToken,
}

/// Why an agent is not let in now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are too many.
    Full,
    /// Another one is connected under this id.
    Taken,
}

impl Registry {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let places = max.saturating_add(max / 8 + 16).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            max,
            connected: Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            numbers: AtomicU64::new(0),
        })
    }

    /// Lets an agent in. One that was here before, as its key tells, replaces its earlier connection.
    pub(super) fn enter(self: &Arc<Self>, pc: &PcId, key: AgentKey) -> Result<Place, Refused> {
        let permit = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refused::Full)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let replaced = CancellationToken::new();
        let mut connected = self.connected();
        match connected.get(pc) {
            Some(before) if !before.key.is(&key) => return Err(Refused::Taken),
            None if connected.len() >= self.max => return Err(Refused::Full),
            Some(_) | None => {}
        }
        let now = Connected {
            number,
            key,
            replaced: replaced.clone(),
        };
        let before = connected.insert(pc.clone(), now);
        // Nobody is woken under the lock.
        drop(connected);
        if let Some(before) = &before {
            before.replaced.cancel();
        }
        Ok(Place {
            replaces: before.is_some(),
            replaced,
            entry: Entry {
                registry: Arc::clone(self),
                pc: pc.clone(),
                number,
            },
            permit,
        })
    }

    fn connected(&self) -> MutexGuard<'_, HashMap<PcId, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection.
pub(super) struct Place {
    /// Whether an earlier connection had to go for it.
    pub(super) replaces: bool,
    /// Cancelled when a later connection takes its place.
    pub(super) replaced: CancellationToken,
    /// Held while it is the agent.
    pub(super) entry: Entry,
    /// Held while there is a connection.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Stands for the agent as long as it is not dropped or replaced.
pub(super) struct Entry {
    registry: Arc<Registry>,
    pc: PcId,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut connected = self.registry.connected();
        if connected
            .get(&self.pc)
            .is_some_and(|now| now.number == self.number)
        {
            connected.remove(&self.pc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(registry: &Arc<Registry>, pc: &str, key: &str) -> Result<Place, Refused> {
        registry.enter(&pc.parse().unwrap(), AgentKey::of(key.as_bytes()))
    }

    #[test]
    fn the_same_key_replaces_and_another_waits_until_the_first_has_left() {
        let registry = Registry::new(10);
        let first = enter(&registry, "pc-1", "a").unwrap();
        assert!(!first.replaces);
        assert_eq!(enter(&registry, "pc-1", "b").err(), Some(Refused::Taken));
        let second = enter(&registry, "pc-1", "a").unwrap();
        assert!(second.replaces && first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(
            enter(&registry, "pc-1", "b").err(),
            Some(Refused::Taken),
            "the second is still there"
        );
        drop(second);
        assert!(!enter(&registry, "pc-1", "b").unwrap().replaces);
    }

    #[test]
    fn when_all_places_are_taken_an_agent_can_still_come_back() {
        let registry = Registry::new(1);
        let mut connections = vec![enter(&registry, "pc-1", "a").unwrap()];
        assert_eq!(enter(&registry, "pc-2", "a").err(), Some(Refused::Full));
        connections.push(enter(&registry, "pc-1", "a").unwrap());
        // Not without end, though: connections that say goodbye take room as well.
        while let Ok(place) = enter(&registry, "pc-1", "a") {
            connections.push(place);
            assert!(connections.len() < 100);
        }
        drop(connections);
        assert!(enter(&registry, "pc-2", "a").is_ok());
        assert!(registry.connected().is_empty());
        assert_eq!(enter(&Registry::new(0), "pc-1", "a").err(), Some(Refused::Full));
    }
}
