//! Parameters from the fire to the Command, and what is left of secret ones on the way.

use std::sync::Mutex;

use async_trait::async_trait;
use kanade_core::{Error, Repeatable};
use kanade_model::{FanoutPlan, Heartbeat, Manifest, Schedule, Subject, TargetState};
use kanade_ports::{ExecutionStore, KeyKeeper, Order, Precondition, PubSub, SealingKey, StoreError};
use serde_json::{Value, json};

use crate::world::{World, at, come, encode, id, manifest, next_command, operator};

/// Keeps a key for as long as the test goes on.
#[derive(Default)]
pub(crate) struct Keeper(Mutex<Option<SealingKey>>);

#[async_trait]
impl KeyKeeper for Keeper {
    async fn key(&self) -> Result<Option<SealingKey>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn keep(&self, fresh: SealingKey) -> Result<SealingKey, StoreError> {
        Ok(self.0.lock().unwrap().get_or_insert(fresh).clone())
    }
}

fn deploy() -> Manifest {
    let mut deploy = manifest("deploy", "1.0.0");
    deploy.params = serde_json::from_value(json!({
        "region": {"type": "choice", "choices": ["eu", "us"], "default": "eu"},
        "depth": {"type": "number", "max": 5},
        "token": {"type": "string", "secret": true}
    }))
    .unwrap();
    deploy
}

async fn register(world: &World) {
    world
        .services
        .jobs
        .put(&deploy(), Precondition::Any, &operator())
        .await
        .unwrap();
}

fn plan(pcs: &[&str], params: Value) -> FanoutPlan {
    FanoutPlan {
        params: serde_json::from_value(params).unwrap(),
        ..at(pcs)
    }
}

async fn refused(world: &World, plan: &FanoutPlan) -> kanade_model::Invalid {
    let fired = world
        .services
        .fires
        .fire(&id("deploy"), plan, &operator(), None)
        .await;
    match fired {
        Err(Error::Invalid(invalid)) => invalid,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn values_and_defaults_reach_the_agent_in_canonical_text_and_secrets_apart() {
    let mut world = World::new().await;
    register(&world).await;
    let plan = plan(&["pc-1"], json!({"depth": "03.0", "token": "hunter2"}));
    let fired = world
        .services
        .fires
        .fire(&id("deploy"), &plan, &operator(), None)
        .await
        .unwrap();
    let command = next_command(&mut world.commands).await;
    let texts: Vec<(&str, &str)> = command
        .params
        .iter()
        .map(|(name, text)| (name.as_str(), text.0.as_str()))
        .collect();
    assert_eq!(texts, [("depth", "3"), ("region", "eu")]);
    assert_eq!(command.secrets["token"].0, "hunter2");
    assert_eq!(command.script, "true", "nothing becomes part of the script");

    // What people and files see.
    let order = world.store.order(&fired.exec_id).await.unwrap().unwrap();
    let text = serde_json::to_string(&order).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(order.plan.params.is_empty());
    assert_eq!(order.params.shown()["token"], None);
    let audit = world
        .store
        .audit(&kanade_ports::AuditQuery {
            limit: 10,
            ..Default::default()
        })
        .await
        .unwrap()
        .items;
    let payload = &audit[0].event.payload;
    assert_eq!(
        payload["params"],
        json!({"depth": "3", "region": "eu", "token": null})
    );
}

#[tokio::test]
async fn a_secret_is_sent_again_after_a_restart_while_the_key_is_kept() {
    let world = World::new().await;
    register(&world).await;
    let (group, soon) = ("second", std::time::Duration::from_secs(60));
    world
        .services
        .agents
        .join(&id("pc-1"), &id(group), &operator())
        .await
        .unwrap();
    let mut plan = FanoutPlan {
        rollout: serde_json::from_value(
            json!({"strategy": "wave", "waves": [{"group": group, "delay": "60s"}]}),
        )
        .unwrap(),
        ..FanoutPlan::default()
    };
    plan.params.insert("token".into(), "hunter2".into());
    world
        .services
        .fires
        .fire(&id("deploy"), &plan, &operator(), None)
        .await
        .unwrap();
    let mut world = world.restart().await;
    assert!(come(&mut world.commands).is_empty());
    world
        .advance_until(soon, "the wave is sent", async || {
            world.store.due_sends(None, 9).await.unwrap().is_empty()
        })
        .await;
    assert_eq!(
        next_command(&mut world.commands).await.secrets["token"].0,
        "hunter2"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_field_and_fires_nothing() {
    let mut world = World::new().await;
    register(&world).await;
    for (params, field) in [
        (json!({"regoin": "eu"}), "params.regoin"),
        (json!({"region": "mars"}), "params.region"),
        (json!({"depth": 6}), "params.depth"),
        (json!({"token": "hunter2\u{0}"}), "params.token"),
    ] {
        let error = refused(&world, &plan(&["pc-1"], params)).await;
        assert_eq!(error.field, field);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert!(come(&mut world.commands).is_empty());
    assert_eq!(world.audit_actions().await, ["job_upsert"]);
}

#[tokio::test]
async fn a_broker_that_keeps_commands_gets_no_secret() {
    let world = World::with_broker().await;
    register(&world).await;
    let error = refused(&world, &plan(&["pc-1"], json!({"token": "hunter2"}))).await;
    assert_eq!(error.field, "params.token");
    assert!(error.allowed.contains("keeps Commands in clear"), "{error}");
    let without = plan(&["pc-1"], json!({"depth": 1}));
    world
        .services
        .fires
        .fire(&id("deploy"), &without, &operator(), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn agents_that_would_run_it_without_parameters_are_refused_also_by_a_fire_at_all() {
    let world = World::new().await;
    let mut job = deploy();
    job.execute.shell = kanade_model::Shell::Cmd;
    world
        .services
        .jobs
        .put(&job, Precondition::Any, &operator())
        .await
        .unwrap();
    for (pc, version) in [("old", "0.30.4"), ("new", "0.31.0")] {
        let heartbeat = Heartbeat {
            pc_id: id(pc),
            at: kanade_ports::Clock::now(&world.clock),
            agent_version: version.into(),
            hostname: None,
            os_family: Some("windows".into()),
        };
        let subject = Subject::heartbeat(&heartbeat.pc_id);
        world.bus.publish(&subject, encode(&heartbeat)).await.unwrap();
        world
            .until("the agent is known", async || {
                world.store.agent(&id(pc)).await.unwrap().is_some()
            })
            .await;
    }
    let mut all = FanoutPlan::default();
    all.target.all = true;
    let fired = world
        .services
        .fires
        .fire(&id("deploy"), &all, &operator(), None)
        .await
        .unwrap();
    let subjects = &fired.subjects;
    assert!(subjects.contains(&"commands.pc.new".to_owned()), "{subjects:?}");
    assert!(
        !subjects
            .iter()
            .any(|subject| subject.ends_with("old") || subject.ends_with("all"))
    );
    let old = world
        .store
        .target(&fired.exec_id, &id("old"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(old.state, TargetState::Refused);
    assert!(old.detail.unwrap().contains("without its parameters"));
    let error = refused(&world, &at(&["old"])).await;
    assert!(error.allowed.contains("without its parameters"), "{error}");
}

#[tokio::test]
async fn a_repetition_with_other_parameters_is_another_request() {
    let world = World::new().await;
    register(&world).await;
    let fire = async |token: &str| {
        // As a front end that digests the request would have it.
        let repeatable = Repeatable {
            key: "k".into(),
            fingerprint: format!("digest of {token}"),
        };
        let plan = plan(&["pc-1"], json!({"token": token}));
        world
            .services
            .fires
            .firing(&id("deploy"), &plan, &operator(), Some(repeatable))
            .await
    };
    let first = fire("hunter2").await.unwrap();
    let again = fire("hunter2").await.unwrap();
    assert!(again.repeated && again.fired.exec_id == first.fired.exec_id);
    assert!(matches!(fire("hunter3").await, Err(Error::KeyReused(_))));
    let kept = world.store.key("k").await.unwrap().unwrap();
    assert!(!kept.fingerprint.contains("digest"), "{kept:?}");
}

#[tokio::test]
async fn a_schedule_supplies_what_fits_its_job_and_no_secret() {
    let world = World::new().await;
    register(&world).await;
    let put = async |params: Value| {
        let schedule: Schedule = serde_json::from_value(json!({
            "id": "nightly", "cron": "0 30 2 * * *", "job_id": "deploy", "target": {"all": true}, "params": params
        }))
        .unwrap();
        let put = world
            .services
            .schedules
            .put(&schedule, Precondition::Any, &operator())
            .await;
        put.map(|_| schedule.plan().params.len())
            .map_err(|error| match error {
                Error::Invalid(invalid) => invalid.field,
                other => panic!("{other:?}"),
            })
    };
    assert_eq!(put(json!({"depth": 2})).await, Ok(1));
    assert_eq!(put(json!({"depth": 9})).await, Err("params.depth".into()));
    assert_eq!(put(json!({"nope": 9})).await, Err("params.nope".into()));
    assert_eq!(put(json!({"token": "t"})).await, Err("params.token".into()));
}

#[test]
fn an_order_from_before_parameters_is_read_and_written_as_it_was() {
    let old = json!({
        "job_id": "backup", "version": "1", "shell": "sh", "script": "true", "timeout_secs": 1, "jitter_secs": null,
        "run_as": "system", "cwd": null, "deadline_at": null, "staleness": {"mode": "cached"}, "inventory": null,
        "description": null, "plan": {"target": {"all": true}}
    });
    let order: Order = serde_json::from_value(old.clone()).unwrap();
    assert!(order.params.is_empty());
    assert_eq!(serde_json::to_value(&order).unwrap(), old);
}
