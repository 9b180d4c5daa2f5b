//! Pages of long lists: where one ends, how much it may look at, where the next begins.

use kanade_model::Timestamp;

/// A part of a list, newest first unless the list says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; none at the end of the list. A page that ran out of budget has this and maybe no items.
    pub next: Option<Position>,
}

impl<T> Page<T> {
    /// The same page with each item turned into something else.
    pub fn map<U>(self, shape: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(shape).collect(),
            next: self.next,
        }
    }
}

/// The place after an item: its sort key and, among equals, its id. Lists go from here in their direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The sort key: microseconds since 1970, or a number the store gave; 0 where only the id sorts.
    pub at: i64,
    /// The id, as text.
    pub id: String,
}

impl Position {
    /// The place in the list of runs after which come those that started before this moment.
    pub fn before_all_runs_at(moment: Timestamp) -> Self {
        Self {
            at: moment.as_micros(),
            id: uuid::Uuid::nil().to_string(),
        }
    }
}

/// Collects a page while a backend walks its index: ends it at the limit, at a number of rows looked at, or at a
/// number of bytes, whichever comes first. Every row must be offered, matching or not.
#[derive(Debug)]
pub struct PageBuilder<T> {
    items: Vec<T>,
    last: Option<Position>,
    limit: usize,
    scan_left: usize,
    bytes_left: usize,
    full: bool,
}

/// Whether a backend should go on walking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Offer the next row.
    More,
    /// The page is full.
    Full,
}

impl<T> PageBuilder<T> {
    /// A page of at most `limit` items, after looking at `scan` rows at most, with about `bytes` bytes at most (the
    /// first item may be larger).
    pub fn new(limit: usize, scan: usize, bytes: usize) -> Self {
        Self {
            items: Vec::new(),
            last: None,
            limit,
            scan_left: scan,
            bytes_left: bytes,
            full: limit == 0,
        }
    }

    /// Takes one row: `item` when it matches, `at` in any case, `bytes` as the item's size in an answer.
    /// A row that does not fit is left for the next page.
    pub fn offer(&mut self, item: Option<T>, at: impl FnOnce() -> Position, bytes: usize) -> Progress {
        if self.full {
            return Progress::Full;
        }
        if let Some(item) = item {
            if bytes > self.bytes_left && !self.items.is_empty() {
                self.full = true;
                return Progress::Full;
            }
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            self.items.push(item);
        }
        self.last = Some(at());
        self.scan_left = self.scan_left.saturating_sub(1);
        if self.items.len() >= self.limit || self.scan_left == 0 {
            self.full = true;
            return Progress::Full;
        }
        Progress::More
    }

    /// How many rows may still be needed: what a backend should fetch in its next read.
    pub fn wanted(&self) -> usize {
        (self.limit - self.items.len().min(self.limit)).min(self.scan_left)
    }

    /// The page; `exhausted` when the walk came to the end of the list rather than to a full page.
    pub fn finish(self, exhausted: bool) -> Page<T> {
        Page {
            items: self.items,
            next: if exhausted { None } else { self.last },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: i64) -> Position {
        Position {
            at: n,
            id: n.to_string(),
        }
    }

    #[test]
    fn a_page_ends_at_the_limit_the_scan_or_the_bytes() {
        let mut by_limit = PageBuilder::new(2, 100, 1000);
        assert_eq!(by_limit.offer(Some(1), || at(1), 1), Progress::More);
        assert_eq!(by_limit.offer(Some(2), || at(2), 1), Progress::Full);
        assert_eq!(
            by_limit.finish(false),
            Page {
                items: vec![1, 2],
                next: Some(at(2))
            }
        );

        let mut by_scan = PageBuilder::<i32>::new(2, 3, 1000);
        assert_eq!(by_scan.offer(None, || at(1), 0), Progress::More);
        assert_eq!(by_scan.offer(None, || at(2), 0), Progress::More);
        assert_eq!(by_scan.offer(None, || at(3), 0), Progress::Full);
        assert_eq!(
            by_scan.finish(false),
            Page {
                items: vec![],
                next: Some(at(3))
            }
        );

        let mut by_bytes = PageBuilder::new(9, 9, 10);
        assert_eq!(by_bytes.offer(Some(1), || at(1), 50), Progress::More);
        assert_eq!(by_bytes.offer(Some(2), || at(2), 1), Progress::Full);
        assert_eq!(
            by_bytes.finish(false),
            Page {
                items: vec![1],
                next: Some(at(1))
            }
        );
    }
}
