//! The simple model of a store: plain state, and what each step does to it, written down from what the changes are
//! documented to mean. It shares no code with the stores.

use std::collections::BTreeMap;

use kanade_model::{ExecutionStatus, RunState, SkipReason, SlotState, TargetState};
use kanade_ports::{Outcome, Standing};

use super::{
    execution::{Exec, RUN_WITHIN},
    kill::{delivered, kill, kill_heard, settle},
    steering::{judge, let_out, resume},
    step::{Aim, End, Name, Oblivion, Secs, Set, Step, Transition},
    told::{Pacing, RunKey, Told},
};

const WEEK: Secs = 7 * 24 * 3600;
/// Sets that may be heard again.
const RECENT: usize = 8;

/// Everything that a store is to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) now: Secs,
    pub(super) executions: BTreeMap<Name, Exec>,
    pub(super) runs: BTreeMap<RunKey, Run>,
    pub(super) agents: BTreeMap<Name, Agent>,
    pub(super) facts: BTreeMap<(Name, Name), Secs>,
    pub(super) audit: Vec<Entry>,
    pub(super) letters: Vec<Entry>,
    /// The execution that a key has fired, and when.
    pub(super) keys: BTreeMap<Name, (Name, Secs)>,
    pub(super) marks: BTreeMap<Name, Secs>,
    /// The state of a slot, when it came to that, and whether it was backfilled.
    pub(super) slots: BTreeMap<(Name, Secs), (SlotState, Secs, bool)>,
    pub(super) cursors: BTreeMap<Name, Secs>,
    pub(super) successes: BTreeMap<(Name, Name), Secs>,
    /// What the sets of the last step came to.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) recent: Vec<Set>,
    /// The audit entries that were forgotten, each with the commit.
    pub(super) forgotten: Vec<(u64, Name)>,
    pub(super) commits: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    /// None of one that belongs to no execution.
    pub(super) exec: Option<Name>,
    /// The agent that was the first to speak of it.
    pub(super) pc: Name,
    pub(super) job: Option<Name>,
    pub(super) has_version: bool,
    pub(super) state: RunState,
    pub(super) exit_code: Option<i32>,
    pub(super) started_at: Secs,
    pub(super) finished_at: Option<Secs>,
    pub(super) end_by: Option<Secs>,
    /// What it printed, and its reasons.
    pub(super) output: Option<(Secs, End)>,
}

#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) seen_at: Secs,
    pub(super) named: bool,
}

/// An entry of a list in which a name may stand again.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) at: Secs,
    /// The commit that brought it.
    commit: u64,
}

impl Model {
    pub(super) fn after(mut self, transition: &Transition) -> Self {
        self.outcomes.clear();
        if let Transition::Commit(at, sets) = transition {
            self.now = self.now.max(*at);
            self.commits += 1;
            for set in sets {
                let outcome = self.set(set);
                self.outcomes.push(outcome);
            }
            self.recent.extend(sets.iter().cloned());
            let too_many = self.recent.len().saturating_sub(RECENT);
            self.recent.drain(..too_many);
        }
        self
    }

    fn set(&mut self, set: &Set) -> Outcome {
        if set.key.is_some_and(|key| self.keys.contains_key(key)) {
            return Outcome::Duplicate;
        }
        let outcome = self.step(&set.lead);
        if outcome == Outcome::Applied {
            if let (Some(key), Step::Fire { exec, at, .. }) = (set.key, &set.lead) {
                self.keys.insert(key, (*exec, *at));
            }
            for step in &set.then {
                self.step(step);
            }
        }
        outcome
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Fire {
                exec,
                job,
                at,
                aim,
                pacing,
            } => self.new_execution(exec, || Exec::fired(job, *at, aim, *pacing)),
            Step::TakeOver { exec, at, standing } => self.take_over(exec, *at, *standing),
            Step::Sent { exec, sends, at } => self.of(exec, |execution| {
                execution.sent(sends, *at);
                Outcome::Applied
            }),
            Step::LetOut { exec, sends, at } => self.of(exec, |execution| let_out(execution, sends, *at)),
            Step::Pause { exec, at } => self.of(exec, |execution| {
                if execution.sends_nothing_more() {
                    return Outcome::Superseded;
                }
                if execution.pause.is_some() {
                    return Outcome::Duplicate;
                }
                execution.hold_back("ann", *at);
                Outcome::Applied
            }),
            Step::Resume { exec, at } => self.of(exec, |execution| resume(execution, *at)),
            Step::Abort { exec, at } => self.of(exec, |execution| {
                if execution.is_final() {
                    return Outcome::Superseded;
                }
                if execution.sends_nothing_more() {
                    return Outcome::Duplicate;
                }
                execution.abort = Some(*at);
                execution.stop(*at, |_| ());
                Outcome::Applied
            }),
            Step::Judged {
                exec,
                wave,
                passed,
                at,
                succeeded,
                of,
            } => self.of(exec, |execution| {
                judge(execution, *wave, (*passed, *at, *succeeded, *of))
            }),
            Step::Kill { exec, at } => self.of(exec, |execution| kill(execution, *at)),
            Step::KillHeard { exec, at } => self.of(exec, |execution| kill_heard(execution, *at)),
            Step::Delivered { exec, pc, at } => self.of(exec, |execution| delivered(execution, pc, *at)),
            Step::Settled { exec, at } => self.of(exec, |execution| settle(execution, *at)),
            Step::Started {
                run,
                by,
                at,
                heard_at,
            } => self.started(*run, by, *at, *heard_at),
            Step::Finished {
                run,
                by,
                at,
                took,
                end,
                named,
            } => self.finished(
                *run,
                Some(run.exec),
                by,
                *at,
                *took,
                *end,
                named.then_some("backup"),
            ),
            Step::AdHoc { run, at } => self.finished(*run, None, run.pc, *at, 1, End::Code(0), None),
            Step::Skipped {
                exec,
                pc,
                told,
                reason,
                at,
            } => self.of(exec, |execution| skipped(execution, pc, *told, *reason, *at)),
            Step::Expire { exec, at } => self.of(exec, |execution| match execution.status() {
                ExecutionStatus::Expired => Outcome::Duplicate,
                ExecutionStatus::Pending if execution.held().is_none() => {
                    execution.expired_at = Some(*at);
                    Outcome::Applied
                }
                _ => Outcome::Superseded,
            }),
            Step::ExpireTarget { exec, pc, at } => {
                self.of(exec, |execution| expire_target(execution, pc, *at))
            }
            Step::Lose { run, at } => self.lose(*run, *at),
            Step::Mark { name, at } => {
                if self.marks.contains_key(name) {
                    return Outcome::Duplicate;
                }
                self.marks.insert(name, *at);
                Outcome::Applied
            }
            Step::Forget(oblivion) => self.forget(oblivion),
            other => self.record(other),
        }
    }

    /// What is only written down.
    fn record(&mut self, step: &Step) -> Outcome {
        let commit = self.commits;
        match step {
            Step::Seen { pc, named, at } => {
                let before = self.agents.get(pc);
                if before.is_some_and(|agent| agent.seen_at > *at) {
                    return Outcome::Superseded;
                }
                let named = *named || before.is_some_and(|agent| agent.named);
                self.agents.insert(pc, Agent { seen_at: *at, named });
            }
            Step::Facts { pc, job, at } => {
                match self.facts.get(&(*pc, *job)) {
                    Some(newer) if newer > at => return Outcome::Superseded,
                    Some(same) if same == at => return Outcome::Duplicate,
                    _ => self.facts.insert((pc, job), *at),
                };
            }
            Step::Audit { name, at } => {
                let is_there = self.audit.iter().any(|entry| entry.name == *name);
                // What a commit forgets is known until its end.
                if is_there || self.forgotten.contains(&(commit, *name)) {
                    return Outcome::Duplicate;
                }
                let at = *at;
                self.audit.push(Entry { name, at, commit });
            }
            Step::Letter { name, at } => {
                let at = *at;
                self.letters.push(Entry { name, at, commit });
            }
            Step::Slot {
                schedule,
                slot,
                state,
                backfilled,
                at,
            } => {
                let stays = match self.slots.get(&(*schedule, *slot)) {
                    None => false,
                    Some((SlotState::Fired, ..)) => true,
                    Some((SlotState::Waiting, ..)) => *state == SlotState::Waiting,
                    Some((SlotState::Skipped, ..)) => *state != SlotState::Fired || !backfilled,
                    Some((SlotState::Missed, ..)) => *state != SlotState::Fired,
                };
                if stays {
                    return Outcome::Duplicate;
                }
                self.slots.insert((schedule, *slot), (*state, *at, *backfilled));
            }
            Step::Looked { schedule, through } => {
                self.cursors.insert(schedule, *through);
            }
            other => unreachable!("{other:?} is handled above"),
        }
        Outcome::Applied
    }

    /// Does something with an execution that must be there.
    fn of(&mut self, exec: Name, change: impl FnOnce(&mut Exec) -> Outcome) -> Outcome {
        self.executions.get_mut(exec).map_or(Outcome::Unknown, change)
    }

    fn new_execution(&mut self, exec: Name, new: impl FnOnce() -> Exec) -> Outcome {
        if self.executions.contains_key(exec) {
            return Outcome::Duplicate;
        }
        self.executions.insert(exec, new());
        Outcome::Applied
    }

    fn take_over(&mut self, exec: Name, at: Secs, standing: Standing) -> Outcome {
        let outcome = self.new_execution(exec, || Exec {
            aim: None,
            sends: Vec::new(),
            expired_at: (standing == Standing::Expired).then_some(at),
            finished_at: (standing == Standing::Over).then_some(at),
            ..Exec::fired("backup", at, &Aim::All(Vec::new()), Pacing::default())
        });
        if outcome != Outcome::Applied {
            return outcome;
        }
        // Whoever had reported already becomes a target, in the order in which it was heard.
        let mut runs: Vec<(RunKey, Run)> = self.runs.clone().into_iter().collect();
        runs.retain(|(_, run)| run.exec == Some(exec));
        runs.sort_by_key(|(key, run)| (run.finished_at.unwrap_or(run.started_at), key.id()));
        let execution = self.executions.get_mut(exec).expect("just made");
        for (key, run) in runs {
            let at = run.finished_at.unwrap_or(run.started_at);
            execution.join(run.pc, key.told, run.started_at);
            execution.on(run.pc, at, |target| {
                if target.is_over() && !target.is_guess() {
                    return;
                }
                target.run = Some(key);
                target.started_at = Some(run.started_at);
                target.detail = None;
                if run.state == RunState::Running {
                    target.state = TargetState::Running;
                    target.finished_at = None;
                } else {
                    target.exit_code = run.exit_code;
                    target.end(TargetState::from(run.state), at);
                }
            });
        }
        outcome
    }

    fn started(&mut self, run: RunKey, by: Name, at: Secs, heard_at: Secs) -> Outcome {
        if let Some(known) = self.runs.get_mut(&run) {
            if known.pc != by {
                return Outcome::Superseded;
            }
            if known.job.is_some() && known.has_version {
                return Outcome::Duplicate;
            }
            known.job.get_or_insert("backup");
            known.has_version = true;
            return Outcome::Applied;
        }
        let within = if self.executions.contains_key(run.exec) {
            RUN_WITHIN
        } else {
            WEEK
        };
        self.runs.insert(
            run,
            Run {
                exec: Some(run.exec),
                pc: by,
                job: Some("backup"),
                has_version: true,
                state: RunState::Running,
                exit_code: None,
                started_at: at,
                finished_at: None,
                end_by: Some(at.max(heard_at) + within),
                output: None,
            },
        );
        let Some(execution) = self.executions.get_mut(run.exec) else {
            return Outcome::Applied;
        };
        execution.join(by, run.told, at);
        execution.start(run, by, at);
        let target = &execution.targets[by];
        let runs = target.state == TargetState::Running && target.run == Some(run);
        if let (true, Some(kill)) = (runs, &mut execution.kill) {
            kill.ask_again(heard_at);
        }
        Outcome::Applied
    }

    #[expect(clippy::too_many_arguments, reason = "what a result says")]
    fn finished(
        &mut self,
        key: RunKey,
        exec: Option<Name>,
        by: Name,
        at: Secs,
        took: Secs,
        end: End,
        job: Option<Name>,
    ) -> Outcome {
        let before = self.runs.get(&key);
        if before.is_some_and(|run| run.pc != by) {
            return Outcome::Superseded;
        }
        if before.is_some_and(|run| !matches!(run.state, RunState::Running | RunState::Lost)) {
            return Outcome::Duplicate;
        }
        let ended_at = at + took;
        let (state, exit_code) = end.state();
        let execution = exec.and_then(|exec| self.executions.get_mut(exec));
        let of_it = execution.as_ref().map(|execution| execution.job);
        let job = before.and_then(|run| run.job).or(job).or(of_it);
        let run = Run {
            exec,
            pc: by,
            job,
            has_version: before.is_some_and(|run| run.has_version) || of_it.is_some(),
            state,
            exit_code: Some(exit_code),
            started_at: before.map_or(at, |run| run.started_at),
            finished_at: Some(ended_at),
            end_by: None,
            output: Some((at, end)),
        };
        if let (RunState::Succeeded, Some(job)) = (state, job) {
            let newest = self.successes.entry((job, by)).or_insert(ended_at);
            *newest = ended_at.max(*newest);
        }
        if let Some(execution) = execution {
            execution.join(by, key.told, at);
            let next = (state == RunState::Failed)
                .then(|| execution.next_attempt(by, key.told, exit_code, ended_at))
                .flatten();
            execution.on(by, ended_at, |target| {
                if let Some(next) = &next {
                    target.wait_for(next, exit_code);
                } else if !target.is_over() || target.is_guess() {
                    target.run = Some(key);
                    target.started_at = Some(at);
                    target.exit_code = Some(exit_code);
                    target.detail = None;
                    target.end(TargetState::from(state), ended_at);
                }
            });
            execution.sends.extend(next);
        }
        self.runs.insert(key, run);
        Outcome::Applied
    }

    fn lose(&mut self, key: RunKey, at: Secs) -> Outcome {
        let Some(run) = self.runs.get_mut(&key) else {
            return Outcome::Unknown;
        };
        match run.state {
            RunState::Lost => return Outcome::Duplicate,
            RunState::Running if run.end_by.is_some_and(|by| by <= at) => {}
            _ => return Outcome::Superseded,
        }
        run.state = RunState::Lost;
        run.end_by = None;
        if let Some(execution) = self.executions.get_mut(key.exec) {
            execution.on(key.pc, at, |target| {
                if target.state == TargetState::Running && target.run == Some(key) {
                    target.end(TargetState::Lost, at);
                }
            });
        }
        Outcome::Applied
    }

    fn forget(&mut self, gone: &Oblivion) -> Outcome {
        self.executions.retain(|exec, _| !gone.executions.contains(exec));
        self.runs.retain(|key, run| {
            !gone.runs.contains(key) && !run.exec.is_some_and(|exec| gone.executions.contains(&exec))
        });
        self.keys.retain(|key, _| !gone.keys.contains(key));
        self.slots.retain(|slot, _| !gone.slots.contains(slot));
        let now = self.commits;
        let stood = |entry: &Entry, names: &[Name]| entry.commit < now && names.contains(&entry.name);
        let forgotten = self.audit.iter().filter(|entry| stood(entry, &gone.audit));
        self.forgotten = forgotten
            .map(|entry| (now, entry.name))
            .chain(self.forgotten.drain(..))
            .collect();
        self.audit.retain(|entry| !stood(entry, &gone.audit));
        self.letters.retain(|entry| !stood(entry, &gone.letters));
        Outcome::Applied
    }

    /// Everything that is over and older than `cut`.
    pub(super) fn prunable(&self, cut: Secs) -> Oblivion {
        let mut old = Oblivion::default();
        let is_old =
            |execution: &Exec| execution.is_final() && execution.finished_at.is_some_and(|at| at < cut);
        for (exec, _) in self.executions.iter().filter(|(_, execution)| is_old(execution)) {
            let of_it: Vec<RunKey> = self.runs_of(exec).collect();
            if of_it.is_empty() {
                old.executions.push(exec);
            }
            old.runs.extend(of_it);
        }
        for (key, run) in &self.runs {
            let homeless = run.exec.is_none_or(|exec| !self.executions.contains_key(exec));
            let ended_at = run.finished_at.unwrap_or(run.started_at);
            if homeless && run.state != RunState::Running && ended_at < cut {
                old.runs.push(*key);
            }
        }
        let entries = |of: &[Entry]| {
            of.iter()
                .filter(|entry| entry.at < cut)
                .map(|entry| entry.name)
                .collect()
        };
        old.audit = entries(&self.audit);
        old.letters = entries(&self.letters);
        let keys = self.keys.iter().filter(|(_, (_, at))| *at < cut);
        old.keys = keys.map(|(key, _)| *key).collect();
        old.slots = self
            .slots
            .keys()
            .copied()
            .filter(|(_, slot)| *slot < cut)
            .collect();
        old
    }

    fn runs_of(&self, exec: Name) -> impl Iterator<Item = RunKey> {
        let of_it = self.runs.iter().filter(move |(_, run)| run.exec == Some(exec));
        of_it.map(|(key, _)| *key)
    }
}

impl End {
    pub(super) fn state(self) -> (RunState, i32) {
        match self {
            Self::Code(0) => (RunState::Succeeded, 0),
            Self::Code(code) => (RunState::Failed, code),
            Self::Killed | Self::OldKilled => (RunState::Killed, -1),
            Self::TimedOut => (RunState::TimedOut, -1),
        }
    }
}

fn skipped(execution: &mut Exec, pc: Name, told: Told, reason: SkipReason, at: Secs) -> Outcome {
    let state = match reason {
        SkipReason::Superseded => TargetState::Superseded,
        _ => TargetState::Refused,
    };
    execution.join(pc, told, at);
    let target = &execution.targets[pc];
    if target.attempt > 1 && target.asked != told {
        return Outcome::Superseded;
    }
    if target.state != TargetState::Waiting && !target.is_guess() {
        return if target.state == state {
            Outcome::Duplicate
        } else {
            Outcome::Superseded
        };
    }
    execution.on(pc, at, |target| {
        target.detail = Some(format!("it is {reason:?}"));
        target.end(state, at);
    });
    Outcome::Applied
}

fn expire_target(execution: &mut Exec, pc: Name, at: Secs) -> Outcome {
    let Some(target) = execution.targets.get(pc) else {
        return Outcome::Unknown;
    };
    if target.state == TargetState::Expired {
        return Outcome::Duplicate;
    }
    if target.state != TargetState::Waiting || target.start_by.is_none_or(|by| by > at) {
        return Outcome::Superseded;
    }
    execution.on(pc, at, |target| target.end(TargetState::Expired, at));
    Outcome::Applied
}
