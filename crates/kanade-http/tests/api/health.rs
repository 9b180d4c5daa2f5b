use kanade_http::{Auth, HttpSettings, NamedToken};
use kanade_ports::ErrorKind;
use serde_json::json;

use crate::{
    faults::DRIVER_TEXT,
    world::{World, has_fields},
};

#[tokio::test]
async fn a_server_that_lives_says_ok() {
    let world = World::new().await;
    for path in ["/health", "/livez"] {
        let answer = world.get(path).send().await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    }
}

#[tokio::test]
async fn a_server_is_ready_when_every_part_is_well() {
    let world = World::new().await;
    let ready = world.get("/readyz").send().await.expect(200);
    has_fields(&ready, &["ready", "checks", "bus"]);
    assert_eq!(
        ready,
        json!({
            "ready": true, "checks": { "bus": "ok", "catalog": "ok", "store": "ok" },
            "bus": { "outages": 0, "dropped": 0 },
        })
    );
}

#[tokio::test]
async fn a_server_without_its_store_lives_but_is_not_ready() {
    let world = World::new().await;
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    let ready = world.get("/readyz").send().await.expect(503);
    assert_eq!(ready["ready"], false);
    assert!(
        ready["checks"]["store"]
            .as_str()
            .unwrap()
            .contains("not available")
    );
    assert_eq!(ready["checks"]["bus"], "ok");
    world.get("/livez").send().await;
    assert_eq!(world.get("/health").send().await.text(), "ok");
    world.store.fail_reads(None);
    world.get("/readyz").send().await.expect(200);
}

#[tokio::test]
async fn a_stranger_is_not_told_what_is_wrong() {
    let tokens = vec![NamedToken {
        name: "ops".into(),
        token: "t0ken".into(),
    }];
    let settings = HttpSettings {
        auth: Auth::Tokens(tokens),
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    let told = world.get("/readyz").send().await;
    assert_eq!(told.expect(503), json!({ "ready": false, "checks": {} }));
    assert!(!told.text().contains(DRIVER_TEXT));
    let known = world
        .get("/readyz")
        .header("authorization", "Bearer t0ken")
        .send()
        .await
        .expect(503);
    assert!(
        known["checks"]["store"]
            .as_str()
            .unwrap()
            .contains("not available")
    );
}

#[tokio::test]
async fn what_happened_and_what_goes_on_can_be_scraped() {
    let world = World::new().await;
    let counted = async |line: &str| {
        let answer = world.get("/metrics").send().await;
        let kind = answer.header("content-type").unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = answer.text().to_owned();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found
            .unwrap_or_else(|| panic!("{line} is there: {text}"))
            .trim()
            .to_owned()
    };
    assert_eq!(counted("kanade_executions_fired_total").await, "0");
    world.job("backup").await;
    world.fire("backup", &["pc-1"]).await;
    assert_eq!(counted("kanade_executions_fired_total").await, "1");
    assert_eq!(counted("kanade_executions{status=\"pending\"}").await, "1");
    assert_eq!(counted("kanade_records_removed_total{kind=\"runs\"}").await, "0");
    assert_eq!(counted("kanade_agents{state=\"active\"}").await, "0");
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    world.get("/metrics").send().await.problem(503);
}
