//! How executions and runs went over time. Counted in the store's indexes, within bounds, by one at a time; what was found
//! out is told again for a few seconds.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kanade_model::{
    Invalid, Timestamp,
    api::{Bucket, Statistics},
};
use kanade_ports::{Clock, ExecutionQuery, ExecutionStore, MAX_LIMIT, Position};
use tokio::sync::Mutex;

use crate::error::Result;

/// The most spans that can be asked for.
pub const MOST_BUCKETS: u32 = 200;
/// Of one span and one outcome.
const RUNS_COUNTED: usize = 20_000;
const EXECUTIONS_COUNTED: usize = 10_000;
const TOLD_AGAIN: Duration = Duration::from_secs(5);
/// How many answers are told again.
const REMEMBERED: usize = 16;

/// A time in spans of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    from: Timestamp,
    /// In microseconds.
    width: i64,
    count: u32,
}

impl Spans {
    /// The time from `from` to `to` in `count` spans.
    ///
    /// # Errors
    /// When there is no time between the two, or none or too many spans.
    pub fn new(from: Timestamp, to: Timestamp, count: u32) -> Result<Self, Invalid> {
        if !(1..=MOST_BUCKETS).contains(&count) {
            let allowed = format!("1 to {MOST_BUCKETS} are wanted");
            return Err(Invalid::new("buckets", count.to_string(), allowed));
        }
        let width = to.as_micros().saturating_sub(from.as_micros()) / i64::from(count);
        if width <= 0 {
            return Err(Invalid::new(
                "to",
                to.to_string(),
                "a moment after `from` is wanted",
            ));
        }
        Ok(Self { from, width, count })
    }

    fn begin(&self, span: u32) -> Timestamp {
        Timestamp::from_micros(self.from.as_micros().saturating_add(self.width * i64::from(span)))
    }

    fn end(&self) -> Timestamp {
        self.begin(self.count)
    }

    /// The span in which a moment lies.
    fn of(&self, at: Timestamp) -> Option<usize> {
        let span = at
            .as_micros()
            .checked_sub(self.from.as_micros())?
            .div_euclid(self.width);
        usize::try_from(span)
            .ok()
            .filter(|span| *span < self.count as usize)
    }
}

/// Counts. Cheap to clone.
#[derive(Clone)]
pub struct Counts {
    store: Arc<dyn ExecutionStore>,
    clock: Arc<dyn Clock>,
    told: Arc<Mutex<VecDeque<(Timestamp, Spans, Statistics)>>>,
}

impl Counts {
    pub(crate) fn new(store: Arc<dyn ExecutionStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            told: Arc::default(),
        }
    }

    /// What began in each span, and how it ended by now, or a few seconds ago.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn over(&self, spans: Spans) -> Result<Statistics> {
        let mut told = self.told.lock().await;
        let now = self.clock.now();
        told.retain(|(at, ..)| *at <= now && now.since(*at) < TOLD_AGAIN);
        if let Some((.., statistics)) = told.iter().find(|(_, asked, _)| *asked == spans) {
            return Ok(statistics.clone());
        }
        let statistics = self.count(spans).await?;
        if told.len() >= REMEMBERED {
            told.pop_front();
        }
        told.push_back((now, spans, statistics.clone()));
        Ok(statistics)
    }

    async fn count(&self, spans: Spans) -> Result<Statistics> {
        let mut complete = true;
        let mut buckets = Vec::new();
        for span in 0..spans.count {
            let (at, until) = (spans.begin(span), spans.begin(span + 1));
            let tally = self.store.tally(at, Some(until), RUNS_COUNTED).await?;
            let succeeded = tally.ended - tally.failed;
            complete &= succeeded.max(tally.failed) < RUNS_COUNTED as u64;
            buckets.push(Bucket {
                at,
                fired: 0,
                succeeded,
                failed: tally.failed,
            });
        }
        complete &= self.count_fired(spans, &mut buckets).await?;
        Ok(Statistics { buckets, complete })
    }

    /// Walks the newest executions; says whether those were all.
    async fn count_fired(&self, spans: Spans, buckets: &mut [Bucket]) -> Result<bool> {
        let mut query = ExecutionQuery {
            limit: MAX_LIMIT,
            after: Some(Position {
                at: spans.end().as_micros(),
                id: String::new(),
            }),
            ..ExecutionQuery::default()
        };
        for _ in 0..EXECUTIONS_COUNTED / MAX_LIMIT {
            let page = self.store.executions(&query).await?;
            for execution in &page.items {
                if execution.initiated_at < spans.from {
                    return Ok(true);
                }
                if let Some(bucket) = spans
                    .of(execution.initiated_at)
                    .and_then(|span| buckets.get_mut(span))
                {
                    bucket.fired += 1;
                }
            }
            if page.next.is_none() {
                return Ok(true);
            }
            query.after = page.next;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_in_the_span_that_begins_with_it_or_before() {
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        let spans = Spans::new(at(100), at(160), 6).unwrap();
        for (moment, span) in [
            (99, None),
            (100, Some(0)),
            (109, Some(0)),
            (110, Some(1)),
            (159, Some(5)),
            (160, None),
        ] {
            assert_eq!(spans.of(at(moment)), span, "{moment}");
        }
        assert_eq!((spans.begin(0), spans.end()), (at(100), at(160)));
    }

    #[test]
    fn no_time_and_no_or_too_many_spans_are_refused() {
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        for (from, to, count, field) in [
            (5, 5, 1, "to"),
            (5, 4, 1, "to"),
            (5, 9, 0, "buckets"),
            (5, 9, MOST_BUCKETS + 1, "buckets"),
        ] {
            let refused = Spans::new(at(from), at(to), count).unwrap_err();
            assert!(refused.to_string().contains(field), "{refused}");
        }
    }
}
