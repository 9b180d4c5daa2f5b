use std::time::Duration;

use kanade_model::{Subject, TargetState};
use kanade_ports::{Clock, ExecutionStore};

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
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
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
