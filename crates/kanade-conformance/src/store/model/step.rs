//! What can happen to a store, in few words: a step of a sequence, and the change that it is.

use std::time::Duration;

use kanade_model::{
    Ended, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, Heartbeat, RequestId, ResultId, Retry,
    SendId, SkipReason, SlotState, Timestamp,
};
use kanade_ports::{
    Change, ChangeSet, Forget, IdempotencyKey, Pace, PastExecution, Retrying, ScheduleCursor, SendState,
    SlotRecord, Standing, Verdict,
};
use serde_json::json;
use uuid::Uuid;

use super::super::{
    pace::attempt_after,
    waves::staged,
    world::{Firing, audit_event, facts, id, letter, secs, start_event},
};

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

/// The numbers that a store has given to what has a name here.
pub(super) trait Numbers {
    fn audit(&self, name: Name) -> Vec<i64>;
    fn letters(&self, name: Name) -> Vec<i64>;
}

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

    pub(super) fn change_set(&self, numbers: &impl Numbers) -> ChangeSet {
        ChangeSet {
            lead: self.lead.change(numbers),
            then: self.then.iter().map(|step| step.change(numbers)).collect(),
            key: self.key.map(|key| IdempotencyKey {
                key: key.into(),
                fingerprint: "f".into(),
                at: secs(self.lead.fired_at()),
            }),
        }
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

    fn change(&self, numbers: &impl Numbers) -> Change {
        match self.clone() {
            Self::Fire {
                exec,
                job,
                at,
                aim,
                pacing,
            } => paced(firing(exec, job, at, &aim), pacing).change(),
            Self::TakeOver { exec, at, standing } => Change::TakeOver(Box::new(past(exec, at, standing))),
            Self::Sent { exec, sends, at } => Change::Sent {
                exec_id: id(exec),
                sends: sends.iter().map(|(to, told)| told.send(exec, to)).collect(),
                at: secs(at),
            },
            Self::LetOut { exec, sends, at } => Change::LetOut {
                exec_id: id(exec),
                sends: sends
                    .iter()
                    .map(|(pc, told)| (told.send(exec, pc), id(pc)))
                    .collect(),
                at: secs(at),
            },
            Self::Pause { exec, at } => Change::Pause {
                exec_id: id(exec),
                by: "ann".into(),
                at: secs(at),
            },
            Self::Resume { exec, at } => Change::Resume {
                exec_id: id(exec),
                at: secs(at),
            },
            Self::Abort { exec, at } => Change::Abort {
                exec_id: id(exec),
                by: "ann".into(),
                at: secs(at),
            },
            Self::Judged {
                exec,
                wave,
                passed,
                at,
                succeeded,
                of,
            } => Change::Judged {
                exec_id: id(exec),
                wave,
                verdict: Verdict {
                    passed,
                    at: secs(at),
                    succeeded,
                    of,
                },
            },
            Self::Kill { exec, at } => Change::Kill {
                exec_id: id(exec),
                by: "alice".into(),
                at: secs(at),
            },
            Self::KillHeard { exec, at } => Change::KillHeard {
                exec_id: id(exec),
                by: "alice".into(),
                at: secs(at),
            },
            Self::Settled { exec, at } => Change::KillSettled {
                exec_id: id(exec),
                at: secs(at),
            },
            Self::Expire { exec, at } => super::super::world::expire(exec, secs(at)),
            Self::ExpireTarget { exec, pc, at } => super::super::world::expire_target(exec, pc, secs(at)),
            Self::Lose { run, at } => Change::LoseRun {
                result_id: run.id(),
                exec_id: id(run.exec),
                pc_id: id(run.pc),
                at: secs(at),
            },
            Self::Audit { name, at } => Change::Audit(audit_event(name, secs(at))),
            Self::Letter { name, at } => Change::DeadLetter(letter(name, secs(at))),
            Self::Slot {
                schedule,
                slot,
                state,
                backfilled,
                at,
            } => Change::Slot(self::slot(schedule, slot, state, backfilled, at)),
            Self::Looked { schedule, through } => Change::ScheduleLooked(cursor(schedule, through)),
            Self::Mark { name, at } => Change::Mark {
                name: name.into(),
                at: secs(at),
            },
            Self::Forget(oblivion) => Change::Forget(oblivion.by_id(numbers)),
            said => said.message(),
        }
    }

    /// What an agent says.
    fn message(self) -> Change {
        match self {
            Self::Delivered { exec, pc, at } => Change::KillDelivered(EventKill {
                exec_id: id(exec),
                pc_id: id(pc),
                at: secs(at),
            }),
            Self::Started {
                run,
                by,
                at,
                heard_at,
            } => Change::RunStarted {
                event: EventStarted {
                    result_id: run.id(),
                    request_id: run.told.request(run.exec, by),
                    started_at: secs(at),
                    ..start_event(run.exec, by)
                },
                at: secs(heard_at),
            },
            Self::Finished {
                run,
                by,
                at,
                took,
                end,
                named,
            } => Change::RunFinished(Box::new(result(run, Some(run.exec), by, at, took, end, named))),
            Self::AdHoc { run, at } => {
                Change::RunFinished(Box::new(result(run, None, run.pc, at, 1, End::Code(0), false)))
            }
            Self::Skipped {
                exec,
                pc,
                told,
                reason,
                at,
            } => Change::RunSkipped(EventSkipped {
                request_id: told.request(exec, pc),
                exec_id: id(exec),
                pc_id: id(pc),
                at: secs(at),
                manifest_id: id("backup"),
                version: id("1.0.0"),
                reason,
                detail: format!("it is {reason:?}"),
            }),
            Self::Seen { pc, named, at } => Change::AgentSeen {
                heartbeat: Heartbeat {
                    pc_id: id(pc),
                    at: secs(at),
                    agent_version: "1.0.0".into(),
                    hostname: named.then(|| format!("{pc}.example")),
                    os_family: None,
                },
                at: secs(at),
            },
            Self::Facts { pc, job, at } => {
                Change::Facts(Box::new(facts(pc, job, secs(at), json!({ "at": at }))))
            }
            other => unreachable!("{other:?} is no message"),
        }
    }
}

impl Oblivion {
    pub(super) fn by_id(&self, numbers: &impl Numbers) -> Forget {
        Forget {
            executions: self.executions.iter().map(|exec| id(exec)).collect(),
            runs: self.runs.iter().map(RunKey::id).collect(),
            audit: self.audit.iter().flat_map(|name| numbers.audit(name)).collect(),
            dead_letters: self
                .letters
                .iter()
                .flat_map(|name| numbers.letters(name))
                .collect(),
            keys: self.keys.iter().map(|key| (*key).to_owned()).collect(),
            slots: self.slots.iter().map(|(of, at)| (id(of), secs(*at))).collect(),
        }
    }
}

/// A firing; what comes after a gate is held.
pub(super) fn firing(exec: Name, job: Name, at: Secs, aim: &Aim) -> Firing {
    let fired = match aim {
        Aim::Each(delay, pcs) => {
            return Firing::of(exec)
                .job(job)
                .at(secs(at))
                .due(secs(at + delay))
                .pcs(pcs);
        }
        Aim::All(pcs) => return Firing::of(exec).job(job).at(secs(at)).everybody(pcs),
        Aim::Waves(waves) => {
            let waves: Vec<_> = waves
                .iter()
                .map(|(delay, gate, pcs)| (*delay, *gate, &pcs[..]))
                .collect();
            staged(exec, &waves).job(job)
        }
    };
    // Those are fired at second 0.
    let mut fired = fired.at(secs(at));
    let later = |due: Timestamp| due.plus(Duration::from_secs(at.unsigned_abs()));
    for send in &mut fired.new.sends {
        send.due_at = later(send.due_at);
    }
    for target in &mut fired.new.targets {
        target.due_at = later(target.due_at);
    }
    fired
}

fn paced(mut firing: Firing, pacing: Pacing) -> Firing {
    firing.new.pace = pacing.pace();
    if pacing.most.is_some() {
        for send in &mut firing.new.sends {
            send.state = SendState::Parked;
        }
    }
    firing
}

pub(super) fn past(exec: Name, at: Secs, standing: Standing) -> PastExecution {
    let new = Firing::of(exec).at(secs(at)).new;
    PastExecution {
        exec_id: new.exec_id,
        initiated_by: new.initiated_by,
        initiated_at: new.initiated_at,
        order: new.order,
        limits: new.limits,
        standing,
    }
}

fn result(
    run: RunKey,
    exec: Option<Name>,
    by: Name,
    at: Secs,
    took: Secs,
    end: End,
    named: bool,
) -> ExecResult {
    let (exit_code, ended, stderr) = match end {
        End::Code(code) => (code, None, ""),
        End::Killed => (-1, Some(Ended::Killed), ""),
        End::TimedOut => (-1, Some(Ended::TimedOut), ""),
        End::OldKilled => (-1, None, "killed by remote signal (kill.e)"),
    };
    ExecResult {
        result_id: (run.number > 0).then(|| run.id()),
        request_id: run.told.request(run.exec, by),
        exec_id: exec.map(id::<ExecId>),
        pc_id: id(by),
        exit_code,
        stdout: format!("{at}"),
        stderr: stderr.into(),
        started_at: secs(at),
        finished_at: secs(at + took),
        manifest_id: named.then(|| id("backup")),
        ended,
    }
}

pub(super) fn slot(schedule: Name, slot: Secs, state: SlotState, backfilled: bool, at: Secs) -> SlotRecord {
    SlotRecord {
        schedule_id: id(schedule),
        slot: secs(slot),
        state,
        exec_id: None,
        detail: None,
        at: secs(at),
        backfilled,
    }
}

pub(super) fn cursor(schedule: Name, through: Secs) -> ScheduleCursor {
    ScheduleCursor {
        schedule_id: id(schedule),
        timing: "daily".into(),
        through: secs(through),
    }
}
