//! What became of a kill at each target.

use kanade_model::{Ended, Receipt, SkipReason, TargetState};
use kanade_ports::{Change, Outcome};

use super::{
    kill::killed,
    world::{
        World, ended, expire_target, finished, fire, kill, kill_delivered, kill_settled, lose, secs, skipped,
        started,
    },
};
use crate::StoreFactory;

pub async fn receipts_follow_what_becomes_of_a_target<F: StoreFactory>() {
    type Case = (&'static str, Vec<Change>, TargetState, Option<Receipt>);
    let (exec, pc) = ("e", "pc-1");
    let cases: Vec<Case> = vec![
        ("silent", vec![], TargetState::Waiting, Some(Receipt::Requested)),
        (
            "delivered",
            vec![kill_delivered(exec, pc)],
            TargetState::Waiting,
            Some(Receipt::Delivered),
        ),
        (
            "confirmed",
            vec![ended(exec, pc, Ended::Killed)],
            TargetState::Killed,
            Some(Receipt::Confirmed),
        ),
        (
            "delivered, then confirmed",
            vec![
                started(exec, pc),
                kill_delivered(exec, pc),
                ended(exec, pc, Ended::Killed),
            ],
            TargetState::Killed,
            Some(Receipt::Confirmed),
        ),
        (
            "succeeded before it came",
            vec![finished(exec, pc, 0)],
            TargetState::Succeeded,
            Some(Receipt::Finished),
        ),
        (
            "failed before it came",
            vec![finished(exec, pc, 1)],
            TargetState::Failed,
            Some(Receipt::Finished),
        ),
        (
            "timed out",
            vec![ended(exec, pc, Ended::TimedOut)],
            TargetState::TimedOut,
            Some(Receipt::Finished),
        ),
        (
            "refused",
            vec![skipped(exec, pc, SkipReason::Revoked)],
            TargetState::Refused,
            Some(Receipt::Finished),
        ),
        (
            "superseded",
            vec![skipped(exec, pc, SkipReason::Superseded)],
            TargetState::Superseded,
            Some(Receipt::Finished),
        ),
        (
            "starts",
            vec![started(exec, pc)],
            TargetState::Running,
            Some(Receipt::Requested),
        ),
        (
            "lost",
            vec![
                started(exec, pc),
                kill_delivered(exec, pc),
                lose(exec, pc, secs(110)),
            ],
            TargetState::Lost,
            Some(Receipt::Unreachable),
        ),
        (
            "lost before it was asked again",
            vec![started(exec, pc), lose(exec, pc, secs(110))],
            TargetState::Lost,
            Some(Receipt::Unreachable),
        ),
        (
            "lost, then confirmed",
            vec![
                started(exec, pc),
                lose(exec, pc, secs(110)),
                ended(exec, pc, Ended::Killed),
            ],
            TargetState::Killed,
            Some(Receipt::Confirmed),
        ),
        (
            "expired",
            vec![expire_target(exec, pc, secs(1000))],
            TargetState::Expired,
            Some(Receipt::Unreachable),
        ),
        (
            "never came",
            vec![kill_settled(exec)],
            TargetState::Withdrawn,
            Some(Receipt::Unreachable),
        ),
        (
            "came, but there was nothing to end",
            vec![kill_delivered(exec, pc), kill_settled(exec)],
            TargetState::Withdrawn,
            Some(Receipt::Confirmed),
        ),
        (
            "runs on, unreachable",
            vec![started(exec, pc), kill_settled(exec)],
            TargetState::Running,
            Some(Receipt::Unreachable),
        ),
        (
            "runs on, has heard",
            vec![started(exec, pc), kill_delivered(exec, pc), kill_settled(exec)],
            TargetState::Running,
            Some(Receipt::Delivered),
        ),
        (
            "reached after all",
            vec![started(exec, pc), kill_settled(exec), kill_delivered(exec, pc)],
            TargetState::Running,
            Some(Receipt::Delivered),
        ),
        (
            "starts after the time for answers",
            vec![kill_settled(exec), started(exec, pc)],
            TargetState::Running,
            Some(Receipt::Requested),
        ),
    ];
    for (name, after, state, receipt) in cases {
        let world = World::<F>::new().await;
        killed(&world, exec, &[pc]).await;
        world.all(after).await;
        let target = world.target(exec, pc).await;
        assert_eq!((target.state, target.receipt), (state, receipt), "{name}");
        world.snapshot().await;
    }
}

pub async fn what_ended_before_a_kill_has_no_receipt<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2"]),
            finished("e-1", "pc-1", 0),
            started("e-1", "pc-2"),
        ])
        .await;
    world.all([kill("e-1")]).await;
    assert_eq!(
        world.receipt("e-1", "pc-1").await,
        None,
        "nothing was asked of it"
    );
    assert_eq!(
        world.receipt("e-1", "pc-2").await,
        Some(Receipt::Requested),
        "this one runs"
    );
    let late = kill_delivered("e-1", "pc-1");
    assert_eq!(
        world.change(late).await,
        Outcome::Superseded,
        "a delivery to it says nothing"
    );
    world.snapshot().await;
}

pub async fn a_delivery_is_recorded_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    killed(&world, "e-1", &["pc-1", "pc-2"]).await;
    world
        .all([
            kill_delivered("e-1", "pc-1"),
            ended("e-1", "pc-2", Ended::Killed),
            fire("e-2", &["pc-1"]),
        ])
        .await;
    for (exec, pc, outcome) in [
        ("e-1", "pc-1", Outcome::Duplicate),
        ("e-1", "pc-2", Outcome::Superseded),
        ("e-1", "pc-9", Outcome::Unknown),
        ("e-2", "pc-1", Outcome::Superseded),
        ("e-9", "pc-1", Outcome::Unknown),
    ] {
        let before = world.snapshot().await;
        assert_eq!(
            world.change(kill_delivered(exec, pc)).await,
            outcome,
            "{exec} on {pc}"
        );
        assert_eq!(
            world.snapshot().await,
            before,
            "nothing has changed: {exec} on {pc}"
        );
    }
}
