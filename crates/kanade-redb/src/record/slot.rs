//! Slots of schedules, how far schedules were looked at, and where jobs have succeeded.

use kanade_model::{JobId, ScheduleId, SlotState, Timestamp};
use kanade_ports::{ScheduleCursor, SlotRecord, Success};
use redb::TableDefinition;

use crate::{
    key::Key,
    table::{Definition, List, Record},
};

impl Record for SlotRecord {
    const NAME: &'static str = "slot";
    const ROWS: Definition = TableDefinition::new("slots");
    const LISTS: Option<Definition> = Some(TableDefinition::new("slot_lists"));

    fn key(&self) -> Key {
        slot(&self.schedule_id, self.slot)
    }

    fn places(&self) -> Vec<Key> {
        let mut places = vec![old_slots().name().moment(self.slot)];
        if self.state == SlotState::Waiting {
            places.push(waiting_slots().name().moment(self.slot));
        }
        places
    }

    json!();
}

/// The slots of a schedule.
pub(crate) fn slots_of(schedule: &ScheduleId) -> Key {
    Key::new().text(schedule.as_str())
}

pub(crate) fn slot(schedule: &ScheduleId, slot: Timestamp) -> Key {
    slots_of(schedule).moment(slot)
}

/// Every slot, by its time.
pub(crate) fn old_slots() -> List {
    List::by_moment(Key::list(0))
}

/// Those that wait, by their time.
pub(crate) fn waiting_slots() -> List {
    List::by_moment(Key::list(1))
}

impl Record for ScheduleCursor {
    const NAME: &'static str = "cursor of a schedule";
    const ROWS: Definition = TableDefinition::new("cursors");
    const LISTS: Option<Definition> = None;

    fn key(&self) -> Key {
        cursor(&self.schedule_id)
    }

    fn places(&self) -> Vec<Key> {
        Vec::new()
    }

    json!();
}

pub(crate) fn cursor(schedule: &ScheduleId) -> Key {
    Key::new().last(schedule.as_str())
}

impl Record for Success {
    const NAME: &'static str = "success";
    const ROWS: Definition = TableDefinition::new("successes");
    const LISTS: Option<Definition> = None;

    fn key(&self) -> Key {
        successes_of(&self.job_id).last(self.pc_id.as_str())
    }

    fn places(&self) -> Vec<Key> {
        Vec::new()
    }

    json!();
}

/// The successes of a job, by agent.
pub(crate) fn successes_of(job: &JobId) -> Key {
    Key::new().text(job.as_str())
}
