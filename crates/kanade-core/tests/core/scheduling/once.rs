//! Schedules that fire until somebody has succeeded.

use super::*;

#[tokio::test]
async fn once_per_pc_fires_at_who_has_not_succeeded_and_then_completes() {
    let pcs = json!({
        "mode": "once_per_pc", "target": {"pcs": ["pc-1", "pc-2"]}, "auto_disable_when_done": true
    });
    let mut world = World::scheduled("0 */10 * * * *", pcs).await;
    world.until_slots(1).await;
    let mut commands = [
        next_command(&mut world.commands).await,
        next_command(&mut world.commands).await,
    ];
    // Sent by pc id.
    commands.sort_by_key(|command| command.request_id.0);
    for pc in ["pc-1", "pc-2"] {
        let request = world
            .store
            .target(commands[0].exec_id.as_ref().unwrap(), &id(pc))
            .await;
        let request = request.unwrap().unwrap().request_id;
        let command = commands
            .iter()
            .find(|command| command.request_id == request)
            .unwrap();
        world.started(command, pc).await;
        world.finished(command, pc, i32::from(pc == "pc-2"), "", "").await;
    }
    world.until_slots(2).await;
    let again = world.run_next("pc-2", 0).await;
    assert_eq!(
        world.target_state(&again, "pc-1").await,
        None,
        "it has succeeded there before"
    );
    world
        .advance_until(STEP, "it is disabled", async || {
            !world
                .services
                .schedules
                .get(&id("s"))
                .await
                .unwrap()
                .document
                .enabled
        })
        .await;
    assert_eq!(
        world.told().await,
        ["08:10:00 fired", "08:20:00 fired", "08:30:00 skipped"]
    );
    assert!(
        world
            .audit_actions()
            .await
            .contains(&"schedule_completed".to_owned())
    );
}

#[tokio::test]
async fn once_per_pc_leaves_alone_who_is_still_at_it() {
    let more = json!({"mode": "once_per_pc", "target": {"pcs": ["pc-1"]}, "cooldown": "15m"});
    let mut world = World::scheduled("0 */10 * * * *", more).await;
    world.until_slots(1).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    world.until_slots(2).await;
    world.finished(&command, "pc-1", 0, "", "").await;
    world.until_slots(4).await;
    assert_eq!(
        world.told().await,
        [
            "08:10:00 fired",
            // Under way.
            "08:20:00 skipped",
            // Within the cooldown, which begins with the end.
            "08:30:00 skipped",
            "08:40:00 fired"
        ]
    );
}

#[tokio::test]
async fn once_per_target_fires_until_one_has_succeeded() {
    let more = json!({"mode": "once_per_target", "target": {"pcs": ["pc-1", "pc-2"]}});
    let mut world = World::scheduled("0 */10 * * * *", more).await;
    world.until_slots(1).await;
    let exec = world.slots().await[0].exec_id.clone().unwrap();
    assert_eq!(world.execution(&exec).await.counts.of(TargetState::Waiting), 2);
    for _ in 0..2 {
        let command = next_command(&mut world.commands).await;
        let first = world.store.target(&exec, &id("pc-1")).await.unwrap().unwrap();
        let pc = if first.request_id == command.request_id {
            "pc-1"
        } else {
            "pc-2"
        };
        world.started(&command, pc).await;
        world
            .finished(&command, pc, i32::from(pc == "pc-1"), "", "")
            .await;
    }
    world
        .until("it is over", async || {
            world.execution(&exec).await.status == ExecutionStatus::Completed
        })
        .await;
    world.until_slots(2).await;
    assert_eq!(world.told().await, ["08:10:00 fired", "08:20:00 skipped"]);
    let still = world.services.schedules.get(&id("s")).await.unwrap();
    assert!(still.document.enabled, "nobody has asked for it to be disabled");
}
