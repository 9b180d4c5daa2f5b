//! What each change does: the table of states in the design, applied to loaded rows. Pure; every backend shares it.

use std::collections::BTreeSet;

use kanade_model::{
    ExecId, ExecutionStatus, Heartbeat, PcId, RequestId, ResultId, RunState, SendId, TargetState, Timestamp,
};

use crate::{
    Agent, Change, ChangeSet, Counts, Course, Execution, Facts, Forget, IdempotencyKey, KeyRecord,
    NewExecution, Outcome, PastExecution, Run, SendState, Standing, TargetRecord, WorkingSet,
    kill::receipt_after,
};

impl WorkingSet {
    pub(crate) fn apply_set(&mut self, set: &ChangeSet) -> Outcome {
        if set
            .key
            .as_ref()
            .is_some_and(|key| self.keys.get(&key.key).is_some())
        {
            return Outcome::Duplicate;
        }
        let outcome = self.apply_change(&set.lead);
        if outcome == Outcome::Applied {
            if let (Some(key), Change::Fire(new)) = (&set.key, &set.lead) {
                self.remember_key(key, &new.exec_id);
            }
            for change in &set.then {
                self.apply_change(change);
            }
        }
        outcome
    }

    fn apply_change(&mut self, change: &Change) -> Outcome {
        match change {
            Change::Fire(new) => self.fire(new),
            Change::TakeOver(past) => self.take_over(past),
            Change::Sent { exec_id, sends, at } => self.sent(exec_id, sends, *at),
            Change::Pause { exec_id, by, at } => self.pause(exec_id, by, *at),
            Change::Resume { exec_id, at } => self.resume(exec_id, *at),
            Change::Abort { exec_id, by, at } => self.abort(exec_id, by, *at),
            Change::Judged {
                exec_id,
                wave,
                verdict,
            } => self.judged(exec_id, *wave, *verdict),
            Change::Kill { exec_id, by, at } => self.kill(exec_id, by, *at),
            Change::LetOut { exec_id, sends, at } => self.let_out(exec_id, sends, *at),
            Change::KillHeard { exec_id, by, at } => self.kill_heard(exec_id, by, *at),
            Change::KillDelivered(event) => self.kill_delivered(event),
            Change::KillSettled { exec_id, at } => self.kill_settled(exec_id, *at),
            Change::RunStarted { event, at } => self.run_started(event, *at),
            Change::RunFinished(result) => self.run_finished(result),
            Change::RunSkipped(event) => self.run_skipped(event),
            Change::AgentSeen { heartbeat, at } => self.agent_seen(heartbeat, *at),
            Change::Expire { exec_id, at } => self.expire(exec_id, *at),
            Change::ExpireTarget { exec_id, pc_id, at } => self.expire_target(exec_id, pc_id, *at),
            Change::LoseRun {
                result_id,
                exec_id,
                pc_id,
                at,
            } => self.lose_run(*result_id, exec_id, pc_id, *at),
            Change::Facts(facts) => self.facts_found(facts),
            Change::Audit(event) => match event.event_id {
                Some(id) if !self.audit_ids.insert(id) => Outcome::Duplicate,
                _ => {
                    self.audit.push(event.clone());
                    Outcome::Applied
                }
            },
            Change::DeadLetter(letter) => {
                self.dead_letters.push(letter.clone());
                Outcome::Applied
            }
            Change::Slot(slot) => self.slot(slot),
            Change::ScheduleLooked(cursor) => self.schedule_looked(cursor),
            Change::Mark { name, at } => self.mark(name, *at),
            Change::Forget(forget) => self.forget_records(forget),
        }
    }

    fn remember_key(&mut self, key: &IdempotencyKey, exec_id: &ExecId) {
        let record = KeyRecord {
            fingerprint: key.fingerprint.clone(),
            exec_id: exec_id.clone(),
            at: key.at,
        };
        self.keys.insert(key.key.clone(), record);
    }

    fn fire(&mut self, new: &NewExecution) -> Outcome {
        if self.executions.get(&new.exec_id).is_some() {
            return Outcome::Duplicate;
        }
        let mut counts = Counts::default();
        let mut course = Course::of(new.order.plan.rollout.as_ref(), &new.pace, new.initiated_at);
        let held: BTreeSet<SendId> = new
            .sends
            .iter()
            .filter(|send| matches!(send.state, SendState::Held | SendState::Parked))
            .map(|send| send.send_id)
            .collect();
        for target in &new.targets {
            let key = (new.exec_id.clone(), target.pc_id.clone());
            if self.targets.get(&key).is_some() {
                continue;
            }
            counts.add(TargetState::Waiting);
            if let Some(wave) = course.wave_mut(target.wave) {
                wave.counts.add(TargetState::Waiting);
            }
            let record = TargetRecord {
                exec_id: new.exec_id.clone(),
                pc_id: target.pc_id.clone(),
                state: TargetState::Waiting,
                send_id: Some(target.send_id),
                request_id: target.request_id,
                attempt: 1,
                wave: target.wave,
                due_at: target.due_at,
                run: None,
                started_at: None,
                finished_at: None,
                exit_code: None,
                detail: None,
                receipt: None,
                check_at: (!held.contains(&target.send_id)).then(|| new.limits.start_by(target.due_at)),
            };
            self.targets
                .insert((new.exec_id.clone(), target.pc_id.clone()), record);
        }
        for send in &new.sends {
            if let Some(wave) = course.wave_mut(send.wave) {
                wave.owed += 1;
            }
            if send.state == SendState::Parked {
                course.park(send.wave);
            }
            self.sends.insert(send.send_id, send.clone());
        }
        self.orders.push((new.exec_id.clone(), new.order.clone()));
        let execution = Execution {
            exec_id: new.exec_id.clone(),
            job_id: new.order.job_id.clone(),
            version: new.order.version.clone(),
            initiated_by: new.initiated_by.clone(),
            initiated_at: new.initiated_at,
            counts,
            status: ExecutionStatus::Pending,
            started: false,
            last_due_at: new
                .sends
                .iter()
                .map(|send| send.due_at)
                .max()
                .unwrap_or(new.initiated_at),
            expired_at: None,
            finished_at: None,
            kill: None,
            limits: new.limits,
            course,
        };
        self.executions.insert(new.exec_id.clone(), execution);
        Outcome::Applied
    }

    fn take_over(&mut self, past: &PastExecution) -> Outcome {
        if self.executions.get(&past.exec_id).is_some() {
            return Outcome::Duplicate;
        }
        let (status, expired_at, finished_at) = match past.standing {
            Standing::Open => (ExecutionStatus::Pending, None, None),
            Standing::Expired => (ExecutionStatus::Expired, Some(past.initiated_at), None),
            Standing::Over => (ExecutionStatus::Completed, None, Some(past.initiated_at)),
        };
        self.orders.push((past.exec_id.clone(), past.order.clone()));
        let execution = Execution {
            exec_id: past.exec_id.clone(),
            job_id: past.order.job_id.clone(),
            version: past.order.version.clone(),
            initiated_by: past.initiated_by.clone(),
            initiated_at: past.initiated_at,
            counts: Counts::default(),
            status,
            started: false,
            last_due_at: past.initiated_at,
            expired_at,
            finished_at,
            kill: None,
            limits: past.limits,
            course: Course::default(),
        };
        self.executions.insert(past.exec_id.clone(), execution);
        self.adopt_runs(&past.exec_id);
        Outcome::Applied
    }

    /// Makes targets of the agents whose runs of an execution came before the execution itself.
    fn adopt_runs(&mut self, exec_id: &ExecId) {
        let ids = self
            .runs
            .keys_where(|_, run| run.exec_id.as_ref() == Some(exec_id));
        let mut runs: Vec<Run> = ids.iter().filter_map(|id| self.runs.get(id)).cloned().collect();
        // As they would have been heard of: the first end decides.
        runs.sort_by_key(|run| (run.finished_at.unwrap_or(run.started_at), run.result_id));
        for run in runs {
            let Some(key) = self.target_or_join(exec_id, &run.pc_id, run.request_id, run.started_at) else {
                return;
            };
            let at = run.finished_at.unwrap_or(run.started_at);
            self.update_target(&key, at, |target| {
                if !target.is_open() {
                    return;
                }
                target.start(run.result_id, run.started_at);
                if run.state != RunState::Running {
                    target.exit_code = run.exit_code;
                    target.finish(run.state.into(), at);
                }
            });
        }
    }

    fn mark(&mut self, name: &str, at: Timestamp) -> Outcome {
        let name = name.to_owned();
        if self.marks.get(&name).is_some() {
            return Outcome::Duplicate;
        }
        self.marks.insert(name, at);
        Outcome::Applied
    }

    fn agent_seen(&mut self, heartbeat: &Heartbeat, at: Timestamp) -> Outcome {
        let known = self.agents.get(&heartbeat.pc_id);
        if known.is_some_and(|agent| agent.updated_at > at) {
            return Outcome::Superseded;
        }
        let agent = Agent {
            pc_id: heartbeat.pc_id.clone(),
            hostname: heartbeat
                .hostname
                .clone()
                .or_else(|| known.and_then(|agent| agent.hostname.clone())),
            os_family: heartbeat
                .os_family
                .clone()
                .or_else(|| known.and_then(|agent| agent.os_family.clone())),
            agent_version: Some(heartbeat.agent_version.clone()),
            last_heartbeat: heartbeat.at,
            updated_at: at,
        };
        self.agents.insert(heartbeat.pc_id.clone(), agent);
        Outcome::Applied
    }

    fn expire(&mut self, exec_id: &ExecId, at: Timestamp) -> Outcome {
        match self.executions.get_mut(exec_id) {
            None => Outcome::Unknown,
            Some(execution) if execution.status == ExecutionStatus::Pending && execution.hold().is_none() => {
                execution.expired_at = Some(at);
                execution.settle(at);
                Outcome::Applied
            }
            Some(execution) if execution.status == ExecutionStatus::Expired => Outcome::Duplicate,
            Some(_) => Outcome::Superseded,
        }
    }

    fn expire_target(&mut self, exec_id: &ExecId, pc_id: &PcId, at: Timestamp) -> Outcome {
        let key = (exec_id.clone(), pc_id.clone());
        match self.targets.get(&key) {
            None => Outcome::Unknown,
            Some(target) if target.state == TargetState::Expired => Outcome::Duplicate,
            Some(target)
                if target.state == TargetState::Waiting && target.check_at.is_some_and(|by| by <= at) =>
            {
                self.update_target(&key, at, |target| target.finish(TargetState::Expired, at));
                Outcome::Applied
            }
            Some(_) => Outcome::Superseded,
        }
    }

    fn facts_found(&mut self, facts: &Facts) -> Outcome {
        let key = (facts.pc_id.clone(), facts.job_id.clone());
        match self
            .facts
            .get(&key)
            .map(|known| known.collected_at.cmp(&facts.collected_at))
        {
            Some(std::cmp::Ordering::Greater) => Outcome::Superseded,
            Some(std::cmp::Ordering::Equal) => Outcome::Duplicate,
            _ => {
                self.facts.insert(key, facts.clone());
                Outcome::Applied
            }
        }
    }

    fn forget_records(&mut self, forget: &Forget) -> Outcome {
        let gone = |exec_id: &ExecId| forget.executions.contains(exec_id);
        self.executions.remove_if(|exec_id, _| gone(exec_id));
        self.targets.remove_if(|(exec_id, _), _| gone(exec_id));
        self.sends.remove_if(|_, send| gone(&send.exec_id));
        self.orders.retain(|(exec_id, _)| !gone(exec_id));
        let run_gone = |id: &ResultId, run: Option<&Run>| {
            forget.runs.contains(id) || run.and_then(|run| run.exec_id.as_ref()).is_some_and(gone)
        };
        let runs = &self.runs;
        self.outputs.retain(|id, _| !run_gone(id, runs.get(id)));
        self.runs.remove_if(|id, run| run_gone(id, Some(run)));
        self.keys.remove_if(|key, _| forget.keys.contains(key));
        self.slots.remove_if(|key, _| forget.slots.contains(key));
        self.forget.executions.extend_from_slice(&forget.executions);
        self.forget.runs.extend_from_slice(&forget.runs);
        self.forget.audit.extend_from_slice(&forget.audit);
        self.forget.dead_letters.extend_from_slice(&forget.dead_letters);
        self.forget.keys.extend_from_slice(&forget.keys);
        self.forget.slots.extend_from_slice(&forget.slots);
        Outcome::Applied
    }

    /// The key of a target; one that reports without being on the list joins it. None for a foreign execution.
    pub(crate) fn target_or_join(
        &mut self,
        exec_id: &ExecId,
        pc_id: &PcId,
        request_id: RequestId,
        at: Timestamp,
    ) -> Option<(ExecId, PcId)> {
        let execution = self.executions.get_mut(exec_id)?;
        let key = (exec_id.clone(), pc_id.clone());
        if self.targets.get(&key).is_none() {
            execution.counts.add(TargetState::Waiting);
            // It is not at its end while one more has not come to its.
            execution.finished_at = None;
            let joined = TargetRecord {
                exec_id: exec_id.clone(),
                pc_id: pc_id.clone(),
                state: TargetState::Waiting,
                send_id: None,
                request_id,
                attempt: 1,
                wave: 0,
                due_at: at,
                run: None,
                started_at: None,
                finished_at: None,
                exit_code: None,
                detail: None,
                receipt: None,
                check_at: Some(execution.limits.start_by(at)),
            };
            self.targets.insert(key.clone(), joined);
        }
        Some(key)
    }

    pub(crate) fn open_targets(&self, exec_id: &ExecId) -> Vec<(ExecId, PcId)> {
        self.targets.keys_of(exec_id, |target| !target.state.is_final())
    }

    /// The one way to change a target: keeps the counts, the status and the receipt in step with its state.
    pub(crate) fn update_target(
        &mut self,
        key: &(ExecId, PcId),
        at: Timestamp,
        change: impl FnOnce(&mut TargetRecord),
    ) {
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        let before = target.state;
        change(target);
        let Some(execution) = self.executions.get_mut(&key.0) else {
            return;
        };
        if let Some(kill) = &mut execution.kill
            && target.state != before
        {
            target.receipt = receipt_after(target.state, target.receipt);
            kill.settled &= target.state != TargetState::Running;
        }
        // A later attempt has no run yet, but one was before it.
        execution.started |= target.run.is_some() || target.attempt > 1;
        execution.counts.remove(before);
        execution.counts.add(target.state);
        if target.send_id.is_some()
            && let Some(wave) = execution.course.wave_mut(target.wave)
        {
            wave.counts.remove(before);
            wave.counts.add(target.state);
        }
        execution.settle(at);
    }
}

impl TargetRecord {
    /// Whether a run may still decide the state.
    pub(crate) fn is_open(&self) -> bool {
        !self.state.is_final() || self.state.is_presumed()
    }

    pub(crate) fn start(&mut self, run: ResultId, at: Timestamp) {
        if self.is_open() {
            self.state = TargetState::Running;
            self.run = Some(run);
            self.started_at = Some(at);
            self.finished_at = None;
            self.detail = None;
            self.check_at = None;
        }
    }

    pub(crate) fn finish(&mut self, state: TargetState, at: Timestamp) {
        self.state = state;
        self.finished_at = Some(at);
        self.check_at = None;
    }
}

impl Execution {
    /// Derives the status from the counts.
    fn settle(&mut self, at: Timestamp) {
        let all_final = self.counts.total() > 0 && self.counts.finished() == self.counts.total();
        let ended_by_kill = self.counts.of(TargetState::Killed) + self.counts.of(TargetState::Withdrawn) > 0;
        self.status = match (all_final, self.started, self.expired_at) {
            (true, ..) if ended_by_kill => ExecutionStatus::Killed,
            (true, ..) => ExecutionStatus::Completed,
            (false, true, _) => ExecutionStatus::Running,
            (false, false, Some(_)) => ExecutionStatus::Expired,
            (false, false, None) => ExecutionStatus::Pending,
        };
        self.finished_at = if all_final {
            // An agent's clock may be years behind: retention must not take what has just ended for old.
            self.finished_at.or(Some(at.max(self.initiated_at)))
        } else {
            None
        };
        if let Some(kill) = &mut self.kill {
            kill.settled |= all_final;
        }
        if all_final {
            self.course.pause = None;
        }
    }
}
