//! What an agent knows after it has stopped or crashed.

use std::{process::Stdio, sync::Arc, time::Duration};

use kanade_agent::{Agent, StartError};
use kanade_memory::BusLimits;
use kanade_model::{Ended, EventStarted, ExecResult, SkipReason};
use kanade_ports::{Bucket, SystemClock, SystemIds};

use crate::world::{World, command, exec_of, is_alive, until, with};

#[tokio::test]
async fn a_command_that_comes_again_runs_once_also_after_a_restart() {
    let world = World::new().await;
    let agent = world.agent().await;
    let once = world.here("echo ran >> ran");
    for _ in 0..5 {
        world.send(&once).await;
    }
    world.result(&once).await;
    world.send(&once).await;
    agent.stop().await;
    let agent = world.agent().await;
    world.send(&once).await;
    let next = command("true");
    world.run(&next).await;
    agent.stop().await;
    assert_eq!(std::fs::read_to_string(world.path("ran")).unwrap(), "ran\n");
    assert_eq!(world.heard::<ExecResult>("results.").len(), 2);
}

#[tokio::test]
async fn a_stop_ends_what_runs_and_reports_it_as_interrupted() {
    let world = World::new().await;
    let agent = world.agent().await;
    let script = "echo so far; (trap : TERM; echo $$ > stubborn; while :; do sleep 0.05; done) & echo $$ > pid; sleep 1000";
    let long = world.here(script);
    world.send(&long).await;
    let pid = world.number_in("pid").await;
    world.number_in("stubborn").await;
    agent.stop().await;
    assert!(!is_alive(pid));
    let result = &world.heard::<ExecResult>("results.")[0];
    assert_eq!((result.exit_code, result.ended), (-1, Some(Ended::Interrupted)));
    assert_eq!(result.stdout, "so far\n");
    assert!(
        result.stderr.contains("interrupted: the agent was stopped"),
        "{}",
        result.stderr
    );
    // It is not reported a second time.
    let _agent = world.agent().await;
    world.run(&command("true")).await;
    assert_eq!(world.heard::<ExecResult>("results.").len(), 2);
}

#[tokio::test]
async fn what_was_waiting_when_the_agent_stopped_is_started_in_the_next_life() {
    let (world, clock) = World::with_manual_clock().await;
    let mut config = world.config();
    config.limits.at_once = 1;
    let agent = world.agent_with(config.clone()).await;
    world.run(&command("true")).await;
    let jittering = with("echo jittering", |command| command.jitter_secs = Some(3600));
    world.send(&jittering).await;
    clock.sleepers(2).await;
    let first = world.here("echo $$ > pid; sleep 1000");
    world.send(&first).await;
    world.number_in("pid").await;
    let queued = command("echo queued");
    world.send(&queued).await;
    let killed = command("echo killed");
    world.send(&killed).await;
    let superseded = with("true", |command| command.id = "other".parse().unwrap());
    world.send(&superseded).await;
    // All of them are accepted when this one, sent after them, is refused without a wait.
    world.set(Bucket::ScriptStatus, "probe", "REVOKED").await;
    let probe = with("true", |command| command.id = "probe".parse().unwrap());
    world.send(&probe).await;
    world.skipped(&probe).await;
    agent.stop().await;
    assert_eq!(world.result(&first).await.ended, Some(Ended::Interrupted));

    world.set(Bucket::ScriptCurrent, "other", "7").await;
    // Part of the jitter passes while the agent is away.
    clock.advance(Duration::from_secs(3600));
    let _agent = world.agent_with(config).await;
    assert_eq!(world.result(&queued).await.stdout, "queued\n");
    assert_eq!(world.result(&killed).await.stdout, "killed\n");
    assert_eq!(world.skipped(&superseded).await.reason, SkipReason::Superseded);
    assert_eq!(world.result(&jittering).await.stdout, "jittering\n");
}

#[tokio::test]
async fn a_kill_that_was_seen_counts_for_what_is_started_in_the_next_life() {
    let (world, clock) = World::with_manual_clock().await;
    let agent = world.agent().await;
    world.run(&command("true")).await;
    let waiting = with("echo ran", |command| command.jitter_secs = Some(3600));
    world.send(&waiting).await;
    clock.sleepers(2).await;
    agent.stop().await;
    let agent = world.agent().await;
    world.kill(&exec_of(&waiting)).await;
    let result = world.result(&waiting).await;
    assert_eq!((result.ended, result.stdout.as_str()), (Some(Ended::Killed), ""));
    agent.stop().await;
}

/// A crash that takes the agent's tasks with it, in the middle of a run and of a wait.
#[test]
fn after_a_crash_what_had_started_is_interrupted_and_what_had_not_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let cwd = Some(folder.path().display().to_string());
    let running = with("echo $$ > pid; sleep 1000", |command| command.cwd = cwd.clone());
    let queued = with("echo queued", |command| command.cwd = cwd);
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let world = || World::in_folder(folder.path(), Arc::new(SystemClock), BusLimits::default());

    let first_life = runtime();
    let pid = first_life.block_on(async {
        let world = world().await;
        let mut config = world.config();
        config.limits.at_once = 1;
        let agent = world.agent_with(config).await;
        world.send(&running).await;
        let pid = world.number_in("pid").await;
        world.started(&running).await;
        world.send(&queued).await;
        world.set(Bucket::ScriptStatus, "probe", "REVOKED").await;
        let probe = with("true", |command| command.id = "probe".parse().unwrap());
        world.send(&probe).await;
        world.skipped(&probe).await;
        // It goes when the runtime goes, without being asked.
        tokio::spawn(async move {
            let _agent = agent;
            std::future::pending::<()>().await;
        });
        pid
    });
    first_life.shutdown_timeout(Duration::from_secs(10));

    runtime().block_on(async {
        let world = world().await;
        let _agent = start_when_free(&world).await;
        let result = world.result(&running).await;
        assert_eq!((result.exit_code, result.ended), (-1, Some(Ended::Interrupted)));
        assert!(
            result.stderr.contains("interrupted: the agent stopped"),
            "{}",
            result.stderr
        );
        assert!(!is_alive(pid));
        assert_eq!(world.result(&queued).await.stdout, "queued\n");
        world.send(&running).await;
        world.run(&command("true")).await;
        let starts = world.heard::<EventStarted>("events.started.");
        assert!(
            starts.iter().all(|event| event.request_id != running.request_id),
            "it is not run again"
        );
    });
}

/// The journal is closed by a thread that a crash of the tasks leaves behind for a moment.
async fn start_when_free(world: &World) -> Agent {
    let mut agent = None;
    for _ in 0..1000 {
        let (bus, catalog, clock) = (world.bus.clone(), world.catalog.clone(), world.clock.clone());
        match Agent::start(world.config(), bus, catalog, clock, Arc::new(SystemIds)).await {
            Err(StartError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            started => {
                agent = Some(started.unwrap());
                break;
            }
        }
    }
    agent.expect("the folder becomes free")
}

/// The test starts itself as another process, with the folder in this variable, and kills that.
#[cfg(target_os = "linux")]
const VICTIM: &str = "KANADE_TEST_VICTIM_FOLDER";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn after_a_sigkill_of_the_agent_its_scripts_are_ended_and_reported_by_the_next_one() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let folder = std::path::PathBuf::from(folder);
        let world = World::in_folder(&folder, Arc::new(SystemClock), BusLimits::default()).await;
        let _agent = world.agent().await;
        let script = "env | grep ^KANADE_ > environment
            setsid sh -c 'echo $$ > session; exec sleep 1000' &
            env -i sh -c 'echo $$ > bare; exec sleep 1000' &
            echo $$ > pid; sleep 1000";
        world.send(&world.here(script)).await;
        return std::future::pending().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(folder.path(), Arc::new(SystemClock), BusLimits::default()).await;
    let this_test =
        "restart::after_a_sigkill_of_the_agent_its_scripts_are_ended_and_reported_by_the_next_one";
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this_test, "--nocapture"])
        .env(VICTIM, folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for name in ["pid", "session", "bare"] {
        pids.push(world.number_in(name).await);
    }
    let environment = std::fs::read_to_string(world.path("environment")).unwrap();
    assert!(
        environment.starts_with("KANADE_RUN_ID=") && environment.lines().count() == 1,
        "{environment}"
    );
    victim.kill().await.unwrap();
    assert!(
        pids.iter().all(|pid| is_alive(*pid)),
        "the scripts outlive the agent"
    );

    let agent = world.agent().await;
    let result = world.hear("results.", |_: &ExecResult| true).await;
    assert_eq!((result.exit_code, result.ended), (-1, Some(Ended::Interrupted)));
    assert!(
        environment
            .trim_end()
            .ends_with(&result.result_id.unwrap().to_string())
    );
    until(|| pids.iter().all(|pid| !is_alive(*pid))).await;
    agent.stop().await;
}

#[tokio::test]
async fn two_agents_do_not_share_a_folder() {
    let world = World::new().await;
    let agent = world.agent().await;
    let (bus, catalog, clock) = (world.bus.clone(), world.catalog.clone(), world.clock.clone());
    let error = Agent::start(world.config(), bus, catalog, clock, Arc::new(SystemIds))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }), "{error:?}");
    assert!(
        error.to_string().contains("agent.redb") && error.to_string().contains("another agent"),
        "{error}"
    );
    assert_eq!(
        world.run(&command("true")).await.exit_code,
        0,
        "the first one is not disturbed"
    );
    agent.stop().await;
    world.agent().await.stop().await;
}

#[tokio::test]
async fn a_journal_that_is_none_is_refused_and_left_alone() {
    let world = World::new().await;
    let path = world.path("agent/agent.redb");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "not a database, but somebody's text").unwrap();
    let (bus, catalog, clock) = (world.bus.clone(), world.catalog.clone(), world.clock.clone());
    let error = Agent::start(world.config(), bus, catalog, clock, Arc::new(SystemIds))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Journal { .. }), "{error:?}");
    assert!(error.to_string().contains("agent.redb"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "not a database, but somebody's text"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let world = World::new().await;
    std::fs::write(world.path("agent"), "in the way").unwrap();
    let (bus, catalog, clock) = (world.bus.clone(), world.catalog.clone(), world.clock.clone());
    let error = Agent::start(world.config(), bus, catalog, clock, Arc::new(SystemIds))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Folder { .. }), "{error:?}");
    assert!(error.to_string().contains("agent"), "{error}");
}
