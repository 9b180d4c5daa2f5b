//! Reads a whole store through the port and checks that its answers agree: pages with each other, lists with single
//! reads, filtered lists with unfiltered ones, counts with a recount.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use kanade_model::{ExecId, ExecutionStatus, JobId, PcId, TargetState, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, Counts, DeadLetterRecord, Execution, ExecutionQuery, ExecutionStore,
    Facts, Hold, LiveCount, Order, RunFilter, RunQuery, RunRecord, Send, SendState, TargetRecord, TextFilter,
};

use super::walk::{agents, audit, dead_letters, due_sends, executions, facts_by, runs, targets};

/// More than any case has of anything.
const MANY: usize = 1_000_000;

/// Everything a store holds, but idempotency keys.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) executions: Vec<(Execution, Order)>,
    pub(crate) targets: Vec<TargetRecord>,
    pub(crate) sends: Vec<Send>,
    pub(crate) runs: Vec<RunRecord>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) facts: Vec<Facts>,
    pub(crate) audit: Vec<AuditRecord>,
    pub(crate) dead_letters: Vec<DeadLetterRecord>,
}

/// Reads everything and checks that all answers agree.
pub(crate) async fn snapshot(store: &dyn ExecutionStore) -> Snapshot {
    let all = executions(store, &ExecutionQuery::default()).await;
    let mut all_targets = Vec::new();
    let mut sends = Vec::new();
    let mut with_orders = Vec::new();
    for execution in &all {
        let id = &execution.exec_id;
        assert_eq!(
            store.execution(id).await.unwrap().as_ref(),
            Some(execution),
            "by its id"
        );
        let order = store.order(id).await.unwrap();
        with_orders.push((execution.clone(), order.expect("every execution has its order")));
        let of_it = targets(store, id, None).await;
        check_counts(execution, &of_it);
        check_targets(store, &of_it).await;
        all_targets.extend(of_it);
        let of_it = store.sends(id).await.unwrap();
        assert!(
            of_it.is_sorted_by_key(|send| (send.due_at, send.send_id)),
            "the sends of an execution stand by due time: {of_it:?}"
        );
        sends.extend(of_it);
    }
    check_executions(store, &all).await;
    check_work_lists(store, &all, &all_targets, &sends).await;
    let all_runs = check_runs(store).await;
    let jobs = all.iter().map(|execution| execution.job_id.clone());
    let jobs = jobs
        .chain(all_runs.iter().filter_map(|record| record.run.job_id.clone()))
        .collect();
    let snapshot = Snapshot {
        executions: with_orders,
        targets: all_targets,
        sends,
        runs: all_runs,
        agents: agents(store).await,
        facts: check_facts(store, &jobs).await,
        audit: audit(store, &AuditQuery::default()).await,
        dead_letters: dead_letters(store).await,
    };
    for agent in &snapshot.agents {
        let found = store.agent(&agent.pc_id).await.unwrap();
        assert_eq!(found.as_ref(), Some(agent), "an agent by its id");
    }
    snapshot
}

/// Counts and status follow from the targets.
pub(crate) fn check_counts(execution: &Execution, targets: &[TargetRecord]) {
    let mut recount = Counts::default();
    targets.iter().for_each(|target| recount.add(target.state));
    assert_eq!(
        execution.counts, recount,
        "the counts of {execution:?} are a recount"
    );

    // One that was taken over when it was over has no targets as long as no run of it is known.
    if targets.is_empty() && execution.status == ExecutionStatus::Completed {
        assert!(
            execution.finished_at.is_some() && !execution.started,
            "{execution:?} is over"
        );
        return;
    }
    let started = targets
        .iter()
        .any(|target| target.run.is_some() || target.attempt > 1);
    assert_eq!(
        execution.started, started,
        "{execution:?} has started when a target has"
    );
    let all_final = !targets.is_empty() && targets.iter().all(|target| target.state.is_final());
    let ended_by_kill =
        |target: &TargetRecord| matches!(target.state, TargetState::Killed | TargetState::Withdrawn);
    let status = if all_final && targets.iter().any(ended_by_kill) {
        ExecutionStatus::Killed
    } else if all_final {
        ExecutionStatus::Completed
    } else if started {
        ExecutionStatus::Running
    } else if execution.expired_at.is_some() {
        ExecutionStatus::Expired
    } else {
        ExecutionStatus::Pending
    };
    assert_eq!(
        execution.status, status,
        "the status of {execution:?} follows from {targets:?}"
    );
    assert_eq!(
        execution.finished_at.is_some(),
        all_final,
        "{execution:?} has an end when it is final"
    );
}

async fn check_targets(store: &dyn ExecutionStore, all: &[TargetRecord]) {
    for target in all {
        let found = store.target(&target.exec_id, &target.pc_id).await.unwrap();
        assert_eq!(found.as_ref(), Some(target), "a target by its ids");
    }
    let Some(first) = all.first() else { return };
    for state in TargetState::ALL {
        let wanted: Vec<_> = all
            .iter()
            .filter(|target| target.state == *state)
            .cloned()
            .collect();
        let found = targets(store, &first.exec_id, Some(*state)).await;
        assert_eq!(found, wanted, "the targets of {} that are {state}", first.exec_id);
    }
}

async fn check_executions(store: &dyn ExecutionStore, all: &[Execution]) {
    let jobs: BTreeSet<&JobId> = all.iter().map(|execution| &execution.job_id).collect();
    let mut live: BTreeMap<JobId, LiveCount> = BTreeMap::new();
    for execution in all {
        let live = live.entry(execution.job_id.clone()).or_default();
        live.running += u64::from(execution.status == ExecutionStatus::Running);
        live.pending += u64::from(execution.status == ExecutionStatus::Pending);
    }
    live.retain(|_, count| *count != LiveCount::default());
    assert_eq!(
        store.live_counts().await.unwrap(),
        live,
        "live counts, without jobs that have none"
    );
    for job in jobs.iter().copied().map(Some).chain([None]) {
        for status in ExecutionStatus::ALL.iter().copied().map(Some).chain([None]) {
            let query = ExecutionQuery {
                job_id: job.cloned(),
                status,
                ..ExecutionQuery::default()
            };
            let wanted: Vec<_> = all
                .iter()
                .filter(|execution| job.is_none_or(|job| execution.job_id == *job))
                .filter(|execution| status.is_none_or(|status| execution.status == status))
                .cloned()
                .collect();
            assert_eq!(
                executions(store, &query).await,
                wanted,
                "executions like {query:?}"
            );
        }
        let Some(job) = job else { continue };
        let mut wanted: Vec<_> = all
            .iter()
            .filter(|execution| execution.job_id == *job && !execution.is_final())
            .map(|execution| execution.exec_id.clone())
            .collect();
        wanted.sort();
        let mut found = store.in_flight(job).await.unwrap();
        found.sort();
        assert_eq!(found, wanted, "what is in flight of {job}");
    }
}

/// The lists that tasks work off: what each holds follows from the records, and its order is by time.
async fn check_work_lists(
    store: &dyn ExecutionStore,
    executions: &[Execution],
    targets: &[TargetRecord],
    sends: &[Send],
) {
    let mut wanted: Vec<_> = sends
        .iter()
        .filter(|send| send.state == SendState::Due)
        .cloned()
        .collect();
    wanted.sort_by_key(|send| (send.due_at, send.send_id));
    assert_eq!(due_sends(store).await, wanted, "the sends that are still owed");

    let open = |execution: &&Execution| execution.kill.as_ref().is_some_and(|kill| !kill.settled);
    let killed_at = |execution: &Execution| execution.kill.as_ref().map(|kill| kill.at);
    let found = store.open_kills(MANY).await.unwrap();
    assert_same(
        "open kills",
        found,
        executions.iter().filter(open).cloned().collect(),
        killed_at,
    );

    let steered = |execution: &&Execution| matches!(execution.hold(), Some(Hold::Gate | Hold::Room));
    let found = store.to_steer(None, MANY).await.unwrap();
    assert_same(
        "executions to steer",
        found,
        executions.iter().filter(steered).cloned().collect(),
        |execution| execution.initiated_at,
    );
    check_waves(executions, targets, sends);

    for end in moments(executions.iter().map(|execution| execution.last_due_at)) {
        let stale = |execution: &&Execution| {
            execution.status == ExecutionStatus::Pending
                && execution.last_due_at < end
                && execution.hold().is_none()
        };
        let mut wanted: Vec<_> = executions.iter().filter(stale).collect();
        wanted.sort_by_key(|execution| execution.last_due_at);
        let due = |id| {
            executions
                .iter()
                .find(|execution| execution.exec_id == id)
                .unwrap()
                .clone()
        };
        let found = store
            .stale(end, MANY)
            .await
            .unwrap()
            .into_iter()
            .map(due)
            .collect();
        let wanted = wanted.into_iter().cloned().collect();
        assert_same("stale executions", found, wanted, |execution| {
            execution.last_due_at
        });
    }
    let pcs: BTreeSet<&PcId> = targets.iter().map(|target| &target.pc_id).collect();
    for pc in pcs {
        for end in moments(targets.iter().map(|target| target.due_at)) {
            let unfinished = |target: &&TargetRecord| {
                target.pc_id == *pc && !target.state.is_final() && target.due_at < end && !target.is_held()
            };
            let wanted = targets.iter().filter(unfinished).cloned().collect();
            let found = store.unfinished(pc, end, MANY).await.unwrap();
            assert_same("unfinished targets", found, wanted, |target| target.due_at);
        }
        let open = |target: &&TargetRecord| target.pc_id == *pc && !target.state.is_final();
        let wanted = targets.iter().filter(open).cloned().collect();
        let found = store.open_on(pc, None, MANY).await.unwrap();
        assert_same("open targets", found, wanted, |target| target.due_at);
        check_unanswered_kills(store, pc, targets).await;
    }
    for now in moments(targets.iter().filter_map(|target| target.check_at)) {
        let overdue = |target: &&TargetRecord| {
            target.state == TargetState::Waiting && target.check_at.is_some_and(|by| by <= now)
        };
        let wanted = targets.iter().filter(overdue).cloned().collect();
        let found = store.overdue_targets(now, MANY).await.unwrap();
        assert_same("overdue targets", found, wanted, |target| target.check_at);
    }
}

/// What is told of a wave follows from its targets and sends, and what is due is what nothing holds.
fn check_waves(executions: &[Execution], targets: &[TargetRecord], sends: &[Send]) {
    for execution in executions {
        for (number, wave) in execution.course.waves.iter().enumerate() {
            let mut counts = Counts::default();
            let of = |exec_id: &ExecId, of: u32| *exec_id == execution.exec_id && of as usize == number;
            for target in targets {
                if of(&target.exec_id, target.wave) && target.send_id.is_some() {
                    counts.add(target.state);
                }
            }
            assert_eq!(wave.counts, counts, "wave {number} of {}", execution.exec_id);
            let owed = sends
                .iter()
                .filter(|send| of(&send.exec_id, send.wave) && send.state.is_owed());
            assert_eq!(
                wave.owed as usize,
                owed.count(),
                "owed of wave {number} of {}",
                execution.exec_id
            );
        }
        let parked = |send: &&Send| send.exec_id == execution.exec_id && send.state == SendState::Parked;
        let of_waves: u32 = execution.course.waves.iter().map(|wave| wave.parked).sum();
        let has_waves = !execution.course.waves.is_empty();
        assert!(
            execution.course.parked as usize == sends.iter().filter(parked).count()
                && (!has_waves || of_waves == execution.course.parked),
            "parked of {execution:?}"
        );
        for send in sends.iter().filter(|send| send.exec_id == execution.exec_id) {
            let is_let_out = execution.kill.is_none() && execution.course.lets_out(send.wave);
            assert!(
                send.state != SendState::Due || is_let_out,
                "{send:?} is due, so nothing holds it: {execution:?}"
            );
        }
        let mut held = targets
            .iter()
            .filter(|target| target.exec_id == execution.exec_id && target.is_held());
        assert!(
            execution.hold().is_some() || held.next().is_none(),
            "a target is held, so something holds it: {execution:?}"
        );
    }
}

async fn check_unanswered_kills(store: &dyn ExecutionStore, pc: &PcId, targets: &[TargetRecord]) {
    let mut unanswered: Vec<_> = targets
        .iter()
        .filter(|target| target.pc_id == *pc && target.has_unanswered_kill())
        .map(|target| (target.finished_at.unwrap(), target.exec_id.clone()))
        .collect();
    unanswered.sort();
    for since in moments(unanswered.iter().map(|(at, _)| *at)) {
        let wanted: BTreeSet<_> = unanswered.iter().filter(|(at, _)| *at >= since).collect();
        let found = store.unanswered_kills(pc, since, MANY).await.unwrap();
        let ended = |id: &ExecId| unanswered.iter().find(|(_, of)| of == id).map(|(at, _)| *at);
        assert!(
            found.iter().rev().is_sorted_by_key(ended),
            "unanswered kills stand by time, newest first: {found:?}"
        );
        let found: BTreeSet<_> = found.iter().collect();
        let wanted: BTreeSet<_> = wanted.iter().map(|(_, id)| id).collect();
        assert_eq!(found, wanted, "unanswered kills of {pc} since {since}");
    }
}

async fn check_runs(store: &dyn ExecutionStore) -> Vec<RunRecord> {
    let query = RunQuery {
        with_output: true,
        ..RunQuery::default()
    };
    let all = runs(store, &query).await;
    for record in &all {
        let found = store.run(&record.run.result_id).await.unwrap();
        assert_eq!(found.as_ref(), Some(record), "a run by its id");
    }
    let exact = |text: &str| Some(TextFilter::Exact(text.to_owned()));
    let mut queries = Vec::new();
    let distinct = |text: fn(&RunRecord) -> String| all.iter().map(text).collect::<BTreeSet<_>>();
    for pc in distinct(|record| record.run.pc_id.to_string()) {
        queries.push(RunQuery {
            pc_id: exact(&pc),
            ..RunQuery::default()
        });
    }
    for job in distinct(|record| {
        record
            .run
            .job_id
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    }) {
        queries.push(RunQuery {
            job_id: exact(&job),
            ..RunQuery::default()
        });
    }
    for exec in distinct(|record| {
        record
            .run
            .exec_id
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    }) {
        queries.push(RunQuery {
            exec_id: exact(&exec),
            ..RunQuery::default()
        });
    }
    for status in [RunFilter::Success, RunFilter::Failure, RunFilter::Running] {
        queries.push(RunQuery {
            status: Some(status),
            ..RunQuery::default()
        });
    }
    for mut query in queries {
        query.with_output = true;
        let wanted: Vec<_> = all
            .iter()
            .filter(|record| query.matches(record))
            .cloned()
            .collect();
        assert_eq!(runs(store, &query).await, wanted, "runs like {query:?}");
    }
    for now in moments(all.iter().filter_map(|record| record.run.check_at)) {
        let wanted = all
            .iter()
            .map(|record| record.run.clone())
            .filter(|run| run.check_at.is_some_and(|by| by <= now))
            .collect();
        let found = store.overdue_runs(now, MANY).await.unwrap();
        assert_same("overdue runs", found, wanted, |run| run.check_at);
    }
    all
}

/// The facts of these jobs; a store does not say which jobs it has facts of.
async fn check_facts(store: &dyn ExecutionStore, jobs: &BTreeSet<JobId>) -> Vec<Facts> {
    let mut all: Vec<Facts> = Vec::new();
    for job in jobs {
        all.extend(facts_by(store, job).await);
    }
    let pcs: BTreeSet<PcId> = all.iter().map(|facts| facts.pc_id.clone()).collect();
    for pc in pcs {
        let mut wanted: Vec<_> = all.iter().filter(|facts| facts.pc_id == pc).cloned().collect();
        wanted.sort_by(|a, b| a.job_id.cmp(&b.job_id));
        let found = store.facts_of(&pc).await.unwrap();
        let found: Vec<_> = found
            .into_iter()
            .filter(|facts| jobs.contains(&facts.job_id))
            .collect();
        assert_eq!(found, wanted, "the facts about {pc}");
    }
    all
}

/// The moments around which an answer changes: each that occurs, and just after it.
fn moments(all: impl Iterator<Item = Timestamp>) -> BTreeSet<Timestamp> {
    all.flat_map(|at| [at, Timestamp::from_micros(at.as_micros() + 1)])
        .collect()
}

/// The same records, in the order of `time`; among equals any order will do.
fn assert_same<T: Debug + Clone + PartialEq, K: Ord + Debug>(
    what: &str,
    found: Vec<T>,
    mut wanted: Vec<T>,
    time: impl Fn(&T) -> K,
) {
    assert!(
        found.is_sorted_by_key(&time),
        "{what} stand by time, oldest first: {found:?}"
    );
    wanted.sort_by_key(&time);
    let mut sorted = found;
    // Stable sorts by time, then by text, bring equals into one order on both sides.
    sorted.sort_by_cached_key(|item| (time(item), format!("{item:?}")));
    wanted.sort_by_cached_key(|item| (time(item), format!("{item:?}")));
    assert_eq!(sorted, wanted, "{what}");
}
