use std::{sync::atomic::Ordering, time::Duration};

use futures::FutureExt;
use kanade_model::{ExecId, ResultId, Subject, TargetState};
use kanade_ports::{Clock, ExecutionStore, MessageId, PubSub, RunQuery};
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, encode, id, next_command, operator, result};

#[tokio::test]
async fn a_result_is_acknowledged_only_once_it_is_recorded() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world
        .until("the send is recorded", async || {
            world.store.due_sends(None, 9).await.unwrap().is_empty()
        })
        .await;
    world.store.full.store(true, Ordering::SeqCst);
    let result = result(&command, "pc-1", world.clock.now(), 0, "out", "");
    let bus = world.bus.clone();
    let mut kept = tokio::spawn(async move {
        let subject = Subject::result(result.request_id);
        bus.publish_durable(&subject, encode(&result), MessageId("r".into()))
            .await
    });
    // It comes again and again, and is never acknowledged.
    for _ in 0..5 {
        world.clock.advance(std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(
        (&mut kept).now_or_never().is_none(),
        "not acknowledged while the disk is full"
    );
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-1").await,
        Some(TargetState::Waiting)
    );
    world.store.full.store(false, Ordering::SeqCst);
    world
        .advance_until(std::time::Duration::from_secs(1), "it is recorded", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Succeeded)
        })
        .await;
    kept.await.unwrap().unwrap();
}

#[tokio::test]
async fn no_run_is_given_up_while_its_result_waits_although_later_ones_are_recorded() {
    let (world, fired, command) = World::with_a_run().await;
    world
        .until("it runs", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Running)
        })
        .await;
    *world.store.refuses.lock().unwrap() = Some(id("pc-1"));
    // Others come in while its commit goes on.
    world.store.slow.store(5, Ordering::SeqCst);
    let mut kept = tokio::task::JoinSet::new();
    let mut say = |pc: &str, exec: Option<ExecId>| {
        let mut result = result(&command, pc, world.clock.now(), 0, "out", "");
        (result.exec_id, result.result_id) = (exec, Some(ResultId(Uuid::new_v4())));
        let bus = world.bus.clone();
        kept.spawn(async move {
            let id = MessageId(Uuid::new_v4().to_string());
            let subject = Subject::result(result.request_id);
            bus.publish_durable(&subject, encode(&result), id).await
        });
    };
    say("pc-1", Some(fired.exec_id.clone()));
    // Longer than a run may take.
    let until = world.clock.now().plus(Duration::from_secs(150));
    while world.clock.now() < until {
        say("pc-2", None);
        let before = world.store.commits.load(Ordering::SeqCst);
        world
            .advance_until(Duration::from_millis(200), "the store is asked", async || {
                world.store.commits.load(Ordering::SeqCst) > before
            })
            .await;
    }
    let state = world.target_state(&fired.exec_id, "pc-1").await;
    assert_eq!(state, Some(TargetState::Running), "its result is on its way");
    let recorded = world
        .store
        .runs(&RunQuery {
            limit: 999,
            ..RunQuery::default()
        })
        .await;
    assert!(
        recorded.unwrap().items.len() > 1,
        "others were recorded meanwhile"
    );
    *world.store.refuses.lock().unwrap() = None;
    world
        .advance_until(Duration::from_secs(1), "it is recorded", async || {
            world.target_state(&fired.exec_id, "pc-1").await == Some(TargetState::Succeeded)
        })
        .await;
    while let Some(kept) = kept.join_next().await {
        kept.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_set_aside_with_the_reason() {
    let world = World::new().await;
    for (subject, payload) in [
        ("results.x", "not json"),
        ("results.y", r#"{"pc_id": "pc-1"}"#),
        ("events.started.e.p", "{}"),
        ("events.unheard.of", "{}"),
    ] {
        world.durable(&subject.parse().unwrap(), payload.into()).await;
    }
    let letters = world.store.dead_letters(None, 10).await.unwrap().items;
    let told = |subject: &str| {
        let letter = letters
            .iter()
            .find(|record| record.letter.subject.as_str() == subject)
            .unwrap();
        letter.letter.reason.clone()
    };
    assert!(told("results.x").contains("line 1"), "{}", told("results.x"));
    assert!(told("results.y").contains("request_id"), "{}", told("results.y"));
    assert!(told("events.started.e.p").contains("result_id"));
    assert!(told("events.unheard.of").contains("nobody knows"));
}

#[tokio::test]
async fn an_inventory_job_leaves_facts_with_the_hints_of_that_time() {
    let mut world = World::new().await;
    let manifest = serde_json::from_value(json!({
        "id": "hw", "version": "1", "description": "hardware",
        "execute": {"shell": "sh", "script": "x", "timeout": "5s"},
        "inventory": {"display": [{"field": "ram", "label": "RAM"}]}
    }))
    .unwrap();
    world
        .services
        .jobs
        .put(&manifest, kanade_ports::Precondition::Any, &operator())
        .await
        .unwrap();
    world.fire("hw", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    let mut changed = manifest.clone();
    changed.inventory = None;
    world
        .services
        .jobs
        .put(&changed, kanade_ports::Precondition::Any, &operator())
        .await
        .unwrap();
    world.finished(&command, "pc-1", 0, r#"{"ram": 8}"#, "").await;
    let facts = world.store.facts_of(&id("pc-1")).await.unwrap();
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0].facts, json!({"ram": 8}));
    assert_eq!(
        (
            facts[0].hints.display[0].label.as_str(),
            facts[0].description.as_deref()
        ),
        ("RAM", Some("hardware"))
    );

    world
        .services
        .jobs
        .put(&manifest, kanade_ports::Precondition::Any, &operator())
        .await
        .unwrap();
    world.fire("hw", &["pc-2"]).await;
    let command = next_command(&mut world.commands).await;
    world.finished(&command, "pc-2", 0, "no json", "").await;
    assert!(world.store.facts_of(&id("pc-2")).await.unwrap().is_empty());
    world.fire("hw", &["pc-3"]).await;
    let command = next_command(&mut world.commands).await;
    world.finished(&command, "pc-3", 1, r#"{"ram": 8}"#, "").await;
    assert!(
        world.store.facts_of(&id("pc-3")).await.unwrap().is_empty(),
        "a failed run says nothing"
    );
}

#[tokio::test]
async fn who_watches_sees_runs_and_executions_change() {
    use kanade_model::api::LiveEvent;
    let mut world = World::new().await;
    world.job("backup").await;
    let mut live = world.services.live.subscribe();
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    let seen = std::sync::Mutex::new(Vec::new());
    let live = std::cell::RefCell::new(&mut live);
    world
        .advance_until(std::time::Duration::from_millis(100), "the end is told", async || {
            while let Ok(event) = live.borrow_mut().try_recv() {
                seen.lock().unwrap().push(event);
            }
            seen.lock().unwrap().iter().any(|event| {
                matches!(event, LiveEvent::Execution(execution) if execution.exec_id == fired.exec_id && execution.success_count == 1)
            })
        })
        .await;
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.iter().any(|event| matches!(
            event,
            LiveEvent::Run {
                exit_code: Some(0),
                ..
            }
        )),
        "{seen:?}"
    );
}
