//! What can happen to a store: facts, in sets that apply whole or not at all.

use kanade_model::{
    AuditEvent, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, Heartbeat, PcId, RequestId,
    ResultId, ScheduleId, SendId, Timestamp,
};

use crate::{DeadLetter, Facts, Limits, Order, Pace, ScheduleCursor, Send, SlotRecord, Verdict};

/// Changes that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSet {
    /// Decides: if it is not [`Applied`](Outcome::Applied), the rest is skipped too.
    pub lead: Change,
    /// What follows from it.
    pub then: Vec<Change>,
    /// Makes the whole set a [`Duplicate`](Outcome::Duplicate) when the key was seen before.
    pub key: Option<IdempotencyKey>,
}

impl ChangeSet {
    /// A set of one change.
    pub fn of(lead: Change) -> Self {
        Self {
            lead,
            then: Vec::new(),
            key: None,
        }
    }

    /// The same set with one more change that follows.
    #[must_use]
    pub fn and(mut self, change: Change) -> Self {
        self.then.push(change);
        self
    }

    /// Every change, the lead first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        std::iter::once(&self.lead).chain(&self.then)
    }

    /// About how many bytes it brings to a commit.
    pub fn weight(&self) -> usize {
        self.changes().map(Change::weight).sum()
    }
}

/// One fact. Applying it twice changes nothing more; the order of start and finish does not matter.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job was fired. Duplicate when the execution exists.
    Fire(Box<NewExecution>),
    /// Another server had fired a job, and its record of that is taken over. Duplicate when the execution exists.
    TakeOver(Box<PastExecution>),
    /// Sends went out. Unknown when the execution is gone.
    Sent {
        /// The execution they belong to.
        exec_id: ExecId,
        /// Which.
        sends: Vec<SendId>,
        /// When.
        at: Timestamp,
    },
    /// Somebody paused an execution: nothing of it is due. Duplicate when it is paused; superseded when nothing of it is to
    /// be sent any more.
    Pause {
        /// The execution.
        exec_id: ExecId,
        /// Who paused it.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody let a paused execution go on, also past a gate that has failed. Superseded when it is not paused.
    Resume {
        /// The execution.
        exec_id: ExecId,
        /// When: what was due before is due then.
        at: Timestamp,
    },
    /// Somebody ended the sends of an execution: what has not gone out is withdrawn, what has goes on. Duplicate when nothing
    /// of it was to be sent any more; superseded when it is final.
    Abort {
        /// The execution.
        exec_id: ExecId,
        /// Who aborted it.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// A gate has been decided: later waves go out, or the execution is paused. Duplicate when it had been decided before;
    /// superseded when the wave stands otherwise than the verdict says, or the gate is not the next one.
    Judged {
        /// The execution.
        exec_id: ExecId,
        /// The number of the wave whose gate it is.
        wave: u32,
        /// What it came to.
        verdict: Verdict,
    },
    /// Parked sends are let out, as many as there is [room](crate::Execution::room) for; one whose target no longer waits is
    /// withdrawn. Superseded when nothing of that is so any more.
    LetOut {
        /// The execution.
        exec_id: ExecId,
        /// The sends and their agents; who stands first goes first.
        sends: Vec<(SendId, PcId)>,
        /// When.
        at: Timestamp,
    },
    /// Somebody killed an execution: its unsent sends are withdrawn. Superseded when it is final.
    Kill {
        /// The execution.
        exec_id: ExecId,
        /// Who killed it.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody's kill, past the server, was heard of after what it did: who ended an execution that is killed already.
    /// Superseded unless it is final and a run of it was killed; duplicate when its killer is known.
    KillHeard {
        /// The execution.
        exec_id: ExecId,
        /// Who killed it.
        by: String,
        /// When that was heard.
        at: Timestamp,
    },
    /// An agent has a kill.
    KillDelivered(EventKill),
    /// The time for answers to a kill is over: what has not started by now never will.
    KillSettled {
        /// The execution.
        exec_id: ExecId,
        /// When.
        at: Timestamp,
    },
    /// A run has started. Superseded when the run is known to be another agent's.
    RunStarted {
        /// What the agent said.
        event: EventStarted,
        /// When it arrived: a run is given its time from then on, however far behind the agent's clock is.
        at: Timestamp,
    },
    /// A run has ended. Superseded when the run is known to be another agent's.
    RunFinished(Box<ExecResult>),
    /// An agent did not start what it was told to.
    RunSkipped(EventSkipped),
    /// A sign of life. Superseded when a newer one is known.
    AgentSeen {
        /// What the agent said.
        heartbeat: Heartbeat,
        /// When it arrived.
        at: Timestamp,
    },
    /// Nothing of an execution has started for long. Superseded when something has, or when something holds it.
    Expire {
        /// The execution.
        exec_id: ExecId,
        /// When.
        at: Timestamp,
    },
    /// A waiting target is past its time. Superseded when it is not (any more).
    ExpireTarget {
        /// The execution.
        exec_id: ExecId,
        /// The agent.
        pc_id: PcId,
        /// When.
        at: Timestamp,
    },
    /// A running run is past its time. Superseded when it is not (any more).
    LoseRun {
        /// The run.
        result_id: ResultId,
        /// Its execution.
        exec_id: ExecId,
        /// Its agent.
        pc_id: PcId,
        /// When.
        at: Timestamp,
    },
    /// An inventory job has found something out. Superseded when newer facts are known.
    Facts(Box<Facts>),
    /// Somebody did something. Duplicate when an entry with this event id exists.
    Audit(AuditEvent),
    /// A message could not be understood.
    DeadLetter(DeadLetter),
    /// A slot of a schedule is settled. Duplicate when it had been.
    Slot(SlotRecord),
    /// A schedule was looked at.
    ScheduleLooked(ScheduleCursor),
    /// Something has happened that is to be known for good. Duplicate when it had happened before: the first time stays.
    Mark {
        /// What.
        name: String,
        /// When.
        at: Timestamp,
    },
    /// Records are too old to be kept.
    Forget(Forget),
}

impl Change {
    fn weight(&self) -> usize {
        const RECORD: usize = 256;
        RECORD
            + match self {
                Self::Fire(new) => {
                    new.order.script.len()
                        + new.order.params.weight()
                        + (new.targets.len() + new.sends.len()) * RECORD
                }
                Self::TakeOver(past) => past.order.script.len(),
                Self::RunFinished(result) => result.stdout.len() + result.stderr.len(),
                Self::DeadLetter(letter) => letter.payload.len(),
                Self::Sent { sends, .. } => sends.len() * 16,
                Self::Forget(forget) => forget.len() * 16,
                // Facts were printed by a run, whose result stands in the same set.
                _ => 0,
            }
    }
}

/// A firing with all it owes.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// Its id.
    pub exec_id: ExecId,
    /// Who fired it.
    pub initiated_by: String,
    /// When.
    pub initiated_at: Timestamp,
    /// What the agents are told.
    pub order: Order,
    /// How long things may take.
    pub limits: Limits,
    /// Which agents; each once.
    pub targets: Vec<NewTarget>,
    /// What is owed to the bus.
    pub sends: Vec<Send>,
    /// How many agents are at it at once, and how often each tries.
    pub pace: Pace,
}

/// An execution that another server fired. It owes nothing: whatever there was to send, that server has sent. At whom
/// it was aimed is not known; the agents whose runs are recorded, before or after, become its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct PastExecution {
    /// Its id.
    pub exec_id: ExecId,
    /// Who fired it.
    pub initiated_by: String,
    /// When.
    pub initiated_at: Timestamp,
    /// What the agents were told, as far as that is known.
    pub order: Order,
    /// How long things may still take.
    pub limits: Limits,
    /// How it stands as long as no run of it is known.
    pub standing: Standing,
}

/// How an execution stands of which no run is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Agents may start it still.
    Open,
    /// Agents may start it still, although nothing has been heard of it for long.
    Expired,
    /// Nobody will start it any more: it is final, and no kill of its job concerns it.
    Over,
}

/// One agent of a new execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTarget {
    /// The agent.
    pub pc_id: PcId,
    /// The send that reaches it, one of the same execution's.
    pub send_id: SendId,
    /// The request id of that send.
    pub request_id: RequestId,
    /// The wave of that send.
    pub wave: u32,
    /// The due time of that send.
    pub due_at: Timestamp,
}

/// A key by which a caller makes its request repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key, made unique among callers and routes.
    pub key: String,
    /// The digest of the request.
    pub fingerprint: String,
    /// When.
    pub at: Timestamp,
}

/// Records to remove, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forget {
    /// Executions, with their order, targets, sends and remaining runs.
    pub executions: Vec<ExecId>,
    /// Runs with their output.
    pub runs: Vec<ResultId>,
    /// Audit entries.
    pub audit: Vec<i64>,
    /// Dead letters.
    pub dead_letters: Vec<i64>,
    /// Idempotency keys.
    pub keys: Vec<String>,
    /// Slots.
    pub slots: Vec<(ScheduleId, Timestamp)>,
}

impl Forget {
    /// How many records are named.
    pub fn len(&self) -> usize {
        self.executions.len()
            + self.runs.len()
            + self.audit.len()
            + self.dead_letters.len()
            + self.keys.len()
            + self.slots.len()
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a set did. None of these is an error: redelivery is normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was applied.
    Applied,
    /// It had been applied before.
    Duplicate,
    /// It speaks of something that is not there.
    Unknown,
    /// What it speaks of has moved on.
    Superseded,
}
