//! Runs: start, end and skip in whatever order and however often they arrive.

use kanade_model::{
    Ended, EventStarted, ExecResult, ExecutionStatus, ResultId, RunState, SkipReason, TargetState,
};
use kanade_ports::{ChangeSet, Outcome, Output};

use super::world::{
    Firing, World, ad_hoc, ended, finished, fire, heard_of, id, kill, lose, recorded, request, result, run,
    secs, sent, skipped, start_event, started,
};
use crate::StoreFactory;

pub async fn start_and_end_say_the_same_in_every_order<F: StoreFactory>() {
    let world = World::<F>::new().await;
    // Every sequence of up to four messages that holds the end: `s` for the start, `e` for the end.
    let mut sequences: Vec<String> = vec![String::new()];
    let mut histories = Vec::new();
    for _ in 0..4 {
        sequences = sequences
            .iter()
            .flat_map(|sequence| ["s", "e"].map(|next| format!("{sequence}{next}")))
            .collect();
        histories.extend(
            sequences
                .iter()
                .filter(|sequence| sequence.contains('e'))
                .cloned(),
        );
    }
    assert_eq!(histories.len(), 26, "1 + 3 + 7 + 15 sequences hold an end");
    for (number, history) in histories.iter().enumerate() {
        let exec = format!("{history}-{number}");
        world
            .all([fire(&exec, &["pc-1", "pc-2"]), sent(&exec, &["pc-1", "pc-2"])])
            .await;
        let mut news = 0;
        for message in history.chars() {
            let change = if message == 's' {
                started(&exec, "pc-1")
            } else {
                finished(&exec, "pc-1", 0)
            };
            news += usize::from(world.change(change).await == Outcome::Applied);
        }
        let start_was_news = history.starts_with('s');
        assert_eq!(
            news,
            1 + usize::from(start_was_news),
            "{history}: each message is news at most once"
        );

        let target = world.target(&exec, "pc-1").await;
        assert_eq!(target.state, TargetState::Succeeded, "{history}");
        assert_eq!(
            target.run,
            Some(run(&exec, "pc-1")),
            "{history}: the run that decided"
        );
        assert_eq!(target.started_at, Some(secs(10)), "{history}");
        assert_eq!(target.finished_at, Some(secs(20)), "{history}");
        assert_eq!((target.exit_code, target.check_at), (Some(0), None), "{history}");
        let record = world.store.run(&run(&exec, "pc-1")).await.unwrap().unwrap();
        assert_eq!(record.run.state, RunState::Succeeded, "{history}");
        assert_eq!(
            record.run.version,
            Some(id("1.0.0")),
            "{history}: the version of the execution"
        );
        assert_eq!(record.run.job_id, Some(id("backup")), "{history}");
        assert_eq!(
            (record.run.started_at, record.run.finished_at),
            (secs(10), Some(secs(20))),
            "{history}"
        );
        assert_eq!(record.run.check_at, None, "{history}: it can no longer be lost");
        assert_eq!(
            record.output.stdout,
            format!("{exec} on pc-1\n"),
            "{history}: the output is kept"
        );
        let execution = world.execution(&exec).await;
        assert_eq!(execution.counts.success(), 1, "{history}: counted once");
        assert_eq!(
            execution.status,
            ExecutionStatus::Running,
            "{history}: the other one waits"
        );
    }
    world.snapshot().await;
}

pub async fn a_started_run_is_running_until_it_is_due<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([fire("e-1", &["pc-1"]), started("e-1", "pc-1")]).await;
    let record = world.store.run(&run("e-1", "pc-1")).await.unwrap().unwrap();
    assert_eq!(record.run.state, RunState::Running);
    assert_eq!(
        record.run.check_at,
        Some(secs(110)),
        "start and the limit of the execution"
    );
    assert_eq!(
        (record.run.exit_code, record.run.finished_at),
        (None, None),
        "it has no end"
    );
    assert_eq!(record.run.request_id, request("e-1", "pc-1"));
    assert_eq!(record.output, Output::default(), "nor an output");
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(target.state, TargetState::Running);
    assert_eq!(
        (target.run, target.started_at),
        (Some(run("e-1", "pc-1")), Some(secs(10)))
    );
    assert_eq!(target.check_at, None, "it no longer expires");
    let execution = world.execution("e-1").await;
    assert!(execution.started, "something has started");
    assert_eq!(execution.status, ExecutionStatus::Running);
    world.snapshot().await;
}

pub async fn ends_are_told_apart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let said = |exit_code, stderr: &str, ended| ExecResult {
        stderr: stderr.into(),
        ended,
        ..result("e-1", "pc-1", exit_code)
    };
    let killed_in_words = "killed by remote signal (kill.e-1)\n";
    for (number, (result, state)) in [
        (said(0, "", None), RunState::Succeeded),
        (said(1, "", None), RunState::Failed),
        (said(i32::MIN, "", None), RunState::Failed),
        (said(-1, killed_in_words, None), RunState::Killed),
        (said(-1, "timeout after 30s\n", None), RunState::TimedOut),
        (said(-1, "", None), RunState::Failed),
        (said(0, "", Some(Ended::Exited)), RunState::Succeeded),
        (said(-1, "", Some(Ended::Killed)), RunState::Killed),
        (
            said(-1, killed_in_words, Some(Ended::TimedOut)),
            RunState::TimedOut,
        ),
        (said(-1, "", Some(Ended::Interrupted)), RunState::Failed),
        (said(-1, "", Some(Ended::NotStarted)), RunState::Failed),
    ]
    .into_iter()
    .enumerate()
    {
        let exec = format!("e-{number}");
        let text = format!("{} {:?} {:?}", result.exit_code, result.stderr, result.ended);
        let exit_code = result.exit_code;
        let result = ExecResult {
            result_id: Some(run(&exec, "pc-1")),
            exec_id: Some(id(&exec)),
            ..result
        };
        world.all([fire(&exec, &["pc-1"]), recorded(result)]).await;
        let found = world.run(run(&exec, "pc-1")).await;
        assert_eq!((found.state, found.exit_code), (state, Some(exit_code)), "{text}");
        assert_eq!(
            world.state(&exec, "pc-1").await,
            TargetState::from(state),
            "the target follows: {text}"
        );
        let status = if state == RunState::Killed {
            ExecutionStatus::Killed
        } else {
            ExecutionStatus::Completed
        };
        assert_eq!(world.status(&exec).await, status, "the execution follows: {text}");
    }
    world.snapshot().await;
}

pub async fn a_finished_run_is_never_overwritten<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-1", 0),
        ])
        .await;
    let before = world.snapshot().await;
    for (change, outcome) in [
        (started("e-1", "pc-1"), Outcome::Duplicate),
        (finished("e-1", "pc-1", 1), Outcome::Duplicate),
        (ended("e-1", "pc-1", Ended::Killed), Outcome::Duplicate),
        (lose("e-1", "pc-1", secs(9999)), Outcome::Superseded),
        (skipped("e-1", "pc-1", SkipReason::Revoked), Outcome::Superseded),
        (
            super::world::expire_target("e-1", "pc-1", secs(9999)),
            Outcome::Superseded,
        ),
        (super::world::expire("e-1", secs(9999)), Outcome::Superseded),
        (kill("e-1"), Outcome::Superseded),
    ] {
        let text = format!("{change:?}");
        assert_eq!(world.change(change).await, outcome, "{text}");
        assert_eq!(world.snapshot().await, before, "nothing has changed: {text}");
    }
}

pub async fn the_run_of_one_agent_is_not_anothers_to_change<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2", "pc-3", "pc-4"]),
            started("e-1", "pc-1"),
            finished("e-1", "pc-2", 0),
            started("e-1", "pc-3"),
            lose("e-1", "pc-3", secs(110)),
        ])
        .await;
    let before = world.snapshot().await;
    for owner in ["pc-1", "pc-2", "pc-3"] {
        let start = EventStarted {
            result_id: run("e-1", owner),
            ..start_event("e-1", "pc-4")
        };
        let end = ExecResult {
            result_id: Some(run("e-1", owner)),
            ..result("e-1", "pc-4", 1)
        };
        for change in [heard_of(start), recorded(end)] {
            assert_eq!(
                world.change(change).await,
                Outcome::Superseded,
                "pc-4 names the run of {owner}"
            );
            assert_eq!(
                world.snapshot().await,
                before,
                "neither the run of {owner} nor a target has changed"
            );
        }
    }
    let mut batch = vec![started("e-1", "pc-4"), finished("e-1", "pc-1", 0)];
    batch.push(recorded(ExecResult {
        result_id: Some(run("e-1", "pc-4")),
        ..result("e-1", "pc-2", 1)
    }));
    let outcomes = world.apply(batch.into_iter().map(ChangeSet::of)).await;
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::Applied, Outcome::Superseded],
        "also within one commit"
    );
    assert_eq!(world.state("e-1", "pc-4").await, TargetState::Running);
    world.snapshot().await;
}

pub async fn of_two_runs_of_a_target_the_first_end_decides<F: StoreFactory>() {
    let world = World::<F>::new().await;
    // An agent that forgot what it did runs a Command a second time.
    let second = ResultId(uuid::Uuid::from_u128(2));
    let second_start = heard_of(EventStarted {
        result_id: second,
        started_at: secs(12),
        ..start_event("e-1", "pc-1")
    });
    let second_end = recorded(ExecResult {
        result_id: Some(second),
        started_at: secs(12),
        finished_at: secs(18),
        ..result("e-1", "pc-1", 3)
    });
    world
        .all([fire("e-1", &["pc-1"]), started("e-1", "pc-1"), second_start])
        .await;
    assert_eq!(
        world.target("e-1", "pc-1").await.run,
        Some(second),
        "the newest start is looked at"
    );
    world.all([second_end]).await;
    assert_eq!(
        world.state("e-1", "pc-1").await,
        TargetState::Failed,
        "the first end"
    );
    world.all([finished("e-1", "pc-1", 0)]).await;
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(
        (target.state, target.run),
        (TargetState::Failed, Some(second)),
        "stays decided"
    );
    assert_eq!(
        world.run(run("e-1", "pc-1")).await.state,
        RunState::Succeeded,
        "the other run is kept as well"
    );
    let counts = world.execution("e-1").await.counts;
    assert_eq!(
        (counts.success(), counts.failure(), counts.total()),
        (0, 1, 1),
        "one target, counted once"
    );
    world.snapshot().await;
}

pub async fn a_result_without_an_id_is_recorded_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let legacy = ExecResult {
        result_id: None,
        ..result("e-1", "pc-1", 0)
    };
    let derived = ResultId::derived(legacy.request_id, &legacy.pc_id);
    world
        .all([fire("e-1", &["pc-1"]), recorded(legacy.clone())])
        .await;
    assert_eq!(
        world.change(recorded(legacy)).await,
        Outcome::Duplicate,
        "the same result again"
    );
    assert_eq!(
        world.run(derived).await.state,
        RunState::Succeeded,
        "under the id that follows from it"
    );
    let start = EventStarted {
        result_id: derived,
        ..start_event("e-1", "pc-1")
    };
    assert_eq!(
        world.change(heard_of(start)).await,
        Outcome::Duplicate,
        "its start is old news"
    );
    assert_eq!(world.snapshot().await.runs.len(), 1, "one run");
}

pub async fn an_agent_that_is_not_on_the_list_joins<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([Firing::of("e-1").everybody(["pc-1"]).change()]).await;
    world
        .all([
            started("e-1", "new-1"),
            finished("e-1", "new-2", 1),
            skipped("e-1", "new-3", SkipReason::Staleness),
            finished("e-1", "new-1", 0),
        ])
        .await;
    for (pc, state) in [
        ("new-1", TargetState::Succeeded),
        ("new-2", TargetState::Failed),
        ("new-3", TargetState::Refused),
        ("pc-1", TargetState::Waiting),
    ] {
        assert_eq!(world.state("e-1", pc).await, state, "{pc}");
    }
    let joined = world.target("e-1", "new-1").await;
    assert_eq!(
        (joined.send_id, joined.wave),
        (None, 0),
        "no send was meant for it alone"
    );
    assert_eq!(
        world.execution("e-1").await.counts.total(),
        4,
        "those who joined are counted"
    );
    world.snapshot().await;
}

pub async fn a_joiner_opens_a_final_execution_again<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1"]), finished("e-1", "pc-1", 0)])
        .await;
    assert_eq!(world.status("e-1").await, ExecutionStatus::Completed);
    world.all([started("e-1", "pc-2")]).await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.status, execution.finished_at),
        (ExecutionStatus::Running, None),
        "not final any more"
    );
    world.all([finished("e-1", "pc-2", 0)]).await;
    assert_eq!(
        world.status("e-1").await,
        ExecutionStatus::Completed,
        "final again"
    );
    world.snapshot().await;
}

pub async fn a_run_of_an_execution_that_is_not_here_is_kept<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let end = ExecResult {
        manifest_id: None,
        ..result("foreign", "pc-1", 0)
    };
    world.all([recorded(end)]).await;
    let early = world.run(run("foreign", "pc-1")).await;
    assert_eq!(
        (early.job_id, early.version),
        (None, None),
        "nobody has said which job it was"
    );
    world.all([started("foreign", "pc-1")]).await;
    let found = world.run(run("foreign", "pc-1")).await;
    assert_eq!(
        (found.job_id, found.version),
        (Some(id("backup")), Some(id("1.0.0"))),
        "the start says it"
    );
    assert_eq!(found.state, RunState::Succeeded, "it stays finished");
    assert_eq!(
        world.change(started("foreign", "pc-1")).await,
        Outcome::Duplicate,
        "now all is known"
    );

    world.all([started("foreign", "pc-2")]).await;
    let running = world.run(run("foreign", "pc-2")).await;
    assert_eq!(running.state, RunState::Running);
    assert!(running.check_at.is_some(), "it is lost some day");
    let skip = skipped("foreign", "pc-3", SkipReason::Revoked);
    assert_eq!(
        world.change(skip).await,
        Outcome::Unknown,
        "a skip has nothing to be recorded on"
    );
    let after = world.snapshot().await;
    assert!(
        after.executions.is_empty() && after.targets.is_empty(),
        "no execution comes of it"
    );
}

pub async fn a_run_of_no_execution_is_kept<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([recorded(ad_hoc("one", "pc-1"))]).await;
    assert_eq!(
        world.change(recorded(ad_hoc("one", "pc-1"))).await,
        Outcome::Duplicate
    );
    let found = world.run(run("one", "pc-1")).await;
    assert_eq!(
        (found.exec_id, found.job_id, found.version),
        (None, None, None),
        "it belongs to nothing"
    );
    assert_eq!(found.state, RunState::Succeeded);
    world.snapshot().await;
}

pub async fn a_skip_is_final_and_says_why<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (reason, state) in [
        (SkipReason::Revoked, TargetState::Refused),
        (SkipReason::Deadline, TargetState::Refused),
        (SkipReason::Staleness, TargetState::Refused),
        (SkipReason::Superseded, TargetState::Superseded),
    ] {
        let exec = format!("{reason:?}");
        world
            .all([fire(&exec, &["pc-1", "pc-2"]), skipped(&exec, "pc-1", reason)])
            .await;
        let target = world.target(&exec, "pc-1").await;
        assert_eq!(target.state, state, "{reason:?}");
        assert_eq!(
            target.detail.as_deref(),
            Some(&*format!("it is {reason:?}")),
            "in the agent's words"
        );
        assert_eq!(
            (target.finished_at, target.check_at),
            (Some(secs(15)), None),
            "{reason:?}"
        );
        assert_eq!(
            world.change(skipped(&exec, "pc-1", reason)).await,
            Outcome::Duplicate,
            "{reason:?} again"
        );
        assert_eq!(
            world.status(&exec).await,
            ExecutionStatus::Pending,
            "nothing has started"
        );
        assert_eq!(
            world.change(started(&exec, "pc-1")).await,
            Outcome::Applied,
            "a run shows itself after all"
        );
        assert_eq!(world.state(&exec, "pc-1").await, state, "{reason:?} is final");
        world.all([skipped(&exec, "pc-2", reason)]).await;
        assert_eq!(
            world.status(&exec).await,
            ExecutionStatus::Completed,
            "both are final"
        );
    }
    world.all([fire("e-1", &["pc-1"]), started("e-1", "pc-1")]).await;
    let late = skipped("e-1", "pc-1", SkipReason::Revoked);
    assert_eq!(
        world.change(late).await,
        Outcome::Superseded,
        "a running one was not skipped"
    );
    let other = skipped("Revoked", "pc-2", SkipReason::Superseded);
    assert_eq!(
        world.change(other).await,
        Outcome::Superseded,
        "the first reason counts"
    );
    world.snapshot().await;
}

pub async fn a_batch_of_results_is_counted_to_the_last<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs: Vec<_> = (0..300).map(|pc| format!("pc-{pc}")).collect();
    world.all([Firing::of("e-1").pcs(&pcs).change()]).await;
    let results = pcs.iter().enumerate().flat_map(|(number, pc)| {
        let code = i32::from(number % 3 == 0);
        // Start and end of one run are in the same batch, and some ends come before their start.
        let mut pair = [started("e-1", pc), finished("e-1", pc, code)];
        if number % 2 == 0 {
            pair.reverse();
        }
        pair.map(ChangeSet::of)
    });
    world.apply(results).await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.counts.success(), execution.counts.failure()),
        (200, 100),
        "a third has failed"
    );
    assert_eq!(execution.status, ExecutionStatus::Completed);
    assert_eq!(execution.counts.total(), 300, "and nobody is counted twice");
}
