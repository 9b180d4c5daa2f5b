//! What an agent on another machine may do, over the real services.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use kanade_core::AgentPorts;
use kanade_model::{ExecResult, PcId, Subject, TargetState};
use kanade_ports::{
    Bucket, Bus, BusError, BusErrorKind, Catalog, CatalogEvent, CatalogStream, Clock, ExecutionStore, Key,
    MessageId, Precondition, PubSub,
};

use crate::world::{World, encode, next_command, result};

const SOON: Duration = Duration::from_secs(30);

fn pc(id: &str) -> PcId {
    id.parse().unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn ports(world: &World, id: &str) -> AgentPorts {
    world.services.agent_ports(&pc(id))
}

async fn put(world: &World, bucket: Bucket, name: &str, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    world
        .catalog
        .put(bucket, &key(name), value, Precondition::Any)
        .await
        .unwrap();
}

async fn delete(world: &World, bucket: Bucket, name: &str) {
    world
        .catalog
        .delete(bucket, &key(name), Precondition::Any)
        .await
        .unwrap();
}

/// The next event, in short: `+key`, `-key`, `.` for current.
async fn next(events: &mut CatalogStream) -> String {
    let event = tokio::time::timeout(SOON, events.next())
        .await
        .expect("an event")
        .expect("it goes on");
    match event {
        CatalogEvent::Put(entry) => format!("+{}", entry.key),
        CatalogEvent::Deleted(key) => format!("-{key}"),
        CatalogEvent::Current => ".".into(),
    }
}

async fn up_to_current(events: &mut CatalogStream) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match next(events).await.as_str() {
            "." => return seen,
            event => seen.push(event.to_owned()),
        }
    }
}

/// A watch that begins with just these; the server's memory of the catalog may still be about to learn of them.
async fn watch(own: &AgentPorts, bucket: Bucket, stands: &[&str]) -> CatalogStream {
    let begun = std::time::Instant::now();
    loop {
        let mut events = own.catalog.watch(bucket).await.unwrap();
        let seen = up_to_current(&mut events).await;
        if seen == stands {
            return events;
        }
        assert!(begun.elapsed() < SOON, "{bucket}: {seen:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_agent_reads_its_own_groups_and_configuration_and_no_others() {
    let world = World::new().await;
    for (bucket, name) in [
        (Bucket::AgentConfig, "global"),
        (Bucket::AgentConfig, "groups.web"),
        (Bucket::AgentConfig, "pcs.pc-1"),
        (Bucket::AgentConfig, "pcs.pc-2"),
        (Bucket::AgentGroups, "pc-1"),
        (Bucket::AgentGroups, "pc-2"),
        (Bucket::ScriptStatus, "job"),
        (Bucket::ScriptCurrent, "job"),
    ] {
        put(&world, bucket, name, "{}").await;
    }
    let own = ports(&world, "pc-1");
    for (bucket, name, is_there) in [
        (Bucket::AgentConfig, "global", true),
        (Bucket::AgentConfig, "groups.web", true),
        (Bucket::AgentConfig, "pcs.pc-1", true),
        (Bucket::AgentConfig, "pcs.pc-2", false),
        (Bucket::AgentGroups, "pc-1", true),
        (Bucket::AgentGroups, "pc-2", false),
        (Bucket::ScriptStatus, "job", true),
        (Bucket::ScriptCurrent, "job", true),
    ] {
        let found = own.catalog.get(bucket, &key(name)).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{bucket} {name}");
    }
    let mut config = watch(
        &own,
        Bucket::AgentConfig,
        &["+global", "+groups.web", "+pcs.pc-1"],
    )
    .await;
    put(
        &world,
        Bucket::AgentConfig,
        "pcs.pc-2",
        "{\"heartbeat_interval\": \"1m\"}",
    )
    .await;
    delete(&world, Bucket::AgentConfig, "pcs.pc-2").await;
    delete(&world, Bucket::AgentConfig, "pcs.pc-1").await;
    assert_eq!(
        next(&mut config).await,
        "-pcs.pc-1",
        "the other one's changes are not told"
    );
    drop(watch(&own, Bucket::AgentGroups, &["+pc-1"]).await);
}

fn schedule(id: &str, job: &str, runs_on: &str) -> String {
    format!(
        "{{\"id\": \"{id}\", \"cron\": \"0 0 2 * * *\", \"job_id\": \"{job}\", \"runs_on\": \"{runs_on}\"}}"
    )
}

#[tokio::test]
async fn an_agent_reads_the_jobs_of_schedules_that_agents_run_and_no_others() {
    let world = World::new().await;
    for job in ["one", "two", "secret"] {
        put(&world, Bucket::Jobs, job, "{}").await;
    }
    put(
        &world,
        Bucket::Schedules,
        "ours",
        &schedule("ours", "one", "agent"),
    )
    .await;
    put(
        &world,
        Bucket::Schedules,
        "theirs",
        &schedule("theirs", "secret", "backend"),
    )
    .await;
    put(&world, Bucket::Schedules, "broken", "no schedule at all").await;
    let own = ports(&world, "pc-1");
    let mut schedules = watch(&own, Bucket::Schedules, &["+ours"]).await;
    let mut jobs = watch(&own, Bucket::Jobs, &["+one"]).await;
    let is_there = async |bucket, name| own.catalog.get(bucket, &key(name)).await.unwrap().is_some();
    assert!(is_there(Bucket::Jobs, "one").await);
    assert!(!is_there(Bucket::Jobs, "secret").await && !is_there(Bucket::Jobs, "two").await);
    assert!(is_there(Bucket::Schedules, "ours").await && !is_there(Bucket::Schedules, "theirs").await);

    // Another job comes, the first one goes.
    put(
        &world,
        Bucket::Schedules,
        "ours",
        &schedule("ours", "two", "agent"),
    )
    .await;
    assert_eq!(next(&mut schedules).await, "+ours");
    assert_eq!([next(&mut jobs).await, next(&mut jobs).await], ["-one", "+two"]);
    // A second schedule of the same job changes nothing, until it is the last one.
    put(
        &world,
        Bucket::Schedules,
        "more",
        &schedule("more", "two", "agent"),
    )
    .await;
    assert_eq!(next(&mut schedules).await, "+more");
    put(
        &world,
        Bucket::Schedules,
        "ours",
        &schedule("ours", "two", "backend"),
    )
    .await;
    assert_eq!(next(&mut schedules).await, "-ours");
    put(&world, Bucket::Jobs, "two", "{\"changed\": true}").await;
    assert_eq!(next(&mut jobs).await, "+two", "a new version is told");
    put(&world, Bucket::Jobs, "secret", "{\"changed\": true}").await;
    delete(&world, Bucket::Schedules, "more").await;
    assert_eq!(next(&mut schedules).await, "-more");
    assert_eq!(next(&mut jobs).await, "-two");
}

#[tokio::test]
async fn a_watch_goes_on_when_the_server_reads_a_bucket_anew() {
    let world = World::new().await;
    put(&world, Bucket::ScriptStatus, "stays", "ACTIVE").await;
    put(&world, Bucket::ScriptStatus, "goes", "ACTIVE").await;
    let own = ports(&world, "pc-1");
    let mut events = watch(&own, Bucket::ScriptStatus, &["+goes", "+stays"]).await;
    // The server's own watches break, and are made again after a pause.
    world.catalog.cut.send_modify(|cuts| *cuts += 1);
    world
        .until("the watches have ended", async || {
            world.services.check().await["catalog"].is_err()
        })
        .await;
    delete(&world, Bucket::ScriptStatus, "goes").await;
    put(&world, Bucket::ScriptStatus, "comes", "REVOKED").await;
    world
        .until("the catalog is read again", async || {
            world.clock.advance(Duration::from_secs(1));
            world.services.check().await["catalog"].is_ok()
        })
        .await;
    assert_eq!(
        [next(&mut events).await, next(&mut events).await],
        ["-goes", "+comes"],
        "the difference is"
    );
}

#[tokio::test]
async fn an_agent_hears_its_own_and_answers_what_it_was_asked_once() {
    let world = World::new().await;
    let agent = ports(&world, "pc-1").bus;
    let mut asked = agent
        .subscribe(&Subject::logs_fetch(&pc("pc-1")).into())
        .await
        .unwrap();
    let bus = world.bus.clone();
    let answer = tokio::spawn(async move {
        bus.request(&Subject::logs_fetch(&pc("pc-1")), "tail".into(), SOON)
            .await
    });
    let request = tokio::time::timeout(SOON, asked.next()).await.unwrap().unwrap();
    // Another connection has not been asked, even of the same agent.
    let stranger = ports(&world, "pc-1").bus.reply(&request, "forged".into()).await;
    assert_eq!(stranger.unwrap_err().kind(), BusErrorKind::Refused);
    agent.reply(&request, "log".into()).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), Bytes::from("log"));
    let again = agent.reply(&request, "more".into()).await;
    assert_eq!(again.unwrap_err().kind(), BusErrorKind::Refused);
}

#[tokio::test]
async fn what_an_agent_may_not_say_reaches_nobody() {
    let world = World::new().await;
    let mut everything = world.bus.subscribe(&">".parse().unwrap()).await.unwrap();
    let agent = ports(&world, "pc-1").bus;
    for subject in ["commands.all", "kill.e-1", "heartbeat.pc-2", "anything"] {
        let refused = agent
            .publish(&subject.parse().unwrap(), Bytes::new())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), BusErrorKind::Refused);
        assert!(refused.to_string().contains("pc-1"), "{refused}");
    }
    let subscribed = agent.subscribe(&"commands.pc.pc-2".parse().unwrap()).await;
    assert_eq!(subscribed.unwrap_err().kind(), BusErrorKind::Refused);
    let foreign = everything
        .next()
        .now_or_never()
        .flatten()
        .filter(|message| !message.subject.as_str().starts_with("heartbeat.probe"));
    assert_eq!(foreign, None);
}

/// What becomes of a result that an agent reports.
async fn report(agent: &AgentPorts, result: &ExecResult) -> Result<(), BusError> {
    let subject = Subject::result(result.request_id);
    let id = MessageId("the same of everybody".into());
    agent.bus.publish_durable(&subject, encode(result), id).await
}

#[tokio::test]
async fn an_agent_reports_its_own_runs_and_cannot_end_those_of_others() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let mut commands = [
        next_command(&mut world.commands).await,
        next_command(&mut world.commands).await,
    ];
    let of_pc_1 = world.store.target(&fired.exec_id, &pc("pc-1")).await.unwrap();
    let request_id = of_pc_1.unwrap().request_id;
    commands.sort_by_key(|command| command.request_id != request_id);
    let victims = world.started(&commands[0], "pc-1").await;
    let state = async |name| world.target_state(&fired.exec_id, name).await.unwrap();
    let agent = ports(&world, "pc-2");

    let posed = result(&commands[0], "pc-1", world.clock.now(), 0, "", "");
    assert_eq!(
        report(&agent, &posed).await.unwrap_err().kind(),
        BusErrorKind::Refused,
        "in the other's name"
    );
    let claimed = ExecResult {
        result_id: Some(victims),
        ..result(&commands[1], "pc-2", world.clock.now(), 1, "forged", "")
    };
    report(&agent, &claimed).await.unwrap();
    let run = world.store.run(&victims).await.unwrap().unwrap();
    assert_eq!(
        (run.run.pc_id, run.run.exit_code, run.output.stdout.as_str()),
        (pc("pc-1"), None, ""),
        "in its own name, of a run that is not its own"
    );
    assert_eq!(
        (state("pc-1").await, state("pc-2").await),
        (TargetState::Running, TargetState::Waiting)
    );

    let own = result(&commands[1], "pc-2", world.clock.now(), 0, "", "");
    report(&agent, &own).await.unwrap();
    assert_eq!(state("pc-2").await, TargetState::Succeeded);
    report(&ports(&world, "pc-1"), &posed).await.unwrap();
    assert_eq!(
        state("pc-1").await,
        TargetState::Succeeded,
        "the one it belongs to may"
    );
}

#[tokio::test]
async fn a_watch_tells_what_stood_when_it_began_and_then_what_changed() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        put(&world, Bucket::ScriptStatus, name, "ACTIVE").await;
    }
    let own = ports(&world, "pc-1");
    drop(watch(&own, Bucket::ScriptStatus, &["+a", "+b", "+c"]).await);
    let mut early = own.catalog.watch(Bucket::ScriptStatus).await.unwrap();
    assert_eq!(next(&mut early).await, "+a");
    // While it is being read.
    delete(&world, Bucket::ScriptStatus, "b").await;
    put(&world, Bucket::ScriptStatus, "d", "ACTIVE").await;
    drop(watch(&own, Bucket::ScriptStatus, &["+a", "+c", "+d"]).await);
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(next(&mut early).await);
    }
    assert_eq!(told, ["+b", "+c", ".", "-b", "+d"]);
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_when_it_is_too_far_behind() {
    let world = World::new().await;
    let own = ports(&world, "pc-1");
    let mut unread = own.catalog.watch(Bucket::ScriptStatus).await.unwrap();
    let mut read = own.catalog.watch(Bucket::ScriptStatus).await.unwrap();
    assert_eq!(next(&mut read).await, ".");
    for number in 0..2000 {
        put(&world, Bucket::ScriptStatus, &format!("d-{number}"), "ACTIVE").await;
        assert_eq!(next(&mut read).await, format!("+d-{number}"));
    }
    assert_eq!(unread.next().await, Some(CatalogEvent::Current));
    let rest = tokio::time::timeout(SOON, unread.count()).await.expect("it ends");
    assert!(rest < 2000, "{rest} of 2000 changes");
}

#[tokio::test]
async fn an_answer_that_could_not_be_sent_can_be_given_again() {
    let world = World::new().await;
    let agent = ports(&world, "pc-1").bus;
    let to = Subject::logs_fetch(&pc("pc-1"));
    let mut asked = agent.subscribe(&to.clone().into()).await.unwrap();
    let bus = world.bus.clone();
    let answer = tokio::spawn(async move { bus.request(&to, Bytes::new(), SOON).await });
    let request = tokio::time::timeout(SOON, asked.next()).await.unwrap().unwrap();
    let endless = agent.reply(&request, vec![b'x'; 64 << 20].into()).await;
    assert_eq!(endless.unwrap_err().kind(), BusErrorKind::TooLarge);
    agent.reply(&request, "the end of it".into()).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), Bytes::from("the end of it"));
}

#[tokio::test]
async fn subscriptions_of_an_agent_are_counted_while_they_last() {
    let world = World::new().await;
    let agent = ports(&world, "pc-1").bus;
    let kills = "kill.>".parse().unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match agent.subscribe(&kills).await {
            Ok(subscription) => held.push(subscription),
            Err(error) => break error,
        }
        assert!(held.len() < 1000, "there is an end");
    };
    assert_eq!(refused.kind(), BusErrorKind::Refused);
    held.pop();
    assert!(
        agent.subscribe(&kills).await.is_ok(),
        "one that is dropped makes room"
    );
}
