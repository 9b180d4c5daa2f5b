//! What can happen to a store, in few words: a step of a sequence.

use kanade_model::{SkipReason, SlotState};
use kanade_ports::Standing;

use super::told::{Pacing, RunKey, Told};

/// Names of executions, agents, jobs and whatever else has one.
pub(super) type Name = &'static str;
/// Seconds after the beginning of all cases.
pub(super) type Secs = i64;

/// One step of a sequence.
#[derive(Debug, Clone)]
pub(super) enum Transition {
    /// Sets that are applied in one commit, at about this time.
    Commit(Secs, Vec<Set>),
    /// A clean stop and a start.
    Restart,
}

/// Steps that belong together: a change-set.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) lead: Step,
    pub(super) then: Vec<Step>,
    pub(super) key: Option<Name>,
}

/// At whom an execution is aimed.
#[derive(Debug, Clone)]
pub(super) enum Aim {
    /// These, each by a send of its own that is due so much later.
    Each(Secs, Vec<Name>),
    /// Everybody, by one send; these are known.
    All(Vec<Name>),
    /// Waves: the delay, the share that a gate wants, the agents.
    Waves(Vec<(Secs, Option<Name>, Vec<Name>)>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Code(i32),
    Killed,
    TimedOut,
    /// As an old agent says that a run was killed.
    OldKilled,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Fire {
        exec: Name,
        job: Name,
        at: Secs,
        aim: Aim,
        pacing: Pacing,
    },
    TakeOver {
        exec: Name,
        at: Secs,
        standing: Standing,
    },
    Sent {
        exec: Name,
        sends: Vec<(Name, Told)>,
        at: Secs,
    },
    LetOut {
        exec: Name,
        sends: Vec<(Name, Told)>,
        at: Secs,
    },
    Pause {
        exec: Name,
        at: Secs,
    },
    Resume {
        exec: Name,
        at: Secs,
    },
    Abort {
        exec: Name,
        at: Secs,
    },
    Judged {
        exec: Name,
        wave: u32,
        passed: bool,
        at: Secs,
        succeeded: u32,
        of: u32,
    },
    Kill {
        exec: Name,
        at: Secs,
    },
    KillHeard {
        exec: Name,
        at: Secs,
    },
    Delivered {
        exec: Name,
        pc: Name,
        at: Secs,
    },
    Settled {
        exec: Name,
        at: Secs,
    },
    Started {
        run: RunKey,
        by: Name,
        at: Secs,
        heard_at: Secs,
    },
    Finished {
        run: RunKey,
        by: Name,
        at: Secs,
        took: Secs,
        end: End,
        named: bool,
    },
    AdHoc {
        run: RunKey,
        at: Secs,
    },
    Skipped {
        exec: Name,
        pc: Name,
        told: Told,
        reason: SkipReason,
        at: Secs,
    },
    Seen {
        pc: Name,
        named: bool,
        at: Secs,
    },
    Expire {
        exec: Name,
        at: Secs,
    },
    ExpireTarget {
        exec: Name,
        pc: Name,
        at: Secs,
    },
    Lose {
        run: RunKey,
        at: Secs,
    },
    Facts {
        pc: Name,
        job: Name,
        at: Secs,
    },
    Audit {
        name: Name,
        at: Secs,
    },
    Letter {
        name: Name,
        at: Secs,
    },
    Slot {
        schedule: Name,
        slot: Secs,
        state: SlotState,
        backfilled: bool,
        at: Secs,
    },
    Looked {
        schedule: Name,
        through: Secs,
    },
    Mark {
        name: Name,
        at: Secs,
    },
    Forget(Oblivion),
}

/// What is to be forgotten, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Oblivion {
    pub(super) executions: Vec<Name>,
    pub(super) runs: Vec<RunKey>,
    pub(super) keys: Vec<Name>,
    pub(super) slots: Vec<(Name, Secs)>,
    /// Those that stand in the store when the batch comes.
    pub(super) audit: Vec<Name>,
    pub(super) letters: Vec<Name>,
}

impl Set {
    pub(super) fn of(lead: Step) -> Self {
        Self {
            lead,
            then: Vec::new(),
            key: None,
        }
    }

    /// The executions that it concerns.
    pub(super) fn executions(&self) -> impl Iterator<Item = Name> {
        std::iter::once(&self.lead)
            .chain(&self.then)
            .flat_map(Step::executions)
    }
}

impl Step {
    fn executions(&self) -> Vec<Name> {
        match self {
            Self::Fire { exec, .. }
            | Self::TakeOver { exec, .. }
            | Self::Sent { exec, .. }
            | Self::LetOut { exec, .. }
            | Self::Pause { exec, .. }
            | Self::Resume { exec, .. }
            | Self::Abort { exec, .. }
            | Self::Judged { exec, .. }
            | Self::Kill { exec, .. }
            | Self::KillHeard { exec, .. }
            | Self::Delivered { exec, .. }
            | Self::Settled { exec, .. }
            | Self::Skipped { exec, .. }
            | Self::Expire { exec, .. }
            | Self::ExpireTarget { exec, .. } => vec![exec],
            Self::Started { run, .. } | Self::Finished { run, .. } | Self::Lose { run, .. } => vec![run.exec],
            Self::Forget(Oblivion { executions, .. }) => executions.clone(),
            _ => Vec::new(),
        }
    }

    /// When an execution was fired; nothing else comes with a key that is kept.
    pub(super) fn fired_at(&self) -> Secs {
        match self {
            Self::Fire { at, .. } => *at,
            _ => 0,
        }
    }
}
