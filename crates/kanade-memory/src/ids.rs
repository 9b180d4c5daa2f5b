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
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        uuid::Builder::from_u128((u128::from(number) << 80) | u128::from(self.seed))
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
        let all: BTreeSet<_> = first.iter().chain(&take(2)).copied().collect();
        assert_eq!(all.len(), 20_000, "no id is given twice, whatever the seed");
    }
}
