//! The questions, by topic. Each walks an index in the order of its list and ends with its page: no sorting, no
//! scanning of tables.

pub(crate) mod agents;
pub(crate) mod executions;
pub(crate) mod retention;
pub(crate) mod runs;
pub(crate) mod slots;
pub(crate) mod targets;
pub(crate) mod trail;

use futures::{Stream, TryStreamExt};
use kanade_ports::{MAX_LIMIT, PAGE_BYTES, Page, PageBuilder, Position, Progress, SCAN_LIMIT};
use uuid::Uuid;

use crate::fault::Fault;

/// About what a record takes on a page beside its long texts, in bytes.
const RECORD: usize = 256;

fn page<T>(limit: usize) -> PageBuilder<T> {
    PageBuilder::new(limit.clamp(1, MAX_LIMIT), SCAN_LIMIT, PAGE_BYTES)
}

/// Fills a page from rows in the order of the list; `look` gives a row's item, if it is wanted, and its size.
async fn fill<R, T>(
    mut page: PageBuilder<T>,
    mut rows: impl Stream<Item = Result<R, Fault>> + Unpin,
    place: impl Fn(&R) -> Position,
    look: impl Fn(R) -> (Option<T>, usize),
) -> Result<Page<T>, Fault> {
    while let Some(row) = rows.try_next().await? {
        let at = place(&row);
        let (item, bytes) = look(row);
        if page.offer(item, || at, bytes) == Progress::Full {
            return Ok(page.finish(false));
        }
    }
    Ok(page.finish(true))
}

/// Where a list that goes down in time begins, or goes on. No record is as late as its start.
fn before(after: Option<&Position>) -> (i64, &str) {
    after.map_or((i64::MAX, ""), |after| (after.at, &after.id))
}

/// Where a list that goes up begins, or goes on.
fn behind(after: Option<&Position>) -> (i64, &str) {
    after.map_or((i64::MIN, ""), |after| (after.at, &after.id))
}

/// The id in a position. A text that no list has given goes before all ids.
fn id(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_default()
}
