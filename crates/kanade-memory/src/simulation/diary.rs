//! What simulated agents have really done: what a server is to find out.

use std::sync::{Arc, Mutex, PoisonError};

use kanade_model::{Ended, ExecId, PcId, RequestId, ResultId, Timestamp};

/// The diary of a fleet. Clones are the same diary.
#[derive(Debug, Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<Entry>>>);

/// Something that an agent has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Which agent.
    pub pc: PcId,
    /// Of which execution.
    pub exec: ExecId,
    /// What.
    pub deed: Deed,
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It took a Command in hand.
    Took(RequestId),
    /// It did not start it, and says so if it is one of ours.
    Refused(RequestId),
    /// Its script began to run.
    Started(RequestId, ResultId),
    /// Its script does not run any more, or never will; the report of that is on the disk.
    Ended(RequestId, ResultId, Ended, i32),
    /// Its script does not run any more, and nobody will say so.
    Vanished(ResultId),
    /// It heard a kill.
    HeardKill,
}

impl Diary {
    pub(super) fn note(&self, at: Timestamp, pc: &PcId, exec: &ExecId, deed: Deed) {
        let (pc, exec) = (pc.clone(), exec.clone());
        self.entries().push(Entry { at, pc, exec, deed });
    }

    /// Everything, in the order in which it happened.
    pub fn read(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
