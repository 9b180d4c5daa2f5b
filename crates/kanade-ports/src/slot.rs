//! What is recorded of schedules: their slots, how far they were looked at, and where jobs have succeeded.

use kanade_model::{ExecId, JobId, PcId, ScheduleId, SlotState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Outcome, Position, WorkingSet};

/// One due time of a schedule, and what became of it. There is one record of each, whoever writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The due time.
    pub slot: Timestamp,
    /// What became of it.
    pub state: SlotState,
    /// The execution it fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// Why it did not fire, or fired late, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When that was settled.
    pub at: Timestamp,
    /// Whether an operator asked for it afterwards. Only such a firing replaces a slot that was skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backfilled: bool,
}

/// How far a schedule was looked at: every slot up to here has its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleCursor {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// When it was due at that time, in words that tell two timings apart. With another one it begins anew.
    pub timing: String,
    /// Up to here.
    pub through: Timestamp,
}

/// The newest success of a job on an agent. It outlives the run, so that retention makes nobody run a job again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// The job.
    pub job_id: JobId,
    /// The agent.
    pub pc_id: PcId,
    /// When the run ended.
    pub at: Timestamp,
}

/// The slots of a schedule, newest first.
#[derive(Debug, Clone)]
pub struct SlotQuery {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// Page size, 1 to [`MAX_LIMIT`](crate::MAX_LIMIT).
    pub limit: usize,
    /// Only what comes after this place (its `at` is a slot in microseconds since 1970).
    pub after: Option<Position>,
}

impl WorkingSet {
    pub(crate) fn slot(&mut self, new: &SlotRecord) -> Outcome {
        let key = (new.schedule_id.clone(), new.slot);
        let gives_way = match self.slots.get(&key) {
            None => true,
            Some(old) => match old.state {
                SlotState::Fired => false,
                SlotState::Waiting => new.state != SlotState::Waiting,
                SlotState::Skipped => new.backfilled && new.state == SlotState::Fired,
                // Whoever had missed it may have been wrong about the time.
                SlotState::Missed => new.state == SlotState::Fired,
            },
        };
        if !gives_way {
            return Outcome::Duplicate;
        }
        self.slots.insert(key, new.clone());
        Outcome::Applied
    }

    pub(crate) fn schedule_looked(&mut self, cursor: &ScheduleCursor) -> Outcome {
        self.cursors.insert(cursor.schedule_id.clone(), cursor.clone());
        Outcome::Applied
    }

    /// Notes a success; backends keep the newest of this one and what they have.
    pub(crate) fn succeeded(&mut self, job_id: &JobId, pc_id: &PcId, at: Timestamp) {
        let key = (job_id.clone(), pc_id.clone());
        let newest = self.successes.entry(key).or_insert(at);
        *newest = (*newest).max(at);
    }
}
