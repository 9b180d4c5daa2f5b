//! What the questions of a store must be answered with, as the model has it, and the comparison.

use std::{collections::BTreeMap, fmt::Debug};

use kanade_model::{ExecutionStatus, RunState, TargetState};
use kanade_ports::{
    Abort, Addressee, Counts, Execution, ExecutionQuery, ExecutionStore, GateRecord, Limits, LiveCount,
    Order, Output, Pause, Run, RunQuery, RunRecord, Send, SendState, TargetRecord, Verdict, WaveRecord,
};
use proptest::test_runner::TestCaseError;

use super::{
    super::{
        walk,
        world::{id, order, secs},
    },
    chance::PCS,
    change::firing,
    execution::{Exec, Held, RUN_WITHIN, START_WITHIN, Target},
    state::{self, Model},
    step::{End, Name, Secs},
    told::RunKey,
};

pub(super) type Checked = Result<(), TestCaseError>;

/// More than any sequence makes of anything.
const MANY: usize = 1000;

/// What a store says against what the model says.
#[expect(clippy::needless_pass_by_value, reason = "what is compared is made for that")]
pub(super) fn same<T: Debug + PartialEq>(what: impl Debug, found: T, wanted: T) -> Checked {
    if found == wanted {
        return Ok(());
    }
    let what = format!("{what:?}:\n the store: {found:#?}\n the model: {wanted:#?}");
    Err(TestCaseError::fail(what))
}

/// The same, for a list that is in the order of `time`; equals may stand in any order.
pub(super) fn same_by_time<T: Debug + PartialEq, K: Ord>(
    what: impl Debug,
    mut found: Vec<T>,
    mut wanted: Vec<T>,
    time: impl Fn(&T) -> K,
) -> Checked {
    if !found.is_sorted_by_key(&time) {
        return Err(TestCaseError::fail(format!(
            "{what:?} stands by time: {found:#?}"
        )));
    }
    let text = |item: &T| format!("{item:?}");
    found.sort_by_cached_key(text);
    wanted.sort_by_cached_key(text);
    same(what, found, wanted)
}

impl Exec {
    fn count<'a>(targets: impl Iterator<Item = &'a Target>) -> Counts {
        let mut counts = Counts::default();
        targets.for_each(|target| counts.add(target.state));
        counts
    }

    pub(super) fn order(&self, exec: Name) -> Order {
        match &self.aim {
            Some(aim) => firing(exec, self.job, self.fired_at, aim).new.order,
            None => order(self.job),
        }
    }

    pub(super) fn record(&self, exec: Name) -> Execution {
        let new = self.order(exec);
        let mut record = Execution {
            exec_id: id(exec),
            job_id: id(self.job),
            version: new.version,
            initiated_by: "operator".into(),
            initiated_at: secs(self.fired_at),
            counts: Self::count(self.targets.values()),
            status: self.status(),
            started: self.has_started(),
            last_due_at: secs(self.last_due_at),
            expired_at: self.expired_at.map(secs),
            finished_at: self.finished_at.map(secs),
            kill: self.kill.as_ref().map(|kill| kanade_ports::Kill {
                by: "alice".into(),
                at: secs(kill.at),
                settled: kill.settled,
                asked_again_at: kill.asked_again_at.map(secs),
            }),
            limits: Limits {
                start_within_secs: START_WITHIN.unsigned_abs(),
                run_within_secs: RUN_WITHIN.unsigned_abs(),
            },
            course: kanade_ports::Course::of(None, &self.pacing.pace(), secs(self.fired_at)),
        };
        let few = |count: usize| u32::try_from(count).expect("a few");
        record.course.parked = few(self.parked().count());
        record.course.pause = self.pause.map(|(by, at, reason)| Pause {
            by: by.into(),
            at: secs(at),
            reason: reason.then(any_reason),
        });
        record.course.abort = self.abort.map(|at| Abort {
            by: "ann".into(),
            at: secs(at),
        });
        let wanted = new.plan.rollout.map(|rollout| rollout.waves).unwrap_or_default();
        for (number, (wave, wanted)) in (0..).zip(self.waves.iter().zip(wanted)) {
            let gate = wave.gate.as_ref().zip(wanted.proceed_if);
            record.course.waves.push(WaveRecord {
                group: wanted.group,
                due_at: secs(wave.due_at),
                counts: Self::count(self.of_wave(number)),
                owed: few(self.owed(number)),
                parked: few(self.parked().filter(|send| send.wave == number).count()),
                sent_at: wave.sent_at.map(secs),
                gate: gate.map(|(gate, wanted)| GateRecord {
                    wanted,
                    verdict: gate.verdict.map(|(passed, at, succeeded, of)| Verdict {
                        passed,
                        at: secs(at),
                        succeeded,
                        of,
                    }),
                    waived_at: gate.waived_at.map(secs),
                }),
            });
        }
        record
    }

    fn target(&self, exec: Name, pc: Name) -> TargetRecord {
        let target = &self.targets[pc];
        TargetRecord {
            exec_id: id(exec),
            pc_id: id(pc),
            state: target.state,
            send_id: target.by.map(|by| by.send(exec, pc)),
            request_id: target.asked.request(exec, pc),
            attempt: target.attempt.into(),
            wave: target.wave,
            due_at: secs(target.due_at),
            run: target.run.map(|run| run.id()),
            started_at: target.started_at.map(secs),
            finished_at: target.finished_at.map(secs),
            exit_code: target.exit_code,
            detail: target.detail.clone(),
            receipt: target.receipt,
            check_at: target.start_by.map(secs),
        }
    }

    fn sends(&self, exec: Name) -> Vec<Send> {
        let mut sends: Vec<Send> = self
            .sends
            .iter()
            .map(|send| Send {
                send_id: send.id(exec),
                exec_id: id(exec),
                to: match send.to {
                    "all" => Addressee::All,
                    pc => Addressee::Pc(id(pc)),
                },
                request_id: send.told.request(exec, send.to),
                wave: send.wave,
                due_at: secs(send.due_at),
                state: send.state,
            })
            .collect();
        sends.sort_by_key(|send| (send.due_at, send.send_id));
        sends
    }
}

/// The words of a gate that has failed are not looked at.
fn any_reason() -> String {
    "a reason".into()
}

fn without_reason(mut execution: Execution) -> Execution {
    if let Some(pause) = &mut execution.course.pause {
        pause.reason = pause.reason.take().map(|_| any_reason());
    }
    execution
}

impl state::Run {
    pub(super) fn record(&self, key: RunKey) -> RunRecord {
        let output = self.output.map(|(at, end)| Output {
            stdout: format!("{at}"),
            stderr: match end {
                End::OldKilled => "killed by remote signal (kill.e)".into(),
                _ => String::new(),
            },
        });
        RunRecord {
            run: Run {
                result_id: key.id(),
                request_id: key.told.request(key.exec, self.pc),
                exec_id: self.exec.map(id),
                pc_id: id(self.pc),
                job_id: self.job.map(id),
                version: self.has_version.then(|| id("1.0.0")),
                state: self.state,
                exit_code: self.exit_code,
                started_at: secs(self.started_at),
                finished_at: self.finished_at.map(secs),
                check_at: self.end_by.map(secs),
            },
            output: output.unwrap_or_default(),
        }
    }
}

impl Model {
    /// Newest first, those that are wanted.
    pub(super) fn execution_records(&self, wanted: impl Fn(&Exec) -> bool) -> Vec<Execution> {
        let wanted = self.executions.iter().filter(|(_, execution)| wanted(execution));
        let mut records: Vec<_> = wanted.map(|(exec, execution)| execution.record(exec)).collect();
        records.sort_by(|a, b| (b.initiated_at, &b.exec_id).cmp(&(a.initiated_at, &a.exec_id)));
        records
    }

    /// Newest first, those that are wanted, with their output.
    pub(super) fn run_records(&self, wanted: impl Fn(&state::Run) -> bool) -> Vec<RunRecord> {
        let wanted = self.runs.iter().filter(|(_, run)| wanted(run));
        let mut records: Vec<_> = wanted.map(|(key, run)| run.record(*key)).collect();
        records.sort_by_key(|record| {
            std::cmp::Reverse((record.run.started_at, record.run.result_id.to_string()))
        });
        records
    }

    pub(super) fn targets(&self, wanted: impl Fn(Name, &Target) -> bool) -> Vec<TargetRecord> {
        let mut records = Vec::new();
        for (exec, execution) in &self.executions {
            let wanted = execution.targets.iter().filter(|(pc, target)| wanted(pc, target));
            records.extend(wanted.map(|(pc, _)| execution.target(exec, pc)));
        }
        records
    }
}

/// The executions, and all that belongs to those that are named.
pub(super) async fn executions(store: &dyn ExecutionStore, model: &Model, named: &[Name]) -> Checked {
    let found = walk::executions(store, &ExecutionQuery::default()).await;
    let found: Vec<_> = found.into_iter().map(without_reason).collect();
    same("executions", found, model.execution_records(|_| true))?;
    for exec in named {
        let execution = model.executions.get(exec);
        let wanted = execution.map(|execution| {
            let pcs = execution.targets.keys();
            let targets: Vec<_> = pcs.map(|pc| execution.target(exec, pc)).collect();
            (targets, execution.sends(exec))
        });
        let (targets, sends) = wanted.unwrap_or_default();
        same(
            ("targets", exec),
            walk::targets(store, &id(exec), None).await,
            targets,
        )?;
        same(("sends", exec), store.sends(&id(exec)).await.unwrap(), sends)?;
    }
    Ok(())
}

pub(super) async fn runs(store: &dyn ExecutionStore, model: &Model) -> Checked {
    let query = RunQuery {
        with_output: true,
        limit: MANY,
        ..RunQuery::default()
    };
    let found = store.runs(&query).await.unwrap().items;
    same("runs", found, model.run_records(|_| true))
}

/// The lists that tasks work off: what is owed and killed each time, the others in turn.
pub(super) async fn work(store: &dyn ExecutionStore, model: &Model, turn: usize) -> Checked {
    let now = model.now;
    let mut due: Vec<Send> = model
        .executions
        .iter()
        .flat_map(|(exec, of)| of.sends(exec))
        .collect();
    due.retain(|send| send.state == SendState::Due);
    due.sort_by_key(|send| (send.due_at, send.send_id));
    same("due sends", store.due_sends(None, MANY).await.unwrap(), due)?;

    let found = store.open_kills(MANY).await.unwrap();
    let wanted = model.execution_records(|of| of.kill.as_ref().is_some_and(|kill| !kill.settled));
    same_by_time("open kills", found, wanted, |of| {
        of.kill.as_ref().map(|kill| kill.at)
    })?;
    match turn % 3 {
        0 => live(store, model).await,
        1 => overdue(store, model, now + 20 * Secs::try_from(turn % 80).expect("small")).await,
        _ => on_agent(store, model, PCS[turn / 3 % PCS.len()], now).await,
    }
}

async fn live(store: &dyn ExecutionStore, model: &Model) -> Checked {
    let found = store.to_steer(None, MANY).await.unwrap();
    let wanted = model.execution_records(|of| matches!(of.held(), Some(Held::Gate | Held::Room)));
    same_by_time("to be steered", found, wanted, |of| of.initiated_at)?;

    let mut live: BTreeMap<_, LiveCount> = BTreeMap::new();
    for execution in model.executions.values() {
        match execution.status() {
            ExecutionStatus::Running => live.entry(id(execution.job)).or_default().running += 1,
            ExecutionStatus::Pending => live.entry(id(execution.job)).or_default().pending += 1,
            _ => {}
        }
    }
    same("live counts", store.live_counts().await.unwrap(), live)
}

async fn overdue(store: &dyn ExecutionStore, model: &Model, now: Secs) -> Checked {
    let found = store.overdue_targets(secs(now), MANY).await.unwrap();
    let wanted =
        model.targets(|_, of| of.state == TargetState::Waiting && of.start_by.is_some_and(|by| by <= now));
    same_by_time(("overdue targets", now), found, wanted, |of| of.check_at)?;

    let found = store.overdue_runs(secs(now), MANY).await.unwrap();
    let wanted =
        model.run_records(|of| of.state == RunState::Running && of.end_by.is_some_and(|by| by <= now));
    let wanted = wanted.into_iter().map(|record| record.run).collect();
    same_by_time(("overdue runs", now), found, wanted, |of| of.check_at)?;

    let found = store.stale(secs(now), MANY).await.unwrap();
    let is_stale =
        |of: &Exec| of.status() == ExecutionStatus::Pending && of.held().is_none() && of.last_due_at < now;
    let wanted = model.execution_records(is_stale);
    let last_due = |exec: &_| {
        wanted
            .iter()
            .find(|of| of.exec_id == *exec)
            .map(|of| of.last_due_at)
    };
    let ids = wanted.iter().map(|of| of.exec_id.clone()).collect();
    same_by_time(("stale", now), found, ids, last_due)
}

async fn on_agent(store: &dyn ExecutionStore, model: &Model, pc: Name, now: Secs) -> Checked {
    let due = |of: &TargetRecord| of.due_at;
    let found = store.unfinished(&id(pc), secs(now), MANY).await.unwrap();
    let wanted = model.targets(|on, of| on == pc && !of.is_over() && !of.is_held() && of.due_at < now);
    same_by_time(("unfinished", pc, now), found, wanted, due)?;

    let found = store.open_on(&id(pc), None, MANY).await.unwrap();
    let wanted = model.targets(|on, of| on == pc && !of.is_over());
    same_by_time(("open", pc), found, wanted, due)?;

    let since = now - 60;
    let mut found = store.unanswered_kills(&id(pc), secs(since), MANY).await.unwrap();
    found.reverse();
    let unanswered = model.targets(|on, of| {
        on == pc && of.has_unanswered_kill() && of.finished_at.is_some_and(|at| at >= since)
    });
    let ended = |exec: &_| {
        unanswered
            .iter()
            .find(|of| of.exec_id == *exec)
            .and_then(|of| of.finished_at)
    };
    let ids = unanswered.iter().map(|of| of.exec_id.clone()).collect();
    same_by_time(
        ("unanswered kills, the newest last", pc, since),
        found,
        ids,
        ended,
    )
}
