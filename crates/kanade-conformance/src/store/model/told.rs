//! What agents are told by an execution, how often, and their runs of it.

use kanade_model::{RequestId, ResultId, Retry, SendId};
use kanade_ports::{Pace, Retrying};
use uuid::Uuid;

use super::{
    super::{
        pace::attempt_after,
        world::{id, secs},
    },
    step::{Name, Secs},
};

/// What an agent was told by an execution: the Command that was fired, at it alone or at everybody, or the one of so many
/// attempts later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Told {
    pub(super) all: bool,
    pub(super) later: u8,
}

/// One run of an execution (or of none) on an agent. An agent may run it more than once; the run with number 0 is one
/// of an old agent, which gives it no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunKey {
    pub(super) exec: Name,
    pub(super) pc: Name,
    pub(super) told: Told,
    pub(super) number: u8,
}

/// How an execution is fired: at most so many at once, and what is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pacing {
    pub(super) most: Option<u32>,
    pub(super) tries: Option<Tries>,
}

/// Exit codes that are tried again (all, where there are none), and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tries {
    pub(super) on: &'static [i32],
    pub(super) until: Option<Secs>,
}

/// How long each failed attempt but the last is waited after.
pub(super) const WAITS: [Secs; 2] = [10, 20];

impl Told {
    /// What a failed attempt is followed by.
    pub(super) fn next(self) -> Self {
        Self {
            later: self.later + 1,
            ..self
        }
    }

    pub(super) fn request(self, exec: Name, pc: Name) -> RequestId {
        self.named(exec, pc).1
    }

    pub(super) fn send(self, exec: Name, pc: Name) -> SendId {
        self.named(exec, pc).0
    }

    fn named(self, exec: Name, pc: Name) -> (SendId, RequestId) {
        let first = if self.all { "all" } else { pc };
        attempt_after(exec, first, pc, self.later.into())
    }
}

impl Pacing {
    pub(super) fn pace(self) -> Pace {
        Pace {
            max_parallel: self.most,
            retry: self.tries.map(|tries| Retrying {
                rule: Retry {
                    max_attempts: 3,
                    backoff: "10s".parse().expect("a duration"),
                    on: tries.on.to_vec(),
                },
                until: tries.until.map(secs),
            }),
        }
    }
}

impl RunKey {
    pub(super) fn id(&self) -> ResultId {
        let request = self.told.request(self.exec, self.pc);
        match self.number {
            0 => ResultId::derived(request, &id(self.pc)),
            number => ResultId(Uuid::new_v5(
                &request.0,
                format!("{} {number}", self.pc).as_bytes(),
            )),
        }
    }
}
