use std::time::Duration;

use futures::StreamExt;
use kanade_model::{ExecId, Receipt, Subject, TargetState};
use kanade_ports::{Clock, ExecutionStore, Subscription};

use crate::world::{World, come, id, next_command, operator};

const STEP: Duration = Duration::from_millis(250);

#[tokio::test]
async fn an_agent_that_returns_gets_what_it_has_not_started_with_the_same_request() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let mut sent = [
        next_command(&mut world.commands).await,
        next_command(&mut world.commands).await,
    ];
    sent.sort_by_key(|command| command.request_id);
    world.started(&sent[1], "pc-2").await;
    world.clock.advance(Duration::from_secs(20));
    world.heartbeat("pc-1").await;
    world.heartbeat("pc-2").await;
    let again = tokio::select! {
        command = next_command(&mut world.commands) => command,
        () = keep_advancing(&world.clock) => unreachable!("for ever"),
    };
    assert_eq!(again, sent[0]);
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-2").await,
        Some(TargetState::Running)
    );
    assert!(
        come(&mut world.commands).is_empty(),
        "what runs is not sent again"
    );
}

async fn keep_advancing(clock: &kanade_memory::ManualClock) {
    loop {
        clock.advance(STEP);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_killed_execution_is_not_sent_again_but_killed_again() {
    let (mut world, fired, _) = World::with_a_run().await;
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap();
    world
        .advance_until(STEP, "the kill is settled", async || {
            world
                .execution(&fired.exec_id)
                .await
                .kill
                .is_some_and(|kill| kill.settled)
        })
        .await;
    let mut kills = world.listen("kill.>").await;
    world.heartbeat("pc-1").await;
    let kill = tokio::select! {
        kill = futures::StreamExt::next(&mut kills) => kill.unwrap(),
        () = keep_advancing(&world.clock) => unreachable!("for ever"),
    };
    assert_eq!(kill.subject, Subject::kill(&fired.exec_id));
    assert!(come(&mut world.commands).is_empty());
}

#[tokio::test]
async fn an_agent_is_known_by_its_heartbeat() {
    let world = World::new().await;
    world.agent("pc.with.dots").await;
    let agent = world.store.agent(&id("pc.with.dots")).await.unwrap().unwrap();
    assert_eq!(
        (agent.agent_version.as_deref(), agent.updated_at),
        (Some("1.0.0"), world.clock.now())
    );
}

/// Fires at agents that are away and kills that, until the time for answers is over.
async fn killed_while_away(world: &World, pcs: &[&str]) -> ExecId {
    let fired = world.fire("backup", pcs).await;
    let exec = fired.exec_id;
    world
        .until("all is on the bus", async || {
            world.store.due_sends(None, 9).await.unwrap().is_empty()
        })
        .await;
    world.services.kills.execution(&exec, &operator()).await.unwrap();
    world
        .advance_until(STEP, "the kill is settled", async || {
            world.execution(&exec).await.kill.is_some_and(|kill| kill.settled)
        })
        .await;
    for pc in pcs {
        let target = world.store.target(&exec, &id(pc)).await.unwrap().unwrap();
        assert_eq!(
            (target.state, target.receipt),
            (TargetState::Withdrawn, Some(Receipt::Unreachable))
        );
    }
    exec
}

/// An agent shows life, and that is known.
async fn shows_life(world: &World, pc: &str) {
    let at = world.clock.now();
    world.heartbeat(pc).await;
    world
        .until("the heartbeat is recorded", async || {
            let agent = world.store.agent(&id(pc)).await.unwrap();
            agent.is_some_and(|agent| agent.updated_at == at)
        })
        .await;
}

/// So many kills, which come without any time passing, and those that have come with them.
async fn subjects(kills: &mut Subscription, count: usize) -> Vec<Subject> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let kill = tokio::time::timeout(Duration::from_secs(20), kills.next()).await;
        messages.push(kill.expect("at once").unwrap());
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    messages.extend(come(kills));
    let mut subjects: Vec<_> = messages.into_iter().map(|message| message.subject).collect();
    subjects.sort();
    subjects
}

#[tokio::test]
async fn an_agent_that_was_away_for_a_whole_kill_gets_it_when_it_is_back() {
    let world = World::new().await;
    world.job("backup").await;
    world.agent("pc-1").await;
    let exec = killed_while_away(&world, &["pc-1"]).await;
    let mut kills = world.listen("kill.>").await;
    world.heartbeat("pc-1").await;
    assert_eq!(
        subjects(&mut kills, 1).await,
        [Subject::kill(&exec)],
        "whatever it has in hand is not to be started"
    );
    world.clock.advance(Duration::from_secs(1));
    shows_life(&world, "pc-1").await;
    assert_eq!(subjects(&mut kills, 0).await, [], "it has it now");
    assert_eq!(
        world.target_state(&exec, "pc-1").await,
        Some(TargetState::Withdrawn),
        "nothing has been heard of it"
    );

    // Heartbeats that are far apart are not as many absences.
    let mut given = 0;
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(31));
        shows_life(&world, "pc-1").await;
        given += subjects(&mut kills, 0).await.len();
    }
    assert!(given <= 1, "{given} times more");
}

#[tokio::test]
async fn the_first_sign_of_life_after_a_restart_brings_the_kills_that_are_not_too_old() {
    let world = World::new().await;
    world.job("backup").await;
    let old = killed_while_away(&world, &["pc-1", "pc-2"]).await;
    world.clock.advance(Duration::from_secs(7 * 24 * 3600));
    let recent = killed_while_away(&world, &["pc-1", "pc-2"]).await;
    let other = killed_while_away(&world, &["pc-2"]).await;
    let world = world.restart().await;
    let mut kills = world.listen("kill.>").await;
    world.heartbeat("pc-1").await;
    assert_eq!(
        subjects(&mut kills, 1).await,
        [Subject::kill(&recent)],
        "not {old}, and not {other}"
    );
    world.heartbeat("pc-2").await;
    let mut wanted = [Subject::kill(&recent), Subject::kill(&other)];
    wanted.sort();
    assert_eq!(subjects(&mut kills, 2).await, wanted, "each agent its own");
}
