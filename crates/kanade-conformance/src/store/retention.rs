//! Retention: which records it names, and that naming comes to an end.

use kanade_model::ExecResult;
use kanade_ports::{Change, ChangeSet, Forget, IdempotencyKey, Outcome, RetentionCut};

use super::world::{
    Firing, World, ad_hoc, audit, audit_event, expire, fire, id, kill, letter, names, numbered, recorded,
    result, run, secs, started,
};
use crate::StoreFactory;

/// Nothing to remove.
pub(super) const NOTHING: Forget = Forget {
    executions: Vec::new(),
    runs: Vec::new(),
    audit: Vec::new(),
    dead_letters: Vec::new(),
    keys: Vec::new(),
    slots: Vec::new(),
};

/// Everything older than this second may go.
fn before(second: i64) -> RetentionCut {
    RetentionCut {
        executions: secs(second),
        audit: secs(second),
        keys: secs(second),
        slots: secs(second),
    }
}

/// A firing with an idempotency key.
pub(super) fn keyed(exec: &str, key: &str, second: i64) -> ChangeSet {
    ChangeSet {
        key: Some(IdempotencyKey {
            key: key.into(),
            fingerprint: "f".into(),
            at: secs(second),
        }),
        ..Firing::of(exec).pcs(["pc-1"]).set()
    }
}

fn finished_at(exec: &str, pc: &str, second: i64) -> Change {
    recorded(ExecResult {
        finished_at: secs(second),
        ..result(exec, pc, 0)
    })
}

impl<F: StoreFactory> World<F> {
    async fn prunable(&self, cut: &RetentionCut, limit: usize) -> Forget {
        let mut forget = self.store.prunable(cut, limit).await.unwrap();
        assert!(forget.len() <= limit, "no more than {limit} records: {forget:?}");
        forget.executions.sort();
        forget.runs.sort();
        forget
    }

    pub(super) async fn forget(&self, forget: Forget) {
        assert_eq!(
            self.change(Change::Forget(forget)).await,
            Outcome::Applied,
            "forgetting always works"
        );
    }
}

pub async fn only_what_is_final_and_old_may_go<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([fire("old", &["pc-1", "pc-2"])]).await;
    world
        .all([finished_at("old", "pc-1", 20), finished_at("old", "pc-2", 49)])
        .await;
    world
        .all([fire("young", &["pc-1"]), finished_at("young", "pc-1", 50)])
        .await;
    world.all([fire("killed", &["pc-1"]), kill("killed")]).await;
    world
        .all([
            fire("pending", &["pc-1"]),
            fire("running", &["pc-1", "pc-2"]),
            finished_at("running", "pc-1", 20),
        ])
        .await;
    world
        .all([fire("expired", &["pc-1"]), expire("expired", secs(20))])
        .await;
    let found = world.prunable(&before(50), 99).await;
    let mut old_runs = vec![run("old", "pc-1"), run("old", "pc-2")];
    old_runs.sort();
    let wanted = Forget {
        executions: vec![id("killed")],
        runs: old_runs,
        ..NOTHING
    };
    assert_eq!(
        found, wanted,
        "the runs of what finished before, and what has no runs; the cut itself is not before"
    );
    world.forget(found).await;
    let found = world.prunable(&before(50), 99).await;
    let wanted = Forget {
        executions: vec![id("old")],
        ..NOTHING
    };
    assert_eq!(found, wanted, "once its runs are gone, the execution");
    world.forget(found).await;
    assert_eq!(
        world.prunable(&before(50), 99).await,
        NOTHING,
        "then there is nothing more"
    );
    let left = world.snapshot().await;
    let left = left.executions.iter().map(|(execution, _)| &execution.exec_id);
    let mut left = names(left);
    left.sort_unstable();
    assert_eq!(left, ["expired", "pending", "running", "young"], "what is left");
}

pub async fn old_runs_of_no_execution_may_go<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let old = |name: &str, second| ExecResult {
        finished_at: secs(second),
        ..ad_hoc(name, "pc-1")
    };
    world
        .all([recorded(old("old", 49)), recorded(old("young", 50))])
        .await;
    // Runs of executions that are not here come to no other end either.
    world
        .all([finished_at("foreign", "pc-1", 49), started("foreign", "pc-2")])
        .await;
    let found = world.prunable(&before(50), 99).await;
    let mut runs = vec![run("old", "pc-1"), run("foreign", "pc-1")];
    runs.sort();
    assert_eq!(found, Forget { runs, ..NOTHING }, "those that ended before");
    world.forget(found).await;
    assert_eq!(
        world.prunable(&before(50), 99).await,
        NOTHING,
        "then there is nothing more"
    );
    assert_eq!(
        world.snapshot().await.runs.len(),
        2,
        "the young one and the running one are left"
    );
}

pub async fn an_agent_whose_clock_is_behind_makes_nothing_old<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let firing = Firing::of("e-1").at(secs(100)).pcs(["pc-1"]);
    world
        .all([firing.change(), finished_at("e-1", "pc-1", -1_000_000)])
        .await;
    let execution = world.execution("e-1").await;
    assert_eq!(
        execution.finished_at,
        Some(secs(100)),
        "nothing ends before it began"
    );
    assert_eq!(
        world.target("e-1", "pc-1").await.finished_at,
        Some(secs(-1_000_000)),
        "as the agent says"
    );
    assert_eq!(
        world.prunable(&before(100), 99).await,
        NOTHING,
        "it has just ended"
    );
}

pub async fn each_kind_of_record_has_its_own_age<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for second in [10, 20, 30] {
        let name = format!("s-{second}");
        world
            .all([
                Change::Audit(audit_event(&name, secs(second))),
                Change::DeadLetter(letter(&name, secs(second))),
            ])
            .await;
        world.apply([keyed(&name, &name, second)]).await;
    }
    let all = world.snapshot().await;
    let none = before(-999);
    assert_eq!(world.prunable(&none, 99).await, NOTHING, "nothing is that old");

    let audit_only = RetentionCut {
        audit: secs(30),
        ..none
    };
    let mut found = world.prunable(&audit_only, 99).await;
    found.audit.sort_unstable();
    found.dead_letters.sort_unstable();
    let wanted = Forget {
        audit: vec![all.audit[2].id, all.audit[1].id],
        dead_letters: vec![all.dead_letters[2].id, all.dead_letters[1].id],
        ..NOTHING
    };
    assert_eq!(found, wanted, "audit entries and dead letters from before");
    let keys_only = RetentionCut {
        keys: secs(20),
        ..none
    };
    let found = world.prunable(&keys_only, 99).await;
    let wanted = Forget {
        keys: vec!["s-10".into()],
        ..NOTHING
    };
    assert_eq!(found, wanted, "keys from before");
}

pub async fn pruning_in_small_steps_comes_to_an_end<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let pcs: Vec<_> = (0..9).map(|number| numbered("pc", number)).collect();
    for number in 0..5 {
        let (old, young) = (numbered("old", number), numbered("young", number));
        world
            .all([
                Firing::of(&old).pcs(&pcs).change(),
                Firing::of(&young).pcs(["pc-1"]).change(),
            ])
            .await;
        world
            .apply(pcs.iter().map(|pc| ChangeSet::of(finished_at(&old, pc, 20))))
            .await;
        world
            .all([
                finished_at(&young, "pc-1", 99),
                recorded(ad_hoc(&numbered("r", number), "pc-1")),
            ])
            .await;
        world
            .all([audit(&old), Change::DeadLetter(letter("x", secs(0)))])
            .await;
        world.apply([keyed(&numbered("keyed", number), &old, 0)]).await;
    }
    let mut steps = 0;
    loop {
        let found = world.prunable(&before(50), 7).await;
        if found == NOTHING {
            break;
        }
        world.forget(found).await;
        steps += 1;
        assert!(steps < 200, "each step forgets something, so they come to an end");
    }
    let left = world.snapshot().await;
    let mut left_names = names(left.executions.iter().map(|(execution, _)| &execution.exec_id));
    left_names.retain(|name| name.starts_with("old"));
    assert_eq!(left_names, [""; 0], "every old execution is gone");
    assert_eq!(left.executions.len(), 10, "no other is");
    assert_eq!(left.runs.len(), 5, "the runs of the young ones are left");
    assert!(
        left.audit.is_empty() && left.dead_letters.is_empty(),
        "the trail was old"
    );
    assert_eq!(
        world.store.key("old-00000").await.unwrap(),
        None,
        "so were the keys"
    );
}
