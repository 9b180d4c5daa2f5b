//! What a slot does while an earlier firing is not over.

use super::*;

#[tokio::test]
async fn a_slot_is_skipped_while_an_earlier_firing_is_not_over() {
    let mut world = World::scheduled("0 */10 * * * *", json!({"overlap": "skip"})).await;
    world.until_slots(1).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    world.until_slots(2).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    world.until_slots(3).await;
    assert_eq!(
        world.told().await,
        ["08:10:00 fired", "08:20:00 skipped", "08:30:00 fired"]
    );
}

#[tokio::test]
async fn an_agent_that_is_away_for_long_holds_no_later_slot_up() {
    let world = World::scheduled("0 0 * * * *", json!({"overlap": "skip"})).await;
    world.until_slots(3).await;
    assert_eq!(
        world.told().await,
        ["09:00:00 fired", "10:00:00 skipped", "11:00:00 fired"],
        "an hour is given to those that have not answered"
    );
}

#[tokio::test]
async fn the_newest_slot_waits_for_an_earlier_firing_also_across_a_restart() {
    let mut world = World::scheduled("0 */10 * * * *", json!({"overlap": "buffer_one"})).await;
    world.until_slots(1).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    world.until_slots(3).await;
    let buffered = ["08:10:00 fired", "08:20:00 skipped", "08:30:00 waiting"];
    assert_eq!(world.told().await, buffered);
    let world = world.restart().await;
    assert_eq!(world.told().await, buffered);
    world.finished(&command, "pc-1", 0, "", "").await;
    world
        .advance_until(Duration::from_secs(1), "it waits no longer", async || {
            world.slots().await[2].state == SlotState::Fired
        })
        .await;
    assert!(world.clock.now() < world.at("08:40:00"), "soon after the end");
    let waited = world.slots().await.remove(2);
    assert_eq!(waited.exec_id, Some(ExecId::of_slot(&id("s"), waited.slot)));
    assert_eq!(world.executions().await.len(), 2);
}

#[tokio::test]
async fn a_slot_kills_the_earlier_firing_and_no_other_execution() {
    let mut world = World::scheduled("0 */10 * * * *", json!({"overlap": "kill_previous"})).await;
    let by_hand = world.fire("backup", &["pc-2"]).await;
    let first = next_command(&mut world.commands).await;
    assert_eq!(first.exec_id, Some(by_hand.exec_id.clone()));
    world.started(&first, "pc-2").await;
    world.until_slots(1).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    world.until_slots(2).await;
    let earlier = world.execution(&command.exec_id.unwrap()).await;
    assert_eq!(earlier.kill.unwrap().by, "schedule:s");
    assert!(world.execution(&by_hand.exec_id).await.kill.is_none());
    assert_eq!(world.told().await, ["08:10:00 fired", "08:20:00 fired"]);
}
