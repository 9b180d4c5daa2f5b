use std::{sync::atomic::Ordering, time::Duration};

use kanade_core::{Error, Repeatable};
use kanade_model::{FanoutPlan, ScriptStatus, Subject, TargetState, Version};
use kanade_ports::{Bucket, CatalogReader, Clock, ExecutionStore, Precondition, PubSub, SendState};
use serde_json::json;

use crate::world::{World, at, come, encode, id, manifest, next_command, operator};

fn group_plan(group: &str) -> FanoutPlan {
    let mut plan = FanoutPlan::default();
    plan.target.groups.push(id(group));
    plan
}

#[tokio::test]
async fn a_fire_is_recorded_and_pinned_before_its_command_is_on_the_bus() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    assert_eq!(
        (fired.target_count, fired.subjects.as_slice()),
        (1, &["commands.pc.pc-1".to_owned()][..])
    );
    let command = next_command(&mut world.commands).await;
    assert_eq!(command.exec_id.as_ref(), Some(&fired.exec_id));
    let execution = world.execution(&fired.exec_id).await;
    assert_eq!(
        (
            execution.counts.total(),
            execution.counts.of(TargetState::Waiting)
        ),
        (1, 1)
    );
    let pinned = world
        .catalog
        .get(Bucket::ScriptCurrent, &id("backup"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pinned.value, "1.0.0");
    world
        .until("the send is recorded as sent", async || {
            world.store.sends(&fired.exec_id).await.unwrap()[0].state == SendState::Sent
        })
        .await;
    assert_eq!(world.audit_actions().await, ["job_upsert", "exec"]);
}

#[tokio::test]
async fn a_new_version_is_pinned_by_the_next_fire() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.fire("backup", &["pc-1"]).await;
    world
        .services
        .jobs
        .put(&manifest("backup", "2.0.0"), Precondition::Any, &operator())
        .await
        .unwrap();
    come(&mut world.commands);
    world.fire("backup", &["pc-1"]).await;
    assert_eq!(
        next_command(&mut world.commands).await.version,
        id::<Version>("2.0.0")
    );
    assert_eq!(
        world
            .catalog
            .get(Bucket::ScriptCurrent, &id("backup"))
            .await
            .unwrap()
            .unwrap()
            .value,
        "2.0.0"
    );
}

#[tokio::test]
async fn a_group_is_sent_to_agent_by_agent_and_all_on_one_subject() {
    let world = World::new().await;
    world.job("backup").await;
    for pc in ["pc-1", "pc-2", "pc-3"] {
        world.agent(pc).await;
    }
    for pc in ["pc-1", "pc-3"] {
        world
            .services
            .agents
            .join(&id(pc), &id("lab"), &operator())
            .await
            .unwrap();
    }
    let fire = async |plan| {
        world
            .services
            .fires
            .fire(&id("backup"), &plan, &operator(), None)
            .await
            .unwrap()
    };
    let fired = fire(group_plan("lab")).await;
    assert_eq!(fired.subjects, ["commands.pc.pc-1", "commands.pc.pc-3"]);
    let mut everybody = FanoutPlan::default();
    everybody.target.all = true;
    let fired = fire(everybody).await;
    assert_eq!(fired.subjects, ["commands.all"]);
    assert_eq!(fired.target_count, 4, "three agents and the probe");
}

#[tokio::test]
async fn a_fire_that_cannot_be_done_says_why_and_leaves_nothing() {
    let world = World::new().await;
    world.job("backup").await;
    let fire = async |job: &str, plan| {
        world
            .services
            .fires
            .fire(&id(job), &plan, &operator(), None)
            .await
            .unwrap_err()
    };
    assert!(matches!(
        fire("nope", at(&["pc-1"])).await,
        Error::NotFound { what: "job", .. }
    ));
    assert!(
        matches!(fire("backup", FanoutPlan::default()).await, Error::Invalid(invalid) if invalid.field == "target")
    );
    let nobody = fire("backup", group_plan("empty")).await;
    assert!(
        matches!(&nobody, Error::Invalid(invalid) if invalid.field == "target.groups"),
        "{nobody}"
    );
    world
        .services
        .jobs
        .set_status(&id("backup"), ScriptStatus::Revoked, &operator())
        .await
        .unwrap();
    let revoked = fire("backup", at(&["pc-1"])).await;
    assert!(
        revoked.to_string().contains("kanade unrevoke backup"),
        "{revoked}"
    );
    let query = kanade_ports::ExecutionQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(world.store.executions(&query).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_repeated_fire_answers_what_the_first_one_led_to() {
    let mut world = World::new().await;
    world.job("backup").await;
    let key = |fingerprint: &str| {
        Some(Repeatable {
            key: "k".into(),
            fingerprint: fingerprint.into(),
        })
    };
    let fire = async |fingerprint| {
        world
            .services
            .fires
            .fire(&id("backup"), &at(&["pc-1"]), &operator(), key(fingerprint))
            .await
    };
    let (one, two) = tokio::join!(fire("a"), fire("a"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!(fire("a").await.unwrap(), one);
    assert!(matches!(fire("b").await.unwrap_err(), Error::KeyReused(_)));
    next_command(&mut world.commands).await;
    world.fire("backup", &["pc-9"]).await;
    next_command(&mut world.commands).await;
    assert_eq!(
        come(&mut world.commands).len(),
        0,
        "one command for three requests"
    );
    assert_eq!(
        world
            .audit_actions()
            .await
            .iter()
            .filter(|action| *action == "exec")
            .count(),
        2
    );
}

#[tokio::test]
async fn a_send_goes_out_at_its_time_also_after_a_restart() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(3600)).await;
    next_command(&mut world.commands).await;
    world
        .until("the first is recorded as sent", async || {
            world.store.due_sends(None, 10).await.unwrap().len() == 1
        })
        .await;
    assert!(come(&mut world.commands).is_empty(), "the second wave is not due");

    let mut world = world.restart().await;
    world
        .advance_until(Duration::from_secs(600), "the second wave is sent", async || {
            world.store.due_sends(None, 10).await.unwrap().is_empty()
        })
        .await;
    let late = come(&mut world.commands);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].subject.as_str(), "commands.pc.pc-2");
    let due = world
        .execution(&fired.exec_id)
        .await
        .initiated_at
        .plus(Duration::from_secs(3600));
    use kanade_ports::Clock;
    assert!(world.clock.now() >= due, "not before its time");
}

#[tokio::test]
async fn after_a_crash_only_what_has_not_started_is_sent_again() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.store.forgets_sent.store(true, Ordering::SeqCst);
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let first = next_command(&mut world.commands).await;
    let second = next_command(&mut world.commands).await;
    world.started(&first, "pc-1").await;
    world.store.forgets_sent.store(false, Ordering::SeqCst);

    let mut world = world.restart().await;
    world
        .until("nothing is owed", async || {
            world.store.due_sends(None, 9).await.unwrap().is_empty()
        })
        .await;
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-1").await,
        Some(TargetState::Running)
    );
    assert_eq!(
        next_command(&mut world.commands).await,
        second,
        "the same request again"
    );
    assert!(come(&mut world.commands).is_empty());
}

#[tokio::test]
async fn agents_that_are_too_old_for_the_shell_are_refused_at_the_fire_and_the_others_are_sent_to() {
    let mut world = World::new().await;
    // `sh`, which agents before 0.31.0 drop without a word.
    world.job("backup").await;
    for (pc, version) in [("old", "0.30.4"), ("new", "0.31.0"), ("odd", "from a branch")] {
        let heartbeat = json!({"pc_id": pc, "at": world.clock.now(), "agent_version": version});
        let subject = Subject::heartbeat(&id(pc));
        world.bus.publish(&subject, encode(&heartbeat)).await.unwrap();
        world
            .until("the agent is known", async || {
                world.store.agent(&id(pc)).await.unwrap().is_some()
            })
            .await;
    }
    let fired = world.fire("backup", &["new", "odd", "old", "unheard"]).await;
    let subjects = ["commands.pc.new", "commands.pc.odd", "commands.pc.unheard"];
    assert_eq!(
        (fired.target_count, &fired.subjects[..]),
        (4, &subjects.map(str::to_owned)[..])
    );
    for _ in subjects {
        next_command(&mut world.commands).await;
    }
    let target = world
        .store
        .target(&fired.exec_id, &id("old"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(target.state, TargetState::Refused);
    let detail = target.detail.unwrap();
    assert!(detail.contains("0.30.4") && detail.contains("`sh`"), "{detail}");
    let execution = world.execution(&fired.exec_id).await;
    assert_eq!(execution.counts.of(TargetState::Waiting), 3);
    assert!(come(&mut world.commands).is_empty(), "nothing is sent to it");

    let fired = world
        .services
        .fires
        .fire(&id("backup"), &at(&["old"]), &operator(), None)
        .await;
    let error = fired.unwrap_err();
    let Error::Invalid(error) = error else {
        panic!("{error:?}")
    };
    assert!(error.to_string().contains("`old`"), "{error}");
}
