//! Schedules that the server runs: each slot is settled once, in its time, as the schedule says.

mod once;
mod overlap;

use std::{sync::atomic::Ordering, time::Duration};

use kanade_core::Error;
use kanade_model::{
    Caller, ExecId, ExecutionStatus, Freeze, HumanDuration, Schedule, ScheduleId, ScriptStatus, SlotState,
    TargetState, Timestamp,
};
use kanade_ports::{Clock, ExecutionQuery, ExecutionStore, Precondition, SlotQuery, SlotRecord};
use serde_json::{Value, json};

use crate::world::{World, id, manifest, next_command, operator};

const MINUTE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(10);

fn schedule(cron: &str, more: Value) -> Schedule {
    let mut document = json!({ "id": "s", "cron": cron, "job_id": "backup", "target": {"pcs": ["pc-1"]} });
    let (Value::Object(document_fields), Value::Object(more)) = (&mut document, more) else {
        panic!("not objects")
    };
    document_fields.extend(more);
    serde_json::from_value(document).unwrap()
}

impl World {
    /// A world with a job and a schedule of it that is at work.
    async fn scheduled(cron: &str, more: Value) -> Self {
        let world = Self::new().await;
        let mut job = manifest("backup", "1.0.0");
        // Longer than what a test lets it run.
        job.execute.timeout = HumanDuration(120 * MINUTE);
        world
            .services
            .jobs
            .put(&job, Precondition::Any, &operator())
            .await
            .unwrap();
        world.put(&schedule(cron, more)).await;
        world
    }

    async fn put(&self, schedule: &Schedule) {
        self.services
            .schedules
            .put(schedule, Precondition::Any, &operator())
            .await
            .unwrap();
        if schedule.enabled {
            self.until("the schedule is taken up", async || {
                let cursor = self.store.cursor(&schedule.id).await.unwrap();
                cursor.is_some_and(|cursor| cursor.timing.starts_with(&schedule.cron))
            })
            .await;
        }
    }

    async fn slots(&self) -> Vec<SlotRecord> {
        let query = SlotQuery {
            schedule_id: id("s"),
            limit: 1000,
            after: None,
        };
        let mut slots = self.store.slots(&query).await.unwrap().items;
        slots.reverse();
        slots
    }

    /// What became of the slots, as `time state` words.
    async fn told(&self) -> Vec<String> {
        let slots = self.slots().await;
        let word = |slot: &SlotRecord| format!("{} {}", &slot.slot.to_string()[11..19], slot.state);
        slots.iter().map(word).collect()
    }

    async fn until_slots(&self, count: usize) {
        let what = format!("{count} slots are settled");
        self.advance_until(STEP, &what, async || self.slots().await.len() >= count)
            .await;
    }

    async fn executions(&self) -> Vec<ExecId> {
        let query = ExecutionQuery {
            limit: 1000,
            ..ExecutionQuery::default()
        };
        let page = self.store.executions(&query).await.unwrap();
        page.items
            .into_iter()
            .map(|execution| execution.exec_id)
            .collect()
    }

    /// The agent runs what comes to it, to the end.
    async fn run_next(&mut self, pc: &str, exit_code: i32) -> ExecId {
        let command = next_command(&mut self.commands).await;
        self.started(&command, pc).await;
        self.finished(&command, pc, exit_code, "", "").await;
        command.exec_id.unwrap()
    }

    fn at(&self, text: &str) -> Timestamp {
        format!("2026-05-01T{text}Z").parse().unwrap()
    }
}

#[tokio::test]
async fn a_schedule_fires_its_job_at_every_slot_once() {
    let mut world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.until_slots(3).await;
    assert_eq!(
        world.told().await,
        ["08:10:00 fired", "08:20:00 fired", "08:30:00 fired"]
    );
    for slot in world.slots().await {
        let command = next_command(&mut world.commands).await;
        assert_eq!(command.exec_id, slot.exec_id);
        assert_eq!(slot.exec_id, Some(ExecId::of_slot(&slot.schedule_id, slot.slot)));
        assert!(slot.at.since(slot.slot) <= STEP, "in its time");
        let execution = world.execution(slot.exec_id.as_ref().unwrap()).await;
        assert_eq!(execution.initiated_by, "schedule:s");
    }
    assert_eq!(world.executions().await.len(), 3);
    let actions = world.audit_actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "exec").count(), 3);
}

#[tokio::test]
async fn a_disabled_or_deleted_schedule_fires_no_more_and_what_passed_is_not_made_up_for() {
    let world = World::scheduled("0 */10 * * * *", json!({"catch_up": "2h"})).await;
    world.until_slots(1).await;
    world
        .services
        .schedules
        .disable(&id("s"), false, &operator())
        .await
        .unwrap();
    world
        .until("it rests", async || {
            world.store.cursor(&id("s")).await.unwrap().unwrap().timing == "at rest"
        })
        .await;
    world.clock.advance(50 * MINUTE);
    world
        .services
        .schedules
        .enable(&id("s"), &operator())
        .await
        .unwrap();
    world.until_slots(2).await;
    assert_eq!(world.told().await, ["08:10:00 fired", "09:10:00 fired"]);

    world
        .services
        .schedules
        .delete(&id("s"), Precondition::Any, &operator())
        .await
        .unwrap();
    world
        .until("it rests again", async || {
            world.store.cursor(&id("s")).await.unwrap().unwrap().timing == "at rest"
        })
        .await;
    world.clock.advance(60 * MINUTE);
    assert_eq!(world.slots().await.len(), 2);
}

#[tokio::test]
async fn another_time_begins_when_it_is_set() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.until_slots(1).await;
    // 08:10 and before have no slots of the new times, although they are its times.
    world.put(&schedule("0 */3 * * * *", json!({}))).await;
    world.until_slots(3).await;
    assert_eq!(
        world.told().await,
        ["08:10:00 fired", "08:12:00 fired", "08:15:00 fired"]
    );
}

#[tokio::test]
async fn slots_that_passed_while_no_server_ran_are_missed() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.until_slots(1).await;
    let clock = world.clock.clone();
    let stopped = async {
        let world = world.restart_after(|| clock.advance(35 * MINUTE)).await;
        world.until_slots(5).await;
        world
    };
    let world = stopped.await;
    assert_eq!(
        world.told().await,
        [
            "08:10:00 fired",
            "08:20:00 missed",
            "08:30:00 missed",
            "08:40:00 missed",
            "08:50:00 fired"
        ]
    );
    assert_eq!(world.executions().await.len(), 2);
}

#[tokio::test]
async fn a_short_restart_misses_nothing_and_a_window_makes_up_for_a_long_one() {
    let world = World::scheduled("0 */10 * * * *", json!({"catch_up": "25m"})).await;
    world.until_slots(1).await;
    let clock = world.clock.clone();
    let world = world
        .restart_after(|| clock.set("2026-05-01T08:47:30Z".parse().unwrap()))
        .await;
    world.until_slots(4).await;
    assert_eq!(
        world.told().await,
        [
            "08:10:00 fired",
            "08:20:00 missed",
            "08:30:00 fired",
            "08:40:00 fired"
        ]
    );
    let clock = world.clock.clone();
    let world = world
        .restart_after(|| clock.set("2026-05-01T08:50:40Z".parse().unwrap()))
        .await;
    world.until_slots(5).await;
    assert_eq!(world.told().await[4], "08:50:00 fired");
}

#[tokio::test]
async fn a_clock_that_is_put_back_fires_nothing_again() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.until_slots(3).await;
    world.clock.set(world.at("08:05:00"));
    world
        .advance_until(STEP, "the slots have come again and one more", async || {
            world.slots().await.len() >= 4
        })
        .await;
    assert_eq!(
        world.told().await,
        [
            "08:10:00 fired",
            "08:20:00 fired",
            "08:30:00 fired",
            "08:40:00 fired"
        ]
    );
    assert_eq!(world.executions().await.len(), 4);
}

#[tokio::test]
async fn a_clock_that_is_put_back_a_little_fires_nothing_from_before_the_schedule() {
    let world = World::new().await;
    world.clock.set(world.at("08:10:20"));
    world.job("backup").await;
    world.put(&schedule("0 */10 * * * *", json!({}))).await;
    world.clock.set(world.at("08:10:10"));
    world.until_slots(1).await;
    assert_eq!(world.told().await, ["08:20:00 fired"]);
}

#[tokio::test]
async fn slots_in_a_freeze_are_skipped_with_its_reason() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    let freeze = Freeze {
        reason: "closing of the year".into(),
        from: Some(world.at("08:15:00")),
        until: world.at("08:25:00"),
        by: None,
    };
    world.services.freezes.set(freeze, &operator()).await.unwrap();
    world.until_slots(3).await;
    assert_eq!(
        world.told().await,
        ["08:10:00 fired", "08:20:00 skipped", "08:30:00 fired"]
    );
    let why = world.slots().await[1].detail.clone().unwrap();
    assert!(
        why.contains("closing of the year") && why.contains("08:25:00"),
        "{why}"
    );
    assert_eq!(world.services.freezes.get().await.unwrap(), None, "it is over");
}

#[tokio::test]
async fn what_cannot_be_fired_is_skipped_with_the_reason_and_the_schedule_goes_on() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    let set = async |status| {
        let jobs = &world.services.jobs;
        jobs.set_status(&id("backup"), status, &operator()).await.unwrap();
    };
    set(ScriptStatus::Revoked).await;
    world.until_slots(1).await;
    set(ScriptStatus::Active).await;
    world.until_slots(2).await;
    assert_eq!(world.told().await, ["08:10:00 skipped", "08:20:00 fired"]);
    assert!(
        world.slots().await[0]
            .detail
            .as_ref()
            .unwrap()
            .contains("revoked")
    );
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_delays_a_slot_and_loses_none() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.store.full.store(true, Ordering::SeqCst);
    world.clock.advance(10 * MINUTE);
    world.clock.advance(5 * STEP / 2);
    world.store.full.store(false, Ordering::SeqCst);
    world.until_slots(1).await;
    assert_eq!(world.told().await, ["08:10:00 fired"]);
    assert_eq!(world.executions().await.len(), 1);
}

#[tokio::test]
async fn a_starting_deadline_goes_with_the_commands() {
    let mut world = World::scheduled("0 */10 * * * *", json!({"starting_deadline": "5m"})).await;
    world.until_slots(1).await;
    let command = next_command(&mut world.commands).await;
    assert_eq!(command.deadline_at, Some(world.at("08:15:00")));
}

#[tokio::test]
async fn a_trigger_is_not_a_slot() {
    let world = World::scheduled("0 0 12 * * *", json!({"enabled": false})).await;
    let fired = world
        .services
        .scheduler
        .trigger(&id("s"), &operator())
        .await
        .unwrap();
    assert_eq!(world.executions().await, [fired.exec_id]);
    assert_eq!(world.slots().await, []);
    let nobody: ScheduleId = id("nobody");
    let error = world
        .services
        .scheduler
        .trigger(&nobody, &operator())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
}

#[tokio::test]
async fn a_backfill_fires_what_did_not_fire_and_nothing_twice() {
    let world = World::scheduled("0 */10 * * * *", json!({})).await;
    world.until_slots(1).await;
    let clock = world.clock.clone();
    let world = world.restart_after(|| clock.advance(35 * MINUTE)).await;
    world.until_slots(4).await;
    let scheduler = &world.services.scheduler;
    let span = (world.at("08:00:00"), world.at("08:30:00"));
    let caller: Caller = operator();
    let settled = scheduler
        .backfill(&id("s"), span.0, span.1, &caller)
        .await
        .unwrap();
    let states: Vec<_> = settled
        .iter()
        .map(|slot| (slot.slot.to_string()[11..16].to_owned(), slot.state))
        .collect();
    let fired = |time: &str| (time.to_owned(), SlotState::Fired);
    assert_eq!(
        states,
        [fired("08:00"), fired("08:10"), fired("08:20"), fired("08:30")]
    );
    let again = scheduler
        .backfill(&id("s"), span.0, span.1, &caller)
        .await
        .unwrap();
    assert_eq!(again, settled);
    assert_eq!(world.executions().await.len(), 4);

    for (from, until) in [("08:30:00", "08:20:00"), ("08:00:00", "23:00:00")] {
        let refused = scheduler
            .backfill(&id("s"), world.at(from), world.at(until), &caller)
            .await;
        assert!(matches!(refused, Err(Error::Invalid(invalid)) if invalid.field == "until"));
    }
}

#[tokio::test]
async fn what_comes_is_told_in_order_with_the_local_time() {
    let world = World::scheduled("0 0 9 * * *", json!({"timezone": "Asia/Tokyo"})).await;
    let other = Schedule {
        id: id("other"),
        ..schedule("0 0 */6 * * *", json!({}))
    };
    world.put(&other).await;
    let off = Schedule {
        id: id("off"),
        ..schedule("0 0 * * * *", json!({"enabled": false}))
    };
    world.put(&off).await;
    let ahead = world
        .services
        .scheduler
        .upcoming(world.clock.now(), world.at("23:59:59").plus(2 * MINUTE), 10)
        .await
        .unwrap();
    let told: Vec<_> = ahead
        .iter()
        .map(|slot| (slot.schedule_id.as_str(), slot.local.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("other", "2026-05-01T12:00:00+00:00"),
            ("other", "2026-05-01T18:00:00+00:00"),
            // The same moment: by id.
            ("other", "2026-05-02T00:00:00+00:00"),
            ("s", "2026-05-02T09:00:00+09:00")
        ]
    );
    let preview = world.services.scheduler.preview(&id("off"), 3).await.unwrap();
    assert_eq!(preview.len(), 3, "also of one that is disabled");
}

#[tokio::test]
async fn a_schedule_that_is_never_due_is_refused() {
    let world = World::new().await;
    world.job("backup").await;
    let never = schedule("0 0 0 30 2 *", json!({}));
    let refused = world
        .services
        .schedules
        .put(&never, Precondition::Any, &operator())
        .await;
    assert!(matches!(refused, Err(Error::Invalid(invalid)) if invalid.field == "cron"));
}
