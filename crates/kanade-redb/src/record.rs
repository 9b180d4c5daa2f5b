//! What each kind of record is kept under, and which lists it stands in.
//!
//! Rows are JSON: a field that a later version adds is absent in old rows, and readers pass over fields they do not
//! know. The numbers of lists and states are part of the file format; they never change their meaning.

/// A record that is kept as its own JSON.
macro_rules! json {
    () => {
        fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
            serde_json::to_vec(self)
        }

        fn decode(_: &[u8], value: &[u8]) -> Option<Self> {
            serde_json::from_slice(value).ok()
        }
    };
}
mod execution;
mod run;
mod slot;
mod trail;

use kanade_ports::{
    Agent, AuditRecord, DeadLetterRecord, Execution, Facts, Run, ScheduleCursor, Send, SlotRecord, Success,
    TargetRecord,
};

use kanade_model::Timestamp;

use crate::{
    key::Key,
    table::{Definition, List, Record},
};

pub(crate) use execution::*;
pub(crate) use run::*;
pub(crate) use slot::*;
pub(crate) use trail::*;

/// The tables of every kind of record: its rows, and its lists where it has some.
pub(crate) fn tables() -> [(Definition, Option<Definition>); 14] {
    fn of<R: Record>() -> (Definition, Option<Definition>) {
        (R::ROWS, R::LISTS)
    }
    [
        of::<Execution>(),
        of::<Ordered>(),
        of::<TargetRecord>(),
        of::<Send>(),
        of::<Run>(),
        of::<Agent>(),
        of::<Facts>(),
        of::<AuditRecord>(),
        of::<DeadLetterRecord>(),
        of::<KeptKey>(),
        of::<Mark>(),
        of::<SlotRecord>(),
        of::<ScheduleCursor>(),
        of::<Success>(),
    ]
}

/// A list by moments, and the end of its part before a moment.
pub(crate) fn before(list: List, at: Timestamp) -> (List, Key) {
    let end = list.name().moment(at);
    (list, end)
}

/// A list by moments, and the end of its part up to and with a moment.
pub(crate) fn until(list: List, at: Timestamp) -> (List, Option<Key>) {
    let end = list.name().moment(at).successor();
    (list, end)
}
