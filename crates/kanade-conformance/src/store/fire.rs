//! Firing: what is recorded with an execution, what it owes the bus, and that it happens once.

use kanade_model::{ExecutionStatus, RunAs, Shell, Staleness, TargetState};
use kanade_ports::{
    Addressee, AuditQuery, ChangeSet, ExecutionQuery, IdempotencyKey, KeyRecord, Limits, Outcome, RunQuery,
    SendState, TargetQuery,
};
use serde_json::json;

use super::{
    walk::{due_sends, executions, targets},
    world::{Firing, World, finished, fire, id, kill, numbered, request, run, secs, send, sent},
};
use crate::StoreFactory;

pub async fn a_new_store_answers_every_question_with_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let store = &world.store;
    let (exec, pc, job) = (id("nobody"), id("pc-1"), id("backup"));
    assert_eq!(store.execution(&exec).await.unwrap(), None, "execution");
    assert_eq!(store.order(&exec).await.unwrap(), None, "order");
    assert_eq!(store.target(&exec, &pc).await.unwrap(), None, "target");
    assert_eq!(store.run(&run("nobody", "pc-1")).await.unwrap(), None, "run");
    assert_eq!(store.agent(&pc).await.unwrap(), None, "agent");
    assert_eq!(store.key("k").await.unwrap(), None, "key");
    assert!(store.sends(&exec).await.unwrap().is_empty(), "sends");
    assert!(store.in_flight(&job).await.unwrap().is_empty(), "in flight");
    assert!(store.live_counts().await.unwrap().is_empty(), "live counts");
    assert!(store.open_kills(9).await.unwrap().is_empty(), "open kills");
    assert!(store.stale(secs(9), 9).await.unwrap().is_empty(), "stale");
    assert!(
        store.unfinished(&pc, secs(9), 9).await.unwrap().is_empty(),
        "unfinished"
    );
    assert!(
        store.unanswered_kills(&pc, secs(0), 9).await.unwrap().is_empty(),
        "unanswered kills"
    );
    assert!(
        store.overdue_targets(secs(9), 9).await.unwrap().is_empty(),
        "overdue targets"
    );
    assert!(
        store.overdue_runs(secs(9), 9).await.unwrap().is_empty(),
        "overdue runs"
    );
    assert!(store.due_sends(None, 9).await.unwrap().is_empty(), "due sends");
    assert!(store.facts_of(&pc).await.unwrap().is_empty(), "facts of an agent");

    let query = ExecutionQuery {
        limit: 9,
        ..ExecutionQuery::default()
    };
    let page = store.executions(&query).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "executions");
    let query = TargetQuery {
        exec_id: exec,
        state: None,
        limit: 9,
        after: None,
    };
    let page = store.targets(&query).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "targets");
    let query = RunQuery {
        limit: 9,
        ..RunQuery::default()
    };
    let page = store.runs(&query).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "runs");
    let page = store.agents(None, 9).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "agents");
    let page = store.facts_by(&job, None, 9).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "facts of a job");
    let query = AuditQuery {
        limit: 9,
        ..AuditQuery::default()
    };
    let page = store.audit(&query).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "audit");
    let page = store.dead_letters(None, 9).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None), "dead letters");
}

pub async fn a_fired_execution_is_there_with_all_that_belongs_to_it<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut firing = Firing::of("e-1").at(secs(5)).pcs(["pc-2", "pc-1"]);
    firing.new.initiated_by = "alice".into();
    firing.new.limits = Limits {
        start_within_secs: 70,
        run_within_secs: u64::MAX,
    };
    firing.new.order.shell = Shell::Pwsh;
    firing.new.order.run_as = RunAs::SystemGui;
    firing.new.order.cwd = Some("C:\\".into());
    firing.new.order.deadline_at = Some(secs(99));
    firing.new.order.jitter_secs = None;
    firing.new.order.staleness = Staleness::Strict {
        max_cache_age: "5m".parse().unwrap(),
    };
    firing.new.order.inventory = Some(serde_json::from_value(json!({"summary": {"a": [1]}})).unwrap());
    firing.new.order.description = Some("nightly".into());
    firing.new.order.plan = serde_json::from_value(json!({
        "target": {"groups": ["servers"]},
        "rollout": {"strategy": "wave", "waves": [{"group": "servers", "delay": "1h 5m"}]},
    }))
    .unwrap();
    let new = firing.new.clone();
    world.all([firing.change()]).await;

    let execution = world.execution("e-1").await;
    assert_eq!(execution.job_id, new.order.job_id, "job");
    assert_eq!(execution.version, new.order.version, "version");
    assert_eq!(execution.initiated_by, "alice", "who fired it");
    assert_eq!(execution.initiated_at, secs(5), "when it was fired");
    assert_eq!(execution.limits, new.limits, "limits, also the largest");
    assert_eq!(execution.last_due_at, secs(5), "when its last send is due");
    assert_eq!(execution.status, ExecutionStatus::Pending, "nothing has started");
    assert_eq!(execution.counts.of(TargetState::Waiting), 2, "both targets wait");
    assert_eq!(execution.counts.total(), 2, "and there are no others");
    assert_eq!(
        (execution.kill, execution.expired_at, execution.finished_at),
        (None, None, None)
    );
    assert!(!execution.started, "nothing has started");

    let order = world.store.order(&new.exec_id).await.unwrap();
    assert_eq!(order, Some(new.order), "the order, every field");
    let mut wanted = new.sends;
    wanted.sort_by_key(|send| (send.due_at, send.send_id));
    assert_eq!(
        world.store.sends(&new.exec_id).await.unwrap(),
        wanted,
        "the sends"
    );
    let found = targets(&*world.store, &new.exec_id, None).await;
    for (target, pc) in found.iter().zip(["pc-1", "pc-2"]) {
        assert_eq!(target.pc_id.as_str(), pc, "targets stand by pc id");
        assert_eq!(target.send_id, Some(send("e-1", pc)), "the send that reaches it");
        assert_eq!(target.request_id, request("e-1", pc), "the request it gets");
        assert_eq!(
            (target.wave, target.due_at),
            (0, secs(5)),
            "its wave and due time"
        );
        assert_eq!(target.state, TargetState::Waiting);
        assert_eq!(target.check_at, Some(secs(75)), "when it expires");
    }
    assert_eq!(found.len(), 2, "both targets");
    world.snapshot().await;
}

pub async fn firing_again_is_a_duplicate_and_changes_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([fire("e-1", &["pc-1"]), sent("e-1", &["pc-1"])]).await;
    let before = world.snapshot().await;
    assert_eq!(
        world.change(fire("e-1", &["pc-1"])).await,
        Outcome::Duplicate,
        "the same firing"
    );
    let other = Firing::of("e-1").job("other").pcs(["pc-2", "pc-3"]).change();
    assert_eq!(
        world.change(other).await,
        Outcome::Duplicate,
        "another one with the same id"
    );
    assert_eq!(world.snapshot().await, before, "nothing has changed");
}

pub async fn the_same_firing_twice_in_one_batch_happens_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let outcomes = world
        .apply([fire("e-1", &["pc-1"]), fire("e-1", &["pc-1", "pc-2"])].map(ChangeSet::of))
        .await;
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::Duplicate],
        "the first one counts"
    );
    assert_eq!(
        world.execution("e-1").await.counts.total(),
        1,
        "with its own targets"
    );
    world.snapshot().await;
}

pub async fn a_send_is_owed_until_it_went_out<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1", "pc-2"]), fire("e-2", &["pc-1"])])
        .await;
    assert_eq!(due_sends(&*world.store).await.len(), 3, "all three are owed");
    world.all([sent("e-1", &["pc-1"])]).await;
    let owed: Vec<_> = due_sends(&*world.store)
        .await
        .into_iter()
        .map(|send| send.send_id)
        .collect();
    let mut wanted = vec![send("e-1", "pc-2"), send("e-2", "pc-1")];
    wanted.sort();
    assert_eq!(owed, wanted, "one less is owed");
    let states: Vec<_> = world.store.sends(&id("e-1")).await.unwrap();
    let state = |to| {
        states
            .iter()
            .find(|sent| sent.send_id == send("e-1", to))
            .unwrap()
            .state
    };
    assert_eq!(state("pc-1"), SendState::Sent, "went out");
    assert_eq!(state("pc-2"), SendState::Due, "did not");

    let before = world.snapshot().await;
    world.all([sent("e-1", &["pc-1"])]).await;
    assert_eq!(world.snapshot().await, before, "hearing it twice changes nothing");
    assert_eq!(
        world.change(sent("e-9", &["pc-1"])).await,
        Outcome::Unknown,
        "of an unknown execution"
    );
    world.all([sent("e-1", &["nobody"])]).await;
    assert_eq!(
        world.snapshot().await,
        before,
        "a send that is not there is no matter"
    );
}

pub async fn sends_are_handed_out_by_due_time_in_pages<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let later = Firing::of("e-1")
        .at(secs(50))
        .pcs(["pc-1", "pc-2", "pc-3", "pc-4"]);
    let waves = Firing::of("e-2")
        .pcs(["pc-1"])
        .next_wave()
        .due(secs(90))
        .pcs(["pc-2"]);
    let waves = waves.due(secs(-7)).pcs(["pc-3"]);
    world.all([later.change(), waves.change()]).await;
    let owed = due_sends(&*world.store).await;
    let times: Vec<_> = owed.iter().map(|send| send.due_at).collect();
    let wanted: Vec<_> = [-7, 0, 50, 50, 50, 50, 90].into_iter().map(secs).collect();
    assert_eq!(times, wanted, "whatever their due time, the earliest first");
    let first = world.store.due_sends(None, 2).await.unwrap();
    assert_eq!(first, owed[..2], "as many as asked for");
    assert_eq!(
        world.execution("e-2").await.last_due_at,
        secs(90),
        "the last due time counts"
    );
    assert_eq!(world.target("e-2", "pc-2").await.wave, 1, "the wave of its send");
    assert_eq!(
        world.target("e-2", "pc-2").await.due_at,
        secs(90),
        "the due time of its send"
    );
    world.snapshot().await;
}

pub async fn one_send_may_reach_every_target_or_none_that_is_known<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let nobody = Firing::of("e-1").everybody::<&str>([]);
    world
        .all([
            nobody.change(),
            Firing::of("e-2").everybody(["pc-1", "pc-2"]).change(),
        ])
        .await;
    let empty = world.execution("e-1").await;
    assert_eq!(
        (empty.counts.total(), empty.status),
        (0, ExecutionStatus::Pending),
        "nobody is known yet"
    );
    let sends = world.store.sends(&id("e-1")).await.unwrap();
    assert_eq!(sends.len(), 1, "it owes one send all the same");
    assert_eq!(sends[0].to, Addressee::All, "to everybody");
    for pc in ["pc-1", "pc-2"] {
        assert_eq!(
            world.target("e-2", pc).await.send_id,
            Some(send("e-2", "all")),
            "both by one send"
        );
    }
    world.snapshot().await;
}

pub async fn ten_thousand_targets_are_fired_listed_and_killed<F: StoreFactory>() {
    const TARGETS: usize = 10_000;
    let world = World::<F>::new().await;
    let pcs: Vec<_> = (0..TARGETS).map(|number| numbered("pc", number)).collect();
    world.all([Firing::of("e-1").pcs(&pcs).change()]).await;
    assert_eq!(
        world.execution("e-1").await.counts.of(TargetState::Waiting),
        10_000,
        "all of them wait"
    );

    let mut query = TargetQuery {
        exec_id: id("e-1"),
        state: None,
        limit: 1000,
        after: None,
    };
    let mut found = Vec::new();
    loop {
        let page = world.store.targets(&query).await.unwrap();
        found.extend(page.items.into_iter().map(|target| target.pc_id.to_string()));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, pcs, "every target, by pc id");
    assert_eq!(
        world.store.due_sends(None, TARGETS + 1).await.unwrap().len(),
        TARGETS,
        "all are owed"
    );

    let out: Vec<_> = pcs[..10].iter().map(String::as_str).collect();
    world
        .all([sent("e-1", &out), finished("e-1", &pcs[0], 0), kill("e-1")])
        .await;
    let counts = world.execution("e-1").await.counts;
    assert_eq!(
        counts.of(TargetState::Withdrawn),
        9_990,
        "what had not gone out is withdrawn"
    );
    assert_eq!(counts.of(TargetState::Waiting), 9, "what had is waited for");
    assert_eq!(counts.of(TargetState::Succeeded), 1, "what had ended stays");
    assert!(
        world.store.due_sends(None, 9).await.unwrap().is_empty(),
        "nothing more goes out"
    );
}

pub async fn an_idempotency_key_fires_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let keyed = |exec: &str, key: &str, fingerprint: &str| ChangeSet {
        key: Some(IdempotencyKey {
            key: key.into(),
            fingerprint: fingerprint.into(),
            at: secs(7),
        }),
        ..Firing::of(exec).pcs(["pc-1"]).set()
    };
    assert_eq!(world.apply([keyed("e-1", "k", "f")]).await, [Outcome::Applied]);
    let record = KeyRecord {
        fingerprint: "f".into(),
        exec_id: id("e-1"),
        at: secs(7),
    };
    assert_eq!(
        world.store.key("k").await.unwrap(),
        Some(record.clone()),
        "what the key led to"
    );

    let again = keyed("e-2", "k", "other").and(super::world::audit("again"));
    let outcomes = world
        .apply([again, keyed("e-3", "K", "f"), keyed("e-4", "", "")])
        .await;
    assert_eq!(
        outcomes,
        [Outcome::Duplicate, Outcome::Applied, Outcome::Applied],
        "keys differ by any letter"
    );
    assert_eq!(
        world.store.key("k").await.unwrap(),
        Some(record),
        "the first request counts"
    );
    let found = executions(&*world.store, &ExecutionQuery::default()).await;
    assert_eq!(found.len(), 3, "one execution for each key: {found:?}");
    assert!(
        world.snapshot().await.audit.is_empty(),
        "a duplicate leaves no audit entry"
    );

    let outcomes = world.apply([keyed("e-1", "fresh", "f")]).await;
    assert_eq!(outcomes, [Outcome::Duplicate], "the execution is there already");
    assert_eq!(
        world.store.key("fresh").await.unwrap(),
        None,
        "so this key led to nothing"
    );
}

pub async fn a_key_that_comes_twice_in_one_batch_fires_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let key = IdempotencyKey {
        key: "k".into(),
        fingerprint: "f".into(),
        at: secs(7),
    };
    let sets = ["e-1", "e-2"].map(|exec| ChangeSet {
        key: Some(key.clone()),
        ..Firing::of(exec).set()
    });
    assert_eq!(
        world.apply(sets).await,
        [Outcome::Applied, Outcome::Duplicate],
        "the first one fires"
    );
    let found = world.store.key("k").await.unwrap().map(|record| record.exec_id);
    assert_eq!(found, Some(id("e-1")), "and is what the key led to");
    assert_eq!(
        world.store.execution(&id("e-2")).await.unwrap(),
        None,
        "the second does not fire"
    );
}
