//! What agents say of their runs does to loaded rows.

use std::time::Duration;

use kanade_model::{
    EventSkipped, EventStarted, ExecId, ExecResult, PcId, ResultId, RunState, SkipReason, TargetState,
    Timestamp,
};

use crate::{Outcome, Output, Run, TargetRecord, WorkingSet};

/// A run of an execution that we did not fire is lost after this time.
const FOREIGN_RUN_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

impl WorkingSet {
    pub(crate) fn run_started(&mut self, event: &EventStarted, at: Timestamp) -> Outcome {
        if let Some(run) = self.runs.get(&event.result_id) {
            if run.pc_id != event.pc_id {
                return Outcome::Superseded;
            }
            if run.job_id.is_some() && run.version.is_some() {
                return Outcome::Duplicate;
            }
            if let Some(run) = self.runs.get_mut(&event.result_id) {
                run.job_id.get_or_insert_with(|| event.manifest_id.clone());
                run.version.get_or_insert_with(|| event.version.clone());
            }
            return Outcome::Applied;
        }
        // An agent's clock may be far behind, and what it says may have been long under way: not lost before its time.
        let since = event.started_at.max(at);
        let check_at = self.executions.get(&event.exec_id).map_or_else(
            || since.plus(FOREIGN_RUN_WITHIN),
            |execution| execution.limits.finish_by(since),
        );
        self.runs.insert(event.result_id, Run::started(event, check_at));
        if let Some(key) =
            self.target_or_join(&event.exec_id, &event.pc_id, event.request_id, event.started_at)
        {
            self.update_target(&key, event.started_at, |target| {
                target.start(event.result_id, event.started_at);
            });
            let is_its = |target: &TargetRecord| {
                target.state == TargetState::Running && target.run == Some(event.result_id)
            };
            if self.targets.get(&key).is_some_and(is_its)
                && let Some(kill) = self
                    .executions
                    .get_mut(&event.exec_id)
                    .and_then(|execution| execution.kill.as_mut())
            {
                kill.ask_again(at);
            }
        }
        Outcome::Applied
    }

    pub(crate) fn run_finished(&mut self, result: &ExecResult) -> Outcome {
        let id = result.run_id();
        let known = self.runs.get(&id).cloned();
        match &known {
            Some(run) if run.pc_id != result.pc_id => return Outcome::Superseded,
            Some(run) if !matches!(run.state, RunState::Running | RunState::Lost) => {
                return Outcome::Duplicate;
            }
            _ => {}
        }
        let state = result.state();
        let execution = result
            .exec_id
            .as_ref()
            .and_then(|exec_id| self.executions.get(exec_id));
        let run = Run {
            result_id: id,
            request_id: result.request_id,
            exec_id: result.exec_id.clone(),
            pc_id: result.pc_id.clone(),
            job_id: known
                .as_ref()
                .and_then(|run| run.job_id.clone())
                .or_else(|| result.manifest_id.clone())
                .or_else(|| execution.map(|execution| execution.job_id.clone())),
            version: known
                .as_ref()
                .and_then(|run| run.version.clone())
                .or_else(|| execution.map(|execution| execution.version.clone())),
            state,
            exit_code: Some(result.exit_code),
            started_at: known.map_or(result.started_at, |run| run.started_at),
            finished_at: Some(result.finished_at),
            check_at: None,
        };
        if let (RunState::Succeeded, Some(job_id)) = (state, &run.job_id) {
            self.succeeded(job_id, &run.pc_id, result.finished_at);
        }
        self.runs.insert(id, run);
        self.outputs.insert(
            id,
            Output {
                stdout: result.stdout.clone(),
                stderr: result.stderr.clone(),
            },
        );
        let Some(exec_id) = &result.exec_id else {
            return Outcome::Applied;
        };
        if let Some(key) = self.target_or_join(exec_id, &result.pc_id, result.request_id, result.started_at) {
            let next = (state == RunState::Failed)
                .then(|| self.next_attempt(&key, result))
                .flatten();
            self.update_target(&key, result.finished_at, |target| {
                if let Some(next) = &next {
                    target.wait_for_attempt(next, result.exit_code);
                } else if target.is_open() {
                    target.run = Some(id);
                    target.started_at = Some(result.started_at);
                    target.exit_code = Some(result.exit_code);
                    target.detail = None;
                    target.finish(state.into(), result.finished_at);
                }
            });
            if let Some(next) = next {
                self.park(next);
            }
        }
        Outcome::Applied
    }

    pub(crate) fn run_skipped(&mut self, event: &EventSkipped) -> Outcome {
        let Some(key) = self.target_or_join(&event.exec_id, &event.pc_id, event.request_id, event.at) else {
            return Outcome::Unknown;
        };
        let state = match event.reason {
            SkipReason::Superseded => TargetState::Superseded,
            SkipReason::Revoked | SkipReason::Deadline | SkipReason::Staleness | SkipReason::Unsupported => {
                TargetState::Refused
            }
        };
        match self.targets.get(&key) {
            // Said of an earlier attempt.
            Some(target) if target.attempt > 1 && target.request_id != event.request_id => {
                return Outcome::Superseded;
            }
            Some(target) if target.state == TargetState::Waiting || target.state.is_presumed() => {}
            Some(target) if target.state == state => return Outcome::Duplicate,
            _ => return Outcome::Superseded,
        }
        self.update_target(&key, event.at, |target| {
            target.detail = Some(event.detail.clone());
            target.finish(state, event.at);
        });
        Outcome::Applied
    }

    pub(crate) fn lose_run(
        &mut self,
        result_id: ResultId,
        exec_id: &ExecId,
        pc_id: &PcId,
        at: Timestamp,
    ) -> Outcome {
        match self.runs.get_mut(&result_id) {
            None => return Outcome::Unknown,
            Some(run) if run.state == RunState::Lost => return Outcome::Duplicate,
            Some(run) if run.state == RunState::Running && run.check_at.is_some_and(|by| by <= at) => {
                run.state = RunState::Lost;
                run.check_at = None;
            }
            Some(_) => return Outcome::Superseded,
        }
        self.update_target(&(exec_id.clone(), pc_id.clone()), at, |target| {
            if target.state == TargetState::Running && target.run == Some(result_id) {
                target.finish(TargetState::Lost, at);
            }
        });
        Outcome::Applied
    }
}
