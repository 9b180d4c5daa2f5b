//! Taking over the records of another server: nothing is owed, and runs count whichever comes first.

use std::time::Duration;

use kanade_model::{ExecResult, ExecutionStatus, Receipt, TargetState, Timestamp};
use kanade_ports::{
    Change, ChangeSet, ExecutionQuery, Outcome, PastExecution, RetentionCut, RunFilter, RunQuery, Standing,
    TextFilter,
};

use super::{
    walk::runs,
    world::{
        Firing, World, ended, expire, finished, id, kill, kill_settled, lose, names, order, recorded, result,
        run, secs, started,
    },
};
use crate::StoreFactory;

/// An execution of the job `backup` that another server fired at second 0.
fn past(exec: &str, standing: Standing) -> PastExecution {
    let Change::Fire(new) = Firing::of(exec).change() else {
        unreachable!("a firing fires")
    };
    PastExecution {
        exec_id: new.exec_id,
        initiated_by: new.initiated_by,
        initiated_at: new.initiated_at,
        order: new.order,
        limits: new.limits,
        standing,
    }
}

pub(crate) fn taken_over(exec: &str, standing: Standing) -> Change {
    Change::TakeOver(Box::new(past(exec, standing)))
}

pub async fn a_past_execution_is_there_and_owes_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for standing in [Standing::Open, Standing::Expired, Standing::Over] {
        let exec = format!("{standing:?}");
        world.all([taken_over(&exec, standing)]).await;
        let execution = world.execution(&exec).await;
        let known = (
            execution.job_id.as_str(),
            execution.version.as_str(),
            execution.initiated_by.as_str(),
        );
        assert_eq!(known, ("backup", "1.0.0", "operator"));
        assert_eq!((execution.initiated_at, execution.kill.clone()), (secs(0), None));
        assert_eq!(execution.counts.total(), 0, "nobody knows at whom it was aimed");
        let told = world.store.order(&id(&exec)).await.unwrap();
        assert_eq!(told, Some(order("backup")), "what the agents were told");
        assert!(world.store.sends(&id(&exec)).await.unwrap().is_empty());
    }
    world
        .all([
            started("Open", "pc-1"),
            finished("Over", "pc-1", 0),
            finished("Expired", "pc-1", 1),
        ])
        .await;
    assert!(
        world.store.due_sends(None, 9).await.unwrap().is_empty(),
        "nothing is ever sent"
    );
    let late = secs(1_000_000);
    assert!(
        world.store.overdue_targets(late, 9).await.unwrap().is_empty(),
        "nobody is waited for"
    );
    world.snapshot().await;
}

pub async fn taking_over_again_is_a_duplicate_and_changes_nothing<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            taken_over("e-1", Standing::Over),
            finished("e-1", "pc-1", 0),
            Firing::of("ours").pcs(["pc-1"]).change(),
        ])
        .await;
    let before = world.snapshot().await;
    for standing in [Standing::Open, Standing::Expired, Standing::Over] {
        assert_eq!(
            world.change(taken_over("e-1", standing)).await,
            Outcome::Duplicate
        );
        assert_eq!(
            world.change(taken_over("ours", standing)).await,
            Outcome::Duplicate
        );
    }
    assert_eq!(world.change(finished("e-1", "pc-1", 0)).await, Outcome::Duplicate);
    let fired = Firing::of("e-1").pcs(["pc-2"]).change();
    assert_eq!(world.change(fired).await, Outcome::Duplicate, "its id is taken");
    assert_eq!(world.snapshot().await, before);
}

pub async fn a_past_execution_is_over_open_or_expired_until_a_run_says_more<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for (standing, status) in [
        (Standing::Open, ExecutionStatus::Pending),
        (Standing::Expired, ExecutionStatus::Expired),
        (Standing::Over, ExecutionStatus::Completed),
    ] {
        let exec = format!("{standing:?}");
        world.all([taken_over(&exec, standing)]).await;
        let execution = world.execution(&exec).await;
        assert_eq!((execution.status, execution.started), (status, false));
        assert_eq!(execution.is_final(), execution.finished_at.is_some(), "{exec}");
    }
    world.snapshot().await;
    world.all([expire("Open", secs(5000))]).await;
    assert_eq!(
        world.status("Open").await,
        ExecutionStatus::Expired,
        "as any other"
    );
    for exec in ["Open", "Expired", "Over"] {
        world.all([started(exec, "pc-1")]).await;
        assert_eq!(world.status(exec).await, ExecutionStatus::Running, "{exec}");
        world.all([finished(exec, "pc-1", 0)]).await;
        assert_eq!(world.status(exec).await, ExecutionStatus::Completed, "{exec}");
    }
    world.snapshot().await;
}

pub async fn runs_that_come_later_become_its_targets<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut sets = vec![ChangeSet::of(taken_over("e-1", Standing::Over))];
    sets.extend((0..300).map(|number| {
        let exit_code = i32::from(number % 3 == 0);
        ChangeSet::of(finished("e-1", &format!("pc-{number}"), exit_code))
    }));
    sets.push(ChangeSet::of(ended("e-1", "killed", kanade_model::Ended::Killed)));
    for batch in sets.chunks(64) {
        assert!(
            world
                .apply(batch.to_vec())
                .await
                .iter()
                .all(|outcome| *outcome == Outcome::Applied)
        );
    }
    let execution = world.execution("e-1").await;
    let counts = (
        execution.counts.success(),
        execution.counts.failure(),
        execution.counts.total(),
    );
    assert_eq!(counts, (200, 101, 301));
    assert_eq!(execution.status, ExecutionStatus::Killed, "a kill ended one");
    let target = world.target("e-1", "pc-1").await;
    assert_eq!(
        (target.state, target.run, target.send_id),
        (TargetState::Succeeded, Some(run("e-1", "pc-1")), None)
    );
    world.snapshot().await;
}

pub async fn runs_that_came_before_become_its_targets<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let second = ExecResult {
        result_id: Some(run("e-1 again", "pc-1")),
        finished_at: secs(90),
        ..result("e-1", "pc-1", 0)
    };
    // One that is of another execution, and of another with a name that begins alike.
    world
        .all([finished("e-10", "pc-9", 0), finished("e", "pc-9", 0)])
        .await;
    let messages = [
        finished("e-1", "pc-1", 7),
        recorded(second),
        started("e-1", "pc-2"),
        ended("e-1", "pc-3", kanade_model::Ended::TimedOut),
        started("e-1", "pc-4"),
        lose("e-1", "pc-4", secs(10_000_000)),
    ];
    world.all(messages.clone()).await;
    world.all([taken_over("e-1", Standing::Over)]).await;
    let states = async |world: &World<F>| {
        let mut states = Vec::new();
        for pc in ["pc-1", "pc-2", "pc-3", "pc-4"] {
            states.push(world.state("e-1", pc).await);
        }
        states
    };
    let wanted = [
        TargetState::Failed,
        TargetState::Running,
        TargetState::TimedOut,
        TargetState::Lost,
    ];
    assert_eq!(states(&world).await, wanted, "the first end decides");
    assert_eq!(world.target("e-1", "pc-1").await.exit_code, Some(7));
    let execution = world.execution("e-1").await;
    assert_eq!(
        (execution.counts.total(), execution.status),
        (4, ExecutionStatus::Running)
    );

    // The other way round comes to the same targets.
    let other = World::<F>::new().await;
    other.all([taken_over("e-1", Standing::Over)]).await;
    other.all(messages).await;
    assert_eq!(states(&other).await, wanted);
    for pc in ["pc-1", "pc-2", "pc-3"] {
        assert_eq!(
            world.target("e-1", pc).await,
            other.target("e-1", pc).await,
            "{pc}"
        );
    }
    world
        .all([finished("e-1", "pc-2", 0), finished("e-1", "pc-4", 0)])
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        (
            execution.counts.success(),
            execution.counts.failure(),
            execution.status
        ),
        (2, 2, ExecutionStatus::Completed)
    );
    world.snapshot().await;
}

pub async fn a_past_execution_ends_with_its_last_run<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let at = |exec: &str, pc: &str, second| {
        recorded(ExecResult {
            finished_at: secs(second),
            ..result(exec, pc, 0)
        })
    };
    for exec in ["after", "before"] {
        if exec == "after" {
            world.all([taken_over(exec, Standing::Over)]).await;
        }
        world.all([at(exec, "pc-1", 50), at(exec, "pc-2", 70)]).await;
        if exec == "before" {
            world.all([taken_over(exec, Standing::Over)]).await;
        }
        assert_eq!(
            world.execution(exec).await.finished_at,
            Some(secs(70)),
            "runs {exec}"
        );
    }
}

pub async fn what_is_over_is_no_more_in_flight_and_goes_by_its_age<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            taken_over("over", Standing::Over),
            taken_over("open", Standing::Open),
        ])
        .await;
    let in_flight = world.store.in_flight(&id("backup")).await.unwrap();
    assert_eq!(names(&in_flight), ["open"]);
    assert_eq!(world.change(kill("over")).await, Outcome::Superseded);
    let query = ExecutionQuery {
        status: Some(ExecutionStatus::Completed),
        ..ExecutionQuery::default()
    };
    let listed = world.store.executions(&query).await.unwrap().items;
    assert_eq!(names(listed.iter().map(|row| &row.exec_id)), ["over"]);
    let cut = |executions: Timestamp| RetentionCut {
        executions,
        audit: secs(0),
        keys: secs(0),
        slots: secs(0),
    };
    let kept = world.store.prunable(&cut(secs(0)), 9).await.unwrap();
    assert!(kept.is_empty(), "as old as the moment it was fired: {kept:?}");
    let old = world.store.prunable(&cut(secs(1)), 9).await.unwrap();
    assert_eq!(names(&old.executions), ["over"]);
}

pub async fn what_is_open_can_be_killed<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            taken_over("e-1", Standing::Open),
            started("e-1", "pc-1"),
            kill("e-1"),
        ])
        .await;
    assert_eq!(world.receipt("e-1", "pc-1").await, Some(Receipt::Requested));
    world
        .all([ended("e-1", "pc-1", kanade_model::Ended::Killed)])
        .await;
    assert_eq!(world.status("e-1").await, ExecutionStatus::Killed);
    world
        .all([taken_over("e-2", Standing::Expired), kill("e-2")])
        .await;
    let open = world.store.open_kills(9).await.unwrap();
    assert_eq!(
        names(open.iter().map(|row| &row.exec_id)),
        ["e-2"],
        "it may be started still"
    );
    world.all([kill_settled("e-2")]).await;
    assert!(world.store.open_kills(9).await.unwrap().is_empty());
    world.snapshot().await;
}

pub async fn a_success_is_found_by_job_and_agent<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let nameless = |exec: &str, pc: &str, exit_code, second: u64| {
        recorded(ExecResult {
            manifest_id: None,
            started_at: secs(0).plus(Duration::from_secs(second)),
            ..result(exec, pc, exit_code)
        })
    };
    world
        .all([
            taken_over("e-1", Standing::Over),
            nameless("e-1", "pc-1", 0, 1),
            nameless("e-1", "pc-2", 1, 2),
            taken_over("e-2", Standing::Over),
            nameless("e-2", "pc-2", 0, 3),
        ])
        .await;
    let exact = |text: &str| Some(TextFilter::Exact(text.to_owned()));
    for (job, pc, found) in [
        ("backup", "pc-1", vec![run("e-1", "pc-1")]),
        ("backup", "pc-2", vec![run("e-2", "pc-2")]),
        ("backup", "pc-3", vec![]),
        ("other", "pc-1", vec![]),
    ] {
        let query = RunQuery {
            job_id: exact(job),
            pc_id: exact(pc),
            status: Some(RunFilter::Success),
            ..RunQuery::default()
        };
        let ids: Vec<_> = runs(&*world.store, &query)
            .await
            .into_iter()
            .map(|record| record.run.result_id)
            .collect();
        assert_eq!(ids, found, "{job} on {pc}");
    }
}
