//! The waves of an execution, for people.

use kanade_model::{GateState, TargetState, Timestamp, WaveStatus, api};

use super::{
    table::{Cell, Tone},
    when,
};

pub(super) const HEADS: [&str; 6] = ["WAVE", "GROUP", "STATUS", "DUE", "TARGETS", "GATE"];

pub(super) fn row(wave: &api::ExecutionWave, now: Timestamp) -> Vec<Cell> {
    vec![
        wave.wave.into(),
        (&wave.group).into(),
        Cell::state(wave.status),
        match (wave.sent_at, wave.status) {
            (Some(at), _) => format!("sent {}", when::relative(at, now)).into(),
            (None, WaveStatus::Due | WaveStatus::Held) => when::relative(wave.due_at, now).into(),
            (None, _) => "-".into(),
        },
        targets(wave),
        gate(wave),
    ]
}

/// `2/3 succeeded, 1 failed`
fn targets(wave: &api::ExecutionWave) -> Cell {
    let of = |state| wave.targets.get(&state).copied().unwrap_or(0);
    let others: String = wave
        .targets
        .iter()
        .filter(|(state, count)| **state != TargetState::Succeeded && **count > 0)
        .map(|(state, count)| format!(", {count} {}", state.as_str().replace('_', " ")))
        .collect();
    let failed: u32 = TargetState::ALL
        .iter()
        .filter(|state| state.is_failure())
        .map(|state| of(*state))
        .sum();
    let succeeded = of(TargetState::Succeeded);
    let tone = match (failed > 0, succeeded == wave.target_count) {
        (true, _) => Tone::Bad,
        (_, true) => Tone::Good,
        _ => Tone::Plain,
    };
    Cell::toned(
        format!("{succeeded}/{} succeeded{others}", wave.target_count),
        tone,
    )
}

/// `passed, 0.9 within 10m`
fn gate(wave: &api::ExecutionWave) -> Cell {
    let (Some(wanted), Some(gate)) = (&wave.proceed_if, &wave.gate) else {
        return "-".into();
    };
    let tone = match gate.state {
        GateState::Open => Tone::Busy,
        GateState::Passed => Tone::Good,
        GateState::Failed => Tone::Bad,
        GateState::Waived => Tone::Odd,
    };
    Cell::toned(format!("{}, {wanted}", gate.state), tone)
}

impl From<WaveStatus> for Tone {
    fn from(status: WaveStatus) -> Self {
        match status {
            WaveStatus::Due | WaveStatus::Sent => Self::Busy,
            WaveStatus::Done => Self::Plain,
            WaveStatus::Held | WaveStatus::Withdrawn => Self::Odd,
        }
    }
}

/// Which wave an execution is at, and what it waits for: `wave 1 of 3 (canary) sent`, `paused by ann`. Nothing for one that
/// has no waves and is not paused.
pub(super) fn stage(execution: &api::Execution) -> Option<String> {
    let is_open =
        |wave: &&api::ExecutionWave| !matches!(wave.status, WaveStatus::Done | WaveStatus::Withdrawn);
    let wave = execution.waves.iter().find(is_open).map(|wave| {
        let (number, all) = (wave.wave + 1, execution.waves.len());
        format!("wave {number} of {all} ({}) {}", wave.group, wave.status)
    });
    let pause = execution.paused_at.map(|_| paused(execution));
    let stage: Vec<String> = wave.into_iter().chain(pause).collect();
    (!stage.is_empty()).then(|| stage.join(", "))
}

/// `paused by gate: …`
pub(super) fn paused(execution: &api::Execution) -> String {
    let by = execution.paused_by.as_deref().unwrap_or("somebody unknown");
    let reason = execution.pause_reason.as_ref();
    format!(
        "paused by {by}{}",
        reason.map(|reason| format!(": {reason}")).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn execution() -> api::Execution {
        serde_json::from_value(json!({
            "exec_id": "e-1", "job_id": "backup", "version": "1", "initiated_by": "ann", "target_count": 3,
            "initiated_at": "2026-05-01T08:30:00Z", "success_count": 1, "failure_count": 1, "status": "running",
            "targets": {"succeeded": 1, "failed": 1, "waiting": 1}, "paused_at": "2026-05-01T08:31:00Z",
            "paused_by": "gate", "pause_reason": "too few",
            "waves": [
                {"wave": 0, "group": "canary", "status": "done", "due_at": "2026-05-01T08:30:00Z",
                 "sent_at": "2026-05-01T08:30:00Z", "target_count": 2, "targets": {"succeeded": 1, "failed": 1},
                 "proceed_if": {"success_ratio": 0.9, "within": "10m"}, "gate": {"state": "failed"}},
                {"wave": 1, "group": "all", "status": "held", "due_at": "2026-05-01T08:40:00Z",
                 "target_count": 1, "targets": {"waiting": 1}}
            ]
        }))
        .unwrap()
    }

    #[test]
    fn a_wave_says_where_it_stands() {
        let now = "2026-05-01T08:35:00Z".parse().unwrap();
        let rows: Vec<Vec<String>> = execution()
            .waves
            .iter()
            .map(|wave| row(wave, now).into_iter().map(|cell| cell.text).collect())
            .collect();
        assert_eq!(
            rows[0],
            [
                "0",
                "canary",
                "done",
                "sent 5m ago",
                "1/2 succeeded, 1 failed",
                "failed, 0.9 within 10m"
            ]
        );
        assert_eq!(
            rows[1],
            ["1", "all", "held", "in 5m", "0/1 succeeded, 1 waiting", "-"]
        );
    }

    #[test]
    fn an_execution_says_what_it_waits_for() {
        let mut execution = execution();
        assert_eq!(
            stage(&execution).as_deref(),
            Some("wave 2 of 2 (all) held, paused by gate: too few")
        );
        execution.waves.clear();
        execution.paused_at = None;
        assert_eq!(stage(&execution), None);
    }
}
