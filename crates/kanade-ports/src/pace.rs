//! What letting out parked sends and trying again do to loaded rows.

use kanade_model::{ExecId, ExecResult, PcId, RequestId, SendId, TargetState, Timestamp};
use uuid::Uuid;

use crate::{Addressee, Outcome, Send, SendState, TargetRecord, WorkingSet};

impl WorkingSet {
    pub(crate) fn let_out(&mut self, exec_id: &ExecId, sends: &[(SendId, PcId)], at: Timestamp) -> Outcome {
        let Some(execution) = self.executions.get(exec_id) else {
            return Outcome::Unknown;
        };
        let (mut room, limits) = (execution.room(), execution.limits);
        let mut outcome = Outcome::Superseded;
        for (id, pc) in sends {
            let key = (exec_id.clone(), pc.clone());
            let target = self.targets.get(&key);
            let waits = target
                .is_some_and(|target| target.state == TargetState::Waiting && target.send_id == Some(*id));
            let earlier_attempt = target
                .map(|target| target.attempt - 1)
                .filter(|attempt| *attempt > 0);
            let (Some(send), Some(execution)) = (self.sends.get_mut(id), self.executions.get_mut(exec_id))
            else {
                continue;
            };
            let wave = send.wave;
            let is_free = send.state == SendState::Parked && execution.course.lets_out(wave);
            if !is_free || (waits && room == 0) {
                continue;
            }
            outcome = Outcome::Applied;
            execution.course.unpark(wave);
            if !waits {
                send.state = SendState::Withdrawn;
                if let Some(wave) = execution.course.wave_mut(wave) {
                    wave.owed = wave.owed.saturating_sub(1);
                }
                continue;
            }
            room -= 1;
            send.state = SendState::Due;
            send.due_at = send.due_at.max(at);
            if let (Some(retry), Some(before)) = (&execution.course.retry, earlier_attempt) {
                // Its agent's clock may be far ahead.
                send.due_at = send.due_at.min(at.plus(retry.rule.wait_after(before)));
            }
            let due_at = send.due_at;
            execution.last_due_at = execution.last_due_at.max(due_at);
            if let Some(target) = self.targets.get_mut(&key) {
                target.due_at = due_at;
                target.check_at = Some(limits.start_by(due_at));
            }
        }
        outcome
    }

    /// The send of the attempt that follows a run that has failed, where one does. Its Command has a request id of its
    /// own: an agent runs each request once.
    pub(crate) fn next_attempt(&self, key: &(ExecId, PcId), result: &ExecResult) -> Option<Send> {
        let (execution, target) = (self.executions.get(&key.0)?, self.targets.get(key)?);
        let course = &execution.course;
        let retry = course.retry.as_ref()?;
        let wait = retry.rule.next_after(target.attempt, result.exit_code)?;
        let due_at = result.finished_at.plus(wait);
        // What was given up before its result came is not begun anew that late.
        let is_expected = !target.state.is_final() && target.request_id == result.request_id;
        let is_over = execution.kill.is_some() || course.abort.is_some();
        let is_too_late = retry.until.is_some_and(|until| due_at >= until);
        // Who joined an execution in waves by reporting belongs to none of them.
        let has_place = target.send_id.is_some() || course.waves.is_empty();
        if !is_expected || is_over || is_too_late || !has_place {
            return None;
        }
        // One Command may have reached many agents; each tries again by itself.
        let name = |what: &str| Uuid::new_v5(&target.request_id.0, format!("{what} of {}", key.1).as_bytes());
        Some(Send {
            send_id: SendId(name("the send of the next attempt")),
            exec_id: key.0.clone(),
            to: Addressee::Pc(key.1.clone()),
            request_id: RequestId(name("the next attempt")),
            wave: target.wave,
            due_at,
            state: SendState::Parked,
        })
    }

    pub(crate) fn park(&mut self, send: Send) {
        if let Some(execution) = self.executions.get_mut(&send.exec_id) {
            execution.course.park(send.wave);
            if let Some(wave) = execution.course.wave_mut(send.wave) {
                wave.owed += 1;
            }
        }
        self.sends.insert(send.send_id, send);
    }
}

impl TargetRecord {
    /// Waits for the Command of its next attempt; its time does not run before that is let out.
    pub(crate) fn wait_for_attempt(&mut self, send: &Send, exit_code: i32) {
        self.attempt += 1;
        self.state = TargetState::Waiting;
        self.send_id = Some(send.send_id);
        self.request_id = send.request_id;
        self.due_at = send.due_at;
        self.run = None;
        self.started_at = None;
        self.finished_at = None;
        self.exit_code = None;
        self.detail = Some(format!(
            "attempt {} ended with exit code {exit_code}",
            self.attempt - 1
        ));
        self.check_at = None;
    }
}
