//! Rows and the ordered lists they stand in, kept in step: what makes every list cost its page and no more.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use kanade_ports::Position;

/// Rows by key. `L` names the lists that a row can stand in, each in the order of its positions.
pub(super) struct Table<K, R, L> {
    rows: BTreeMap<K, R>,
    lists: BTreeMap<(L, Position), K>,
    places: fn(&R) -> Vec<(L, Position)>,
}

impl<K: Ord + Clone, R, L: Ord + Clone> Table<K, R, L> {
    /// An empty table; `places` says in which lists a row stands, and where. Two rows never share a place.
    pub(super) fn new(places: fn(&R) -> Vec<(L, Position)>) -> Self {
        Self {
            rows: BTreeMap::new(),
            lists: BTreeMap::new(),
            places,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key)
    }

    pub(super) fn put(&mut self, key: K, row: R) {
        self.remove(&key);
        for place in (self.places)(&row) {
            self.lists.insert(place, key.clone());
        }
        self.rows.insert(key, row);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<R> {
        let row = self.rows.remove(key)?;
        for place in (self.places)(&row) {
            self.lists.remove(&place);
        }
        Some(row)
    }

    /// The rows of a list from its start, or from after a place.
    pub(super) fn forwards<'a>(
        &'a self,
        list: &L,
        after: Option<&Position>,
    ) -> impl Iterator<Item = (&'a Position, &'a R)> + use<'a, K, R, L> {
        let from = after.cloned().unwrap_or_else(start);
        self.walk(list, from, end())
    }

    /// The rows of a list from its end, or from before a place.
    pub(super) fn backwards<'a>(
        &'a self,
        list: &L,
        after: Option<&Position>,
    ) -> impl Iterator<Item = (&'a Position, &'a R)> + use<'a, K, R, L> {
        let to = after.cloned().unwrap_or_else(end);
        self.walk(list, start(), to).rev()
    }

    fn walk<'a>(
        &'a self,
        list: &L,
        from: Position,
        to: Position,
    ) -> impl DoubleEndedIterator<Item = (&'a Position, &'a R)> + use<'a, K, R, L> {
        // A range must not be empty from the wrong side, which places of other lists could make it.
        let to = to.max(from.clone());
        let from = if from == to { Included } else { Excluded }((list.clone(), from));
        self.lists
            .range((from, Excluded((list.clone(), to))))
            .map(|((_, place), key)| (place, &self.rows[key]))
    }
}

/// Before every place that a row can have.
fn start() -> Position {
    Position {
        at: i64::MIN,
        id: String::new(),
    }
}

/// After every place that a row can have: no moment and no number is that large.
fn end() -> Position {
    Position {
        at: i64::MAX,
        id: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<u32, i64, bool> {
        Table::new(|row| {
            vec![(
                *row % 2 == 0,
                Position {
                    at: *row,
                    id: String::new(),
                },
            )]
        })
    }

    fn rows<'a>(walk: impl Iterator<Item = (&'a Position, &'a i64)>) -> Vec<i64> {
        walk.map(|(_, row)| *row).collect()
    }

    #[test]
    fn a_row_moves_between_lists_as_it_changes() {
        let mut table = table();
        for (key, row) in [(1, 10), (2, 12), (3, 13)] {
            table.put(key, row);
        }
        assert_eq!(rows(table.forwards(&true, None)), [10, 12]);
        table.put(1, 11);
        assert_eq!(rows(table.forwards(&true, None)), [12]);
        assert_eq!(rows(table.backwards(&false, None)), [13, 11]);
        assert_eq!(table.remove(&3), Some(13));
        assert_eq!(rows(table.forwards(&false, None)), [11]);
    }

    #[test]
    fn a_walk_goes_on_after_any_place_even_one_out_of_range() {
        let mut table = table();
        for row in [0, 2, 4] {
            table.put(u32::try_from(row).unwrap(), row);
        }
        let at = |at| Position {
            at,
            id: String::new(),
        };
        assert_eq!(rows(table.forwards(&true, Some(&at(0)))), [2, 4]);
        assert_eq!(rows(table.forwards(&true, Some(&at(3)))), [4]);
        assert_eq!(rows(table.backwards(&true, Some(&at(4)))), [2, 0]);
        for at in [at(i64::MAX), end()] {
            assert_eq!(rows(table.forwards(&true, Some(&at))), [0; 0]);
        }
        let beyond = Position {
            at: i64::MAX,
            id: "z".into(),
        };
        assert_eq!(rows(table.forwards(&true, Some(&beyond))), [0; 0]);
        assert_eq!(rows(table.backwards(&true, Some(&beyond))), [4, 2, 0]);
        assert_eq!(rows(table.backwards(&true, Some(&start()))), [0; 0]);
    }
}
