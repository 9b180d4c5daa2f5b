//! What must not start does not, and says so.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use kanade_agent::Agent;
use kanade_memory::ManualClock;
use kanade_model::{Command, Ended, ExecResult, HumanDuration, SkipReason, Staleness};
use kanade_ports::{
    Bucket, Catalog, CatalogReader, CatalogStream, Entry, ErrorKind, Key, Precondition, StoreError, SystemIds,
};
use tokio::sync::watch;

use crate::world::{World, again, command, pc_id, with};

async fn refused(world: &World, command: &Command, reason: SkipReason, detail: &str) {
    world.send(command).await;
    let event = world.skipped(command).await;
    assert_eq!(event.reason, reason);
    assert!(event.detail.contains(detail), "{}", event.detail);
    assert_eq!(
        (event.pc_id, Some(event.exec_id)),
        (pc_id(), command.exec_id.clone())
    );
    assert_eq!(
        (event.manifest_id, event.version),
        (command.id.clone(), command.version.clone())
    );
}

/// Asks until the agent has learned what was just written, which takes a moment.
async fn until_refused(world: &World, command: &Command, reason: SkipReason) {
    loop {
        let probe = again(command);
        world.send(&probe).await;
        let answered = world
            .hear("", |message: &serde_json::Value| {
                message["request_id"] == serde_json::json!(probe.request_id)
            })
            .await;
        if answered["reason"] == serde_json::json!(reason) {
            return;
        }
    }
}

#[tokio::test]
async fn a_revoked_job_does_not_start_until_it_is_unrevoked() {
    let world = World::new().await;
    world.set(Bucket::ScriptStatus, "job", "REVOKED").await;
    let _agent = world.agent().await;
    refused(&world, &command("true"), SkipReason::Revoked, "`job` is revoked").await;
    world.set(Bucket::ScriptStatus, "job", "ACTIVE").await;
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
}

#[tokio::test]
async fn only_the_pinned_version_starts() {
    let world = World::new().await;
    world.set(Bucket::ScriptCurrent, "job", "2").await;
    let _agent = world.agent().await;
    refused(&world, &command("true"), SkipReason::Superseded, "version 2").await;
    let pinned = with("true", |command| command.version = "2".parse().unwrap());
    assert_eq!(world.run(&pinned).await.exit_code, 0);
    let unpinned = with("true", |command| command.id = "another".parse().unwrap());
    assert_eq!(world.run(&unpinned).await.exit_code, 0);
}

/// A server pins a version, durably, before the Command leaves; the news of it may still come later.
#[tokio::test]
async fn a_command_that_overtakes_the_news_of_its_own_pin_starts() {
    let world = World::new().await;
    world.set(Bucket::ScriptCurrent, "job", "1").await;
    let catalog = Flaky::new(&world, true);
    let _agent = catalog.agent(&world).await;
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
    catalog.tells_news.send_replace(false);
    world.set(Bucket::ScriptCurrent, "job", "2").await;
    let next = with("true", |command| command.version = "2".parse().unwrap());
    assert_eq!(world.run(&next).await.exit_code, 0);
}

#[tokio::test]
async fn a_command_that_overtakes_the_news_of_the_end_of_a_revocation_starts() {
    let world = World::new().await;
    world.set(Bucket::ScriptStatus, "job", "REVOKED").await;
    let catalog = Flaky::new(&world, true);
    let _agent = catalog.agent(&world).await;
    refused(&world, &command("true"), SkipReason::Revoked, "revoked").await;
    catalog.tells_news.send_replace(false);
    world.set(Bucket::ScriptStatus, "job", "ACTIVE").await;
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
}

#[tokio::test]
async fn a_command_after_its_deadline_does_not_start() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let deadline = world.clock.now().plus(Duration::from_secs(10));
    let in_time = with("true", |command| command.deadline_at = Some(deadline));
    assert_eq!(world.run(&in_time).await.exit_code, 0);
    clock.advance(Duration::from_secs(11));
    refused(
        &world,
        &again(&in_time),
        SkipReason::Deadline,
        &deadline.to_string(),
    )
    .await;
}

/// Sends a Command that waits out a long jitter. Nothing else of the agent but its heartbeat sleeps meanwhile.
async fn waiting_out_its_jitter(
    world: &World,
    clock: &ManualClock,
    change: impl FnOnce(&mut Command),
) -> Command {
    // The catalog has been read once this has run.
    world.run(&command("true")).await;
    let waiting = with("true", |command| {
        command.jitter_secs = Some(3600);
        change(command);
    });
    world.send(&waiting).await;
    clock.sleepers(2).await;
    waiting
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_jitter_counts() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let now = world.clock.now();
    let waiting = waiting_out_its_jitter(&world, &clock, |command| command.deadline_at = Some(now)).await;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(world.skipped(&waiting).await.reason, SkipReason::Deadline);
}

#[tokio::test]
async fn a_revocation_during_the_jitter_counts() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let waiting = waiting_out_its_jitter(&world, &clock, |_| ()).await;
    world.set(Bucket::ScriptStatus, "job", "REVOKED").await;
    until_refused(&world, &command("true"), SkipReason::Revoked).await;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(world.skipped(&waiting).await.reason, SkipReason::Revoked);
}

#[tokio::test]
async fn a_version_that_is_fired_during_the_jitter_supersedes() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let waiting = waiting_out_its_jitter(&world, &clock, |_| ()).await;
    world.set(Bucket::ScriptCurrent, "job", "2").await;
    until_refused(&world, &command("true"), SkipReason::Superseded).await;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(world.skipped(&waiting).await.reason, SkipReason::Superseded);
}

#[tokio::test]
async fn after_its_jitter_a_run_starts() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    let waiting = waiting_out_its_jitter(&world, &clock, |_| ()).await;
    clock.advance(Duration::from_secs(3600));
    let result = world.result(&waiting).await;
    assert_eq!((result.exit_code, result.started_at), (0, world.clock.now()));
}

#[tokio::test]
async fn the_caller_of_an_ad_hoc_run_gets_a_result_when_it_is_refused() {
    let (world, _clock) = World::with_manual_clock().await;
    world.set(Bucket::ScriptStatus, "revoked", "REVOKED").await;
    let _agent = world.agent().await;
    let past = world.clock.now().minus(Duration::from_secs(1));
    for (ad_hoc, code, why) in [
        (
            with("true", |command| command.deadline_at = Some(past)),
            125,
            "deadline",
        ),
        (
            with("true", |command| command.id = "revoked".parse().unwrap()),
            126,
            "revoked",
        ),
    ] {
        let ad_hoc = Command {
            exec_id: None,
            ..ad_hoc
        };
        let result: ExecResult = world.run(&ad_hoc).await;
        assert_eq!((result.exit_code, result.ended), (code, Some(Ended::NotStarted)));
        assert!(result.stderr.contains(why), "{}", result.stderr);
    }
}

/// A catalog that can be taken away, or kept from telling what changes.
struct Flaky {
    inner: Arc<dyn Catalog>,
    is_up: watch::Sender<bool>,
    tells_news: watch::Sender<bool>,
}

impl Flaky {
    fn new(world: &World, is_up: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: world.catalog.clone(),
            is_up: watch::Sender::new(is_up),
            tells_news: watch::Sender::new(true),
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        if *self.is_up.borrow() {
            return Ok(());
        }
        Err(StoreError::new(
            ErrorKind::Unavailable,
            "ask a catalog that is away",
        ))
    }

    async fn agent(self: &Arc<Self>, world: &World) -> Agent {
        let (bus, clock) = (world.bus.clone(), world.clock.clone());
        Agent::start(world.config(), bus, self.clone(), clock, Arc::new(SystemIds))
            .await
            .unwrap()
    }
}

#[async_trait]
impl CatalogReader for Flaky {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.check()?;
        self.inner.get(bucket, key).await
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        self.check()?;
        let events = self.inner.watch(bucket).await?;
        let mut is_up = self.is_up.subscribe();
        let gone = async move {
            let _ = is_up.wait_for(|is_up| !is_up).await;
        };
        let tells_news = self.tells_news.subscribe();
        let told = events.then(move |event| {
            let mut tells_news = tells_news.clone();
            async move {
                let _ = tells_news.wait_for(|tells_news| *tells_news).await;
                event
            }
        });
        Ok(told.take_until(Box::pin(gone)).boxed())
    }
}

fn strict(command: &mut Command) {
    command.staleness = Staleness::Strict {
        max_cache_age: HumanDuration(Duration::from_secs(60)),
    };
}

#[tokio::test]
async fn strict_staleness_refuses_when_the_catalog_has_been_away_for_too_long() {
    let (world, clock) = World::with_manual_clock().await;
    let catalog = Flaky::new(&world, true);
    let _agent = catalog.agent(&world).await;
    assert_eq!(world.run(&with("true", strict)).await.exit_code, 0);

    catalog.is_up.send_replace(false);
    clock.advance(Duration::from_secs(60));
    assert_eq!(
        world.run(&with("true", strict)).await.exit_code,
        0,
        "not too old yet"
    );
    clock.advance(Duration::from_secs(1));
    refused(&world, &with("true", strict), SkipReason::Staleness, "1m").await;
    let ad_hoc = with("true", |command| {
        strict(command);
        command.exec_id = None;
    });
    assert_eq!(world.run(&ad_hoc).await.exit_code, 127);
    assert_eq!(
        world.run(&command("true")).await.exit_code,
        0,
        "others go by what is known"
    );

    catalog.is_up.send_replace(true);
    assert_eq!(
        world.run(&with("true", strict)).await.exit_code,
        0,
        "the catalog is asked again"
    );
}

#[tokio::test]
async fn strict_staleness_does_not_take_a_quiet_catalog_for_one_that_is_away() {
    let (world, clock) = World::with_manual_clock().await;
    let _agent = world.agent().await;
    assert_eq!(world.run(&with("true", strict)).await.exit_code, 0);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(world.run(&with("true", strict)).await.exit_code, 0);
}

#[tokio::test]
async fn the_last_known_status_counts_while_the_catalog_is_away_and_what_changed_meanwhile_afterwards() {
    let (world, clock) = World::with_manual_clock().await;
    world.set(Bucket::ScriptStatus, "job", "REVOKED").await;
    let catalog = Flaky::new(&world, true);
    let _agent = catalog.agent(&world).await;
    refused(&world, &command("true"), SkipReason::Revoked, "revoked").await;
    catalog.is_up.send_replace(false);
    refused(&world, &command("true"), SkipReason::Revoked, "revoked").await;

    // Deleted while nobody looked: it is missing from what is told afterwards.
    let key = "job".parse().unwrap();
    world
        .catalog
        .delete(Bucket::ScriptStatus, &key, Precondition::Any)
        .await
        .unwrap();
    world.set(Bucket::ScriptStatus, "other", "REVOKED").await;
    catalog.is_up.send_replace(true);
    // The heartbeat, and one pause for each watch.
    clock.sleepers(5).await;
    clock.advance(Duration::from_secs(10));
    until_refused(
        &world,
        &with("true", |command| command.id = "other".parse().unwrap()),
        SkipReason::Revoked,
    )
    .await;
    catalog.is_up.send_replace(false);
    assert_eq!(world.run(&command("true")).await.exit_code, 0);
}

#[tokio::test]
async fn the_first_command_waits_for_the_catalog_and_not_for_ever() {
    let (world, clock) = World::with_manual_clock().await;
    let catalog = Flaky::new(&world, false);
    let _agent = catalog.agent(&world).await;
    let cached = command("true");
    world.send(&cached).await;
    let strict = with("true", strict);
    world.send(&strict).await;
    // The heartbeat, one pause for each watch, and the two that wait.
    clock.sleepers(7).await;
    clock.advance(Duration::from_secs(5));
    assert_eq!(world.skipped(&strict).await.reason, SkipReason::Staleness);
    assert_eq!(world.result(&cached).await.exit_code, 0);
    let unchecked = with("true", |command| command.staleness = Staleness::Unchecked);
    assert_eq!(world.run(&unchecked).await.exit_code, 0, "at once");
}
