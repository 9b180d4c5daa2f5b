//! Values at their edges: texts of any script and none at all, the first and the last moment.

use kanade_model::{EventSkipped, ExecId, ExecResult, JobId, PcId, SkipReason, TargetState, Timestamp};
use kanade_ports::{Change, ChangeSet, ExecutionQuery, IdempotencyKey, Outcome, RunQuery, TextFilter};
use serde_json::json;

use super::{
    walk::{executions, runs},
    world::{
        Firing, World, ad_hoc, audit_event, facts, finished, fire, found, heartbeat, id, kill, letter,
        recorded, run, secs, started,
    },
};
use crate::StoreFactory;

/// Ids that an existing fleet may hold, each of which is its own.
const NAMES: [&str; 12] = [
    "a",
    "A",
    "ä",
    "a\u{308}",
    "漢字",
    "🦀",
    "a/b=c",
    "a.b",
    "a%",
    "a_",
    "o'brien\"\\",
    "null",
];

pub async fn ids_of_any_script_are_told_apart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for name in NAMES {
        world
            .all([
                Firing::of(name).job(name).pcs(NAMES).change(),
                started(name, name),
                finished(name, name, 0),
            ])
            .await;
        world
            .all([
                heartbeat(name, secs(1)),
                found(facts(name, name, secs(1), json!({ name: name }))),
            ])
            .await;
    }
    for name in NAMES {
        assert_eq!(
            world.execution(name).await.exec_id,
            id::<ExecId>(name),
            "execution {name}"
        );
        assert_eq!(
            world.execution(name).await.counts.total(),
            12,
            "the targets of {name}"
        );
        assert_eq!(
            world.state(name, name).await,
            TargetState::Succeeded,
            "{name} on itself"
        );
        let agent = world.store.agent(&id(name)).await.unwrap();
        assert_eq!(
            agent.map(|agent| agent.pc_id),
            Some(id::<PcId>(name)),
            "agent {name}"
        );
        let of = world.store.facts_of(&id(name)).await.unwrap();
        assert_eq!(of.len(), 1, "the facts about {name}");
        assert_eq!(
            (&of[0].job_id, &of[0].facts),
            (&id::<JobId>(name), &json!({ name: name }))
        );
        let query = ExecutionQuery {
            job_id: Some(id(name)),
            ..ExecutionQuery::default()
        };
        let of_job = executions(&*world.store, &query).await;
        assert_eq!(of_job.len(), 1, "the executions of job {name}");
        let query = RunQuery {
            pc_id: Some(TextFilter::Exact(name.into())),
            ..RunQuery::default()
        };
        assert_eq!(runs(&*world.store, &query).await.len(), 1, "the runs on {name}");
    }
    world.snapshot().await;
}

pub async fn texts_come_back_as_they_went_in<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (number, text) in ["", " ", "ü\0\r\n", "\u{ffff}🦀", "'\"\\%_;--", "null"]
        .into_iter()
        .enumerate()
    {
        let exec = format!("e-{number}");
        let mut firing = Firing::of(&exec).pcs(["pc-1", "pc-2"]);
        firing.new.initiated_by = text.into();
        firing.new.order.script = text.into();
        firing.new.order.cwd = Some(text.into());
        firing.new.order.description = Some(text.into());
        let new = firing.new.clone();
        let set = ChangeSet {
            key: Some(IdempotencyKey {
                key: format!("{number}{text}"),
                fingerprint: text.into(),
                at: secs(0),
            }),
            ..firing.set()
        };
        assert_eq!(world.apply([set]).await, [Outcome::Applied], "{text:?}");
        assert_eq!(world.execution(&exec).await.initiated_by, text, "who fired it");
        assert_eq!(
            world.store.order(&id(&exec)).await.unwrap(),
            Some(new.order),
            "{text:?} in an order"
        );
        let key = world.store.key(&format!("{number}{text}")).await.unwrap();
        assert_eq!(
            key.map(|record| record.fingerprint).as_deref(),
            Some(text),
            "the fingerprint of a key"
        );

        let skip = EventSkipped {
            request_id: super::world::request(&exec, "pc-1"),
            exec_id: id(&exec),
            pc_id: id("pc-1"),
            at: secs(1),
            manifest_id: id("backup"),
            version: id("1.0.0"),
            reason: SkipReason::Revoked,
            detail: text.into(),
        };
        let killed = Change::Kill {
            exec_id: id(&exec),
            by: text.into(),
            at: secs(2),
        };
        world.all([Change::RunSkipped(skip), killed]).await;
        assert_eq!(
            world.target(&exec, "pc-1").await.detail.as_deref(),
            Some(text),
            "why it was refused"
        );
        assert_eq!(
            world.execution(&exec).await.kill.unwrap().by,
            text,
            "who killed it"
        );

        let mut event = audit_event(&exec, secs(0));
        event.actor = text.into();
        event.action = text.into();
        event.target = Some(text.into());
        let mut letter = letter(text, secs(0));
        letter.reason = text.into();
        world
            .all([Change::Audit(event.clone()), Change::DeadLetter(letter.clone())])
            .await;
        let after = world.snapshot().await;
        assert_eq!(after.audit[0].event, event, "{text:?} in an audit entry");
        assert_eq!(after.dead_letters[0].letter, letter, "{text:?} in a dead letter");
    }
}

pub async fn the_longest_ids_are_kept<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let long = |letter: &str| letter.repeat(256 / letter.len());
    for (one, other) in [("x", "y"), ("ä", "ö"), ("🦀", "🐙")] {
        // Alike up to the last letter.
        let (exec, pc) = (long(one), long(other));
        let twin = format!("{}{other}", &exec[..exec.len() - one.len()]);
        world
            .all([fire(&exec, &[&pc]), fire(&twin, &[&pc]), finished(&exec, &pc, 0)])
            .await;
        assert_eq!(world.state(&exec, &pc).await, TargetState::Succeeded, "{one}");
        assert_eq!(
            world.state(&twin, &pc).await,
            TargetState::Waiting,
            "{one}: the one beside it"
        );
    }
    world.snapshot().await;
}

pub async fn the_first_and_the_last_moment_are_kept_and_sorted<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let moments = [i64::MIN, -1, 0, 1, i64::MAX].map(Timestamp::from_micros);
    for (number, at) in moments.into_iter().enumerate() {
        let exec = format!("e-{number}");
        world
            .all([Firing::of(&exec).at(at).pcs(["pc-1", "pc-2"]).change()])
            .await;
        let said = ExecResult {
            started_at: at,
            finished_at: at,
            ..ad_hoc(&exec, "pc-1")
        };
        world
            .all([recorded(said), Change::DeadLetter(letter("x", at))])
            .await;
        world
            .all([
                Change::Audit(audit_event(&exec, at)),
                found(facts("pc-1", &exec, at, json!(null))),
            ])
            .await;
        world.all([heartbeat(&format!("pc-{number}"), at)]).await;
        assert_eq!(world.execution(&exec).await.initiated_at, at, "when it was fired");
        assert_eq!(
            world.run(run(&exec, "pc-1")).await.finished_at,
            Some(at),
            "when a run ended"
        );
    }
    let fired: Vec<_> = executions(&*world.store, &ExecutionQuery::default()).await;
    let fired: Vec<_> = fired.iter().map(|execution| execution.initiated_at).collect();
    let mut wanted = moments;
    wanted.reverse();
    assert_eq!(fired, wanted, "executions, newest first");
    let ran: Vec<_> = runs(&*world.store, &RunQuery::default()).await;
    assert_eq!(
        ran.iter().map(|record| record.run.started_at).collect::<Vec<_>>(),
        wanted,
        "runs, newest first"
    );
    let owed: Vec<_> = world.store.due_sends(None, 99).await.unwrap();
    assert!(
        owed.is_sorted_by_key(|send| send.due_at) && owed.len() == 10,
        "sends, the earliest first: {owed:?}"
    );
    world.all([kill("e-0"), kill("e-4")]).await;
    let since = RunQuery {
        since: Some(moments[2]),
        ..RunQuery::default()
    };
    assert_eq!(runs(&*world.store, &since).await.len(), 3, "since 1970, with it");
    world.snapshot().await;
}
