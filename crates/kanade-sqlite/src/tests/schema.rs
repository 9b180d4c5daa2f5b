//! What the schema says, against what the code says.

use std::collections::BTreeMap;

use kanade_model::RunState;

use super::world::World;
use crate::{codec::Columns, database::newest_schema, query::runs::outcome_of, statement::Statement};

#[tokio::test]
async fn the_bundled_sqlite_keeps_what_a_checkpoint_races_with() {
    let world = World::new().await;
    let mut conn = world.database.read().await.unwrap();
    let version: String = Statement::new("SELECT sqlite_version()")
        .one(&mut conn, |columns| columns.take())
        .await
        .unwrap()
        .unwrap();
    let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(
        numbers >= vec![3, 51, 3],
        "SQLite {version} can lose data; 3.51.3 is needed"
    );
}

#[tokio::test]
async fn the_newest_migration_leaves_its_number() {
    let world = World::new().await;
    let mut conn = world.database.read().await.unwrap();
    let number = |columns: &mut Columns<'_>| columns.take::<u32>();
    let schema = Statement::new("PRAGMA user_version").one(&mut conn, number).await;
    assert_eq!(schema.unwrap(), Some(newest_schema()));
}

#[tokio::test]
async fn the_outcome_of_a_state_is_what_clients_filter_by() {
    let world = World::new().await;
    for (number, state) in RunState::ALL.iter().enumerate() {
        world
            .database
            .on_writer(&format!(
                "INSERT INTO runs (result_id, request_id, pc_id, started_at, state) \
                 VALUES (x'{number:032}', x'00', 'pc', 0, '{state}')"
            ))
            .await;
    }
    let mut conn = world.database.read().await.unwrap();
    let outcomes: BTreeMap<RunState, String> =
        Statement::new("SELECT state, outcome FROM runs WHERE pc_id = 'pc'")
            .map(&mut conn, |columns| Ok((columns.text()?, columns.take()?)))
            .await
            .unwrap()
            .into_iter()
            .collect();
    for state in RunState::ALL {
        assert_eq!(outcomes[state], outcome_of(*state), "{state}");
    }
}

/// As `.cargo/config.toml` has it built.
#[tokio::test]
async fn sqlite_takes_no_locks_that_nobody_needs() {
    let world = World::new().await;
    let mut conn = world.database.read().await.unwrap();
    let options = Statement::new("PRAGMA compile_options")
        .map(&mut conn, |columns| columns.take::<String>())
        .await
        .unwrap();
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    assert!(has("DEFAULT_MEMSTATUS=0"), "{options:?}");
    assert!(!has("ENABLE_MEMORY_MANAGEMENT"), "{options:?}");
}

#[tokio::test]
async fn a_handle_writes_durably_and_reads_without_writing() {
    let world = World::new().await;
    let number = |columns: &mut Columns<'_>| columns.take::<i64>();
    let synchronous = world
        .database
        .between_writes(async |conn, _| Statement::new("PRAGMA synchronous").one(conn, number).await);
    const FULL: i64 = 2;
    assert_eq!(synchronous.await.unwrap(), Some(FULL));
    let mut reader = world.database.read().await.unwrap();
    let written = Statement::new("CREATE TABLE more (x)").execute(&mut reader).await;
    assert!(written.is_err(), "a reader wrote");
}
