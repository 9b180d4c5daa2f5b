//! Scripts as they run and what is reported of them.

use kanade_agent::AgentLimits;
use kanade_model::{Ended, ExecResult, RunAs, Shell};
use kanade_ports::{Bus, PubSub};

use crate::world::{World, command, is_alive, pc_id, until, with};

#[tokio::test]
async fn a_script_runs_and_its_start_output_and_exit_code_are_reported() {
    let world = World::new().await;
    let agent = world.agent().await;
    let command = command("echo out; echo err >&2; exit 3");
    let result = world.run(&command).await;
    assert_eq!((result.exit_code, result.ended), (3, Some(Ended::Exited)));
    assert_eq!(
        (result.stdout.as_str(), result.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(
        (result.pc_id, result.exec_id, result.manifest_id),
        (pc_id(), command.exec_id.clone(), Some(command.id.clone()))
    );
    assert!(result.started_at <= result.finished_at);
    let started = world.started(&command).await;
    assert_eq!(Some(started.result_id), result.result_id);
    assert_eq!(
        (started.started_at, started.version),
        (result.started_at, command.version)
    );
    agent.stop().await;
    let left = std::fs::read_dir(world.path("agent/scripts")).unwrap().count();
    assert_eq!(left, 0, "the script is removed after the run");
}

#[tokio::test]
async fn an_ad_hoc_run_has_a_result_and_no_start_event() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let ad_hoc = with("echo hello", |command| command.exec_id = None);
    let result = world.run(&ad_hoc).await;
    assert_eq!(
        (result.exit_code, result.stdout.as_str(), result.exec_id),
        (0, "hello\n", None)
    );
    let next = command("true");
    world.run(&next).await;
    world.started(&next).await;
    assert_eq!(
        world.heard::<serde_json::Value>("events.").len(),
        1,
        "only the second run has told its start"
    );
}

#[tokio::test]
async fn commands_to_everybody_are_run_too() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let command = command("true");
    let payload = serde_json::to_vec(&command).unwrap().into();
    let subject = kanade_model::Subject::commands_all();
    world.bus.inner.publish(&subject, payload).await.unwrap();
    assert_eq!(world.result(&command).await.exit_code, 0);
}

#[tokio::test]
async fn a_script_of_the_largest_size_runs() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let last = "\necho the end\n";
    let script = "#".repeat(512 * 1024 - last.len()) + last;
    let result = world.run(&command(&script)).await;
    assert_eq!(
        (result.exit_code, result.stdout.as_str()),
        (0, "the end\n"),
        "{}",
        result.stderr
    );
}

#[tokio::test]
async fn bash_runs_with_its_own_language_and_gets_no_input() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = "words=(a b c); echo ${#words[@]}; cat; echo after";
    let result = world
        .run(&with(script, |command| command.shell = Shell::Bash))
        .await;
    assert_eq!(result.stdout, "3\nafter\n", "{}", result.stderr);
}

#[tokio::test]
async fn a_script_runs_in_its_working_directory() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let cwd = std::fs::canonicalize(&world.folder).unwrap();
    let result = world
        .run(&with("pwd -P", |command| {
            command.cwd = Some(cwd.display().to_string());
        }))
        .await;
    assert_eq!(result.stdout.trim_end(), cwd.to_str().unwrap());
}

#[tokio::test]
async fn what_cannot_be_started_is_a_result_that_says_why() {
    let world = World::new().await;
    let _agent = world.agent().await;
    for (command, why) in [
        (
            with("true", |command| command.shell = Shell::Cmd),
            "`cmd` cannot be run",
        ),
        (
            with("true", |command| command.cwd = Some("/no/such/folder".into())),
            "`/no/such/folder`",
        ),
        (
            with("true", |command| command.cwd = Some("/etc/passwd".into())),
            "`/etc/passwd`",
        ),
        (with("true", |command| command.run_as = RunAs::User), "`user`"),
        (
            with("true", |command| command.run_as = RunAs::SystemGui),
            "`system_gui`",
        ),
    ] {
        let result = world.run(&command).await;
        assert_eq!(
            (result.exit_code, result.ended),
            (-1, Some(Ended::NotStarted)),
            "{why}"
        );
        assert!(
            result.stderr.contains("not started") && result.stderr.contains(why),
            "{}",
            result.stderr
        );
    }
    assert!(world.heard::<serde_json::Value>("events.started.").is_empty());
}

#[tokio::test]
async fn a_script_ended_by_a_signal_has_the_exit_code_of_a_shell_and_says_so() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let result = world.run(&command("echo before; kill -9 $$")).await;
    assert_eq!((result.exit_code, result.ended), (137, Some(Ended::Exited)));
    assert_eq!(
        (result.stdout.as_str(), result.stderr.as_str()),
        ("before\n", "ended by signal SIGKILL")
    );
}

#[tokio::test]
async fn endless_output_is_cut_in_the_middle_and_ends_with_the_timeout() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let noisy = with(
        "echo first; yes | head -c 1000000; echo > started; yes",
        |command| {
            command.timeout_secs = 30;
            command.cwd = Some(world.folder.display().to_string());
        },
    );
    world.send(&noisy).await;
    until(|| world.path("started").exists()).await;
    // The heartbeat and the timeout.
    clock.sleepers(2).await;
    clock.advance(std::time::Duration::from_secs(30));
    let result = world.result(&noisy).await;
    assert_eq!((result.exit_code, result.ended), (-1, Some(Ended::TimedOut)));
    assert!(result.stdout.starts_with("first\ny\ny\n"), "the head is kept");
    assert!(
        result.stdout.contains("bytes left out …]"),
        "{}",
        result.stdout.len()
    );
    assert!(result.stdout.len() < 257 * 1024, "{}", result.stdout.len());
    assert_eq!(result.stderr, "timeout after 30s");
}

#[tokio::test]
async fn the_reason_of_a_timeout_follows_what_the_script_said() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let slow = with("printf oops >&2; echo > started; sleep 1000", |command| {
        command.timeout_secs = 7;
        command.cwd = Some(world.folder.display().to_string());
    });
    world.send(&slow).await;
    until(|| world.path("started").exists()).await;
    clock.sleepers(2).await;
    clock.advance(std::time::Duration::from_secs(7));
    assert_eq!(world.result(&slow).await.stderr, "oops\ntimeout after 7s");
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_replaced_not_dropped() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let result = world
        .run(&command(r"printf 'caf\351 \303\274'; printf '\377' >&2"))
        .await;
    assert_eq!(
        (result.stdout.as_str(), result.stderr.as_str()),
        ("caf\u{fffd} ü", "\u{fffd}")
    );
}

#[tokio::test]
async fn output_that_grows_in_json_still_fits_into_a_message() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = r"head -c 600000 /dev/zero | tr '\0' '\1'; head -c 600000 /dev/zero >&2; echo why >&2";
    let result = world.run(&command(script)).await;
    assert_eq!(result.exit_code, 0);
    assert!(serde_json::to_vec(&result).unwrap().len() <= AgentLimits::default().message_bytes);
    assert!(result.stdout.contains("bytes left out") && result.stderr.contains("bytes left out"));
    assert!(result.stderr.ends_with("\0why\n"));
}

#[tokio::test]
async fn no_more_scripts_run_at_once_than_allowed_and_the_rest_gets_its_turn() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = "echo > run.$$
        until [ -e go ]; do sleep 0.02; done
        ls run.* | wc -l
        rm run.$$";
    let commands: Vec<_> = (0..20).map(|_| world.here(script)).collect();
    for command in &commands {
        world.send(command).await;
    }
    let running = || {
        let entries = std::fs::read_dir(&world.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        entries
            .filter(|name| name.to_string_lossy().starts_with("run."))
            .count()
    };
    until(|| running() == 16).await;
    std::fs::write(world.path("go"), "").unwrap();
    for command in &commands {
        let result = world.result(command).await;
        let seen: usize = result.stdout.trim().parse().unwrap();
        assert!((1..=16).contains(&seen), "{seen} scripts at once");
    }
}

#[tokio::test]
async fn a_command_that_is_one_too_many_is_not_accepted_and_runs_when_it_comes_again() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.in_hand = 3;
    let agent = world.agent_with(config).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| world.here("until [ -e go ]; do sleep 0.02; done"))
        .collect();
    for command in &waiting {
        world.send(command).await;
        world.started(command).await;
    }
    let one_too_many = world.here("echo ran >> ran");
    world.send(&one_too_many).await;
    // Gives it time to be looked at.
    let ping = kanade_model::Subject::ping(&pc_id());
    let pong = world
        .bus
        .inner
        .request(&ping, "".into(), std::time::Duration::from_secs(30));
    pong.await.unwrap();
    std::fs::write(world.path("go"), "").unwrap();
    for command in &waiting {
        world.result(command).await;
    }
    agent.stop().await;
    let agent = world.agent().await;
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
    assert!(!world.path("ran").exists(), "nothing is known of it");
    world.run(&one_too_many).await;
    agent.stop().await;
    assert_eq!(std::fs::read_to_string(world.path("ran")).unwrap(), "ran\n");
}

#[tokio::test]
async fn a_result_does_not_wait_for_what_the_script_left_in_the_background_and_that_lives_on() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let script = "sh -c 'until [ -e go ]; do sleep 0.02; echo still here; done; echo > done' & echo $! > child; echo out";
    let daemon = world.here(script);
    let result: ExecResult = world.run(&daemon).await;
    assert_eq!((result.exit_code, result.ended), (0, Some(Ended::Exited)));
    assert!(result.stdout.contains("out\n"));
    let child = world.number_in("child").await;
    assert!(
        is_alive(child),
        "it holds the output open and is not ended by that"
    );
    std::fs::write(world.path("go"), "").unwrap();
    until(|| world.path("done").exists()).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_understood_is_left_alone_and_the_next_one_runs() {
    let world = World::new().await;
    let _agent = world.agent().await;
    for broken in ["", "{}", "[1]", "\u{1}", r#"{"id": "job", "shell": "fish"}"#] {
        let subject = kanade_model::Subject::commands_pc(&pc_id());
        world.bus.inner.publish(&subject, broken.into()).await.unwrap();
    }
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
    assert_eq!(world.heard::<ExecResult>("results.").len(), 1);
}
