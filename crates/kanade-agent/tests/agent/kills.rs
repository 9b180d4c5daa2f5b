//! Kills before, during and after a run.

use std::time::Duration;

use kanade_model::{Command, Ended, EventKill, EventStarted, ExecResult};

use crate::world::{World, again, command, exec_of, is_alive, until, with};

fn assert_killed(result: &ExecResult, command: &Command) {
    assert_eq!((result.exit_code, result.ended), (-1, Some(Ended::Killed)));
    assert!(
        result
            .stderr
            .ends_with(&format!("killed by remote signal (kill.{})", exec_of(command))),
        "{}",
        result.stderr
    );
    assert_eq!(result.how_it_ended(), Ended::Killed);
}

#[tokio::test]
async fn a_kill_ends_a_running_script_and_is_answered_with_a_receipt_and_a_result() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let long = world.here("printf partial >&2; echo $$ > pid; exec sleep 1000");
    world.send(&long).await;
    let pid = world.number_in("pid").await;
    world.kill(&exec_of(&long)).await;
    let receipt = world.kill_delivered(&exec_of(&long)).await;
    let result = world.result(&long).await;
    assert_killed(&result, &long);
    assert!(result.stderr.starts_with("partial\n"));
    assert!(receipt.at <= result.finished_at);
    assert!(!is_alive(pid));
}

/// Each of these leaves the process group, the parent, or both.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_kill_ends_every_descendant_also_those_that_left_the_group_or_ignore_term() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = r"
        sh -c 'echo $$ > plain; exec sleep 1000' &
        nohup sh -c 'echo $$ > nohup; exec sleep 1000' > /dev/null 2>&1 &
        setsid sh -c 'echo $$ > session; exec sleep 1000' &
        setsid sh -c '(trap : HUP; echo $$ > outer; sh -c '\''echo $$ > orphan; exec sleep 1000'\'' &) ; exit' &
        sh -c 'trap : TERM; echo $$ > stubborn; while :; do sleep 0.1; done' &
        setsid sh -c 'trap : TERM; echo $$ > stubborn-session; while :; do sleep 0.1; done' &
        env -i sh -c 'echo $$ > bare; exec sleep 1000' &
        setsid env -i sh -c 'echo $$ > bare-session; exec sleep 1000' &
        echo $$ > main
        wait; sleep 1000";
    let tree = world.here(script);
    world.send(&tree).await;
    let names = [
        "plain",
        "nohup",
        "session",
        "orphan",
        "stubborn",
        "stubborn-session",
        "bare",
        "bare-session",
        "main",
    ];
    let mut pids = Vec::new();
    for name in names {
        pids.push((name, world.number_in(name).await));
    }
    assert!(pids.iter().all(|(_, pid)| is_alive(*pid)));
    world.kill(&exec_of(&tree)).await;
    let result = world.result(&tree).await;
    assert_killed(&result, &tree);
    let left: Vec<_> = pids.iter().filter(|(_, pid)| is_alive(*pid)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[tokio::test]
async fn a_script_may_clean_up_when_it_is_told_to_end() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = "trap 'echo cleaned up; exit 0' TERM; echo $$ > pid; while :; do sleep 0.02; done";
    let polite = world.here(script);
    world.send(&polite).await;
    world.number_in("pid").await;
    world.kill(&exec_of(&polite)).await;
    let result = world.result(&polite).await;
    assert_killed(&result, &polite);
    assert_eq!(result.stdout, "cleaned up\n");
}

#[tokio::test]
async fn a_kill_before_the_command_keeps_it_from_starting_also_after_a_restart() {
    let world = World::new().await;
    let agent = world.agent().await;
    let first = command("true");
    world.kill(&exec_of(&first)).await;
    // A message of another kind has no order to the kill: ask until the kill is known.
    let mut last = first.clone();
    loop {
        let result = world.run(&last).await;
        if result.how_it_ended() == Ended::Killed {
            assert_killed(&result, &last);
            assert_eq!(result.started_at, result.finished_at);
            break;
        }
        last = again(&last);
    }
    agent.stop().await;
    let _agent = world.agent().await;
    let later = again(&last);
    assert_killed(&world.run(&later).await, &later);
    let started = world.heard::<EventStarted>("events.started.");
    assert!(
        started
            .iter()
            .all(|event| event.request_id != later.request_id && event.request_id != last.request_id)
    );
}

#[tokio::test]
async fn a_kill_during_the_jitter_means_that_nothing_ever_starts() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let waiting = with("echo > ran", |command| {
        command.jitter_secs = Some(3600);
        command.cwd = Some(world.folder.display().to_string());
    });
    world.send(&waiting).await;
    // The heartbeat and the jitter.
    clock.sleepers(2).await;
    world.kill(&exec_of(&waiting)).await;
    assert_killed(&world.result(&waiting).await, &waiting);
    world.kill_delivered(&exec_of(&waiting)).await;
    clock.advance(Duration::from_secs(3600));
    let next = command("true");
    assert_eq!(world.run(&next).await.exit_code, 0);
    assert!(!world.path("ran").exists());
    assert_eq!(
        world.heard::<EventStarted>("events.started.").len(),
        1,
        "only the second one has started"
    );
}

#[tokio::test]
async fn a_kill_reaches_a_run_in_the_queue() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.at_once = 1;
    let _agent = world.agent_with(config).await;
    let first = world.here("echo $$ > pid; until [ -e go ]; do sleep 0.02; done");
    world.send(&first).await;
    world.number_in("pid").await;
    let queued = world.here("echo > ran");
    world.send(&queued).await;
    // Accepted or not yet when the kill arrives: it must not matter.
    world.kill(&exec_of(&queued)).await;
    assert_killed(&world.result(&queued).await, &queued);
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(world.result(&first).await.exit_code, 0);
    assert!(!world.path("ran").exists());
}

#[tokio::test]
async fn repeated_kills_do_no_harm_and_a_kill_after_the_end_does_nothing() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let long = world.here("echo $$ > pid; sleep 1000");
    world.send(&long).await;
    world.number_in("pid").await;
    for _ in 0..10 {
        world.kill(&exec_of(&long)).await;
    }
    assert_killed(&world.result(&long).await, &long);
    let quick = command("true");
    assert_eq!(world.run(&quick).await.ended, Some(Ended::Exited));
    world.kill(&exec_of(&quick)).await;
    world.kill(&exec_of(&long)).await;
    let after = command("true");
    world.run(&after).await;
    world.started(&after).await;
    until(|| world.heard::<EventStarted>("events.started.").len() == 3).await;
    let receipts = world.heard::<EventKill>("events.kill.");
    assert_eq!(
        receipts.len(),
        1,
        "one receipt, from the kill that met a run: {receipts:?}"
    );
    assert_eq!(
        world.heard::<ExecResult>("results.").len(),
        3,
        "one result for each run"
    );
}

#[tokio::test]
async fn a_kill_of_another_execution_disturbs_nobody() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = "echo $$ > pid; until [ -e go ]; do sleep 0.02; done; echo done";
    let patient = world.here(script);
    world.send(&patient).await;
    world.number_in("pid").await;
    let other = world.here("sleep 1000");
    world.send(&other).await;
    world.started(&other).await;
    world.kill(&exec_of(&other)).await;
    assert_killed(&world.result(&other).await, &other);
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(world.result(&patient).await.stdout, "done\n");
}

#[tokio::test]
async fn a_message_that_says_something_is_no_kill() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let long = world.here("echo $$ > pid; sleep 600");
    world.send(&long).await;
    world.number_in("pid").await;
    // An answer of a broker, which somebody has had sent there.
    let answer = "{\"stream\":\"RESULTS\",\"seq\":1}";
    let to = kanade_model::Subject::kill(&exec_of(&long));
    kanade_ports::PubSub::publish(&world.bus.inner, &to, answer.into())
        .await
        .unwrap();
    world.run(&world.here("true")).await;
    assert_eq!(world.heard::<kanade_model::EventKill>("events.kill."), []);
    world.kill(&exec_of(&long)).await;
    world.kill_delivered(&exec_of(&long)).await;
}
