//! Pauses and gates in the model.

use kanade_ports::Outcome;

use super::{
    execution::{Exec, Gate, Held},
    step::Secs,
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
