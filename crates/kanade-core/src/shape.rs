//! Records of the store in the shapes of the API.

use std::collections::BTreeMap;

use kanade_model::{GateState, TargetState, WaveStatus, api};
use kanade_ports::{
    Agent, AuditRecord, Counts, Course, Execution, Facts, GateRecord, Run, RunRecord, SlotRecord,
    TargetRecord, WaveRecord,
};

/// An execution as the API shows it in a list.
pub fn listed(mut execution: Execution) -> api::Execution {
    execution.course.waves.clear();
    self::execution(execution)
}

/// An execution as the API shows it by itself.
pub fn execution(execution: Execution) -> api::Execution {
    let counts = execution.counts;
    let waves = waves(&execution.course);
    let Course {
        pause,
        abort,
        max_parallel,
        retry,
        parked,
        ..
    } = execution.course;
    let (paused_at, aborted_at) = (
        pause.as_ref().map(|pause| pause.at),
        abort.as_ref().map(|abort| abort.at),
    );
    let (paused_by, pause_reason) = pause.map(|pause| (pause.by, pause.reason)).unzip();
    api::Execution {
        exec_id: execution.exec_id,
        job_id: execution.job_id,
        version: execution.version,
        initiated_by: execution.initiated_by,
        initiated_at: execution.initiated_at,
        target_count: counts.total(),
        success_count: counts.success(),
        failure_count: counts.failure(),
        status: execution.status,
        targets: in_states(&counts),
        finished_at: execution.finished_at,
        killed_at: execution.kill.as_ref().map(|kill| kill.at),
        killed_by: execution.kill.map(|kill| kill.by),
        paused_at,
        paused_by,
        pause_reason: pause_reason.flatten(),
        aborted_at,
        aborted_by: abort.map(|abort| abort.by),
        max_parallel,
        retry: retry.map(|retry| retry.rule),
        parked_count: Some(parked).filter(|parked| *parked > 0),
        waves,
    }
}

fn in_states(counts: &Counts) -> BTreeMap<TargetState, u32> {
    let in_state = |state: &TargetState| Some((*state, counts.of(*state))).filter(|(_, count)| *count > 0);
    TargetState::ALL.iter().filter_map(in_state).collect()
}

fn waves(course: &Course) -> Vec<api::ExecutionWave> {
    let wave = |(number, wave): (u32, &WaveRecord)| api::ExecutionWave {
        wave: number,
        group: wave.group.clone(),
        status: wave_status(wave, course.lets_out(number)),
        due_at: wave.due_at,
        sent_at: wave.sent_at,
        target_count: wave.counts.total(),
        targets: in_states(&wave.counts),
        proceed_if: wave.gate.as_ref().map(|gate| gate.wanted),
        gate: wave.gate.as_ref().map(gate),
    };
    (0..).zip(&course.waves).map(wave).collect()
}

fn wave_status(wave: &WaveRecord, is_let_out: bool) -> WaveStatus {
    let counts = &wave.counts;
    let is_over = counts.finished() == counts.total();
    let withdrawn = counts.of(TargetState::Withdrawn);
    if is_over && wave.sent_at.is_none() && withdrawn > 0 {
        WaveStatus::Withdrawn
    } else if is_over {
        WaveStatus::Done
    } else if wave.owed == 0 {
        WaveStatus::Sent
    } else if is_let_out {
        WaveStatus::Due
    } else {
        WaveStatus::Held
    }
}

fn gate(gate: &GateRecord) -> api::WaveGate {
    api::WaveGate {
        state: match gate.verdict {
            _ if gate.waived_at.is_some() => GateState::Waived,
            None => GateState::Open,
            Some(verdict) if verdict.passed => GateState::Passed,
            Some(_) => GateState::Failed,
        },
        decided_at: gate.verdict.map(|verdict| verdict.at),
        succeeded: gate.verdict.map(|verdict| verdict.succeeded),
    }
}

/// A slot as the API shows it.
pub fn slot(slot: SlotRecord) -> api::Slot {
    api::Slot {
        schedule_id: slot.schedule_id,
        slot: slot.slot,
        state: slot.state,
        exec_id: slot.exec_id,
        detail: slot.detail,
        settled_at: slot.at,
    }
}

/// A target as the API shows it.
pub fn target(target: TargetRecord) -> api::ExecutionTarget {
    api::ExecutionTarget {
        pc_id: target.pc_id,
        state: target.state,
        attempt: target.attempt,
        wave: target.wave,
        due_at: target.due_at,
        result_id: target.run,
        started_at: target.started_at,
        finished_at: target.finished_at,
        exit_code: target.exit_code,
        detail: target.detail,
        receipt: target.receipt,
    }
}

/// A run as the API shows it within its execution.
pub fn run_head(run: Run) -> api::RunHead {
    api::RunHead {
        result_id: run.result_id,
        request_id: run.request_id,
        pc_id: run.pc_id,
        exit_code: run.exit_code,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

/// A run as the API shows it with its output.
pub fn run(RunRecord { run, output }: RunRecord) -> api::Run {
    api::Run {
        result_id: run.result_id,
        request_id: run.request_id,
        exec_id: run.exec_id,
        pc_id: run.pc_id,
        exit_code: run.exit_code,
        stdout: output.stdout,
        stderr: output.stderr,
        started_at: run.started_at,
        finished_at: run.finished_at,
        job_id: run.job_id,
        version: run.version,
        state: Some(run.state),
    }
}

/// An agent as the API shows it.
pub fn agent(agent: Agent) -> api::Agent {
    api::Agent {
        pc_id: agent.pc_id,
        hostname: agent.hostname,
        os_family: agent.os_family,
        agent_version: agent.agent_version,
        last_heartbeat: agent.last_heartbeat,
        updated_at: agent.updated_at,
    }
}

/// Facts as the API shows them for one agent.
pub fn facts(facts: Facts) -> api::InventoryFacts {
    api::InventoryFacts {
        job_id: facts.job_id,
        facts: facts.facts,
        display: facts.hints.display,
        summary: facts.hints.summary,
        collected_at: facts.collected_at,
        recorded_at: facts.recorded_at,
    }
}

/// An audit entry as the API shows it.
pub fn audit_entry(record: AuditRecord) -> api::AuditEntry {
    api::AuditEntry {
        id: record.id,
        actor: record.event.actor,
        action: record.event.action,
        target: record.event.target,
        payload: record.event.payload,
        occurred_at: record.event.occurred_at,
    }
}
