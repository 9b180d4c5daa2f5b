//! Lists out of unordered records. A backend for more than a few thousand of them walks an index instead, from the
//! place that a query names, and stops when the page is full.

use kanade_model::Timestamp;
use kanade_ports::{MAX_LIMIT, PAGE_BYTES, Page, PageBuilder, Position, Progress, SCAN_LIMIT};

/// About what a record takes on a page beside its long texts, in bytes.
pub(super) const RECORD: usize = 256;

/// Rows with the place where each stands in a list.
pub(super) struct List<R> {
    rows: Vec<(Position, R)>,
    downwards: bool,
}

impl<R> List<R> {
    pub(super) fn up(rows: impl Iterator<Item = R>, place: impl Fn(&R) -> Position) -> Self {
        let mut rows: Vec<_> = rows.map(|row| (place(&row), row)).collect();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            rows,
            downwards: false,
        }
    }

    pub(super) fn down(rows: impl Iterator<Item = R>, place: impl Fn(&R) -> Position) -> Self {
        let mut list = Self::up(rows, place);
        list.rows.reverse();
        list.downwards = true;
        list
    }

    /// The first rows.
    pub(super) fn first(self, limit: usize) -> Vec<R> {
        self.rows.into_iter().take(limit).map(|(_, row)| row).collect()
    }

    /// The page after a place. `look` gives a row's item, where it is asked for, and the item's size in bytes.
    pub(super) fn page<T>(
        self,
        after: Option<&Position>,
        limit: usize,
        mut look: impl FnMut(R) -> (Option<T>, usize),
    ) -> Page<T> {
        let downwards = self.downwards;
        let passed = |place: &Position| {
            after.is_some_and(|after| if downwards { place >= after } else { place <= after })
        };
        let mut page = PageBuilder::new(limit.clamp(1, MAX_LIMIT), SCAN_LIMIT, PAGE_BYTES);
        for (place, row) in self.rows {
            if passed(&place) {
                continue;
            }
            let (item, bytes) = look(row);
            if page.offer(item, || place, bytes) == Progress::Full {
                return page.finish(false);
            }
        }
        page.finish(true)
    }
}

pub(super) fn at(at: Timestamp, id: &impl ToString) -> Position {
    Position {
        at: at.as_micros(),
        id: id.to_string(),
    }
}

pub(super) fn by_id(id: &impl ToString) -> Position {
    Position {
        at: 0,
        id: id.to_string(),
    }
}

pub(super) fn by_number(number: i64) -> Position {
    Position {
        at: number,
        id: String::new(),
    }
}
