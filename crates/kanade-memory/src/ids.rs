//! Ids that are the same in every run of a test.

use std::sync::atomic::{AtomicU64, Ordering};

use kanade_ports::Ids;
use uuid::Uuid;

/// Hands out a sequence of ids that only depends on the seed.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    given: AtomicU64,
}

impl SeededIds {
    /// The sequence of `seed`. Different seeds give different ids.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            given: AtomicU64::new(0),
        }
    }
}

impl Ids for SeededIds {
    fn next(&self) -> Uuid {
        // Seed and number stand in the id as they are, so no two can meet; it also sorts by age, as real ones do.
        // The seed goes around the two bits that say what kind of id it is.
        let number = u128::from(self.given.fetch_add(1, Ordering::Relaxed));
        let (high, low) = (u128::from(self.seed >> 60), u128::from(self.seed << 4 >> 4));
        uuid::Builder::from_u128((number << 80) | (high << 64) | low)
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_without_repetition() {
        let take = |seed| {
            let ids = SeededIds::new(seed);
            (0..10_000).map(|_| ids.next()).collect::<Vec<_>>()
        };
        let first = take(1);
        assert_eq!(first, take(1), "the same seed gives the same ids");
        assert!(first.is_sorted(), "later ids are larger");
        let seeds = [1, 2, u64::MAX, u64::MAX >> 1, u64::MAX >> 2, 1 << 60];
        let all: BTreeSet<_> = seeds.into_iter().flat_map(take).collect();
        assert_eq!(all.len(), 60_000, "no id is given twice, whatever the seed");
    }
}
