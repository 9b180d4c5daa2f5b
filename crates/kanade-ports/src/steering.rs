//! What pausing, resuming, aborting and the verdict of a gate do to loaded rows. A send that is held is not due; a target
//! whose time does not run has no `check_at`.

use kanade_model::{ExecId, SendId, TargetState, Timestamp};

use crate::{Abort, Execution, Outcome, Pause, SendState, Verdict, WorkingSet};

impl WorkingSet {
    pub(crate) fn sent(&mut self, exec_id: &ExecId, sends: &[SendId], at: Timestamp) -> Outcome {
        if self.executions.get(exec_id).is_none() {
            return Outcome::Unknown;
        }
        for id in sends {
            let Some(send) = self.sends.get_mut(id) else {
                continue;
            };
            let (before, wave) = (send.state, send.wave);
            if before == SendState::Parked {
                // It goes out only after it was let out.
                continue;
            }
            send.state = SendState::Sent;
            if before.is_owed()
                && let Some(execution) = self.executions.get_mut(exec_id)
                && let Some(wave) = execution.course.wave_mut(wave)
            {
                wave.owed = wave.owed.saturating_sub(1);
                if wave.owed == 0 {
                    wave.sent_at.get_or_insert(at);
                }
            }
        }
        Outcome::Applied
    }

    pub(crate) fn pause(&mut self, exec_id: &ExecId, by: &str, at: Timestamp) -> Outcome {
        match self.executions.get(exec_id) {
            None => Outcome::Unknown,
            Some(execution) if is_over(execution) => Outcome::Superseded,
            Some(execution) if execution.course.pause.is_some() => Outcome::Duplicate,
            Some(_) => {
                self.hold_back(exec_id, by, at, None);
                Outcome::Applied
            }
        }
    }

    pub(crate) fn resume(&mut self, exec_id: &ExecId, at: Timestamp) -> Outcome {
        match self.executions.get_mut(exec_id) {
            None => return Outcome::Unknown,
            Some(execution) if execution.course.pause.is_none() => return Outcome::Superseded,
            Some(execution) => {
                execution.course.pause = None;
                let gates = execution
                    .course
                    .waves
                    .iter_mut()
                    .filter_map(|wave| wave.gate.as_mut());
                for gate in gates {
                    // Whoever resumes it has seen that it failed.
                    if gate.verdict.is_some_and(|verdict| !verdict.passed) {
                        gate.waived_at.get_or_insert(at);
                    }
                }
            }
        }
        self.let_go(exec_id, at);
        Outcome::Applied
    }

    pub(crate) fn abort(&mut self, exec_id: &ExecId, by: &str, at: Timestamp) -> Outcome {
        match self.executions.get_mut(exec_id) {
            None => return Outcome::Unknown,
            Some(execution) if execution.is_final() => return Outcome::Superseded,
            Some(execution) if is_over(execution) => return Outcome::Duplicate,
            Some(execution) => {
                execution.course.pause = None;
                execution.course.abort = Some(Abort {
                    by: by.to_owned(),
                    at,
                });
            }
        }
        self.withdraw_sends(exec_id);
        for key in self.open_targets(exec_id) {
            if self.is_unsent(&key) {
                self.update_target(&key, at, |target| {
                    if target.state == TargetState::Waiting {
                        target.finish(TargetState::Withdrawn, at);
                    }
                });
            }
        }
        self.start_the_clock(exec_id, at);
        Outcome::Applied
    }

    pub(crate) fn judged(&mut self, exec_id: &ExecId, wave: u32, verdict: Verdict) -> Outcome {
        let Some(execution) = self.executions.get_mut(exec_id) else {
            return Outcome::Unknown;
        };
        let known = execution
            .course
            .waves
            .get(wave as usize)
            .and_then(|wave| wave.gate.as_ref());
        if known.is_some_and(|gate| gate.verdict.is_some()) {
            return Outcome::Duplicate;
        }
        // Results may have come since it was worked out; then it is worked out again.
        let holds_still = execution.hold() == Some(crate::Hold::Gate)
            && execution.course.judge(verdict.at) == Some((wave, verdict));
        let waves = execution.course.waves.len();
        let Some(record) = execution.course.wave_mut(wave).filter(|_| holds_still) else {
            return Outcome::Superseded;
        };
        let group = record.group.clone();
        let Some(gate) = &mut record.gate else {
            return Outcome::Superseded;
        };
        gate.verdict = Some(verdict);
        if verdict.passed {
            self.let_go(exec_id, verdict.at);
        } else {
            let Verdict { succeeded, of, .. } = verdict;
            let wanted = gate.wanted;
            let reason = format!(
                "the gate after wave {} of {waves} (`{group}`) has not passed: {succeeded} of {of} succeeded, a \
                 share of {wanted} was wanted",
                wave + 1
            );
            self.hold_back(exec_id, "gate", verdict.at, Some(reason));
        }
        Outcome::Applied
    }

    /// Makes nothing of an execution due, and stops the time of what waits.
    fn hold_back(&mut self, exec_id: &ExecId, by: &str, at: Timestamp, reason: Option<String>) {
        if let Some(execution) = self.executions.get_mut(exec_id) {
            execution.course.pause = Some(Pause {
                by: by.to_owned(),
                at,
                reason,
            });
        }
        for id in self
            .sends
            .keys_where(|_, send| send.exec_id == *exec_id && send.state == SendState::Due)
        {
            if let Some(send) = self.sends.get_mut(&id) {
                send.state = SendState::Held;
            }
        }
        for key in self.open_targets(exec_id) {
            if let Some(target) = self.targets.get_mut(&key) {
                target.check_at = None;
            }
        }
    }

    /// Makes due what nothing holds any more: at its own time, or at once where that has passed.
    fn let_go(&mut self, exec_id: &ExecId, at: Timestamp) {
        let Some(execution) = self.executions.get(exec_id) else {
            return;
        };
        let course = execution.course.clone();
        let mut last_due_at = execution.last_due_at;
        let held = self.sends.keys_where(|_, send| {
            send.exec_id == *exec_id && send.state == SendState::Held && course.lets_out(send.wave)
        });
        for id in held {
            if let Some(send) = self.sends.get_mut(&id) {
                send.state = SendState::Due;
                send.due_at = send.due_at.max(at);
                last_due_at = last_due_at.max(send.due_at);
            }
        }
        if let Some(execution) = self.executions.get_mut(exec_id) {
            execution.last_due_at = last_due_at;
            for (number, wave) in execution.course.waves.iter_mut().enumerate() {
                if wave.owed > 0 && u32::try_from(number).is_ok_and(|number| course.lets_out(number)) {
                    wave.due_at = wave.due_at.max(at);
                }
            }
        }
        self.start_the_clock(exec_id, at);
    }

    /// Gives the waiting targets that nothing holds any more their time, from `at` on or from when they are due.
    pub(crate) fn start_the_clock(&mut self, exec_id: &ExecId, at: Timestamp) {
        let Some(execution) = self.executions.get(exec_id) else {
            return;
        };
        let limits = execution.limits;
        for key in self.open_targets(exec_id) {
            let send = self.targets.get(&key).and_then(|target| target.send_id);
            let send = send.and_then(|id| self.sends.get(&id));
            if send.is_some_and(|send| matches!(send.state, SendState::Held | SendState::Parked)) {
                continue;
            }
            let due_at = send.map(|send| send.due_at);
            if let Some(target) = self.targets.get_mut(&key)
                && target.is_held()
            {
                target.due_at = due_at.unwrap_or(target.due_at);
                target.check_at = Some(limits.start_by(target.due_at.max(at)));
            }
        }
    }

    /// Withdraws what has not gone out of an execution.
    pub(crate) fn withdraw_sends(&mut self, exec_id: &ExecId) {
        for id in self
            .sends
            .keys_where(|_, send| send.exec_id == *exec_id && send.state.is_owed())
        {
            if let Some(send) = self.sends.get_mut(&id) {
                send.state = SendState::Withdrawn;
            }
        }
        if let Some(execution) = self.executions.get_mut(exec_id) {
            execution.course.parked = 0;
            for wave in &mut execution.course.waves {
                (wave.owed, wave.parked) = (0, 0);
            }
        }
    }

    /// Whether the send that was to reach a target has been withdrawn.
    pub(crate) fn is_unsent(&self, key: &(ExecId, kanade_model::PcId)) -> bool {
        let send = self.targets.get(key).and_then(|target| target.send_id);
        send.and_then(|id| self.sends.get(&id))
            .is_some_and(|send| send.state == SendState::Withdrawn)
    }
}

/// Whether nothing of an execution is to be sent any more.
fn is_over(execution: &Execution) -> bool {
    execution.is_final() || execution.kill.is_some() || execution.course.abort.is_some()
}
