//! The change that a step is.

use std::time::Duration;

use kanade_model::{
    Ended, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, Heartbeat, SlotState, Timestamp,
};
use kanade_ports::{
    Change, ChangeSet, Forget, IdempotencyKey, PastExecution, ScheduleCursor, SendState, SlotRecord,
    Standing, Verdict,
};
use serde_json::json;

use super::{
    super::{
        waves::staged,
        world::{Firing, audit_event, expire, expire_target, facts, id, letter, secs, start_event},
    },
    step::{Aim, End, Name, Oblivion, Secs, Set, Step},
    told::{Pacing, RunKey},
};

/// The numbers that a store has given to what has a name here.
pub(super) trait Numbers {
    fn audit(&self, name: Name) -> Vec<i64>;
    fn letters(&self, name: Name) -> Vec<i64>;
}

impl Set {
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
            Self::Expire { exec, at } => expire(exec, secs(at)),
            Self::ExpireTarget { exec, pc, at } => expire_target(exec, pc, secs(at)),
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
