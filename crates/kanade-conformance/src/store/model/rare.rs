//! The questions that are asked in turn: filters, pages, single reads, and all that is only written down.

use std::collections::{BTreeMap, BTreeSet};

use kanade_model::{ExecutionStatus, RunState, TargetState};
use kanade_ports::{
    Agent, AuditQuery, ExecutionQuery, ExecutionStore, Forget, KeyRecord, RetentionCut, RunFilter, RunQuery,
    RunTally, SlotQuery, Success, TextFilter,
};
use serde_json::json;

use super::{
    super::{
        walk,
        world::{audit_event, facts, id, letter, secs},
    },
    answers::{Checked, same, same_by_time},
    chance::{EXECS, JOBS, KEYS, MARKS, PCS, SCHEDULES},
    change::{Numbers, cursor, slot},
    state::Model,
    step::{Name, Secs},
    told::{RunKey, Told},
};

/// More than any sequence makes of anything.
const MANY: usize = 1000;
/// How many kinds of questions there are.
pub(super) const TURNS: usize = 12;

/// Asks the questions whose turn it is.
pub(super) async fn ask(store: &dyn ExecutionStore, model: &Model, turn: usize) -> Checked {
    let round = turn / TURNS;
    let (exec, pc, job) = (
        EXECS[round % EXECS.len()],
        PCS[round % PCS.len()],
        JOBS[round % JOBS.len()],
    );
    match turn % TURNS {
        0 => executions_like(store, model, round).await,
        1 => runs_like(store, model, round).await,
        2 => agents(store, model).await,
        3 => facts_found(store, model, pc, job).await,
        4 => written_down(store, model).await,
        5 => keys_and_marks(store, model).await,
        6 => slots(store, model).await,
        7 => successes(store, model, job).await,
        8 => {
            prunable(
                store,
                model,
                model.now + 100 - 50 * Secs::try_from(round % 8).expect("small"),
            )
            .await
        }
        9 => tally(store, model, round).await,
        10 => single(store, model, exec, pc).await,
        _ => targets_in(store, model, exec, round).await,
    }
}

async fn executions_like(store: &dyn ExecutionStore, model: &Model, round: usize) -> Checked {
    let status = ExecutionStatus::ALL.get(round % 6).copied();
    let job = JOBS.get(round % 3).copied();
    let query = ExecutionQuery {
        job_id: job.map(id),
        status,
        ..ExecutionQuery::default()
    };
    let wanted = model.execution_records(|of| {
        job.is_none_or(|job| of.job == job) && status.is_none_or(|status| of.status() == status)
    });
    let ids: Vec<_> = wanted.into_iter().map(|of| of.exec_id).collect();
    let found = walk::executions(store, &query).await;
    same(&query, found.into_iter().map(|of| of.exec_id).collect(), ids)?;

    let job = JOBS[round % JOBS.len()];
    let wanted: BTreeSet<_> = model
        .execution_records(|of| of.job == job && !of.is_final())
        .into_iter()
        .map(|of| of.exec_id)
        .collect();
    let found = store.in_flight(&id(job)).await.unwrap();
    same(("in flight", job), found.into_iter().collect(), wanted)
}

async fn runs_like(store: &dyn ExecutionStore, model: &Model, round: usize) -> Checked {
    let exact = |text: Name| Some(TextFilter::Exact(text.to_owned()));
    let since = round.is_multiple_of(7).then_some(model.now - 60);
    let mut query = RunQuery {
        since: since.map(secs),
        with_output: true,
        ..RunQuery::default()
    };
    let (pc, exec) = (PCS[round % 3], EXECS[round / 3 % 3]);
    let filter = [RunFilter::Success, RunFilter::Failure, RunFilter::Running][round / 4 % 3];
    let kind = round % 6;
    match kind {
        0 => query.pc_id = exact(pc),
        1 => query.exec_id = exact(exec),
        2 => query.job_id = exact("backup"),
        3 => query.status = Some(filter),
        4 => (query.pc_id, query.status) = (exact(pc), Some(filter)),
        _ => query.pc_id = TextFilter::parse("pc_id", "pc-[12]").ok(),
    }
    let is_like = |state: RunState| match filter {
        RunFilter::Running => state == RunState::Running,
        RunFilter::Success => state == RunState::Succeeded,
        RunFilter::Failure => !matches!(state, RunState::Running | RunState::Succeeded),
    };
    let wanted = model.run_records(|run| {
        since.is_none_or(|since| run.started_at >= since)
            && match kind {
                0 => run.pc == pc,
                1 => run.exec == Some(exec),
                2 => run.job == Some("backup"),
                3 => is_like(run.state),
                4 => run.pc == pc && is_like(run.state),
                _ => run.pc != "pc-3",
            }
    });
    same(&query, walk::runs(store, &query).await, wanted)
}

async fn agents(store: &dyn ExecutionStore, model: &Model) -> Checked {
    let record = |(pc, agent): (&Name, &super::state::Agent)| Agent {
        pc_id: id(pc),
        hostname: agent.named.then(|| format!("{pc}.example")),
        os_family: None,
        agent_version: Some("1.0.0".into()),
        last_heartbeat: secs(agent.seen_at),
        updated_at: secs(agent.seen_at),
    };
    let wanted: Vec<_> = model.agents.iter().map(record).collect();
    for pc in PCS {
        let wanted = wanted.iter().find(|agent| agent.pc_id.as_str() == pc);
        same(
            ("agent", pc),
            store.agent(&id(pc)).await.unwrap().as_ref(),
            wanted,
        )?;
    }
    same("agents", walk::agents(store).await, wanted)
}

async fn facts_found(store: &dyn ExecutionStore, model: &Model, pc: Name, job: Name) -> Checked {
    let records = |wanted: &dyn Fn(Name, Name) -> bool| {
        let wanted = model.facts.iter().filter(|((pc, job), _)| wanted(pc, job));
        let records = wanted.map(|((pc, job), at)| facts(pc, job, secs(*at), json!({ "at": at })));
        records.collect::<Vec<_>>()
    };
    let wanted = records(&|of, _| of == pc);
    same(
        ("facts about", pc),
        store.facts_of(&id(pc)).await.unwrap(),
        wanted,
    )?;
    let wanted = records(&|_, by| by == job);
    same(("facts by", job), walk::facts_by(store, &id(job)).await, wanted)
}

async fn written_down(store: &dyn ExecutionStore, model: &Model) -> Checked {
    let found = walk::audit(store, &AuditQuery::default()).await;
    let found = found.into_iter().map(|record| record.event).collect();
    let newest_first = model.audit.iter().rev();
    let wanted = newest_first.map(|entry| audit_event(entry.name, secs(entry.at)));
    same::<Vec<_>>("audit", found, wanted.collect())?;
    let found = walk::dead_letters(store).await;
    let found = found.into_iter().map(|record| record.letter).collect();
    let newest_first = model.letters.iter().rev();
    let wanted = newest_first.map(|entry| letter(entry.name, secs(entry.at)));
    same::<Vec<_>>("dead letters", found, wanted.collect())
}

async fn keys_and_marks(store: &dyn ExecutionStore, model: &Model) -> Checked {
    for key in KEYS {
        let wanted = model.keys.get(key).map(|(exec, at)| KeyRecord {
            fingerprint: "f".into(),
            exec_id: id(exec),
            at: secs(*at),
        });
        same(("key", key), store.key(key).await.unwrap(), wanted)?;
    }
    for mark in MARKS {
        let wanted = model.marks.get(mark).copied().map(secs);
        same(("mark", mark), store.mark(mark).await.unwrap(), wanted)?;
    }
    Ok(())
}

async fn slots(store: &dyn ExecutionStore, model: &Model) -> Checked {
    let record = |((schedule, at), (state, settled_at, backfilled)): (&(Name, Secs), &_)| {
        slot(schedule, *at, *state, *backfilled, *settled_at)
    };
    let all: Vec<_> = model.slots.iter().map(record).collect();
    for schedule in SCHEDULES {
        let query = SlotQuery {
            schedule_id: id(schedule),
            limit: MANY,
            after: None,
        };
        let of_it = all.iter().filter(|slot| slot.schedule_id.as_str() == schedule);
        let wanted: Vec<_> = of_it.rev().cloned().collect();
        if let Some(first) = wanted.first() {
            let found = store.slot(&id(schedule), first.slot).await.unwrap();
            same(("slot", schedule), found.as_ref(), Some(first))?;
        }
        same(&query, store.slots(&query).await.unwrap().items, wanted)?;
        let wanted = model
            .cursors
            .get(schedule)
            .map(|through| cursor(schedule, *through));
        same(
            ("cursor", schedule),
            store.cursor(&id(schedule)).await.unwrap(),
            wanted,
        )?;
    }
    let waiting = |slot: &kanade_ports::SlotRecord| slot.state == kanade_model::SlotState::Waiting;
    let wanted = all.into_iter().filter(waiting).collect();
    let found = store.waiting_slots(MANY).await.unwrap();
    same_by_time("waiting slots", found, wanted, |_| 0)
}

pub(super) async fn successes(store: &dyn ExecutionStore, model: &Model, job: Name) -> Checked {
    let of_it = model.successes.iter().filter(|((of, _), _)| *of == job);
    let wanted = of_it.map(|((_, pc), at)| Success {
        job_id: id(job),
        pc_id: id(pc),
        at: secs(*at),
    });
    let found = store.successes(&id(job), None, MANY).await.unwrap().items;
    same(("successes", job), found, wanted.collect())
}

async fn prunable(store: &dyn ExecutionStore, model: &Model, cut: Secs) -> Checked {
    let at = secs(cut);
    let retention = RetentionCut {
        executions: at,
        audit: at,
        keys: at,
        slots: at,
    };
    let numbers = Given::read(store).await;
    let mut wanted: Forget = model.prunable(cut).by_id(&numbers);
    let mut found = store.prunable(&retention, MANY).await.unwrap();
    for forget in [&mut wanted, &mut found] {
        forget.executions.sort();
        forget.runs.sort();
        forget.keys.sort();
        forget.slots.sort();
        forget.audit.sort_unstable();
        forget.dead_letters.sort_unstable();
        // Where a name stands twice, only one of the two may be old.
        forget.dead_letters.dedup();
    }
    let of_letters = found
        .dead_letters
        .iter()
        .all(|number| wanted.dead_letters.contains(number));
    same(("prunable letters", cut), of_letters, true)?;
    wanted.dead_letters.clone_from(&found.dead_letters);
    same(("prunable", cut), found, wanted)
}

async fn tally(store: &dyn ExecutionStore, model: &Model, round: usize) -> Checked {
    let (since, until) = (model.now - 90, round.is_multiple_of(2).then_some(model.now - 10));
    let at_most = 1 + round % 5;
    let count = |wanted: fn(RunState) -> bool| {
        let of_it = model.runs.values().filter(|run| {
            wanted(run.state) && run.started_at >= since && until.is_none_or(|until| run.started_at < until)
        });
        of_it.count().min(at_most) as u64
    };
    let failed = count(|state| !matches!(state, RunState::Running | RunState::Succeeded));
    let wanted = RunTally {
        ended: failed + count(|state| state == RunState::Succeeded),
        failed,
    };
    let found = store.tally(secs(since), until.map(secs), at_most).await.unwrap();
    same(("tally", since, until, at_most), found, wanted)
}

async fn single(store: &dyn ExecutionStore, model: &Model, exec: Name, pc: Name) -> Checked {
    let execution = model.executions.get(exec);
    let found = store
        .execution(&id(exec))
        .await
        .unwrap()
        .map(|of| (of.counts, of.status, of.kill));
    let wanted = execution
        .map(|of| of.record(exec))
        .map(|of| (of.counts, of.status, of.kill));
    same(("execution", exec), found, wanted)?;
    let wanted = execution.map(|of| of.order(exec));
    same(("order", exec), store.order(&id(exec)).await.unwrap(), wanted)?;
    let found = store.target(&id(exec), &id(pc)).await.unwrap();
    let wanted = model.targets(|on, _| on == pc);
    let wanted = wanted.into_iter().find(|target| target.exec_id.as_str() == exec);
    same(("target", exec, pc), found, wanted)?;
    let told = Told::default();
    // Also those that are gone.
    let mut keys: BTreeSet<RunKey> = (0..=2)
        .map(|number| RunKey {
            exec,
            pc,
            told,
            number,
        })
        .collect();
    keys.extend(model.runs.keys().filter(|key| key.exec == exec && key.pc == pc));
    for key in keys {
        let wanted = model.runs.get(&key).map(|run| run.record(key));
        same(("run", key), store.run(&key.id()).await.unwrap(), wanted)?;
    }
    Ok(())
}

async fn targets_in(store: &dyn ExecutionStore, model: &Model, exec: Name, round: usize) -> Checked {
    let state = TargetState::ALL[round % TargetState::ALL.len()];
    let found = walk::targets(store, &id(exec), Some(state)).await;
    let mut wanted = model.targets(|_, target| target.state == state);
    wanted.retain(|target| target.exec_id.as_str() == exec);
    same(("targets", exec, state), found, wanted)
}

/// The numbers that stand in a store.
#[derive(Debug, Default)]
pub(super) struct Given {
    audit: BTreeMap<String, Vec<i64>>,
    letters: BTreeMap<String, Vec<i64>>,
}

impl Given {
    pub(super) async fn read(store: &dyn ExecutionStore) -> Self {
        let mut given = Self::default();
        for record in walk::audit(store, &AuditQuery::default()).await {
            let name = record.event.target.unwrap_or_default();
            given.audit.entry(name).or_default().push(record.id);
        }
        for record in walk::dead_letters(store).await {
            given
                .letters
                .entry(record.letter.payload)
                .or_default()
                .push(record.id);
        }
        given
    }
}

impl Numbers for Given {
    fn audit(&self, name: Name) -> Vec<i64> {
        self.audit.get(name).cloned().unwrap_or_default()
    }

    fn letters(&self, name: Name) -> Vec<i64> {
        self.letters.get(name).cloned().unwrap_or_default()
    }
}
