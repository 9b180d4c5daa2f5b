//! How SQLite answers: every statement walks an index in its order.

use kanade_model::{EventStarted, ExecutionStatus, RequestId, ResultId, TargetState};
use kanade_ports::{
    AuditQuery, Bucket, Catalog, CatalogReader, Change, ChangeSet, ExecutionQuery, ExecutionStore, Forget,
    IdempotencyKey, PastExecution, Position, Precondition, RetentionCut, RunFilter, RunQuery, SlotQuery,
    Standing, TargetQuery, TextFilter,
};
use uuid::Uuid;

use super::{
    recorder,
    world::{World, at, audited, dead_letter, exec, facts, finished, fire, job, pc, result, seen},
};
use crate::{codec::Columns, statement::Statement};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_walks_an_index_in_its_order() {
    let world = World::new().await;
    write_everything(&world).await;
    ask_everything(&world).await;
    use_the_catalog(&world).await;

    let texts: Vec<_> = recorder::seen()
        .into_iter()
        .filter(|text| {
            ["SELECT", "INSERT", "UPDATE", "DELETE"]
                .iter()
                .any(|verb| text.starts_with(verb))
                // Other tests of this process may read old files, whose tables are not ours.
                && !text.contains("FROM \"")
        })
        .collect();
    assert!(texts.len() > 60, "the statements were recorded: {}", texts.len());
    let mut faults = Vec::new();
    for text in texts {
        let bad: Vec<_> = plan(&world, &text)
            .await
            .into_iter()
            .filter(|step| !is_walk(step))
            .collect();
        faults.extend(bad.iter().map(|step| format!("{step}\n    in {text}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_a_range_of_the_index_that_is_made_for_it() {
    let world = World::new().await;
    ask_everything(&world).await;
    let texts = recorder::seen();
    for (table, narrowed, range) in [
        (
            "executions",
            "WHERE  (",
            "executions_newest ((initiated_at,exec_id)<",
        ),
        (
            "executions",
            "job_id = ?1 AND (",
            "executions_of_job (job_id=? AND (initiated_at,exec_id)<",
        ),
        (
            "executions",
            "WHERE status = ?2 AND (",
            "executions_with_status (status=? AND (initiated_at,exec_id)<",
        ),
        (
            "executions",
            "job_id = ?1 AND status = ?2 AND (",
            "executions_of_job_with_status (job_id=? AND status=? AND (initiated_at,exec_id)<",
        ),
        (
            "targets",
            "exec_id = ?1 AND  pc_id > ?3",
            "PRIMARY KEY (exec_id=? AND pc_id>?)",
        ),
        (
            "targets",
            "state = ?2 AND pc_id > ?3",
            "targets_in_state (exec_id=? AND state=? AND pc_id>?)",
        ),
        (
            "targets",
            "due_at < ?2 AND (state",
            "targets_unfinished (pc_id=? AND due_at<?)",
        ),
        (
            "targets",
            "receipt IN (",
            "targets_with_unanswered_kill (pc_id=? AND finished_at>?)",
        ),
        (
            "targets",
            "(due_at, exec_id) > (?2",
            "targets_unfinished (pc_id=? AND (due_at,exec_id)>",
        ),
        (
            "executions",
            "held IN (1, 3)",
            "executions_to_steer ((initiated_at,exec_id)>",
        ),
        ("sends", "state = 'due'", "sends_due ((due_at,send_id)>"),
        (
            "runs",
            "runs_newest WHERE  outcome",
            "runs_newest (outcome=? AND started_at>? AND (started_at,result_id)<",
        ),
        (
            "runs",
            "SELECT count(*) FROM (SELECT 1",
            "runs_newest (outcome=? AND started_at>? AND started_at<?)",
        ),
        (
            "runs",
            "exec_id = ?1 AND outcome",
            "runs_of_execution (exec_id=? AND outcome=? AND started_at>? AND (started_at,result_id)<",
        ),
        (
            "runs",
            "exec_id IS NULL AND outcome",
            "runs_of_execution (exec_id=? AND outcome=? AND started_at>? AND (started_at,result_id)<",
        ),
        (
            "runs",
            "job_id = ?1 AND outcome",
            "runs_of_job (job_id=? AND outcome=? AND started_at>? AND (started_at,result_id)<",
        ),
        (
            "runs",
            "pc_id = ?1 AND outcome = 'failure'",
            "runs_failed_on_agent (pc_id=? AND started_at>? AND (started_at,result_id)<",
        ),
        (
            "runs",
            "pc_id = ?1 AND  started_at",
            "runs_on_agent (pc_id=? AND started_at>? AND (started_at,result_id)<",
        ),
        ("audit", "WHERE  audit_id < ?2", "INTEGER PRIMARY KEY (rowid<?)"),
        (
            "audit",
            "actor = ?1 AND audit_id < ?2",
            "audit_of_actor (actor=? AND audit_id<?)",
        ),
    ] {
        let lists: Vec<_> = texts
            .iter()
            .filter(|text| text.contains(&format!("FROM {table} ")) && text.contains(narrowed))
            .collect();
        assert!(!lists.is_empty(), "nobody asks {table} for {narrowed}");
        for text in lists {
            let plan = plan(&world, text).await;
            let walks: Vec<_> = plan.iter().filter(|step| step.starts_with("SEARCH")).collect();
            assert!(
                !walks.is_empty() && walks.iter().all(|step| step.contains(range)),
                "{text} is not a range of {range}:\n{}",
                plan.join("\n")
            );
        }
    }
}

async fn plan(world: &World, text: &str) -> Vec<String> {
    let mut conn = world.database.read().await.unwrap();
    Statement::new(format!("EXPLAIN QUERY PLAN {text}"))
        .map(&mut conn, |columns: &mut Columns<'_>| {
            let _: (i64, i64, i64) = (columns.take()?, columns.take()?, columns.take()?);
            columns.take()
        })
        .await
        .unwrap()
}

/// Whether a step of a plan costs no more than what it gives.
fn is_walk(step: &str) -> bool {
    let scans_what_it_is_given = step.contains("VIRTUAL TABLE")
        || step.contains("VALUES CLAUSE")
        || step == "SCAN CONSTANT ROW"
        // What a query within the query gives; its own steps stand beside it.
        || step.starts_with("SCAN (subquery-")
        // Asked for everything that these indexes hold: all that is live, the oldest open kills.
        || step.ends_with("USING COVERING INDEX executions_live")
        || step.ends_with("USING INDEX executions_with_open_kill");
    !step.contains("TEMP B-TREE") && (!step.starts_with("SCAN") || scans_what_it_is_given)
}

async fn write_everything(world: &World) {
    let store = world.database.store();
    let mut keyed = fire(1, 100);
    keyed.key = Some(IdempotencyKey {
        key: "k".into(),
        fingerprint: "f".into(),
        at: at(0),
    });
    store.apply(&[keyed, fire(2, 3), fire(3, 3)]).await.unwrap();
    let mut sets: Vec<_> = (0..90).map(|target| finished(1, target, "out")).collect();
    sets.extend([seen(1), facts(1), audited(), dead_letter()]);
    sets.push(ChangeSet::of(Change::Sent {
        exec_id: exec(2),
        sends: vec![],
        at: at(4),
    }));
    sets.push(ChangeSet::of(Change::Kill {
        exec_id: exec(2),
        by: "operator".into(),
        at: at(4),
    }));
    store.apply(&sets).await.unwrap();

    // A start that names another job than the result that came before it changes what an index holds.
    let mut foreign = result(77, 1, "");
    foreign.manifest_id = None;
    let started = EventStarted {
        result_id: foreign.result_id.unwrap(),
        request_id: RequestId(Uuid::now_v7()),
        exec_id: exec(77),
        pc_id: pc(1),
        started_at: at(1),
        manifest_id: job(),
        version: "1".parse().unwrap(),
    };
    let sets = [
        ChangeSet::of(Change::RunFinished(Box::new(foreign))),
        ChangeSet::of(Change::RunStarted {
            event: started,
            at: at(1),
        }),
    ];
    for set in sets {
        store.apply(&[set]).await.unwrap();
    }
    let sends = store.sends(&exec(3)).await.unwrap();
    let sent = Change::Sent {
        exec_id: exec(3),
        sends: sends.iter().map(|send| send.send_id).collect(),
        at: at(4),
    };
    let forget = Change::Forget(Forget {
        executions: vec![exec(3)],
        runs: vec![ResultId(Uuid::now_v7())],
        audit: vec![1],
        dead_letters: vec![1],
        keys: vec!["k".into()],
        slots: vec![("s".parse().unwrap(), at(1))],
    });
    store.apply(&[ChangeSet::of(sent).and(forget)]).await.unwrap();
    let marked = Change::Mark {
        name: "m".into(),
        at: at(0),
    };
    let Change::Fire(new) = fire(78, 1).lead else {
        panic!("a firing fires")
    };
    let past = Change::TakeOver(Box::new(PastExecution {
        exec_id: exec(77),
        initiated_by: new.initiated_by,
        initiated_at: new.initiated_at,
        order: new.order,
        limits: new.limits,
        standing: Standing::Over,
    }));
    store.apply(&[ChangeSet::of(marked).and(past)]).await.unwrap();
}

async fn ask_everything(world: &World) {
    let store = world.database.store();
    let after = Some(Position {
        at: at(1).as_micros(),
        id: Uuid::now_v7().to_string(),
    });
    for job_id in [None, Some(job())] {
        for status in [None, Some(ExecutionStatus::Running)] {
            let query = ExecutionQuery {
                job_id: job_id.clone(),
                status,
                limit: 10,
                after: after.clone(),
            };
            store.executions(&query).await.unwrap();
        }
    }
    for state in [None, Some(TargetState::Waiting)] {
        let query = TargetQuery {
            exec_id: exec(1),
            state,
            limit: 10,
            after: after.clone(),
        };
        store.targets(&query).await.unwrap();
    }
    for query in run_queries(&after) {
        store.runs(&query).await.unwrap();
    }
    store.execution(&exec(1)).await.unwrap();
    store.order(&exec(1)).await.unwrap();
    store.in_flight(&job()).await.unwrap();
    store.live_counts().await.unwrap();
    store.open_kills(10).await.unwrap();
    store.to_steer(after.as_ref(), 10).await.unwrap();
    store.stale(at(9), 10).await.unwrap();
    store.target(&exec(1), &pc(1)).await.unwrap();
    store.unfinished(&pc(1), at(9), 10).await.unwrap();
    store.open_on(&pc(1), after.as_ref(), 10).await.unwrap();
    store.unanswered_kills(&pc(1), at(9), 10).await.unwrap();
    store.overdue_targets(at(9), 10).await.unwrap();
    store.due_sends(after.as_ref(), 10).await.unwrap();
    store.sends(&exec(1)).await.unwrap();
    store.run(&ResultId(Uuid::now_v7())).await.unwrap();
    store.overdue_runs(at(9), 10).await.unwrap();
    store.tally(at(1), None, 10).await.unwrap();
    store.agent(&pc(1)).await.unwrap();
    store.agents(after.as_ref(), 10).await.unwrap();
    store.facts_of(&pc(1)).await.unwrap();
    store.facts_by(&job(), after.as_ref(), 10).await.unwrap();
    for actor in [None, Some("operator".to_owned())] {
        let query = AuditQuery {
            actor,
            limit: 10,
            ..Default::default()
        };
        store.audit(&query).await.unwrap();
    }
    store.dead_letters(after.as_ref(), 10).await.unwrap();
    store.key("k").await.unwrap();
    store.mark("m").await.unwrap();
    store.slot(&"s".parse().unwrap(), at(9)).await.unwrap();
    let slots = SlotQuery {
        schedule_id: "s".parse().unwrap(),
        limit: 10,
        after: after.clone(),
    };
    store.slots(&slots).await.unwrap();
    store.waiting_slots(10).await.unwrap();
    store.cursor(&"s".parse().unwrap()).await.unwrap();
    store
        .successes(&"j".parse().unwrap(), after.as_ref(), 10)
        .await
        .unwrap();
    let cut = RetentionCut {
        executions: at(9),
        audit: at(9),
        keys: at(9),
        slots: at(9),
    };
    store.prunable(&cut, 10).await.unwrap();
}

/// Every index of runs, with every outcome.
fn run_queries(after: &Option<Position>) -> Vec<RunQuery> {
    let exact = |wanted: bool| wanted.then(|| TextFilter::Exact("x".into()));
    let mut queries = vec![RunQuery {
        exec_id: Some(TextFilter::Exact(String::new())),
        limit: 10,
        ..Default::default()
    }];
    for narrowed in ["", "exec", "pc", "job"] {
        for status in [
            None,
            Some(RunFilter::Success),
            Some(RunFilter::Failure),
            Some(RunFilter::Running),
        ] {
            queries.push(RunQuery {
                exec_id: exact(narrowed == "exec"),
                pc_id: exact(narrowed == "pc"),
                job_id: exact(narrowed == "job"),
                status,
                since: Some(at(0)),
                with_output: true,
                limit: 10,
                after: after.clone(),
                ..Default::default()
            });
        }
    }
    queries
}

async fn use_the_catalog(world: &World) {
    let catalog = world.database.catalog();
    let (bucket, key) = (Bucket::Jobs, (&job()).into());
    catalog
        .put(bucket, &key, "{}".into(), Precondition::Any)
        .await
        .unwrap();
    catalog.get(bucket, &key).await.unwrap();
    catalog.list(bucket).await.unwrap();
    catalog.history(bucket, &key).await.unwrap();
    catalog.delete(bucket, &key, Precondition::Any).await.unwrap();
}
