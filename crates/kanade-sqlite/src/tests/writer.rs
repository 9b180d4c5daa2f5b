//! The writer after something went wrong, and its turns.

use futures::{FutureExt, StreamExt};
use kanade_ports::{
    Bucket, Catalog, CatalogEvent, CatalogReader, ErrorKind, Execution, ExecutionStore, Key, Outcome,
    StoreError,
};
use tokio::sync::oneshot;

use super::world::{World, exec, finished, fire, job};
use crate::fault::Fault;

#[tokio::test]
async fn a_panic_leaves_nothing_behind_and_the_next_one_writes() {
    let world = World::new().await;
    let database = world.database.clone();
    let panicked = tokio::spawn(async move {
        let work = database.write::<()>(
            |conn| {
                async move {
                    half_a_firing(conn).await?;
                    panic!("a bug in a transition")
                }
                .boxed()
            },
            |(), _| {},
        );
        work.await
    });
    assert!(panicked.await.unwrap_err().is_panic(), "the caller sees it");
    nothing_was_kept_and_writes_go_on(&world).await;
}

#[tokio::test]
async fn a_failed_statement_leaves_nothing_behind_and_the_next_one_writes() {
    // SQLite undoes the statement, or the whole transaction by itself.
    for reaction in ["ABORT", "FAIL", "ROLLBACK"] {
        let world = World::new().await;
        let trigger = format!(
            "CREATE TRIGGER broken BEFORE INSERT ON outputs BEGIN SELECT RAISE({reaction}, 'broken'); END"
        );
        world.database.on_writer(&trigger).await;
        let sets = [fire(1, 3), finished(1, 0, "out")];
        let error = world.database.store().apply(&sets).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{reaction}");
        world.database.on_writer("DROP TRIGGER broken").await;
        nothing_was_kept_and_writes_go_on(&world).await;
    }
}

#[tokio::test]
async fn a_transaction_goes_to_its_end_when_its_caller_goes_away() {
    let world = World::new().await;
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let database = world.database.clone();
    let caller = tokio::spawn(async move {
        let work = database.write(
            |conn| {
                async move {
                    begun.send(()).unwrap();
                    may_go_on.await.unwrap();
                    half_a_firing(conn).await
                }
                .boxed()
            },
            |(), _| {},
        );
        work.await
    });
    has_begun.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    // The next turn comes after it.
    world.database.on_writer("SELECT 1").await;
    assert!(written(&world).await.unwrap().is_some());
}

#[tokio::test]
async fn a_caller_that_goes_away_before_its_turn_leaves_nothing_behind() {
    let world = World::new().await;
    let store = world.database.store();
    world
        .database
        .between_writes(async |_, _| {
            let set = [fire(1, 3)];
            let waiting = store.apply(&set);
            assert!(waiting.now_or_never().is_none(), "it is somebody else's turn");
            Ok(())
        })
        .await
        .unwrap();
    nothing_was_kept_and_writes_go_on(&world).await;
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_has_to_begin_anew() {
    let world = World::new().await;
    let catalog = world.database.catalog();
    let mut watch = catalog.watch(Bucket::Jobs).await.unwrap();
    let key: Key = (&job()).into();
    world
        .database
        .between_writes(async |_, feeds| {
            (0..2000).for_each(|_| feeds.tell(Bucket::Jobs, CatalogEvent::Deleted(key.clone())));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));
    let rest = watch.count().await;
    assert_eq!(rest, 0, "what came after the loss is not told");
}

#[tokio::test]
async fn after_a_close_every_handle_says_so_and_watches_end() {
    let world = World::new().await;
    let (store, catalog) = (world.database.store(), world.database.catalog());
    let watch = catalog.watch(Bucket::Jobs).await.unwrap();
    world.database.close().await.unwrap();
    world.database.close().await.unwrap();
    assert_eq!(watch.collect::<Vec<_>>().await, [CatalogEvent::Current]);
    let unavailable = |error: StoreError| assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    unavailable(store.apply(&[fire(1, 1)]).await.unwrap_err());
    unavailable(store.execution(&exec(1)).await.unwrap_err());
    unavailable(catalog.list(Bucket::Jobs).await.unwrap_err());
    unavailable(catalog.watch(Bucket::Jobs).await.map(|_| ()).unwrap_err());
    let log = world.path().with_extension("db-wal");
    assert!(!log.exists(), "the log went into the file");
}

/// Something that must not be there without the rest.
async fn half_a_firing(conn: &mut sqlx::SqliteConnection) -> Result<(), Fault> {
    crate::write::apply(conn, &[fire(1, 3)]).await.map(drop)
}

async fn written(world: &World) -> Result<Option<Execution>, StoreError> {
    world.database.store().execution(&exec(1)).await
}

async fn nothing_was_kept_and_writes_go_on(world: &World) {
    assert_eq!(written(world).await.unwrap(), None, "nothing was kept");
    let store = world.database.store();
    assert_eq!(store.apply(&[fire(1, 3)]).await.unwrap(), [Outcome::Applied]);
    assert_eq!(written(world).await.unwrap().unwrap().counts.total(), 3);
}
