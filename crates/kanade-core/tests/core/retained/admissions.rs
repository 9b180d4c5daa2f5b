//! Agents are admitted to what waits for them when they show life.

use super::*;

#[tokio::test]
async fn an_agent_is_admitted_once_and_again_after_an_absence() {
    let world = World::with_broker().await;
    world.agent("pc-1").await;
    let admitted = || world.broker().admitted("pc-1");
    world.until("it is admitted", async || admitted() == 1).await;
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(30));
        world.heartbeat("pc-1").await;
        let at = world.clock.now();
        world
            .until("it is heard", async || {
                let agent = world.store.agent(&id("pc-1")).await.unwrap();
                agent.is_some_and(|agent| agent.updated_at == at)
            })
            .await;
    }
    assert_eq!(admitted(), 1);
    world.clock.advance(Duration::from_secs(300));
    world.heartbeat("pc-1").await;
    world
        .until("it is admitted again", async || admitted() == 2)
        .await;
}

#[tokio::test]
async fn an_agent_that_could_not_be_admitted_is_at_its_next_heartbeat() {
    let world = World::with_broker().await;
    world.broker().away.store(true, Ordering::SeqCst);
    let admitted = || world.broker().admitted("pc-1");
    world.heartbeat("pc-1").await;
    world.until("it is tried", async || admitted() == 1).await;
    world.broker().away.store(false, Ordering::SeqCst);
    world.heartbeat("pc-1").await;
    world.until("it is tried again", async || admitted() == 2).await;
    world.heartbeat("pc-1").await;
    world.let_it_clear().await;
    assert_eq!(admitted(), 2);
}

#[tokio::test]
async fn admissions_do_not_hold_up_heartbeats() {
    let world = World::with_broker().await;
    world.broker().admissions.forget_permits(usize::MAX);
    for number in 0..100 {
        world.agent(&format!("pc-{number}")).await;
    }
    assert_eq!(world.broker().admitted("pc-99"), 0);
    world.broker().admissions.add_permits(1000);
    world
        .until("all are admitted", async || {
            (0..100).all(|number| world.broker().admitted(&format!("pc-{number}")) == 1)
        })
        .await;
}

#[tokio::test]
async fn who_is_known_is_admitted_at_the_start() {
    let world = World::with_broker().await;
    world.agent("pc-1").await;
    world
        .until("it is admitted", async || world.broker().admitted("pc-1") == 1)
        .await;
    let world = world.restart().await;
    world
        .until("it is admitted again", async || {
            world.broker().admitted("pc-1") == 2
        })
        .await;
}
