//! What has been heard of runs: the newest part of each, with limits for a run, for an agent and for all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kanade_model::{OutputChunk, PcId, ResultId, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use super::RunOf;

/// Kept of a run; the newest.
const OF_RUN: usize = 256 * 1024;
/// Runs of an agent that are kept; those that were heard of last.
const OF_AGENT: usize = 64;
/// Kept of all runs.
const OF_ALL: usize = 64 << 20;
/// What a chunk takes beside its text.
const ENVELOPE: usize = 256;
/// After its end a run is kept for readers that are not through.
const AFTER_END: Duration = Duration::from_secs(30);
/// A run whose end nobody hears of is kept for so long after its last word.
const QUIET: Duration = Duration::from_secs(6 * 60 * 60);

/// What is kept.
#[derive(Default)]
pub(super) struct Heard {
    runs: BTreeMap<RunOf, Kept>,
    /// Runs by when they were heard of last.
    order: BTreeMap<u64, RunOf>,
    turn: u64,
    bytes: usize,
}

struct Kept {
    chunks: VecDeque<Arc<OutputChunk>>,
    bytes: usize,
    turn: u64,
    at: Timestamp,
    has_ended: bool,
    changed: watch::Sender<()>,
}

impl Heard {
    /// Keeps a chunk. One that is not newer than what is there is passed over.
    pub(super) fn hear(&mut self, chunk: OutputChunk, at: Timestamp) {
        let run = (chunk.pc_id.clone(), chunk.result_id);
        self.touch(&run, at);
        let kept = self.runs.get_mut(&run).expect("it was just touched");
        if kept.chunks.back().is_some_and(|newest| newest.seq >= chunk.seq) {
            return;
        }
        let before = kept.bytes;
        kept.bytes += weight(&chunk);
        kept.chunks.push_back(Arc::new(chunk));
        while kept.bytes > OF_RUN && kept.chunks.len() > 1 {
            let oldest = kept.chunks.pop_front().expect("there are some");
            kept.bytes -= weight(&oldest);
        }
        self.bytes = self.bytes - before + kept.bytes;
        kept.changed.send_replace(());
        self.keep_to_limits(&run.0);
    }

    /// The run has ended.
    pub(super) fn ended(&mut self, run: &RunOf, at: Timestamp) {
        if let Some(kept) = self.runs.get_mut(run) {
            kept.has_ended = true;
            kept.at = at;
            kept.changed.send_replace(());
        }
    }

    /// Tells when there is something new of a run; ends when the run is not kept any more.
    pub(super) fn changes(&mut self, run: &RunOf, at: Timestamp) -> watch::Receiver<()> {
        if !self.runs.contains_key(run) {
            self.touch(run, at);
        }
        self.runs[run].changed.subscribe()
    }

    /// The oldest chunk of a run from `seq` on.
    pub(super) fn next(&self, run: &RunOf, seq: u64) -> Option<Arc<OutputChunk>> {
        let chunks = &self.runs.get(run)?.chunks;
        let at = chunks.partition_point(|chunk| chunk.seq < seq);
        chunks.get(at).map(Arc::clone)
    }

    /// Whether the run is known to have ended.
    pub(super) fn has_ended(&self, run: &RunOf) -> bool {
        self.runs.get(run).is_some_and(|kept| kept.has_ended)
    }

    /// Whether anything of the run may still come or is there.
    pub(super) fn has_some(&self, run: &RunOf) -> bool {
        self.runs.get(run).is_some_and(|kept| !kept.chunks.is_empty())
    }

    /// Whether whoever has been told everything before `seq` has been told the end.
    pub(super) fn is_through(&self, run: &RunOf, seq: u64) -> bool {
        let newest = self.runs.get(run).and_then(|kept| kept.chunks.back());
        newest.is_some_and(|chunk| chunk.last && chunk.seq < seq)
    }

    /// Drops what need not be kept any more.
    pub(super) fn clear(&mut self, now: Timestamp) {
        let is_over = |kept: &Kept| {
            let for_nobody = kept.changed.receiver_count() == 0;
            let quiet = now.since(kept.at);
            (kept.has_ended && quiet >= AFTER_END)
                || (for_nobody && (kept.chunks.is_empty() || quiet >= QUIET))
        };
        let over = self.runs.iter().filter(|(_, kept)| is_over(kept));
        let over: Vec<RunOf> = over.map(|(run, _)| run.clone()).collect();
        over.iter().for_each(|run| self.drop_run(run));
    }

    fn touch(&mut self, run: &RunOf, at: Timestamp) {
        self.turn += 1;
        let turn = self.turn;
        let kept = self.runs.entry(run.clone()).or_insert_with(|| Kept {
            chunks: VecDeque::new(),
            bytes: 0,
            turn,
            at,
            has_ended: false,
            changed: watch::Sender::new(()),
        });
        self.order.remove(&kept.turn);
        kept.turn = turn;
        if !kept.has_ended {
            kept.at = at;
        }
        self.order.insert(turn, run.clone());
    }

    /// Drops runs that were heard of longest ago: of this agent, and of all.
    fn keep_to_limits(&mut self, pc: &PcId) {
        let of_agent = (pc.clone(), ResultId(Uuid::nil()))..=(pc.clone(), ResultId(Uuid::max()));
        let own = || self.runs.range(of_agent.clone());
        if own().nth(OF_AGENT).is_some() {
            let oldest = own()
                .min_by_key(|(_, kept)| kept.turn)
                .map(|(run, _)| run.clone());
            oldest.iter().for_each(|run| self.drop_run(run));
        }
        while self.bytes > OF_ALL
            && let Some(run) = self.order.values().next().cloned()
        {
            self.drop_run(&run);
        }
    }

    fn drop_run(&mut self, run: &RunOf) {
        if let Some(kept) = self.runs.remove(run) {
            self.order.remove(&kept.turn);
            self.bytes -= kept.bytes;
        }
    }
}

fn weight(chunk: &OutputChunk) -> usize {
    ENVELOPE + chunk.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::{OutputStream, RequestId};

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn run(pc: &str, number: u128) -> RunOf {
        (pc.parse().unwrap(), ResultId(Uuid::from_u128(number)))
    }

    fn chunk(run: &RunOf, seq: u64, bytes: usize) -> OutputChunk {
        OutputChunk {
            result_id: run.1,
            request_id: RequestId(Uuid::nil()),
            exec_id: "e-1".parse().unwrap(),
            pc_id: run.0.clone(),
            seq,
            stream: OutputStream::Stdout,
            offset: seq * bytes as u64,
            text: "x".repeat(bytes),
            last: false,
        }
    }

    #[test]
    fn the_newest_of_a_run_is_kept_in_order() {
        let mut heard = Heard::default();
        let run = run("pc-1", 1);
        for seq in [0, 1, 1, 0, 5] {
            heard.hear(chunk(&run, seq, 10), AT);
        }
        let from = |heard: &Heard, seq| heard.next(&run, seq).map(|chunk| chunk.seq);
        assert_eq!(
            [0, 1, 2, 5, 6].map(|seq| from(&heard, seq)),
            [Some(0), Some(1), Some(5), Some(5), None]
        );
        for seq in 6..200 {
            heard.hear(chunk(&run, seq, 8192), AT);
            assert!(heard.bytes <= OF_RUN);
        }
        assert_eq!(from(&heard, 0), Some(169));
    }

    #[test]
    fn one_agent_has_so_many_runs_and_takes_none_from_others() {
        let mut heard = Heard::default();
        let other = run("pc-0", 1);
        heard.hear(chunk(&other, 0, 10), AT);
        for number in 0..1000 {
            heard.hear(chunk(&run("pc-1", number), 0, 10), AT);
        }
        assert_eq!(heard.runs.len(), 1 + OF_AGENT);
        assert_eq!(heard.order.len(), 1 + OF_AGENT);
        assert!(heard.next(&other, 0).is_some());
        assert!(heard.next(&run("pc-1", 999), 0).is_some());
        assert!(heard.next(&run("pc-1", 0), 0).is_none());
    }

    #[test]
    fn all_together_stay_within_a_limit_and_whoever_follows_learns_of_it() {
        let mut heard = Heard::default();
        let first = run("pc-0", 1);
        heard.hear(chunk(&first, 0, 60_000), AT);
        let changes = heard.changes(&first, AT);
        for number in 0..1200 {
            heard.hear(chunk(&run(&format!("pc-{number}"), 7), 0, 60_000), AT);
            assert!(heard.bytes <= OF_ALL);
        }
        assert!(!heard.has_some(&first));
        assert!(changes.has_changed().is_err(), "its sender is gone");
        let bytes: usize = heard.runs.values().map(|kept| kept.bytes).sum();
        assert_eq!(bytes, heard.bytes);
    }

    #[test]
    fn a_run_is_dropped_some_time_after_its_end_and_a_quiet_one_later() {
        let mut heard = Heard::default();
        let (ended, quiet, followed) = (run("pc-1", 1), run("pc-1", 2), run("pc-1", 3));
        heard.hear(chunk(&ended, 0, 10), AT);
        heard.hear(chunk(&quiet, 0, 10), AT);
        let follower = heard.changes(&followed, AT);
        heard.ended(&ended, AT);
        assert!(heard.has_ended(&ended) && !heard.has_ended(&quiet));
        heard.clear(AT.plus(AFTER_END / 2));
        assert!(heard.has_some(&ended));
        heard.clear(AT.plus(AFTER_END));
        assert!(!heard.has_some(&ended) && heard.has_some(&quiet));
        heard.clear(AT.plus(QUIET));
        assert!(!heard.has_some(&quiet));
        assert_eq!(heard.runs.len(), 1, "it is followed");
        drop(follower);
        heard.clear(AT.plus(QUIET));
        assert_eq!((heard.runs.len(), heard.order.len(), heard.bytes), (0, 0, 0));
    }
}
