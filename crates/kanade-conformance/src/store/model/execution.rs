//! One execution as the model sees it: what stands on each agent, what is still to be sent, who has stopped it. Counts,
//! status and holds are worked out from that whenever they are asked for.

use std::collections::BTreeMap;

use kanade_model::{ExecutionStatus, Receipt, SendId, TargetState};
use kanade_ports::SendState;

use super::{
    step::{Aim, Name, Secs},
    told::{Pacing, RunKey, Told, WAITS},
};

/// What every execution of the cases is given: to start, and to end.
pub(super) const START_WITHIN: Secs = 1000;
pub(super) const RUN_WITHIN: Secs = 100;
/// How long after its wave a gate is decided at the latest.
const GATE_WITHIN: Secs = 60;

#[derive(Debug, Clone)]
pub(super) struct Exec {
    pub(super) job: Name,
    pub(super) fired_at: Secs,
    /// None of one that was taken over.
    pub(super) aim: Option<Aim>,
    pub(super) pacing: Pacing,
    pub(super) sends: Vec<Sending>,
    pub(super) targets: BTreeMap<Name, Target>,
    pub(super) waves: Vec<Wave>,
    pub(super) last_due_at: Secs,
    pub(super) kill: Option<Kill>,
    /// Who and when, and whether a reason is known.
    pub(super) pause: Option<(Name, Secs, bool)>,
    pub(super) abort: Option<Secs>,
    pub(super) expired_at: Option<Secs>,
    pub(super) finished_at: Option<Secs>,
}

#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) to: Name,
    pub(super) told: Told,
    pub(super) wave: u32,
    pub(super) due_at: Secs,
    pub(super) state: SendState,
}

#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) state: TargetState,
    /// The send that reaches it.
    pub(super) by: Option<Told>,
    /// What it is to answer.
    pub(super) asked: Told,
    pub(super) attempt: u8,
    pub(super) wave: u32,
    pub(super) due_at: Secs,
    pub(super) start_by: Option<Secs>,
    pub(super) run: Option<RunKey>,
    pub(super) started_at: Option<Secs>,
    pub(super) finished_at: Option<Secs>,
    pub(super) exit_code: Option<i32>,
    pub(super) detail: Option<String>,
    pub(super) receipt: Option<Receipt>,
}

#[derive(Debug, Clone)]
pub(super) struct Wave {
    pub(super) due_at: Secs,
    pub(super) sent_at: Option<Secs>,
    pub(super) gate: Option<Gate>,
}

#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) wanted: Name,
    /// Passed or not, when, and of how many how many had succeeded.
    pub(super) verdict: Option<(bool, Secs, u32, u32)>,
    pub(super) waived_at: Option<Secs>,
}

#[derive(Debug, Clone)]
pub(super) struct Kill {
    pub(super) at: Secs,
    pub(super) asked_again_at: Option<Secs>,
    pub(super) settled: bool,
}

/// What keeps sends of an execution back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Held {
    Gate,
    Pause,
    Room,
}

impl Target {
    fn waiting(asked: Told, wave: u32, due_at: Secs) -> Self {
        Self {
            state: TargetState::Waiting,
            by: Some(asked),
            asked,
            attempt: 1,
            wave,
            due_at,
            start_by: Some(due_at + START_WITHIN),
            run: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            detail: None,
            receipt: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(self.state, TargetState::Waiting | TargetState::Running)
    }

    /// Nobody has heard how it ended, so it gives way to whoever has.
    pub(super) fn is_guess(&self) -> bool {
        matches!(
            self.state,
            TargetState::Lost | TargetState::Expired | TargetState::Withdrawn
        )
    }

    pub(super) fn is_held(&self) -> bool {
        self.state == TargetState::Waiting && self.start_by.is_none()
    }

    pub(super) fn has_unanswered_kill(&self) -> bool {
        self.is_guess() && matches!(self.receipt, Some(Receipt::Requested | Receipt::Unreachable))
    }
}

impl Exec {
    pub(super) fn fired(job: Name, at: Secs, aim: &Aim, pacing: Pacing) -> Self {
        let mut new = Self {
            job,
            fired_at: at,
            aim: Some(aim.clone()),
            pacing,
            sends: Vec::new(),
            targets: BTreeMap::new(),
            waves: Vec::new(),
            last_due_at: at,
            kill: None,
            pause: None,
            abort: None,
            expired_at: None,
            finished_at: None,
        };
        match aim {
            Aim::All(pcs) => {
                let told = Told { all: true, later: 0 };
                new.owe("all", told, 0, at, false);
                for pc in pcs {
                    new.targets.insert(pc, Target::waiting(told, 0, at));
                }
            }
            Aim::Each(delay, pcs) => new.owe_each(pcs, 0, at + delay, false),
            Aim::Waves(waves) => {
                let mut gated = false;
                for (number, (delay, gate, pcs)) in (0..).zip(waves) {
                    new.owe_each(pcs, number, at + delay, gated);
                    gated |= gate.is_some();
                    new.waves.push(Wave {
                        due_at: at + delay,
                        sent_at: None,
                        gate: gate.map(|wanted| Gate {
                            wanted,
                            verdict: None,
                            waived_at: None,
                        }),
                    });
                }
            }
        }
        new.last_due_at = new.sends.iter().map(|send| send.due_at).max().unwrap_or(at);
        new
    }

    fn owe_each(&mut self, pcs: &[Name], wave: u32, due_at: Secs, held: bool) {
        for pc in pcs {
            let told = Told::default();
            self.owe(pc, told, wave, due_at, held);
            let mut target = Target::waiting(told, wave, due_at);
            target.start_by = target.start_by.filter(|_| !held && self.pacing.most.is_none());
            self.targets.insert(pc, target);
        }
    }

    fn owe(&mut self, to: Name, told: Told, wave: u32, due_at: Secs, held: bool) {
        let state = match (self.pacing.most, held) {
            (Some(_), _) => SendState::Parked,
            (None, true) => SendState::Held,
            (None, false) => SendState::Due,
        };
        self.sends.push(Sending {
            to,
            told,
            wave,
            due_at,
            state,
        });
    }

    fn all_over(&self) -> bool {
        !self.targets.is_empty() && self.targets.values().all(Target::is_over)
    }

    pub(super) fn status(&self) -> ExecutionStatus {
        let by_kill = |target: &Target| matches!(target.state, TargetState::Killed | TargetState::Withdrawn);
        if self.targets.is_empty() && self.finished_at.is_some() {
            // Taken over when it was over.
            ExecutionStatus::Completed
        } else if self.all_over() && self.targets.values().any(by_kill) {
            ExecutionStatus::Killed
        } else if self.all_over() {
            ExecutionStatus::Completed
        } else if self.has_started() {
            ExecutionStatus::Running
        } else if self.expired_at.is_some() {
            ExecutionStatus::Expired
        } else {
            ExecutionStatus::Pending
        }
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(
            self.status(),
            ExecutionStatus::Completed | ExecutionStatus::Killed
        )
    }

    pub(super) fn has_started(&self) -> bool {
        let started = |target: &Target| target.run.is_some() || target.attempt > 1;
        self.targets.values().any(started)
    }

    /// How many sends of a wave are still owed.
    pub(super) fn owed(&self, wave: u32) -> usize {
        let owed = |send: &&Sending| send.wave == wave && send.is_owed();
        self.sends.iter().filter(owed).count()
    }

    /// The first wave whose gate lets nothing past it.
    fn shut_gate(&self) -> Option<(u32, &Gate)> {
        let passed = |gate: &Gate| gate.waived_at.is_some() || matches!(gate.verdict, Some((true, ..)));
        (0..)
            .zip(&self.waves)
            .filter_map(|(number, wave)| Some((number, wave.gate.as_ref()?)))
            .find(|(_, gate)| !passed(gate))
    }

    pub(super) fn held(&self) -> Option<Held> {
        if self.is_final() || self.kill.is_some() || self.abort.is_some() {
            return None;
        }
        if self.pause.is_some() {
            return Some(Held::Pause);
        }
        let gate = self.shut_gate().filter(|(_, gate)| gate.verdict.is_none());
        match gate {
            Some(_) => Some(Held::Gate),
            None => (self.parked().count() > 0).then_some(Held::Room),
        }
    }

    pub(super) fn parked(&self) -> impl Iterator<Item = &Sending> {
        self.sends.iter().filter(|send| send.state == SendState::Parked)
    }

    /// Whether what is due of a wave may go out.
    pub(super) fn lets_out(&self, wave: u32) -> bool {
        let last_out = self.shut_gate().map_or(u32::MAX, |(number, _)| number);
        self.pause.is_none() && self.abort.is_none() && wave <= last_out
    }

    /// How many of those that are parked may be let out.
    pub(super) fn room(&self) -> usize {
        let free = self.parked().filter(|send| self.lets_out(send.wave)).count();
        let at_it = self.open().len().saturating_sub(self.parked().count());
        self.pacing.most.map_or(free, |most| {
            let most = usize::try_from(most).expect("a few");
            most.saturating_sub(at_it).min(free)
        })
    }

    /// Nothing of it is to be sent any more.
    pub(super) fn sends_nothing_more(&self) -> bool {
        self.is_final() || self.kill.is_some() || self.abort.is_some()
    }

    /// What the next gate comes to at `at`: its wave, whether it has passed, how many of how many have succeeded.
    pub(super) fn judge(&self, at: Secs) -> Option<(u32, bool, u32, u32)> {
        let (number, gate) = self.shut_gate().filter(|(_, gate)| gate.verdict.is_none())?;
        let wave = &self.waves[number as usize];
        let out_since = match wave.sent_at {
            Some(sent_at) => sent_at,
            None if self.owed(number) == 0 && wave.due_at <= at => wave.due_at,
            None => return None,
        };
        let of: Vec<&Target> = self.of_wave(number).collect();
        let succeeded = of
            .iter()
            .filter(|target| target.state == TargetState::Succeeded)
            .count();
        let may_still = of
            .iter()
            .filter(|target| !target.is_over() || target.is_guess())
            .count();
        let enough = |count: usize| match gate.wanted {
            "1" => count == of.len(),
            "0.5" => count * 2 >= of.len(),
            other => unreachable!("no case wants {other}"),
        };
        let count = |count: usize| u32::try_from(count).expect("a few");
        let decided = enough(succeeded) || !enough(succeeded + may_still) || at >= out_since + GATE_WITHIN;
        decided.then_some((number, enough(succeeded), count(succeeded), count(of.len())))
    }

    /// The targets of a wave; who has joined by reporting is in none.
    pub(super) fn of_wave(&self, wave: u32) -> impl Iterator<Item = &Target> {
        self.targets
            .values()
            .filter(move |target| target.wave == wave && target.by.is_some())
    }

    /// An agent that reports without having been aimed at becomes a target.
    pub(super) fn join(&mut self, pc: Name, told: Told, at: Secs) {
        if !self.targets.contains_key(pc) {
            let mut target = Target::waiting(told, 0, at);
            target.by = None;
            self.targets.insert(pc, target);
            self.finished_at = None;
        }
    }

    /// The send of the attempt that follows a run that has failed, where one does.
    pub(super) fn next_attempt(&self, pc: Name, told: Told, code: i32, ended_at: Secs) -> Option<Sending> {
        let (tries, target) = (self.pacing.tries?, self.targets.get(pc)?);
        let wait = WAITS.get(usize::from(target.attempt) - 1)?;
        let due_at = ended_at + wait;
        let counts = tries.on.is_empty() || tries.on.contains(&code);
        let is_its_answer = !target.is_over() && target.asked == told;
        let goes_on = self.kill.is_none() && self.abort.is_none();
        let in_time = tries.until.is_none_or(|until| due_at < until);
        let has_place = target.by.is_some() || self.waves.is_empty();
        (counts && is_its_answer && goes_on && in_time && has_place).then_some(Sending {
            to: pc,
            told: told.next(),
            wave: target.wave,
            due_at,
            state: SendState::Parked,
        })
    }

    /// Changes what stands on one agent, at a time, and draws the conclusions: what a kill has come to, whether all is
    /// over.
    pub(super) fn on(&mut self, pc: Name, at: Secs, change: impl FnOnce(&mut Target)) {
        let Some(target) = self.targets.get_mut(pc) else {
            return;
        };
        let before = target.state;
        change(target);
        if target.state != TargetState::Waiting {
            target.start_by = None;
        }
        if let (Some(kill), true) = (&mut self.kill, target.state != before) {
            match target.state {
                TargetState::Killed => target.receipt = Some(Receipt::Confirmed),
                TargetState::Running => {
                    target.receipt = Some(Receipt::Requested);
                    kill.settled = false;
                }
                TargetState::Lost | TargetState::Expired => {
                    // Nobody will say any more.
                    target.receipt = target.receipt.map(|_| Receipt::Unreachable);
                }
                TargetState::Waiting | TargetState::Withdrawn => {}
                _ => target.receipt = Some(Receipt::Finished),
            }
        }
        self.conclude(at);
    }

    fn conclude(&mut self, at: Secs) {
        if !self.all_over() {
            self.finished_at = None;
            return;
        }
        self.finished_at.get_or_insert(at.max(self.fired_at));
        self.pause = None;
        if let Some(kill) = &mut self.kill {
            kill.settled = true;
        }
    }

    /// A run shows itself on an agent: it decides unless another one has ended there.
    pub(super) fn start(&mut self, run: RunKey, pc: Name, started_at: Secs) {
        self.on(pc, started_at, |target| {
            if !target.is_over() || target.is_guess() {
                target.state = TargetState::Running;
                target.run = Some(run);
                target.started_at = Some(started_at);
                target.finished_at = None;
                target.detail = None;
                target.start_by = None;
            }
        });
    }

    /// Ends whatever waits and has not been sent, or does `otherwise` with what is open.
    pub(super) fn stop(&mut self, at: Secs, otherwise: impl Fn(&mut Target)) {
        self.pause = None;
        for send in self.sends.iter_mut().filter(|send| send.is_owed()) {
            send.state = SendState::Withdrawn;
        }
        for pc in self.open() {
            let is_unsent = self
                .send_to(pc)
                .is_some_and(|send| send.state == SendState::Withdrawn);
            self.on(pc, at, |target| {
                if target.state == TargetState::Waiting && is_unsent {
                    target.end(TargetState::Withdrawn, at);
                } else {
                    otherwise(target);
                }
            });
        }
        self.let_time_run(at);
    }

    /// The send that reaches an agent.
    fn send_to(&self, pc: Name) -> Option<&Sending> {
        let by = self.targets.get(pc)?.by?;
        self.sends.iter().find(|send| send.is(pc, by))
    }

    pub(super) fn open(&self) -> Vec<Name> {
        let open = self.targets.iter().filter(|(_, target)| !target.is_over());
        open.map(|(pc, _)| *pc).collect()
    }

    /// Nothing is due from now on, and the time of what waits does not run.
    pub(super) fn hold_back(&mut self, by: Name, at: Secs) {
        self.pause = Some((by, at, by == "gate"));
        for send in &mut self.sends {
            if send.state == SendState::Due {
                send.state = SendState::Held;
            }
        }
        for target in self.targets.values_mut() {
            if target.state == TargetState::Waiting {
                target.start_by = None;
            }
        }
    }

    /// What nothing holds any more is due, at its time or now.
    pub(super) fn let_go(&mut self, at: Secs) {
        let last_out = self.shut_gate().map_or(u32::MAX, |(number, _)| number);
        let goes = |wave: u32| wave <= last_out;
        for number in (0..).take(self.waves.len()) {
            if goes(number) && self.owed(number) > 0 {
                let wave = &mut self.waves[number as usize];
                wave.due_at = wave.due_at.max(at);
            }
        }
        for send in &mut self.sends {
            if send.state == SendState::Held && goes(send.wave) {
                send.state = SendState::Due;
                send.due_at = send.due_at.max(at);
                self.last_due_at = self.last_due_at.max(send.due_at);
            }
        }
        self.let_time_run(at);
    }

    /// Gives what waits, and nothing holds, its time again: from now on, or from when it is due.
    fn let_time_run(&mut self, at: Secs) {
        for (pc, target) in self.targets.iter_mut().filter(|(_, target)| target.is_held()) {
            let mut sends = self.sends.iter();
            let send = target.by.and_then(|by| sends.find(|send| send.is(pc, by)));
            if send.is_some_and(|send| matches!(send.state, SendState::Held | SendState::Parked)) {
                continue;
            }
            target.due_at = send.map_or(target.due_at, |send| send.due_at);
            target.start_by = Some(target.due_at.max(at) + START_WITHIN);
        }
    }

    pub(super) fn position(&self, to: Name, told: Told) -> Option<usize> {
        self.sends.iter().position(|send| send.is(to, told))
    }

    pub(super) fn sent(&mut self, sends: &[(Name, Told)], at: Secs) {
        for (to, told) in sends {
            let Some(index) = self.position(to, *told) else {
                continue;
            };
            let wave = self.sends[index].wave;
            let owed_before = self.owed(wave);
            if self.sends[index].state == SendState::Parked {
                continue;
            }
            self.sends[index].state = SendState::Sent;
            if let (1, 0, Some(wave)) = (owed_before, self.owed(wave), self.waves.get_mut(wave as usize)) {
                wave.sent_at.get_or_insert(at);
            }
        }
    }
}

impl Target {
    /// Waits for the next attempt; its time does not run before that is let out.
    pub(super) fn wait_for(&mut self, next: &Sending, code: i32) {
        *self = Self {
            attempt: self.attempt + 1,
            start_by: None,
            detail: Some(format!("attempt {} ended with exit code {code}", self.attempt)),
            receipt: self.receipt,
            ..Self::waiting(next.told, next.wave, next.due_at)
        };
    }

    pub(super) fn end(&mut self, state: TargetState, at: Secs) {
        self.state = state;
        self.finished_at = Some(at);
    }
}

impl Sending {
    pub(super) fn id(&self, exec: Name) -> SendId {
        self.told.send(exec, self.to)
    }

    fn is(&self, to: Name, told: Told) -> bool {
        // What goes to everybody is one send, whoever is asked about.
        let for_all = told.all && told.later == 0;
        self.told == told && (self.to == to || for_all)
    }

    fn is_owed(&self) -> bool {
        matches!(self.state, SendState::Due | SendState::Held | SendState::Parked)
    }
}
