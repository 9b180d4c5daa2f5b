//! Records of the store in the shapes of the API.

use kanade_model::{TargetState, api};
use kanade_ports::{Agent, AuditRecord, Execution, Facts, Run, RunRecord, SlotRecord, TargetRecord};

/// An execution as the API shows it.
pub fn execution(execution: Execution) -> api::Execution {
    let counts = execution.counts;
    let in_state = |state: &TargetState| Some((*state, counts.of(*state))).filter(|(_, count)| *count > 0);
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
        targets: TargetState::ALL.iter().filter_map(in_state).collect(),
        finished_at: execution.finished_at,
        killed_at: execution.kill.as_ref().map(|kill| kill.at),
        killed_by: execution.kill.map(|kill| kill.by),
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
