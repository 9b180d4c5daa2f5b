//! Years of schedules in seconds: every slot fires once, whatever the clocks of the servers do and however often they
//! die. What is due is worked out here anew, from the wall clocks of the time zones alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Datelike, NaiveDate, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_memory::{EmbeddedBus, ManualClock, MemoryCatalog, MemoryStore, SeededIds};
use kanade_model::{ExecId, Schedule, ScheduleId, SlotState, Timestamp};
use kanade_ports::{Clock, ExecutionQuery, ExecutionStore, MAX_LIMIT, Precondition, SlotQuery};
use serde_json::json;

use crate::world::{id, manifest, operator};

const DEADLINE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When something is due, as people would say it.
enum Due {
    /// At this time of day, on the days that fit: once a day, whatever the clocks do.
    Daily(u32, u32, fn(NaiveDate) -> bool),
    /// Whenever the wall clock shows a time that fits.
    Showing(fn(u32, u32) -> bool),
}

fn cases() -> Vec<(&'static str, &'static str, &'static str, Due)> {
    let every: fn(NaiveDate) -> bool = |_| true;
    vec![
        ("utc", "0 30 8 * * *", "UTC", Due::Daily(8, 30, every)),
        // In the hour that is left out and that comes twice.
        (
            "berlin",
            "0 30 2 * * *",
            "Europe/Berlin",
            Due::Daily(2, 30, every),
        ),
        (
            "new-york",
            "0 15 1 * * *",
            "America/New_York",
            Due::Daily(1, 15, every),
        ),
        ("gap", "0 0 2 * * *", "America/New_York", Due::Daily(2, 0, every)),
        // Half an hour of daylight saving, south of the equator.
        (
            "lord-howe",
            "0 45 1 * * *",
            "Australia/Lord_Howe",
            Due::Daily(1, 45, every),
        ),
        (
            "hours",
            "0 20 */6 * * *",
            "Europe/Berlin",
            Due::Showing(|hour, minute| hour % 6 == 0 && minute == 20),
        ),
        (
            "night",
            "0 */30 1-3 * * *",
            "America/New_York",
            Due::Showing(|hour, minute| (1..=3).contains(&hour) && minute % 30 == 0),
        ),
        (
            "fridays",
            "0 0 6 13 * 5",
            "Asia/Kathmandu",
            Due::Daily(6, 0, |day| day.day() == 13 && day.weekday() == Weekday::Fri),
        ),
        (
            "month-end",
            "0 59 23 L * *",
            "America/Sao_Paulo",
            Due::Daily(23, 59, |day| day.succ_opt().is_some_and(|next| next.day() == 1)),
        ),
    ]
}

/// The slots of a case after `from`, up to `until`.
fn oracle(zone: &str, due: &Due, from: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
    let zone: Tz = zone.parse().unwrap();
    let (from, until) = (from.to_chrono(), until.to_chrono());
    let mut slots = BTreeSet::new();
    let mut add = |at: DateTime<Utc>| {
        if from < at && at <= until {
            slots.insert(at.into());
        }
    };
    match due {
        Due::Daily(hour, minute, fits) => {
            let mut day = from.with_timezone(&zone).date_naive();
            while day <= until.with_timezone(&zone).date_naive() {
                let mut wanted = day.and_hms_opt(*hour, *minute, 0).unwrap();
                if fits(day) {
                    // The first time it is shown; where it is left out, the first moment that is shown after it.
                    let at = loop {
                        match zone.from_local_datetime(&wanted).earliest() {
                            Some(at) => break at,
                            None => wanted += chrono::Duration::minutes(1),
                        }
                    };
                    add(at.to_utc());
                }
                day = day.succ_opt().unwrap();
            }
        }
        Due::Showing(fits) => {
            let mut at = from;
            while at <= until {
                let shown = at.with_timezone(&zone);
                if shown.second() == 0 && fits(shown.hour(), shown.minute()) {
                    add(at);
                }
                at += chrono::Duration::minutes(1);
            }
        }
    }
    slots
}

/// What several servers share.
struct Fleet {
    store: Arc<MemoryStore>,
    catalog: Arc<MemoryCatalog>,
    bus: Arc<EmbeddedBus>,
}

struct Server {
    services: Services,
    running: Running,
    clock: ManualClock,
}

impl Fleet {
    fn new() -> Self {
        Self {
            store: Arc::default(),
            catalog: Arc::default(),
            bus: Arc::new(EmbeddedBus::new()),
        }
    }

    async fn server(&self, now: Timestamp, seed: u64) -> Server {
        let clock = ManualClock::new(now);
        let ports = Ports {
            store: self.store.clone(),
            catalog: self.catalog.clone(),
            bus: self.bus.clone(),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(SeededIds::new(seed)),
            abilities: Abilities::default(),
        };
        let settings = Settings {
            keep_executions: 4000 * DAY,
            keep_audit: DAY,
            ..Settings::default()
        };
        let (services, running) = Services::start(ports, settings).await;
        Server {
            services,
            running,
            clock,
        }
    }

    async fn register(&self, server: &Server) {
        server
            .services
            .jobs
            .put(&manifest("backup", "1.0.0"), Precondition::Any, &operator())
            .await
            .unwrap();
        for (name, cron, zone, _) in cases() {
            let schedule: Schedule = serde_json::from_value(json!({
                "id": name, "cron": cron, "timezone": zone, "job_id": "backup", "target": {"pcs": ["pc-1"]}
            }))
            .unwrap();
            server
                .services
                .schedules
                .put(&schedule, Precondition::Any, &operator())
                .await
                .unwrap();
            let taken_up = async || self.store.cursor(&schedule.id).await.unwrap().is_some();
            until("the schedule is taken up", taken_up).await;
        }
    }

    /// Every slot that has a record, and what became of it.
    async fn slots(&self, schedule: &ScheduleId) -> BTreeMap<Timestamp, SlotState> {
        let mut query = SlotQuery {
            schedule_id: schedule.clone(),
            limit: MAX_LIMIT,
            after: None,
        };
        let mut slots = BTreeMap::new();
        loop {
            let page = self.store.slots(&query).await.unwrap();
            slots.extend(page.items.into_iter().map(|slot| (slot.slot, slot.state)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return slots,
            }
        }
    }

    async fn executions(&self) -> BTreeSet<ExecId> {
        let mut query = ExecutionQuery {
            limit: MAX_LIMIT,
            ..ExecutionQuery::default()
        };
        let mut executions = BTreeSet::new();
        loop {
            let page = self.store.executions(&query).await.unwrap();
            executions.extend(page.items.into_iter().map(|execution| execution.exec_id));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return executions,
            }
        }
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waited)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// By time, what is due then.
fn by_time(from: Timestamp, to: Timestamp) -> BTreeMap<Timestamp, Vec<ScheduleId>> {
    let mut all: BTreeMap<Timestamp, Vec<ScheduleId>> = BTreeMap::new();
    for (name, _, zone, due) in cases() {
        for slot in oracle(zone, &due, from, to) {
            all.entry(slot).or_default().push(id(name));
        }
    }
    all
}

/// The store holds these slots, each fired once, and nothing else.
async fn check(fleet: &Fleet, wanted: &BTreeMap<Timestamp, Vec<ScheduleId>>) {
    let mut fired = BTreeSet::new();
    for (name, ..) in cases() {
        let schedule: ScheduleId = id(name);
        let wanted: BTreeMap<Timestamp, SlotState> = wanted
            .iter()
            .filter(|(_, due)| due.contains(&schedule))
            .map(|(slot, _)| (*slot, SlotState::Fired))
            .collect();
        let found = fleet.slots(&schedule).await;
        let difference: Vec<_> = found
            .iter()
            .filter(|(slot, state)| wanted.get(slot) != Some(state))
            .chain(wanted.iter().filter(|(slot, _)| !found.contains_key(slot)))
            .take(5)
            .collect();
        assert!(difference.is_empty(), "{name}: {difference:?}");
        fired.extend(wanted.keys().map(|slot| ExecId::of_slot(&schedule, *slot)));
    }
    assert_eq!(
        fleet.executions().await,
        fired,
        "one execution a slot, and no other"
    );
}

#[test]
fn what_is_due_is_worked_out_right() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // Looked up in calendars: Berlin goes from 02:00 to 03:00 on 2026-03-29, and back from 03:00 on 2026-10-25.
    let (zone, due) = ("Europe/Berlin", Due::Daily(2, 30, |_| true));
    let spring = oracle(zone, &due, at("2026-03-28T12:00:00Z"), at("2026-03-30T12:00:00Z"));
    assert_eq!(
        Vec::from_iter(spring),
        [at("2026-03-29T01:00:00Z"), at("2026-03-30T00:30:00Z")]
    );
    let autumn = oracle(zone, &due, at("2026-10-24T12:00:00Z"), at("2026-10-26T12:00:00Z"));
    assert_eq!(
        Vec::from_iter(autumn),
        [at("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z")]
    );
}

#[tokio::test]
async fn two_years_of_schedules_fire_every_slot_once() {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let fleet = Fleet::new();
    let server = fleet.server(from, 1).await;
    fleet.register(&server).await;
    let wanted = by_time(from, from.plus(731 * DAY));
    assert!(wanted.len() > 8_000, "{}", wanted.len());
    for (slot, due) in &wanted {
        server.clock.advance(slot.since(server.clock.now()));
        until("the slot is settled", async || {
            for schedule in due {
                if fleet.store.slot(schedule, *slot).await.unwrap().is_none() {
                    return false;
                }
            }
            true
        })
        .await;
    }
    check(&fleet, &wanted).await;
    server.running.stop(DEADLINE).await;
}

/// Three servers; each dies now and then, and their clocks go wrong by up to two days, but one of them is always there with
/// the right time.
#[tokio::test]
async fn three_servers_that_die_with_clocks_that_jump_fire_every_slot_once() {
    let from: Timestamp = "2026-03-20T00:00:00Z".parse().unwrap();
    let seed = std::env::var("KANADE_TEST_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("KANADE_TEST_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let fleet = Fleet::new();
    let mut servers = Vec::new();
    for number in 1..=3 {
        servers.push(fleet.server(from, number).await);
    }
    fleet.register(&servers[0]).await;
    let wanted = by_time(from, from.plus(60 * DAY));
    let mut seeds = 10;
    for (slot, due) in &wanted {
        let sound = chance.usize(..servers.len());
        for (number, server) in servers.iter_mut().enumerate() {
            if number == sound {
                server.clock.set(slot.minus(Duration::from_secs(20)));
                server.clock.advance(Duration::from_secs(20));
                continue;
            }
            match chance.u8(..10) {
                // It dies in the middle of whatever it does, and comes back with a clock that is wrong.
                0 => {
                    let wrong = slot
                        .plus(DAY)
                        .minus(Duration::from_secs(chance.u64(..2 * 86_400)));
                    seeds += 1;
                    let new = fleet.server(wrong, seeds).await;
                    let dead = std::mem::replace(server, new);
                    drop(dead.services);
                    dead.running.stop(Duration::ZERO).await;
                }
                1 => server
                    .clock
                    .set(slot.plus(Duration::from_secs(chance.u64(..2 * 86_400)))),
                2 => server
                    .clock
                    .set(slot.minus(Duration::from_secs(chance.u64(..2 * 86_400)))),
                3..=7 => server.clock.set(*slot),
                _ => {}
            }
        }
        let is_fired = async |schedule| {
            let settled = fleet.store.slot(schedule, *slot).await.unwrap();
            settled.is_some_and(|settled| settled.state == SlotState::Fired)
        };
        let clock = &servers[sound].clock;
        for schedule in due {
            let mut looks = 0;
            while !is_fired(schedule).await {
                looks += 1;
                tokio::task::yield_now().await;
                // That a clock was put right is noticed within ten seconds of it.
                if looks % 1000 == 0 {
                    clock.advance(Duration::from_secs(1));
                }
                let late = clock.now().since(*slot);
                if late > Duration::from_secs(55) {
                    let record = fleet.store.slot(schedule, *slot).await.unwrap();
                    let clocks: Vec<_> = servers.iter().map(|server| server.clock.now()).collect();
                    panic!("{schedule} has not fired at {slot}: {record:?}; {sound} of {clocks:?}");
                }
            }
        }
    }
    // A clock that was ahead may have fired what is due later; that is once, too.
    let end = from.plus(60 * DAY);
    let later = by_time(end, end.plus(3 * DAY));
    let mut all = wanted.clone();
    for (slot, due) in later {
        for schedule in due {
            let settled = fleet.store.slot(&schedule, slot).await.unwrap();
            if settled.is_some_and(|settled| settled.state == SlotState::Fired) {
                all.entry(slot).or_default().push(schedule);
            }
        }
    }
    let mut fired = BTreeSet::new();
    for (name, ..) in cases() {
        let schedule: ScheduleId = id(name);
        for (slot, state) in fleet.slots(&schedule).await {
            let is_due = all.get(&slot).is_some_and(|due| due.contains(&schedule));
            assert!(is_due || state == SlotState::Missed, "{name} {slot} {state}");
            if state == SlotState::Fired {
                fired.insert(ExecId::of_slot(&schedule, slot));
            }
        }
    }
    let due: usize = all.values().map(Vec::len).sum();
    assert_eq!(fired.len(), due, "every slot");
    assert_eq!(
        fleet.executions().await,
        fired,
        "one execution a slot, and no other"
    );
    for server in servers {
        server.running.stop(DEADLINE).await;
    }
}
