//! What is retained when the broker fails, answers late, or the server crashes.

use super::*;

#[tokio::test]
async fn what_a_crash_left_is_removed_at_the_start() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (killed, _) = world.fire_and_retain("backup", &["pc-1", "pc-2"]).await;
    let (_, commands) = world.fire_and_retain("backup", &["pc-3", "pc-4", "pc-5"]).await;
    world.started(&commands["pc-5"], "pc-5").await;
    world
        .until_retained(&["pc.pc-1", "pc.pc-2", "pc.pc-3", "pc.pc-4"])
        .await;
    // It ends between the commit and the removal.
    world.broker().away.store(true, Ordering::SeqCst);
    let refused = world
        .services
        .kills
        .execution(&killed, &operator())
        .now_or_never();
    assert!(refused.is_none_or(|answer| answer.is_err()));
    world.finished(&commands["pc-3"], "pc-3", 0, "", "").await;
    world
        .broker()
        .retain(&"commands.pc.pc-5".parse().unwrap(), encode(&commands["pc-5"]));
    world
        .until("the kill is recorded", async || {
            world.execution(&killed).await.kill.is_some()
        })
        .await;
    let world = world.restart().await;
    assert_eq!(world.broker().subjects().len(), 5);
    world.broker().away.store(false, Ordering::SeqCst);
    world.until_retained(&["pc.pc-4"]).await;
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-4"], "it waits still");
}

#[tokio::test]
async fn a_kill_while_the_broker_is_away_is_recorded_told_as_failed_and_made_good_later() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (exec, _) = world.fire_and_retain("backup", &["pc-1"]).await;
    let mut kills = world.listen("kill.>").await;
    world.broker().away.store(true, Ordering::SeqCst);
    let error = world
        .services
        .kills
        .execution(&exec, &operator())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Bus(_)), "{error}");
    assert!(world.execution(&exec).await.kill.is_some());
    assert_eq!(come(&mut kills).len(), 1, "what runs is killed all the same");
    world.let_it_clear().await;
    assert_eq!(world.broker().subjects(), ["pc.pc-1"]);
    world.broker().away.store(false, Ordering::SeqCst);
    world.until_retained(&[]).await;
}

#[tokio::test]
async fn a_kill_waits_until_it_is_known_what_is_retained_and_says_so_when_that_takes_too_long() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (exec, _) = world.fire_and_retain("backup", &["pc-1"]).await;
    world.broker().away.store(true, Ordering::SeqCst);
    let world = world.restart().await;
    let services = world.services.clone();
    let kill = tokio::spawn(async move { services.kills.execution(&exec, &operator()).await });
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let kill = tokio::spawn(async move {
        let answer = kill.await.unwrap();
        told.store(true, Ordering::SeqCst);
        answer
    });
    world
        .advance_until(STEP, "it is answered", async || done.load(Ordering::SeqCst))
        .await;
    let error = kill.await.unwrap().unwrap_err();
    assert!(
        error
            .report()
            .contains("remove the Commands retained of execution"),
        "{error}"
    );
    world.broker().away.store(false, Ordering::SeqCst);
    world.until_retained(&[]).await;
}

#[tokio::test]
async fn a_keeping_that_was_not_answered_is_repeated() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.broker().is_silent.store(true, Ordering::SeqCst);
    world.fire("backup", &["pc-1"]).await;
    let first = next_command(&mut world.commands).await;
    world.broker().is_silent.store(false, Ordering::SeqCst);
    assert_eq!(world.sent_again().await, first, "with the same request");
}

#[tokio::test]
async fn a_kill_also_removes_what_was_kept_without_an_answer() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let watched = async || !world.broker().kept.lock().unwrap().watches.is_empty();
    world.until("there is a watch", watched).await;
    // As when a connection is lost.
    world.broker().is_silent.store(true, Ordering::SeqCst);
    world.broker().cut();
    let fired = world.fire("backup", &["pc-1"]).await;
    next_command(&mut world.commands).await;
    let (services, broker) = (world.services.clone(), world.broker.clone().unwrap());
    let exec = fired.exec_id.clone();
    let kill = tokio::spawn(async move {
        services.kills.execution(&exec, &operator()).await.unwrap();
        broker.subjects()
    });
    let left = tokio::select! {
        left = kill => left.unwrap(),
        () = world.keep_advancing() => unreachable!("for ever"),
    };
    assert!(left.is_empty(), "by the time of the answer: {left:?}");
}

#[tokio::test]
async fn what_is_sent_again_is_retained_again_and_removed_with_the_rest() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    let (exec, commands) = world.fire_and_retain("backup", &["pc-1"]).await;
    let last = |world: &World| world.broker().kept.lock().unwrap().last;
    for wait in [20, 40] {
        let before = last(&world);
        world.clock.advance(Duration::from_secs(wait));
        world.heartbeat("pc-1").await;
        assert_eq!(world.sent_again().await, commands["pc-1"]);
        assert_eq!(world.broker().subjects(), ["pc.pc-1"]);
        assert!(
            last(&world) > before,
            "a broker drops what has a name that it knows"
        );
    }
    world.services.kills.execution(&exec, &operator()).await.unwrap();
    assert!(world.broker().subjects().is_empty());
}

#[tokio::test]
async fn many_commands_are_on_their_way_at_once_and_not_all_of_them() {
    let world = World::with_broker().await;
    world.job("backup").await;
    world.broker().keepings.forget_permits(usize::MAX);
    let pcs: Vec<String> = (0..1000).map(|n| format!("pc-{n}")).collect();
    let pcs: Vec<&str> = pcs.iter().map(String::as_str).collect();
    let fired = world.fire("backup", &pcs).await;
    let broker = world.broker.clone().unwrap();
    let asked = || broker.asked_to_keep.load(Ordering::SeqCst);
    world
        .until("some are on their way", async || asked() >= 256)
        .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked(), 256);
    // A kill now waits for those that are under way and removes them.
    let services = world.services.clone();
    let exec = fired.exec_id.clone();
    let kill = tokio::spawn(async move { services.kills.execution(&exec, &operator()).await });
    world.broker().keepings.add_permits(100_000);
    kill.await.unwrap().unwrap();
    assert!(world.broker().subjects().is_empty());
    world.let_it_clear().await;
    assert!(world.broker().subjects().is_empty());
    assert_eq!(broker.kept.lock().unwrap().last, 1000, "each once");
}

#[tokio::test]
async fn a_watch_that_ends_is_begun_again() {
    let mut world = World::with_broker().await;
    world.job("backup").await;
    world.fire_and_retain("backup", &["pc-1"]).await;
    world.broker().cut();
    let theirs = foreign("theirs", "unknown");
    world
        .broker()
        .retain(&"commands.pc.pc-2".parse().unwrap(), encode(&theirs));
    world
        .advance_until(STEP, "there is a watch again", async || {
            !world.broker().kept.lock().unwrap().watches.is_empty()
        })
        .await;
    world
        .bus
        .publish(&Subject::kill(&id("theirs")), Bytes::new())
        .await
        .unwrap();
    world.until_retained(&["pc.pc-1"]).await;
}
