//! Queries for audit entries: each filter, all of them together, and how much work a page may be.

use kanade_model::AuditEvent;
use kanade_ports::{AuditQuery, Change, ChangeSet, SCAN_LIMIT};
use serde_json::json;

use super::{
    queries::like,
    walk::audit,
    world::{World, audit_event, numbered, secs},
};
use crate::StoreFactory;

/// Entries a-0, a-1, …, the newest last.
async fn some_entries<F: StoreFactory>() -> World<F> {
    let world = World::<F>::new().await;
    let attributes = [
        ("operator", "exec", Some("backup"), json!({"version": "1.0.0"}), 5),
        (
            "operator",
            "job_upsert",
            Some("backup"),
            json!({"version": "1.0.1"}),
            6,
        ),
        ("scheduler", "exec", Some("bäckup"), json!({}), 4),
        (
            "operator",
            "job_delete",
            None,
            json!({"sub": "alice", "source": "cli"}),
            7,
        ),
        ("scheduler", "schedule_upsert", Some(""), json!({"n": 1}), 7),
    ];
    for (number, (actor, action, target, payload, at)) in attributes.into_iter().enumerate() {
        let event = AuditEvent {
            actor: actor.into(),
            action: action.into(),
            target: target.map(ToOwned::to_owned),
            payload: serde_json::from_value(payload).unwrap(),
            ..audit_event(&numbered("a", number), secs(at))
        };
        world.all([Change::Audit(event)]).await;
    }
    world
}

pub async fn audit_filters_work_alone_and_together<F: StoreFactory>() {
    let world = some_entries::<F>().await;
    let all = audit(&*world.store, &AuditQuery::default()).await;
    let of_number = |number: usize| all[all.len() - 1 - number].clone();
    let actor = |actor: &str| AuditQuery {
        actor: Some(actor.into()),
        ..AuditQuery::default()
    };
    let target = |pattern| AuditQuery {
        target: like(pattern),
        ..AuditQuery::default()
    };
    let action = |pattern| AuditQuery {
        action: like(pattern),
        ..AuditQuery::default()
    };
    let payload = |pattern| AuditQuery {
        payload: like(pattern),
        ..AuditQuery::default()
    };
    let since = |at| AuditQuery {
        since: Some(secs(at)),
        ..AuditQuery::default()
    };
    for (what, query, wanted) in [
        ("no filter", AuditQuery::default(), vec![4, 3, 2, 1, 0]),
        ("by an actor", actor("scheduler"), vec![4, 2]),
        ("by nobody", actor("sched"), vec![]),
        ("actions like this", action("^job_"), vec![3, 1]),
        ("exactly this action", action("^exec$"), vec![2, 0]),
        ("on targets like this", target("b.ckup"), vec![2, 1, 0]),
        ("on no target", target("^$"), vec![4, 3]),
        ("with details like this", payload(r#""sub":"ali"#), vec![3]),
        (
            "since a moment, with it, in no order of time",
            since(6),
            vec![4, 3, 1],
        ),
        (
            "all together",
            AuditQuery {
                actor: Some("operator".into()),
                action: like("_"),
                target: like("back"),
                payload: like("1\\.0\\.1"),
                since: Some(secs(6)),
                ..AuditQuery::default()
            },
            vec![1],
        ),
    ] {
        let wanted: Vec<_> = wanted.into_iter().map(of_number).collect();
        assert_eq!(audit(&*world.store, &query).await, wanted, "{what}");
    }
}

pub async fn a_text_filter_looks_at_a_bounded_number_of_audit_entries<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let needle = AuditEvent {
        actor: "scheduler".into(),
        ..audit_event("needle", secs(0))
    };
    world.all([Change::Audit(needle)]).await;
    for chunk in 0..5 {
        let sets = (chunk * 2000..chunk * 2000 + 2000)
            .map(|number| ChangeSet::of(Change::Audit(audit_event(&numbered("hay", number), secs(1)))));
        world.apply(sets).await;
    }
    let mut query = AuditQuery {
        target: like("needle"),
        limit: 5,
        ..AuditQuery::default()
    };
    let first = world.store.audit(&query).await.unwrap();
    assert!(first.items.is_empty(), "the newest {SCAN_LIMIT} hold no match");
    query.after = Some(
        first
            .next
            .expect("a page that ran out of budget says where to go on"),
    );
    let second = world.store.audit(&query).await.unwrap();
    assert_eq!(second.items.len(), 1, "what comes after them does");
    let by_actor = AuditQuery {
        actor: Some("scheduler".into()),
        limit: 5,
        ..AuditQuery::default()
    };
    let page = world.store.audit(&by_actor).await.unwrap();
    assert_eq!(page.items.len(), 1, "an actor is found by an index");
}
