use std::{sync::atomic::Ordering, time::Duration};

use futures::StreamExt;
use kanade_core::Error;
use kanade_model::{EventKill, ExecutionStatus, Receipt, Subject, TargetState};
use kanade_ports::{Clock, ExecutionStore, PubSub, SendState};

use crate::world::{World, come, encode, id, next_command, operator};

#[tokio::test]
async fn a_kill_is_published_recorded_and_confirmed_by_the_result() {
    let (world, fired, command) = World::with_a_run().await;
    let mut kills = world.listen("kill.>").await;
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap();
    assert_eq!(come(&mut kills).len(), 1, "published before it is answered");
    let receipt = async || {
        world
            .store
            .target(&fired.exec_id, &id("pc-1"))
            .await
            .unwrap()
            .unwrap()
            .receipt
    };
    assert_eq!(receipt().await, Some(Receipt::Requested));

    let delivered = EventKill {
        exec_id: fired.exec_id.clone(),
        pc_id: id("pc-1"),
        at: world.clock.now(),
    };
    world
        .durable(
            &Subject::kill_delivered(&fired.exec_id, &id("pc-1")),
            encode(&delivered),
        )
        .await;
    assert_eq!(receipt().await, Some(Receipt::Delivered));

    world
        .finished(&command, "pc-1", -1, "", "killed by remote signal (kill.x)")
        .await;
    assert_eq!(receipt().await, Some(Receipt::Confirmed));
    assert_eq!(
        world.execution(&fired.exec_id).await.status,
        ExecutionStatus::Killed
    );
    assert_eq!(
        world.audit_actions().await,
        ["job_upsert", "exec", "execution_kill"]
    );
}

#[tokio::test]
async fn a_kill_that_comes_too_late_says_finished() {
    let (world, fired, command) = World::with_a_run().await;
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap();
    world.finished(&command, "pc-1", 0, "", "").await;
    let target = world
        .store
        .target(&fired.exec_id, &id("pc-1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (target.state, target.receipt),
        (TargetState::Succeeded, Some(Receipt::Finished))
    );
    assert_eq!(
        world.execution(&fired.exec_id).await.status,
        ExecutionStatus::Completed
    );
}

#[tokio::test]
async fn a_kill_is_repeated_for_its_window_and_then_settled() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1", "pc-2"]).await;
    let commands = [
        next_command(&mut world.commands).await,
        next_command(&mut world.commands).await,
    ];
    world.started(&commands[0], "pc-1").await;
    let mut kills = world.listen("kill.>").await;
    let begun = world.clock.now();
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap();
    world
        .advance_until(Duration::from_millis(500), "the kill is settled", async || {
            world
                .execution(&fired.exec_id)
                .await
                .kill
                .is_some_and(|kill| kill.settled)
        })
        .await;
    let took = world.clock.now().since(begun);
    assert!(took >= Duration::from_secs(30), "settled after {took:?}");
    let repeats = come(&mut kills).len();
    assert!((10..=20).contains(&repeats), "{repeats} kills in {took:?}");
    let of = async |pc| {
        let target = world
            .store
            .target(&fired.exec_id, &id(pc))
            .await
            .unwrap()
            .unwrap();
        (target.state, target.receipt)
    };
    assert_eq!(
        of("pc-1").await,
        (TargetState::Running, Some(Receipt::Unreachable)),
        "still to be lost or heard of"
    );
    assert_eq!(
        of("pc-2").await,
        (TargetState::Withdrawn, Some(Receipt::Unreachable)),
        "can never start"
    );

    // The agent was cut off and had it all the time: it is killed as soon as it shows life.
    let mut kills = world.listen("kill.>").await;
    world.heartbeat("pc-1").await;
    let again = async { kills.next().await.unwrap() };
    tokio::select! {
        message = again => assert_eq!(message.subject, Subject::kill(&fired.exec_id)),
        () = world.advance_until(Duration::from_millis(100), "it is killed again", async || false) => {}
    }
}

#[tokio::test]
async fn a_killed_execution_sends_nothing_more_also_after_a_restart() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire_in_two_waves("backup", Duration::from_secs(60)).await;
    let command = next_command(&mut world.commands).await;
    world.started(&command, "pc-1").await;
    world
        .services
        .kills
        .job(&id("backup"), &operator())
        .await
        .unwrap();
    assert_eq!(
        world.target_state(&fired.exec_id, "pc-2").await,
        Some(TargetState::Withdrawn)
    );
    let states: Vec<SendState> = world
        .store
        .sends(&fired.exec_id)
        .await
        .unwrap()
        .into_iter()
        .map(|send| send.state)
        .collect();
    assert_eq!(states, [SendState::Sent, SendState::Withdrawn]);

    let mut world = world.restart().await;
    world.heartbeat("pc-2").await;
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    world.fire("backup", &["pc-9"]).await;
    assert_ne!(
        next_command(&mut world.commands).await.exec_id.as_ref(),
        Some(&fired.exec_id)
    );
    assert!(come(&mut world.commands).is_empty());
}

#[tokio::test]
async fn a_kill_during_dispatch_leaves_no_send_behind_it() {
    let mut world = World::new().await;
    world.job("backup").await;
    let pcs: Vec<String> = (0..200).map(|n| format!("pc-{n}")).collect();
    let pcs: Vec<&str> = pcs.iter().map(String::as_str).collect();
    for _ in 0..20 {
        let mut kills = world.listen("kill.>").await;
        let mut everything = world.listen(">").await;
        let fired = world.fire("backup", &pcs).await;
        world
            .services
            .kills
            .execution(&fired.exec_id, &operator())
            .await
            .unwrap();
        assert_eq!(come(&mut kills).len(), 1);
        let seen: Vec<String> = come(&mut everything)
            .into_iter()
            .map(|message| message.subject.to_string())
            .collect();
        let killed = seen
            .iter()
            .position(|subject| subject.starts_with("kill."))
            .unwrap();
        assert_eq!(killed, seen.len() - 1, "nothing is sent after the kill");
        come(&mut world.commands);
    }
}

#[tokio::test]
async fn a_kill_that_somebody_else_publishes_is_recorded() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    next_command(&mut world.commands).await;
    world
        .bus
        .publish(&Subject::kill(&fired.exec_id), bytes::Bytes::new())
        .await
        .unwrap();
    world
        .until("the kill is recorded", async || {
            world.execution(&fired.exec_id).await.kill.is_some()
        })
        .await;
    assert_eq!(
        world.audit_actions().await,
        ["job_upsert", "exec", "execution_kill"]
    );
}

#[tokio::test]
async fn who_killed_is_recorded_also_when_the_end_is_heard_of_before_the_kill() {
    for (hindsight, known) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let mut world = World::new().await;
        world.job("backup").await;
        let fired = world.fire("backup", &["pc-1"]).await;
        let command = next_command(&mut world.commands).await;
        world.started(&command, "pc-1").await;
        world
            .finished(&command, "pc-1", -1, "", "killed by remote signal (kill.x)")
            .await;
        world
            .until("it is over", async || {
                world.execution(&fired.exec_id).await.is_final()
            })
            .await;
        world.clock.advance(hindsight);
        let kill = Subject::kill(&fired.exec_id);
        world.bus.publish(&kill, bytes::Bytes::new()).await.unwrap();
        // What is heard next is heard after it.
        let next = world.fire("backup", &["pc-1"]).await;
        next_command(&mut world.commands).await;
        let kill = Subject::kill(&next.exec_id);
        world.bus.publish(&kill, bytes::Bytes::new()).await.unwrap();
        world
            .until("the next kill is recorded", async || {
                world.execution(&next.exec_id).await.kill.is_some()
            })
            .await;
        let execution = world.execution(&fired.exec_id).await;
        assert_eq!(execution.kill.is_some(), known, "{execution:?}");
        let actions = world.audit_actions().await;
        let kills = actions
            .iter()
            .filter(|action| *action == "execution_kill")
            .count();
        assert_eq!(kills, 1 + usize::from(known), "{actions:?}");
    }
}

#[tokio::test]
async fn killing_a_job_with_nothing_in_flight_is_fine_and_an_unknown_execution_is_not() {
    let world = World::new().await;
    world
        .services
        .kills
        .job(&id("nothing"), &operator())
        .await
        .unwrap();
    let error = world
        .services
        .kills
        .execution(&id("nothing"), &operator())
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        Error::NotFound {
            what: "execution",
            ..
        }
    ));
    assert_eq!(world.audit_actions().await, ["job_kill"]);
}

#[tokio::test]
async fn a_kill_that_cannot_be_recorded_is_an_error_and_not_published() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    next_command(&mut world.commands).await;
    let mut kills = world.listen("kill.>").await;
    world.store.full.store(true, Ordering::SeqCst);
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap_err();
    assert!(come(&mut kills).is_empty());
}

#[tokio::test]
async fn an_ad_hoc_run_is_killed_by_the_id_it_was_given_and_never_mixed_up_with_an_execution() {
    let mut world = World::new().await;
    world.job("backup").await;
    let request = |exec: &str| kanade_model::api::RunRequest {
        pc_id: id("pc-1"),
        script: "true".into(),
        shell: Some("sh".into()),
        timeout_secs: None,
        exec_id: Some(id(exec)),
        jitter_secs: None,
    };
    let agents = world.services.agents.clone();
    let waiting = tokio::spawn(async move { agents.run(&request("by-hand"), &operator()).await });
    let command = next_command(&mut world.commands).await;
    assert!(command.deadline_at.is_some(), "nobody waits for a late start");
    world.started(&command, "pc-1").await;
    let mut kills = world.listen("kill.>").await;
    world
        .services
        .kills
        .execution(&id("by-hand"), &operator())
        .await
        .unwrap();
    assert_eq!(come(&mut kills).len(), 1);
    world
        .finished(&command, "pc-2", 0, "from somebody else", "")
        .await;
    world
        .finished(&command, "pc-1", -1, "", "killed by remote signal (kill.by-hand)")
        .await;
    assert_eq!(waiting.await.unwrap().unwrap().exit_code, -1);

    let fired = world.fire("backup", &["pc-1"]).await;
    let mixed = world
        .services
        .agents
        .run(&request(fired.exec_id.as_str()), &operator())
        .await
        .unwrap_err();
    assert!(
        matches!(&mixed, Error::Invalid(invalid) if invalid.field == "exec_id"),
        "{mixed}"
    );
    let endless = kanade_model::api::RunRequest {
        jitter_secs: Some(u64::MAX),
        ..request("other")
    };
    let endless = world
        .services
        .agents
        .run(&endless, &operator())
        .await
        .unwrap_err();
    assert!(
        matches!(&endless, Error::Invalid(invalid) if invalid.field == "jitter_secs"),
        "{endless}"
    );
}

#[tokio::test]
async fn life_late_in_the_window_gives_the_kill_its_whole_time_again() {
    let mut world = World::new().await;
    world.job("backup").await;
    let fired = world.fire("backup", &["pc-1"]).await;
    let command = next_command(&mut world.commands).await;
    world
        .services
        .kills
        .execution(&fired.exec_id, &operator())
        .await
        .unwrap();
    let killed_at = world.clock.now();
    world
        .advance_until(
            Duration::from_millis(500),
            "the window is nearly over",
            async || world.clock.now().since(killed_at) >= Duration::from_secs(25),
        )
        .await;
    // It had been waiting out its jitter, without ears.
    world.started(&command, "pc-1").await;
    let shown_at = world.clock.now();
    world
        .advance_until(Duration::from_millis(500), "the kill is settled", async || {
            world
                .execution(&fired.exec_id)
                .await
                .kill
                .is_some_and(|kill| kill.settled)
        })
        .await;
    let took = world.clock.now().since(shown_at);
    assert!(took >= Duration::from_secs(30), "{took:?}");
}
