//! Schedules that ask the past are held on a shared catalog until the past is settled.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kanade_core::{Abilities, HISTORY_IMPORTED, Marks, Ports, Running, STARTED_FRESH, Services, Settings};
use kanade_memory::{EmbeddedBus, ManualClock, MemoryCatalog, MemoryStore, SeededIds};
use kanade_model::{Caller, Schedule, ScheduleId};
use kanade_ports::{AuditQuery, Bucket, Catalog, Change, ChangeSet, ExecutionStore, Outcome, Precondition};
use serde_json::json;

/// A server on a broker that other servers may have used; `store` is what it knows itself.
struct Server {
    services: Services,
    running: Running,
}

#[derive(Clone, Default)]
struct Broker(Arc<MemoryCatalog>);

impl Broker {
    /// What another server has stored.
    async fn with(bucket: Bucket, key: &str, document: impl Into<Bytes>) -> Self {
        let broker = Self::default();
        broker.put(bucket, key, document).await;
        broker
    }

    async fn put(&self, bucket: Bucket, key: &str, document: impl Into<Bytes>) {
        let key = key.parse().unwrap();
        self.0
            .put(bucket, &key, document.into(), Precondition::Any)
            .await
            .unwrap();
    }

    async fn server(&self, store: &Arc<MemoryStore>, history_required: bool) -> Server {
        let ports = Ports {
            store: Arc::clone(store) as Arc<dyn ExecutionStore>,
            catalog: Arc::clone(&self.0) as Arc<dyn Catalog>,
            bus: Arc::new(EmbeddedBus::new()),
            clock: Arc::new(ManualClock::new("2026-05-01T08:00:00Z".parse().unwrap())),
            ids: Arc::new(SeededIds::new(1)),
            abilities: Abilities::default(),
        };
        let settings = Settings {
            history_required,
            ..Settings::default()
        };
        let (services, running) = Services::start(ports, settings).await;
        Server { services, running }
    }
}

impl Server {
    async fn look_back(&self) -> Vec<String> {
        let held: Vec<ScheduleId> = self.services.schedules.look_back().await.unwrap();
        held.iter().map(ToString::to_string).collect()
    }

    async fn holds(&self, schedule: &str) -> bool {
        let schedules = &self.services.schedules;
        let stored = schedules.get(&schedule.parse().unwrap()).await.unwrap();
        schedules.holds().await.unwrap().on(&stored.document).is_some()
    }

    async fn stop(self) {
        drop(self.services);
        self.running.stop(Duration::from_secs(5)).await;
    }
}

fn schedule(id: &str, mode: &str) -> String {
    json!({"id": id, "cron": "0 30 2 * * *", "job_id": "backup", "target": {"all": true}, "mode": mode})
        .to_string()
}

fn job() -> String {
    let execute = json!({"shell": "sh", "script": "true", "timeout": "30s"});
    json!({"id": "backup", "version": "1", "execute": execute}).to_string()
}

#[tokio::test]
async fn what_is_found_on_a_broker_is_held_until_a_fresh_start_and_that_is_noted_once() {
    let broker = Broker::with(Bucket::Schedules, "once", schedule("once", "once_per_pc")).await;
    broker
        .put(Bucket::Schedules, "each", schedule("each", "every_tick"))
        .await;
    let store = Arc::new(MemoryStore::new());
    let server = broker.server(&store, true).await;
    assert_eq!(server.look_back().await, ["once"]);
    assert!(server.holds("once").await && !server.holds("each").await);
    assert_eq!(
        Marks::of(&*store).await.unwrap(),
        Marks::default(),
        "looking settles nothing"
    );

    let fresh = async |server: &Server| {
        server
            .services
            .schedules
            .start_fresh(&Caller::operator())
            .await
            .unwrap()
    };
    assert!(fresh(&server).await);
    assert!(!server.holds("once").await);
    assert!(!fresh(&server).await, "it is known already");
    let trail = store
        .audit(&AuditQuery {
            limit: 9,
            ..AuditQuery::default()
        })
        .await
        .unwrap()
        .items;
    let actions: Vec<_> = trail.iter().map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(actions, ["start_fresh"]);
    server.stop().await;
    let server = broker.server(&store, true).await;
    assert!(
        server.look_back().await.is_empty() && !server.holds("once").await,
        "also after a restart"
    );
}

#[tokio::test]
async fn an_import_ends_the_hold() {
    let broker = Broker::with(Bucket::Schedules, "once", schedule("once", "once_per_target")).await;
    let store = Arc::new(MemoryStore::new());
    let mark = Change::Mark {
        name: HISTORY_IMPORTED.to_owned(),
        at: "2026-05-01T07:00:00Z".parse().unwrap(),
    };
    assert_eq!(
        store.apply(&[ChangeSet::of(mark)]).await.unwrap(),
        [Outcome::Applied]
    );
    let server = broker.server(&store, true).await;
    assert!(server.look_back().await.is_empty() && !server.holds("once").await);
    assert_eq!(store.mark(STARTED_FRESH).await.unwrap(), None);
}

#[tokio::test]
async fn a_broker_that_nobody_has_used_has_no_past() {
    let (broker, store) = (Broker::default(), Arc::new(MemoryStore::new()));
    let server = broker.server(&store, true).await;
    assert!(server.look_back().await.is_empty());
    assert!(store.mark(STARTED_FRESH).await.unwrap().is_some());
    broker.put(Bucket::Jobs, "backup", job()).await;
    let made: Schedule = serde_json::from_str(&schedule("once", "once_per_pc")).unwrap();
    let schedules = &server.services.schedules;
    schedules
        .put(&made, Precondition::Any, &Caller::operator())
        .await
        .unwrap();
    assert!(!server.holds("once").await, "what is made here may fire");
    server.stop().await;
    // The store is lost, and with it where the job has succeeded.
    let server = broker.server(&Arc::new(MemoryStore::new()), true).await;
    assert_eq!(server.look_back().await, ["once"]);
}

#[tokio::test]
async fn a_broker_with_anything_on_it_has_a_past_even_if_it_cannot_be_read() {
    for (bucket, key, document) in [
        (Bucket::Jobs, "backup", job()),
        (Bucket::Schedules, "each", schedule("each", "every_tick")),
        (Bucket::Schedules, "odd", "{\"of\": \"another time\"}".to_owned()),
    ] {
        let broker = Broker::with(bucket, key, document).await;
        let store = Arc::new(MemoryStore::new());
        let server = broker.server(&store, true).await;
        server.look_back().await;
        broker
            .put(Bucket::Schedules, "once", schedule("once", "once_per_pc"))
            .await;
        assert!(server.holds("once").await, "{key}");
        assert_eq!(store.mark(STARTED_FRESH).await.unwrap(), None, "{key}");
    }
}

#[tokio::test]
async fn nothing_is_held_or_noted_on_a_catalog_of_ones_own() {
    let broker = Broker::with(Bucket::Schedules, "once", schedule("once", "once_per_pc")).await;
    let store = Arc::new(MemoryStore::new());
    let server = broker.server(&store, false).await;
    assert!(server.look_back().await.is_empty() && !server.holds("once").await);
    assert_eq!(Marks::of(&*store).await.unwrap(), Marks::default());
}
