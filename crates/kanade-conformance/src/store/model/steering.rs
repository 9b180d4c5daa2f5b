//! Pauses and gates in the model, and what is let out.

use kanade_model::TargetState;
use kanade_ports::{Outcome, SendState};

use super::{
    execution::{Exec, Gate, Held, START_WITHIN},
    step::{Name, Secs},
    told::{Told, WAITS},
};

pub(super) fn resume(execution: &mut Exec, at: Secs) -> Outcome {
    if execution.pause.is_none() {
        return Outcome::Superseded;
    }
    execution.pause = None;
    let failed = |gate: &Gate| matches!(gate.verdict, Some((false, ..)));
    for gate in execution.waves.iter_mut().filter_map(|wave| wave.gate.as_mut()) {
        if failed(gate) {
            gate.waived_at.get_or_insert(at);
        }
    }
    execution.let_go(at);
    Outcome::Applied
}

pub(super) fn judge(execution: &mut Exec, wave: u32, verdict: (bool, Secs, u32, u32)) -> Outcome {
    let gate = |execution: &Exec| execution.waves.get(wave as usize)?.gate.clone();
    if gate(execution).is_some_and(|gate| gate.verdict.is_some()) {
        return Outcome::Duplicate;
    }
    let (passed, at, succeeded, of) = verdict;
    let due = execution.judge(at) == Some((wave, passed, succeeded, of));
    if execution.held() != Some(Held::Gate) || !due {
        return Outcome::Superseded;
    }
    if let Some(gate) = &mut execution.waves[wave as usize].gate {
        gate.verdict = Some(verdict);
    }
    if passed {
        execution.let_go(at);
    } else {
        execution.hold_back("gate", at);
    }
    Outcome::Applied
}

pub(super) fn let_out(execution: &mut Exec, sends: &[(Name, Told)], at: Secs) -> Outcome {
    let mut outcome = Outcome::Superseded;
    let mut room = execution.room();
    for (pc, told) in sends {
        let target = execution.targets.get(pc);
        let waits =
            target.is_some_and(|target| target.state == TargetState::Waiting && target.by == Some(*told));
        let attempt = target.map_or(1, |target| usize::from(target.attempt));
        let Some(index) = execution.position(pc, *told) else {
            continue;
        };
        let is_parked = execution.sends[index].state == SendState::Parked;
        if !is_parked || !execution.lets_out(execution.sends[index].wave) || (waits && room == 0) {
            continue;
        }
        outcome = Outcome::Applied;
        let send = &mut execution.sends[index];
        if !waits {
            send.state = SendState::Withdrawn;
            continue;
        }
        room -= 1;
        send.state = SendState::Due;
        send.due_at = send.due_at.max(at);
        if let (Some(_), true) = (execution.pacing.tries, attempt > 1) {
            send.due_at = send.due_at.min(at + WAITS[attempt - 2]);
        }
        let due_at = send.due_at;
        execution.last_due_at = execution.last_due_at.max(due_at);
        if let Some(target) = execution.targets.get_mut(pc) {
            target.due_at = due_at;
            target.start_by = Some(due_at + START_WITHIN);
        }
    }
    outcome
}
