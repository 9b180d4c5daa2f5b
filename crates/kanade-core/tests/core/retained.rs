mod admissions;
mod trouble;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_core::Error;
use kanade_model::{
    Command, ExecId, ExecutionStatus, FanoutPlan, ScriptStatus, Subject, Target, TargetState,
};
use kanade_ports::{Bucket, Catalog, Clock, ExecutionStore, Key, Precondition, PubSub};
use serde_json::json;

use crate::{
    broker::Broker,
    world::{World, at, come, encode, id, manifest, next_command, operator},
};

const STEP: Duration = Duration::from_millis(250);

impl World {
    fn broker(&self) -> &Broker {
        self.broker.as_deref().unwrap()
    }

    /// Waits until nothing else is retained, which takes no long time.
    async fn until_retained(&self, wanted: &[&str]) {
        let begun = self.clock.now();
        let holds = async || self.broker().subjects() == wanted;
        let what = format!("{wanted:?} is retained");
        self.advance_until(STEP, &what, holds).await;
        let took = self.clock.now().since(begun);
        assert!(took <= Duration::from_secs(15), "after {took:?}");
    }

    /// Time enough for everything that is to be removed.
    async fn let_it_clear(&self) {
        for _ in 0..20 {
            self.clock.advance(STEP);
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Fires at agents that are away; all of it is retained.
    async fn fire_and_retain(&mut self, job: &str, pcs: &[&str]) -> (ExecId, BTreeMap<String, Command>) {
        let fired = self.fire(job, pcs).await;
        let mut commands = BTreeMap::new();
        for _ in pcs {
            let message = self.commands.next().await.unwrap();
            let command: Command = serde_json::from_slice(&message.payload).unwrap();
            let pc = message.subject.as_str().strip_prefix("commands.pc.").unwrap();
            commands.insert(pc.to_owned(), command);
        }
        self.until("it is recorded as sent", async || {
            self.store.due_sends(None, 9).await.unwrap().is_empty()
        })
        .await;
        (fired.exec_id, commands)
    }

    fn keep_advancing(&self) -> impl Future<Output = ()> + use<> {
        let clock = self.clock.clone();
        async move {
            loop {
                clock.advance(STEP);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// The next Command, which comes when time passes.
    async fn sent_again(&mut self) -> Command {
        let advancing = self.keep_advancing();
        tokio::select! {
            again = next_command(&mut self.commands) => again,
            () = advancing => unreachable!("for ever"),
        }
    }

    async fn fire_at_all(&mut self, job: &str) -> Command {
        let plan = FanoutPlan {
            target: Target {
                all: true,
                ..Target::default()
            },
            ..FanoutPlan::default()
        };
        self.services
            .fires
            .fire(&id(job), &plan, &operator(), None)
            .await
            .unwrap();
        next_command(&mut self.commands).await
    }
}

/// A Command that this server knows nothing of.
fn foreign(exec: &str, job: &str) -> Command {
    serde_json::from_value(json!({
        "id": job, "version": "0.9", "request_id": uuid::Uuid::new_v4(), "exec_id": exec, "shell": "sh",
        "script": "true", "timeout_secs": 60,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_command_is_retained_until_its_agent_has_started_it() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (_, commands) = world.fire_and_retain("backup", &["pc-1", "pc-2", "pc-3"]).await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-1", "pc.pc-2", "pc.pc-3"]);
    world.started(&commands["pc-2"], "pc-2").await;
    world.until_retained(&["pc.pc-1", "pc.pc-3"]).await;
    // Also where only the end of it is heard.
    world.finished(&commands["pc-3"], "pc-3", 0, "", "").await;
    world.until_retained(&["pc.pc-1"]).await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-1"], "it waits still");
}

#[tokio::test]
async fn an_agent_that_is_faster_than_the_brokers_answer_leaves_nothing_either() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world
        .until("there is a watch", async || {
            !world.broker().kept.lock().unwrap().watches.is_empty()
        })
        .await;
    world.broker().cut();
    world.broker().answers.forget_permits(usize::MAX);
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-1").await,
        Some(TargetState::Succeeded)
    );
    world.broker().answers.add_permits(1000);
    // The next watch would tell, too; it is not what this is about.
    world.broker().away.store(true, Ordering::SeqCst);
    world.let_it_clear().await;
    let asked = world.broker().asked_to_remove.load(Ordering::SeqCst);
    assert!(asked > 0, "it is tried to be removed");
    world.broker().away.store(false, Ordering::SeqCst);
    world.until_retained(&[]).await;
}

#[tokio::test]
async fn what_an_agent_says_of_another_command_removes_nothing() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (_, older) = world.fire_and_retain("backup", &["pc-1"]).await;
    let (exec, _) = world.fire_and_retain("backup", &["pc-1"]).await;
    world.finished(&older["pc-1"], "pc-1", 0, "", "").await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-1"], "the newer one waits");
    assert_eq!(
        world.target_state(&exec, "pc-1").await,
        Some(TargetState::Waiting)
    );
}

#[tokio::test]
async fn what_is_fired_while_the_broker_is_away_goes_out_when_it_is_back() {
    let world = World::with_broker().await;
    world.job("backup").await;
    world.broker().away.store(true, Ordering::SeqCst);
    let pcs: Vec<String> = (0..1000).map(|n| format!("pc-{n}")).collect();
    let pcs: Vec<&str> = pcs.iter().map(String::as_str).collect();
    world.fire("backup", &pcs).await;
    let asked = || world.broker().asked_to_keep.load(Ordering::SeqCst);
    world.until("it is tried", async || asked() > 0).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(asked() <= 256, "{} were tried", asked());
    world.broker().away.store(false, Ordering::SeqCst);
    world
        .advance_until(STEP, "all is retained", async || {
            world.broker().subjects().len() == 1000
        })
        .await;
}

#[tokio::test]
async fn a_broadcast_is_retained_until_nobody_waits_for_it() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    for pc in ["pc-1", "pc-2"] {
        world.agent(pc).await;
    }
    let command = world.fire_at_all("backup").await;
    let exec = command.exec_id.clone().unwrap();
    world.finished(&command, "probe", 0, "", "").await;
    world.finished(&command, "pc-1", 0, "", "").await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["all"], "pc-2 waits");
    world.finished(&command, "pc-2", 1, "", "").await;
    world.until_retained(&[]).await;
    assert_eq!(world.execution(&exec).await.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn a_kill_removes_what_is_retained_before_it_is_published() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.job("other").await;
    let (exec, _) = world.fire_and_retain("backup", &["pc-1", "pc-2"]).await;
    world.fire_and_retain("other", &["pc-3"]).await;
    let mut kills = world.listen("kill.>").await;
    world.broker().removals.forget_permits(usize::MAX);
    let services = world.services.clone();
    let killed = exec.clone();
    let kill = tokio::spawn(async move { services.kills.execution(&killed, &operator()).await });
    world
        .until("its removal is under way", async || {
            world.broker().asked_to_remove.load(Ordering::SeqCst) > 0
        })
        .await;
    assert!(come(&mut kills).is_empty());
    assert!(
        world.execution(&exec).await.kill.is_some(),
        "it is recorded first"
    );
    world.broker().removals.add_permits(1000);
    kill.await.unwrap().unwrap();
    assert_eq!(world.broker().subjects(), ["pc.pc-3"], "that of others stays");
    assert_eq!(come(&mut kills).len(), 1);
}

#[tokio::test]
async fn a_kill_of_a_job_and_one_from_the_bus_remove_what_is_retained_too() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.job("other").await;
    world.fire_and_retain("backup", &["pc-1"]).await;
    world.fire_and_retain("backup", &["pc-2"]).await;
    let (other, _) = world.fire_and_retain("other", &["pc-3"]).await;
    let theirs = foreign("theirs", "unknown");
    world
        .broker()
        .retain(&"commands.pc.pc-4".parse().unwrap(), encode(&theirs));
    world
        .services
        .kills
        .job(&id("backup"), &operator())
        .await
        .unwrap();
    assert_eq!(world.broker().subjects(), ["pc.pc-3", "pc.pc-4"]);
    for (exec, left) in [(&other, &["pc.pc-4"][..]), (&id("theirs"), &[])] {
        world
            .bus
            .publish(&Subject::kill(exec), Bytes::new())
            .await
            .unwrap();
        world
            .until("it is removed", async || world.broker().subjects() == left)
            .await;
    }
    assert!(world.execution(&other).await.kill.is_some());
}

#[tokio::test]
async fn what_expires_is_removed() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (exec, _) = world.fire_and_retain("backup", &["pc-1"]).await;
    world.clock.advance(Duration::from_secs(7 * 24 * 3600 - 60));
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-1"]);
    world.clock.advance(Duration::from_secs(61));
    world.until_retained(&[]).await;
    assert_eq!(
        world.target_state(&exec, "pc-1").await,
        Some(TargetState::Expired)
    );
}

#[tokio::test]
async fn what_another_version_supersedes_is_removed() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.fire_and_retain("backup", &["pc-1", "pc-2"]).await;
    let newer = manifest("backup", "2.0.0");
    world
        .services
        .jobs
        .put(&newer, Precondition::Any, &operator())
        .await
        .unwrap();
    world.let_it_clear().await;
    assert_eq!(
        world.broker().subjects().len(),
        2,
        "it is stored and not pinned yet"
    );
    world.fire_and_retain("backup", &["pc-2", "pc-3"]).await;
    world.until_retained(&["pc.pc-2", "pc.pc-3"]).await;
    world.let_it_clear().await;
    let versions: Vec<String> = world
        .broker()
        .retained()
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    assert_eq!(versions, ["backup 2.0.0", "backup 2.0.0"]);
}

#[tokio::test]
async fn what_is_revoked_is_removed_before_the_answer_and_soon_where_somebody_else_did_it() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.job("other").await;
    world.fire_and_retain("backup", &["pc-1"]).await;
    world.fire_and_retain("other", &["pc-2"]).await;
    let theirs = foreign("theirs", "unknown");
    world
        .broker()
        .retain(&"commands.pc.pc-3".parse().unwrap(), encode(&theirs));
    world
        .services
        .jobs
        .set_status(&id("backup"), ScriptStatus::Revoked, &operator())
        .await
        .unwrap();
    assert_eq!(world.broker().subjects(), ["pc.pc-2", "pc.pc-3"]);
    for (job, left) in [("other", &["pc.pc-3"][..]), ("unknown", &[])] {
        let key: Key = job.parse().unwrap();
        let status = Bytes::from_static(b"REVOKED");
        world
            .catalog
            .put(Bucket::ScriptStatus, &key, status, Precondition::Any)
            .await
            .unwrap();
        world.until_retained(left).await;
    }
}

#[tokio::test]
async fn a_deleted_job_leaves_nothing() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.fire_and_retain("backup", &["pc-1"]).await;
    world
        .services
        .jobs
        .delete(&id("backup"), Precondition::Any, &operator())
        .await
        .unwrap();
    assert!(world.broker().subjects().is_empty());
}

#[tokio::test]
async fn what_is_somebody_elses_stays_until_its_agent_has_it_or_its_time_is_over() {
    let world = World::with_broker().await;
    world.job("backup").await;
    let theirs = foreign("theirs", "backup");
    let late = Command {
        deadline_at: Some(world.clock.now().plus(Duration::from_secs(60))),
        ..foreign("late", "backup")
    };
    let ad_hoc = Command {
        exec_id: None,
        ..late.clone()
    };
    for (number, command) in [&theirs, &theirs, &late, &ad_hoc].into_iter().enumerate() {
        let subject = format!("commands.pc.pc-{number}").parse().unwrap();
        world.broker().retain(&subject, encode(command));
    }
    let garbage = "commands.pc.garbage".parse().unwrap();
    world.broker().retain(&garbage, Bytes::from_static(b"?"));
    world.let_it_clear().await;
    assert_eq!(world.broker().kept.lock().unwrap().messages.len(), 5);
    world.broker().kept.lock().unwrap().messages.pop_last();
    world.finished(&theirs, "pc-1", 0, "", "").await;
    world.until_retained(&["pc.pc-0", "pc.pc-2", "pc.pc-3"]).await;
    world
        .advance_until(Duration::from_secs(20), "their time is over", async || {
            world.broker().subjects() == ["pc.pc-0"]
        })
        .await;
}

#[tokio::test]
async fn what_was_taken_over_stays_for_those_who_have_not_reported_until_it_is_killed() {
    let world = World::with_broker().await;
    world.job("backup").await;
    let import = kanade_core::import::Import {
        now: world.clock.now(),
        command_ttl: Duration::from_secs(7 * 24 * 3600),
    };
    for (exec, status) in [("done", "completed"), ("open", "running")] {
        let record = json!({
            "exec_id": exec, "job_id": "backup", "version": "0.9", "initiated_by": "operator",
            "initiated_at": world.clock.now(), "target_count": 1, "success_count": 1, "failure_count": 0,
            "status": status,
        });
        let set = import.execution(serde_json::from_value(record).unwrap());
        world.store.apply(&[set]).await.unwrap();
    }
    let (done, open) = (foreign("done", "backup"), foreign("open", "backup"));
    world
        .broker()
        .retain(&"commands.all".parse().unwrap(), encode(&done));
    world
        .broker()
        .retain(&"commands.pc.pc-2".parse().unwrap(), encode(&open));
    // Whoever is known to have got them is through with them.
    world.finished(&done, "pc-1", 0, "", "").await;
    world.finished(&open, "pc-1", 0, "", "").await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["all", "pc.pc-2"]);
    world.started(&open, "pc-3").await;
    world
        .services
        .kills
        .execution(&id("open"), &operator())
        .await
        .unwrap();
    world.until_retained(&["all"]).await;
}

#[tokio::test]
async fn a_group_is_sent_to_its_members_each_on_its_own_subject() {
    let world = World::with_broker().await;
    world.job("backup").await;
    for pc in ["pc-1", "pc-2"] {
        let joined = world
            .services
            .agents
            .join(&id(pc), &id("first"), &operator())
            .await;
        joined.unwrap();
    }
    let plan = FanoutPlan {
        target: Target {
            groups: vec![id("first")],
            ..Target::default()
        },
        ..at(&[])
    };
    let fired = world
        .services
        .fires
        .fire(&id("backup"), &plan, &operator(), None)
        .await;
    fired.unwrap();
    world
        .until("it is retained", async || {
            world.broker().subjects() == ["pc.pc-1", "pc.pc-2"]
        })
        .await;
}
