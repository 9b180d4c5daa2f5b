//! Work of which one can tell afterwards how much of it was kept; and whether a file is sound.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    str::FromStr,
};

use bytes::Bytes;
use kanade_conformance::sample;
use kanade_model::{
    AuditEvent, EventStarted, ExecId, ExecResult, Heartbeat, RequestId, ResultId, SendId, Timestamp,
};
use kanade_ports::{
    Addressee, AuditQuery, AuditRecord, Bucket, Catalog, Change, ChangeSet, DeadLetterRecord, ErrorKind,
    Execution, ExecutionStore, Facts, Forget, IdempotencyKey, Limits, MAX_LIMIT, NewExecution, NewTarget,
    Precondition, Run, Send, SendState, StoreError, TargetRecord,
};
use redb::ReadTransaction;
use uuid::Uuid;

use super::disk::Disk;
use crate::{
    Database,
    engine::{CACHE, Engine},
    fault::Fault,
    key::Key,
    output::OUTPUTS,
    record::{KeptKey, Ordered},
    table::{Reading, Record},
};

/// An execution is forgotten by the step that comes so many later.
const FORGOTTEN_AFTER: usize = 3;

pub(super) fn start(disk: &Disk) -> Result<Database, Fault> {
    start_with(disk, CACHE)
}

/// Without memory for pages, every read comes to the disk, and pages are written as they change.
pub(super) fn start_without_cache(disk: &Disk) -> Result<Database, Fault> {
    start_with(disk, 0)
}

fn start_with(disk: &Disk, cache: usize) -> Result<Database, Fault> {
    Engine::start("the simulated disk".into(), disk.opener(), cache).and_then(Database::on)
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

pub(super) fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn exec(step: usize) -> ExecId {
    id(&format!("e-{step}"))
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_micros(1_777_622_400_000_000 + i64::try_from(second).unwrap() * 1_000_000)
}

fn uuid(what: u128, step: usize) -> Uuid {
    Uuid::from_u128(what << 64 | step as u128)
}

fn text(step: usize, length: usize) -> String {
    format!("line {step}: ünïcode\n").repeat(length / 20)
}

/// A firing at two agents, of which one runs it at once. Leaves an audit entry for ever.
pub(super) fn sets(step: usize) -> Vec<ChangeSet> {
    let exec_id = exec(step);
    let (send_id, request_id) = (SendId(uuid(1, step)), RequestId(uuid(2, step)));
    let targets = ["pc-0", "pc-1"].map(|pc| NewTarget {
        pc_id: id(pc),
        send_id,
        request_id,
        wave: 0,
        due_at: at(step),
    });
    let new = NewExecution {
        exec_id: exec_id.clone(),
        initiated_by: "operator".into(),
        initiated_at: at(step),
        order: sample::order("backup", text(step, 3000)),
        limits: Limits {
            start_within_secs: 600,
            run_within_secs: 600,
        },
        targets: targets.to_vec(),
        pace: kanade_ports::Pace::default(),
        sends: vec![Send {
            send_id,
            exec_id: exec_id.clone(),
            to: Addressee::All,
            request_id,
            wave: 0,
            due_at: at(step),
            state: SendState::Due,
        }],
    };
    let event = AuditEvent {
        event_id: Some(uuid(3, step)),
        actor: "operator".into(),
        action: "exec".into(),
        target: Some(exec_id.to_string()),
        payload: serde_json::Map::new(),
        occurred_at: at(step),
    };
    let mut firing = ChangeSet::of(Change::Fire(Box::new(new))).and(Change::Audit(event));
    firing.key = Some(IdempotencyKey {
        key: format!("key-{step}"),
        fingerprint: "same".into(),
        at: at(step),
    });
    let result_id = ResultId(uuid(4, step));
    let started = EventStarted {
        result_id,
        request_id,
        exec_id: exec_id.clone(),
        pc_id: id("pc-0"),
        started_at: at(step),
        manifest_id: id("backup"),
        version: id("1.0.0"),
    };
    let finished = ExecResult {
        result_id: Some(result_id),
        request_id,
        exec_id: Some(exec_id),
        pc_id: id("pc-0"),
        exit_code: 0,
        stdout: text(step, 50_000),
        stderr: String::new(),
        started_at: at(step),
        finished_at: at(step + 1),
        manifest_id: None,
        ended: None,
    };
    let heartbeat = Heartbeat {
        pc_id: id("pc-0"),
        at: at(step),
        agent_version: "1".into(),
        hostname: None,
        os_family: None,
    };
    let mut sets = vec![
        firing,
        ChangeSet::of(Change::RunStarted {
            event: started,
            at: at(step),
        }),
        ChangeSet::of(Change::RunFinished(Box::new(finished))),
        ChangeSet::of(Change::AgentSeen {
            heartbeat,
            at: at(step),
        }),
    ];
    if let Some(old) = step.checked_sub(FORGOTTEN_AFTER) {
        sets.push(ChangeSet::of(Change::Forget(Forget {
            executions: vec![exec(old)],
            ..Forget::default()
        })));
    }
    sets
}

/// What a caller was told about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Kept,
    NotKept,
    Unknown,
}

impl Told {
    fn of<T>(answer: Result<T, StoreError>) -> Self {
        match answer.map_err(|error| error.kind()) {
            Ok(_) => Self::Kept,
            Err(ErrorKind::Unavailable) => Self::NotKept,
            Err(ErrorKind::Indeterminate) => Self::Unknown,
            Err(kind) => panic!("a failing disk is not answered with {kind:?}"),
        }
    }
}

/// Does a step: a batch for the store, or a document for the catalog.
pub(super) async fn step(database: &Database, step: usize) -> Told {
    if is_document(step) {
        let value = Bytes::from(text(step, 500));
        let key = id(&format!("d-{step}"));
        Told::of(
            database
                .catalog()
                .put(Bucket::Jobs, &key, value, Precondition::Absent)
                .await,
        )
    } else {
        Told::of(database.store().apply(&sets(step)).await)
    }
}

fn is_document(step: usize) -> bool {
    step % 4 == 3
}

/// Does steps until one fails or all are done; what each was told.
pub(super) async fn steps_until_failure(database: &Database, count: usize) -> Vec<Told> {
    let mut told = Vec::new();
    for number in 0..count {
        told.push(step(database, number).await);
        if told[number] != Told::Kept {
            break;
        }
    }
    told
}

/// Checks that what is there is what callers were told, each step whole, and nothing else.
pub(super) async fn check(database: &Database, told: &[Told]) {
    let (store, catalog) = (database.store(), database.catalog());
    let query = AuditQuery {
        limit: MAX_LIMIT,
        ..AuditQuery::default()
    };
    let trail = store.audit(&query).await.unwrap().items;
    let fired: BTreeSet<String> = trail.into_iter().filter_map(|entry| entry.event.target).collect();
    let is_fired = |step: usize| fired.contains(exec(step).as_str());
    for (number, told) in told.iter().enumerate() {
        let kept = if is_document(number) {
            document_is_there(&*catalog, number).await
        } else {
            let forgotten = is_fired(number + FORGOTTEN_AFTER);
            execution_is_there(&*store, number, is_fired(number) && !forgotten).await;
            is_fired(number)
        };
        match told {
            Told::Kept => assert!(kept, "step {number} was answered and is gone"),
            Told::NotKept => assert!(!kept, "step {number} was said not to be kept, and is there"),
            Told::Unknown => {}
        }
    }
    let steps = told.iter().enumerate();
    let possible = steps.filter(|(_, told)| **told != Told::NotKept).count();
    assert!(fired.len() <= possible, "more is there than was done");
    sound(database);
}

async fn document_is_there(catalog: &dyn Catalog, step: usize) -> bool {
    let key = id(&format!("d-{step}"));
    let found = catalog.get(Bucket::Jobs, &key).await.unwrap();
    let versions = catalog.history(Bucket::Jobs, &key).await.unwrap();
    assert_eq!(found.as_ref(), versions.first(), "document {step}");
    if let Some(entry) = &found {
        assert_eq!(entry.value, text(step, 500), "document {step}");
    }
    found.is_some()
}

async fn execution_is_there(store: &dyn ExecutionStore, step: usize, wanted: bool) {
    let exec_id = exec(step);
    let execution = store.execution(&exec_id).await.unwrap();
    assert_eq!(execution.is_some(), wanted, "execution {step}");
    assert_eq!(
        store.order(&exec_id).await.unwrap().is_some(),
        wanted,
        "order {step}"
    );
    assert_eq!(store.sends(&exec_id).await.unwrap().len(), usize::from(wanted));
    let run = store.run(&ResultId(uuid(4, step))).await.unwrap();
    assert_eq!(run.is_some(), wanted, "run {step}");
    if let (Some(execution), Some(run)) = (execution, run) {
        assert_eq!((execution.counts.success(), execution.counts.total()), (1, 2));
        assert!(
            run.output.stdout == text(step, 50_000),
            "the output of step {step}"
        );
    }
}

/// Checks that every list holds exactly the rows that belong in it, and that nothing is left without its owner.
pub(super) fn sound(database: &Database) {
    let looked = database.engine().read(|txn| {
        agrees::<Execution>(txn)?;
        agrees::<Ordered>(txn)?;
        agrees::<TargetRecord>(txn)?;
        agrees::<Send>(txn)?;
        agrees::<Run>(txn)?;
        agrees::<Facts>(txn)?;
        agrees::<AuditRecord>(txn)?;
        agrees::<DeadLetterRecord>(txn)?;
        agrees::<KeptKey>(txn)?;
        let executions: BTreeMap<ExecId, Execution> = rows::<Execution>(txn)?
            .into_iter()
            .map(|row| (row.exec_id.clone(), row))
            .collect();
        let orders = rows::<Ordered>(txn)?.into_iter().map(|row| row.exec_id);
        assert!(orders.eq(executions.keys().cloned()));
        let sends = rows::<Send>(txn)?;
        assert!(sends.iter().all(|row| executions.contains_key(&row.exec_id)));
        let mut targets: BTreeMap<ExecId, u32> = BTreeMap::new();
        for row in rows::<TargetRecord>(txn)? {
            *targets.entry(row.exec_id).or_default() += 1;
        }
        let counted = executions
            .values()
            .map(|row| (row.exec_id.clone(), row.counts.total()));
        assert!(counted.eq(targets));
        let runs: BTreeSet<ResultId> = rows::<Run>(txn)?.into_iter().map(|row| row.result_id).collect();
        for entry in redb::ReadableTable::iter(&txn.open_table(OUTPUTS)?)? {
            let run = Uuid::from_slice(&entry?.0.value()[..16]).unwrap();
            assert!(runs.contains(&ResultId(run)), "an output without its run");
        }
        Ok(())
    });
    looked.unwrap();
}

fn rows<R: Record>(txn: &ReadTransaction) -> Result<Vec<R>, Fault> {
    let collection = Reading::<R>::of(txn)?;
    let walk = collection.rows(&Key::new(), None, None)?;
    walk.map(|found| Ok(found?.row)).collect()
}

fn agrees<R: Record>(txn: &ReadTransaction) -> Result<(), Fault> {
    let mut wanted = BTreeSet::new();
    for row in rows::<R>(txn)? {
        for place in row.places() {
            assert!(
                wanted.insert(place.key(&row.key()).bytes().to_vec()),
                "{}",
                R::NAME
            );
        }
    }
    let mut found = BTreeSet::new();
    if let Some(lists) = R::LISTS {
        for entry in redb::ReadableTable::iter(&txn.open_table(lists)?)? {
            found.insert(entry?.0.value().to_vec());
        }
    }
    assert!(found == wanted, "the lists of {} and its rows", R::NAME);
    Ok(())
}
