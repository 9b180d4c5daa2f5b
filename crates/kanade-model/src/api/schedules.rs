//! Bodies about schedules and their slots.

use serde::{Deserialize, Serialize};

use crate::{ExecId, JobId, ScheduleId, SlotState, Target, Timestamp};

body! {
    /// A slot of a schedule, and what became of it.
    pub struct Slot {
        /// The schedule.
        pub schedule_id: ScheduleId,
        /// The due time.
        pub slot: Timestamp,
        /// What became of it.
        pub state: SlotState,
        /// The execution it fired.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub exec_id: Option<ExecId>,
        /// Why it did not fire, or fired late, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub detail: Option<String>,
        /// When that was settled.
        pub settled_at: Timestamp,
    }

    /// A slot that is to come.
    pub struct SlotAhead {
        /// The schedule.
        pub schedule_id: ScheduleId,
        /// The job it fires.
        pub job_id: JobId,
        /// The due time.
        pub slot: Timestamp,
        /// The same moment in the schedule's time zone, in RFC 3339.
        pub local: String,
        /// The reason of the freeze in which it lies; missing when none does.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub frozen: Option<String>,
    }

    /// The time whose slots are to be fired.
    pub struct Backfill {
        /// The first moment.
        pub from: Timestamp,
        /// The last moment; it must have passed.
        pub until: Timestamp,
    }

    /// A schedule: its document's fields, and whether it is held.
    pub struct ScheduleShown {
        /// The document's fields, at the root.
        #[serde(flatten)] pub schedule: crate::Schedule,
        /// Why it does not fire although it is enabled; missing when nothing holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub held: Option<Held>,
        /// When it is due next; missing when it does not fire by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub next: Option<Timestamp>,
        /// Why its document is not valid, so that it does not fire; missing when it is.
        #[serde(default, skip_serializing_if = "Option::is_none")] pub problem: Option<String>,
    }

    /// A document in the bucket of schedules that is not a schedule. Existing clients read lists of schedules whole or
    /// not at all, so what they want of each is there, and says nothing.
    pub struct UnreadableSchedule {
        /// Its key.
        pub id: String,
        /// What is wrong with it.
        pub problem: String,
        /// Empty.
        pub cron: String,
        /// Empty.
        pub job_id: String,
        /// Nobody.
        pub target: Target,
        /// False.
        pub enabled: bool,
    }

    /// Why a schedule is held.
    pub struct Held {
        /// The reason and what to do about it, in words.
        pub reason: String,
    }

    /// The summary of a schedule that was stored.
    pub struct ScheduleStored {
        /// The schedule.
        pub id: ScheduleId,
        /// Its cron expression.
        pub cron: String,
        /// Whether it fires.
        pub enabled: bool,
        /// The job it fires.
        pub job_id: JobId,
    }
}

/// One of the documents in the bucket of schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ScheduleListed {
    /// A schedule.
    Schedule(Box<ScheduleShown>),
    /// What is not one.
    Unreadable(UnreadableSchedule),
}
