//! Files of an earlier program: what they lack is made, what they hold stays.

use kanade_model::{Heartbeat, Timestamp};
use kanade_ports::{Change, ChangeSet, ExecutionStore, Outcome};
use kanade_redb::Database;
use redb::TableDefinition;

#[tokio::test]
async fn a_file_that_knows_no_marks_yet_gets_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    let at = Timestamp::UNIX_EPOCH;
    let heartbeat = Heartbeat {
        pc_id: "pc-1".parse().unwrap(),
        at,
        agent_version: "1".into(),
        hostname: None,
        os_family: None,
    };
    let pc = heartbeat.pc_id.clone();
    let database = Database::open(&path).unwrap();
    let seen = ChangeSet::of(Change::AgentSeen { heartbeat, at });
    database.store().apply(&[seen]).await.unwrap();
    database.close().await.unwrap();
    {
        let earlier = redb::Database::open(&path).unwrap();
        let txn = earlier.begin_write().unwrap();
        let marks = TableDefinition::<&[u8], &[u8]>::new("marks");
        assert!(txn.delete_table(marks).unwrap(), "it was there");
        txn.commit().unwrap();
    }
    let database = Database::open(&path).unwrap();
    let store = database.store();
    assert_eq!(store.mark("one").await.unwrap(), None);
    let mark = ChangeSet::of(Change::Mark {
        name: "one".into(),
        at,
    });
    assert_eq!(store.apply(&[mark]).await.unwrap(), [Outcome::Applied]);
    assert_eq!(store.mark("one").await.unwrap(), Some(at));
    assert!(store.agent(&pc).await.unwrap().is_some());
    database.close().await.unwrap();
}
