//! Slots of schedules: each is settled once. Cursors and successes stay as they were last written.

use kanade_model::{ExecId, ExecResult, ScheduleId, SlotState, Timestamp};
use kanade_ports::{
    Change, ChangeSet, Forget, Outcome, Position, RetentionCut, ScheduleCursor, SlotQuery, SlotRecord,
    Success,
};

use super::world::{Firing, World, audit, id, recorded, result, secs};
use crate::StoreFactory;

fn slot(schedule: &str, at: Timestamp, state: SlotState) -> SlotRecord {
    let schedule_id: ScheduleId = schedule.parse().unwrap();
    SlotRecord {
        exec_id: (state == SlotState::Fired).then(|| ExecId::of_slot(&schedule_id, at)),
        detail: (state != SlotState::Fired).then(|| "for a reason; ünï".to_owned()),
        schedule_id,
        slot: at,
        state,
        at: at.plus(std::time::Duration::from_millis(7)),
        backfilled: false,
    }
}

fn of(schedule: &str, limit: usize) -> SlotQuery {
    SlotQuery {
        schedule_id: schedule.parse().unwrap(),
        limit,
        after: None,
    }
}

pub async fn a_slot_is_settled_once_with_all_that_stands_with_it<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let set = |name: &str| {
        let fired = slot("nightly", secs(10), SlotState::Fired);
        ChangeSet::of(Change::Slot(fired)).and(audit(name))
    };
    assert_eq!(
        world.apply([set("first"), set("second")]).await,
        [Outcome::Applied, Outcome::Duplicate],
        "within one batch"
    );
    assert_eq!(world.apply([set("third")]).await, [Outcome::Duplicate]);
    let skipped = slot("nightly", secs(10), SlotState::Skipped);
    assert_eq!(world.change(Change::Slot(skipped)).await, Outcome::Duplicate);
    let trail = world.snapshot().await.audit;
    let targets: Vec<_> = trail.iter().map(|entry| entry.event.target.as_deref()).collect();
    assert_eq!(targets, [Some("first")]);

    let id = |name: &str| name.parse::<ScheduleId>().unwrap();
    let stored = world.store.slot(&id("nightly"), secs(10)).await.unwrap();
    assert_eq!(stored, Some(slot("nightly", secs(10), SlotState::Fired)));
    assert_eq!(world.store.slot(&id("nightly"), secs(11)).await.unwrap(), None);
    assert_eq!(world.store.slot(&id("night"), secs(10)).await.unwrap(), None);
}

pub async fn what_a_slot_gives_way_to<F: StoreFactory>() {
    use SlotState::{Fired, Missed, Skipped, Waiting};
    let world = World::<F>::new().await;
    let mut second = 0;
    for (old, new, backfilled, outcome) in [
        (Fired, Skipped, false, Outcome::Duplicate),
        (Fired, Fired, true, Outcome::Duplicate),
        (Waiting, Fired, false, Outcome::Applied),
        (Waiting, Skipped, false, Outcome::Applied),
        (Waiting, Waiting, false, Outcome::Duplicate),
        (Skipped, Fired, false, Outcome::Duplicate),
        (Skipped, Fired, true, Outcome::Applied),
        (Missed, Fired, false, Outcome::Applied),
        (Missed, Missed, false, Outcome::Duplicate),
        (Missed, Fired, true, Outcome::Applied),
        (Missed, Skipped, true, Outcome::Duplicate),
    ] {
        second += 1;
        let before = slot("s", secs(second), old);
        let after = SlotRecord {
            backfilled,
            ..slot("s", secs(second), new)
        };
        assert_eq!(world.change(Change::Slot(before.clone())).await, Outcome::Applied);
        let came = world.change(Change::Slot(after.clone())).await;
        assert_eq!(came, outcome, "{old} then {new}, backfilled: {backfilled}");
        let wanted = if outcome == Outcome::Applied {
            after
        } else {
            before
        };
        let stored = world.store.slot(&wanted.schedule_id, wanted.slot).await.unwrap();
        assert_eq!(stored, Some(wanted));
    }
}

pub async fn slots_are_listed_newest_first_each_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all((1..=7).map(|second| Change::Slot(slot("s", secs(second), SlotState::Fired))))
        .await;
    // Names that another name begins with, and another's slot in between.
    for other in ["r", "s1", "s.1", "S"] {
        world
            .all([Change::Slot(slot(other, secs(4), SlotState::Missed))])
            .await;
    }
    let mut query = of("s", 3);
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = world.store.slots(&query).await.unwrap();
        seen.extend(page.items.iter().map(|slot| slot.slot));
        pages += 1;
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let wanted: Vec<_> = (1..=7).rev().map(secs).collect();
    assert_eq!((seen, pages), (wanted, 3));
    query.after = Some(Position {
        at: secs(4).as_micros(),
        id: String::new(),
    });
    let page = world.store.slots(&query).await.unwrap();
    let seen: Vec<_> = page.items.iter().map(|slot| slot.slot).collect();
    assert_eq!(seen, [secs(3), secs(2), secs(1)], "a walk can begin at any place");
    let none = world.store.slots(&of("nobody", 3)).await.unwrap();
    assert!(none.items.is_empty() && none.next.is_none());
}

pub async fn slots_that_wait_are_found_until_they_do_not<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let waiting = |schedule, second| Change::Slot(slot(schedule, secs(second), SlotState::Waiting));
    world
        .all([waiting("b", 2), waiting("a", 2), waiting("a", 1), waiting("c", 9)])
        .await;
    let found = async |limit| {
        let found = world.store.waiting_slots(limit).await.unwrap();
        let named = |slot: SlotRecord| (slot.schedule_id.to_string(), slot.slot);
        found.into_iter().map(named).collect::<Vec<_>>()
    };
    let named = |name: &str, second| (name.to_owned(), secs(second));
    assert_eq!(found(3).await, [named("a", 1), named("a", 2), named("b", 2)]);
    world
        .all([Change::Slot(slot("a", secs(1), SlotState::Fired))])
        .await;
    assert_eq!(found(9).await, [named("a", 2), named("b", 2), named("c", 9)]);
}

pub async fn the_cursor_last_written_counts<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let cursor = |timing: &str, second| ScheduleCursor {
        schedule_id: "s".parse().unwrap(),
        timing: timing.to_owned(),
        through: secs(second),
    };
    let id: ScheduleId = "s".parse().unwrap();
    assert_eq!(world.store.cursor(&id).await.unwrap(), None);
    for (timing, second) in [("one", 5), ("one", 9), ("two", 3), ("two", 3)] {
        let outcome = world.change(Change::ScheduleLooked(cursor(timing, second))).await;
        assert_eq!(outcome, Outcome::Applied);
        assert_eq!(
            world.store.cursor(&id).await.unwrap(),
            Some(cursor(timing, second)),
            "also back in time"
        );
    }
}

pub async fn slots_go_by_their_age_and_cursors_stay<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all((1..=6).map(|second| Change::Slot(slot("s", secs(second), SlotState::Missed))))
        .await;
    let cut = RetentionCut {
        executions: secs(0),
        audit: secs(0),
        keys: secs(0),
        slots: secs(4),
    };
    let first = world.store.prunable(&cut, 2).await.unwrap();
    assert_eq!(first.slots.len(), 2, "no more than asked for, the oldest first");
    world.all([Change::Forget(first)]).await;
    let rest = world.store.prunable(&cut, 9).await.unwrap();
    let id: ScheduleId = "s".parse().unwrap();
    assert_eq!(rest.slots, [(id, secs(3))]);
    world.all([Change::Forget(rest)]).await;
    assert!(world.store.prunable(&cut, 9).await.unwrap().is_empty());
    let left = world.store.slots(&of("s", 9)).await.unwrap().items;
    assert_eq!(left.len(), 3);
}

pub async fn slots_are_there_after_a_restart<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            Change::Slot(slot("s", secs(1), SlotState::Fired)),
            Change::ScheduleLooked(ScheduleCursor {
                schedule_id: "s".parse().unwrap(),
                timing: "every".into(),
                through: secs(1),
            }),
        ])
        .await;
    let (world, survives) = world.reopened().await;
    let id: ScheduleId = "s".parse().unwrap();
    let again = slot("s", secs(1), SlotState::Fired);
    let outcome = world.change(Change::Slot(again)).await;
    let wanted = if survives {
        Outcome::Duplicate
    } else {
        Outcome::Applied
    };
    assert_eq!(outcome, wanted);
    assert_eq!(world.store.cursor(&id).await.unwrap().is_some(), survives);
}

pub async fn where_a_job_has_succeeded_is_known_when_its_runs_are_not<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let ended = |exec: &str, pc: &str, exit_code, at| {
        let result = ExecResult {
            finished_at: at,
            // Its execution knows the job.
            manifest_id: None,
            ..result(exec, pc, exit_code)
        };
        recorded(result)
    };
    for (exec, job) in [("e-1", "j"), ("e-2", "j"), ("e-3", "j"), ("e-4", "k")] {
        world
            .all([Firing::of(exec).job(job).pcs(["pc-1", "pc-2", "pc-3"]).change()])
            .await;
    }
    world
        .all([
            ended("e-1", "pc-1", 0, secs(50)),
            ended("e-1", "pc-2", 1, secs(50)),
            ended("e-1", "pc-3", 0, secs(51)),
            ended("e-4", "pc-2", 0, secs(52)),
            ended("e-2", "pc-1", 0, secs(90)),
            // An older success that is heard of later, and a failure after a success, change nothing.
            ended("e-3", "pc-1", 0, secs(70)),
            ended("e-2", "pc-3", 1, secs(95)),
        ])
        .await;
    let found = async |job: &str, after: Option<&str>, limit| {
        let after = after.map(|pc| Position {
            at: 0,
            id: pc.to_owned(),
        });
        let page = world
            .store
            .successes(&id(job), after.as_ref(), limit)
            .await
            .unwrap();
        let named = |success: Success| (success.pc_id.to_string(), success.at);
        let goes_on = page.next.is_some();
        (page.items.into_iter().map(named).collect::<Vec<_>>(), goes_on)
    };
    let (one, three) = (("pc-1".to_owned(), secs(90)), ("pc-3".to_owned(), secs(51)));
    assert_eq!(
        found("j", None, 9).await,
        (vec![one.clone(), three.clone()], false)
    );
    assert_eq!(found("j", None, 1).await.0, vec![one.clone()]);
    assert_eq!(found("j", Some("pc-1"), 9).await, (vec![three.clone()], false));
    assert_eq!(found("nobody", None, 9).await, (vec![], false));

    let executions = ["e-1", "e-2", "e-3", "e-4"].map(id).to_vec();
    let forget = Forget {
        executions,
        ..Forget::default()
    };
    world.all([Change::Forget(forget)]).await;
    assert_eq!(
        found("j", None, 9).await,
        (vec![one, three], false),
        "retention makes nobody run it again"
    );
}
