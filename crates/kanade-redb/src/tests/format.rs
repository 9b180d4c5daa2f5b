//! The format of the file: what is written today must be found tomorrow.

use kanade_model::{ExecutionStatus, TargetState};
use kanade_ports::{Agent, ErrorKind, Execution, ExecutionStore, Facts, Run, Send, TargetRecord};
use serde_json::{Value, json};

use super::work::{exec, id};
use crate::{
    Database,
    record::{executions, targets_in},
    table::Record,
};

/// Sixteen times the letter `a`.
const ID: &str = "61616161-6161-6161-6161-616161616161";
const AT_1: &str = "1970-01-01T00:00:00.000001Z";
const AT_2: &str = "1970-01-01T00:00:00.000002Z";

/// The key of a row and its entries in lists, as they stand in the file; `<1>` is the moment [`AT_1`].
fn keys<R: Record>(row: &Value) -> Vec<String> {
    let row = R::decode(&[], row.to_string().as_bytes()).expect("a row of this format");
    let places = row.places().into_iter().map(|place| place.key(&row.key()));
    [row.key()]
        .into_iter()
        .chain(places)
        .map(|key| {
            let text = key.bytes().escape_ascii().to_string();
            text.replace(r"\x80\x00\x00\x00\x00\x00\x00\x01", "<1>")
                .replace(r"\x80\x00\x00\x00\x00\x00\x00\x02", "<2>")
        })
        .collect()
}

/// A row with what every version has, and with something of a later one.
fn execution(status: &str, more: Value) -> Value {
    let mut row = json!({
        "exec_id": "e-1", "job_id": "j", "version": "1", "initiated_by": "me", "initiated_at": AT_1,
        "counts": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "status": status, "started": false, "last_due_at": AT_2,
        "limits": {"start_within_secs": 1, "run_within_secs": 1}, "of_a_later_version": {"x": 1}
    });
    let Value::Object(more) = more else {
        panic!("an object")
    };
    row.as_object_mut().unwrap().extend(more);
    row
}

#[test]
fn an_execution_is_found_where_it_was_put() {
    let pending = [
        "e-1",
        r"\x00<1>e-1",
        r"\x01j\x00\x00<1>e-1",
        r"\x02\x00<1>e-1",
        r"\x03j\x00\x00\x00<1>e-1",
        r"\x04j\x00\x00\x00e-1",
        r"\x06<2>e-1",
    ];
    assert_eq!(keys::<Execution>(&execution("pending", json!({}))), pending);
    let kill = json!({"kill": {"by": "me", "at": AT_2, "settled": false}});
    let killed = keys::<Execution>(&execution("running", kill));
    assert_eq!(killed[5..], [r"\x04j\x00\x00\x01e-1", r"\x05<2>e-1"]);
    let finished = keys::<Execution>(&execution("completed", json!({"finished_at": AT_2})));
    assert_eq!(finished[5..], [r"\x07<2>e-1"]);
}

#[test]
fn targets_and_sends_are_found_where_they_were_put() {
    let mut target = json!({
        "exec_id": "e-1", "pc_id": "p", "state": "waiting", "request_id": ID, "wave": 0, "due_at": AT_1,
        "check_at": AT_2, "of_a_later_version": 1
    });
    let waiting = [
        r"e-1\x00\x00p",
        r"\x00e-1\x00\x00\x00e-1\x00\x00p",
        r"\x01p\x00\x00<1>e-1\x00\x00p",
        r"\x02<2>e-1\x00\x00p",
    ];
    assert_eq!(keys::<TargetRecord>(&target), waiting);
    target["state"] = json!("succeeded");
    let succeeded = [r"e-1\x00\x00p", r"\x00e-1\x00\x00\x02e-1\x00\x00p"];
    assert_eq!(keys::<TargetRecord>(&target), succeeded);
    let unanswered = json!({"state": "withdrawn", "receipt": "unreachable", "finished_at": AT_1});
    let target_fields = target.as_object_mut().unwrap();
    target_fields.extend(unanswered.as_object().unwrap().clone());
    let withdrawn = [
        r"e-1\x00\x00p",
        r"\x00e-1\x00\x00\te-1\x00\x00p",
        r"\x03p\x00\x00<1>e-1\x00\x00p",
    ];
    assert_eq!(keys::<TargetRecord>(&target), withdrawn);

    let mut send = json!({
        "send_id": ID, "exec_id": "e-1", "to": {"pc": "p"}, "request_id": ID, "wave": 0, "due_at": AT_1,
        "state": "due", "of_a_later_version": 1
    });
    let due = [
        "aaaaaaaaaaaaaaaa",
        r"\x00e-1\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x01<1>aaaaaaaaaaaaaaaa",
    ];
    assert_eq!(keys::<Send>(&send), due);
    send["state"] = json!("sent");
    assert_eq!(keys::<Send>(&send), due[..2]);
}

#[test]
fn runs_agents_and_facts_are_found_where_they_were_put() {
    let run = json!({
        "result_id": ID, "request_id": ID, "exec_id": "e-1", "pc_id": "p", "job_id": "j", "state": "running",
        "started_at": AT_1, "check_at": AT_2, "of_a_later_version": 1
    });
    let running = [
        "aaaaaaaaaaaaaaaa",
        r"\x00<1>aaaaaaaaaaaaaaaa",
        r"\x01p\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x02j\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x03e-1\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x04\x02<1>aaaaaaaaaaaaaaaa",
        r"\x05<2>aaaaaaaaaaaaaaaa",
    ];
    assert_eq!(keys::<Run>(&run), running);
    let ad_hoc = json!({
        "result_id": ID, "request_id": ID, "pc_id": "p", "state": "failed", "started_at": AT_1, "finished_at": AT_2
    });
    let ended = [
        r"\x02\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x03\x00\x00<1>aaaaaaaaaaaaaaaa",
        r"\x04\x01<1>aaaaaaaaaaaaaaaa",
        r"\x06<2>aaaaaaaaaaaaaaaa",
    ];
    assert_eq!(keys::<Run>(&ad_hoc)[3..], ended);

    let agent = json!({"pc_id": "p", "last_heartbeat": AT_1, "updated_at": AT_1, "of_a_later_version": 1});
    assert_eq!(keys::<Agent>(&agent), ["p"]);
    let facts = json!({
        "pc_id": "p", "job_id": "j", "facts": {"x": 1}, "hints": {}, "collected_at": AT_1, "recorded_at": AT_1
    });
    assert_eq!(keys::<Facts>(&facts), [r"p\x00\x00j", r"\x00j\x00\x00p\x00\x00j"]);
}

#[test]
fn every_state_has_its_number() {
    for (status, number) in ExecutionStatus::ALL.iter().zip(0..) {
        let list = executions(None, Some(*status)).name();
        assert_eq!(list.bytes().last(), Some(&number), "{status}");
    }
    for (state, number) in TargetState::ALL.iter().zip(0..) {
        let list = targets_in(&exec(1), *state).name();
        assert_eq!(list.bytes().last(), Some(&number), "{state}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_others_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    Database::open(&path).unwrap().close().await.unwrap();
    let direct = redb::Database::open(&path).unwrap();
    let txn = direct.begin_write().unwrap();
    {
        let mut agents = txn.open_table(Agent::ROWS).unwrap();
        let good = json!({"pc_id": "good", "last_heartbeat": AT_1, "updated_at": AT_1}).to_string();
        agents.insert(b"good".as_slice(), good.as_bytes()).unwrap();
        agents.insert(b"bad".as_slice(), &good.as_bytes()[1..]).unwrap();
    }
    txn.commit().unwrap();
    direct.close().unwrap();

    let database = Database::open(&path).unwrap();
    let store = database.store();
    assert!(store.agent(&id("good")).await.unwrap().is_some());
    for error in [
        store.agent(&id("bad")).await.unwrap_err(),
        store.agents(None, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "agent `bad` cannot be read back");
    }
}
