use serde_json::{Value, json};

use crate::world::{World, has_fields};

#[tokio::test]
async fn each_scope_is_set_and_removed_by_itself() {
    let world = World::new().await;
    let scopes = ["/api/config", "/api/groups/lab/config", "/api/pcs/pc-1/config"];
    for (secs, path) in scopes.iter().enumerate() {
        assert_eq!(world.get(path).send().await.expect(200), json!({}));
        let config = json!({ "heartbeat_interval": format!("{}s", secs + 1), "target_version": "1.0" });
        let set = world.put(path).json(&config).send().await;
        assert_eq!(set.expect(200), config);
        assert_eq!(world.get(path).send().await.expect(200), config);
        assert_eq!(world.last_audit().await["action"], "config_set");
    }
    for path in &scopes[1..] {
        world.delete(path).send().await.expect(204);
        assert_eq!(world.last_audit().await["action"], "config_delete");
        assert_eq!(world.get(path).send().await.expect(200), json!({}));
        world.delete(path).send().await.expect(204);
    }
    assert_eq!(
        world.get("/api/config").send().await.expect(200)["heartbeat_interval"],
        "1s"
    );
    world.delete("/api/config").send().await.problem(405);
}

#[tokio::test]
async fn what_holds_for_an_agent_is_laid_over_each_other_with_warnings() {
    let world = World::new().await;
    let path = "/api/agents/pc-1/effective_config";
    let nothing = world.get(path).send().await.expect(200);
    assert_eq!(
        nothing,
        json!({
            "pc_id": "pc-1", "warnings": [],
            "effective": { "target_version": null, "target_version_jitter": "0s", "heartbeat_interval": "30s" }
        })
    );
    world
        .put("/api/agents/pc-1/groups")
        .json(&json!({ "groups": ["a", "b"] }))
        .send()
        .await
        .expect(200);
    for (scope, config) in [
        (
            "/api/config",
            json!({ "target_version": "1.0", "heartbeat_interval": "5s" }),
        ),
        ("/api/groups/a/config", json!({ "heartbeat_interval": "6s" })),
        ("/api/groups/b/config", json!({ "heartbeat_interval": "7s" })),
        ("/api/pcs/pc-1/config", json!({ "target_version_jitter": "1m" })),
    ] {
        world.put(scope).json(&config).send().await.expect(200);
    }
    let effective = world.get(path).send().await.expect(200);
    has_fields(&effective, &["pc_id", "effective", "warnings"]);
    assert_eq!(
        effective["effective"],
        json!({ "target_version": "1.0", "target_version_jitter": "1m", "heartbeat_interval": "7s" })
    );
    assert_eq!(effective["warnings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_value_that_is_not_valid_is_refused() {
    let world = World::new().await;
    for (config, field) in [
        (json!({ "heartbeat_interval": "1ms" }), "heartbeat_interval"),
        (json!({ "heartbeat_interval": 30 }), "heartbeat_interval"),
        (
            json!({ "target_version_jitter": "a bit" }),
            "target_version_jitter",
        ),
        (json!({ "target_version": "one two" }), "target_version"),
    ] {
        let answer = world.put("/api/config").json(&config).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{config}");
    }
    let group = world
        .put("/api/groups/a%2Fb/config")
        .json(&json!({}))
        .send()
        .await;
    assert!(group.problem(400).contains("group"));
    // Existing clients may send more than we know.
    world
        .put("/api/config")
        .json(&json!({ "future": true }))
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_write_can_depend_on_the_version() {
    let world = World::new().await;
    let path = "/api/groups/lab/config";
    let config = json!({ "heartbeat_interval": "5s" });
    let put = |name: &'static str, value: String| world.put(path).json(&config).header(name, &value);
    assert_eq!(
        world.get(path).send().await.header("etag"),
        None,
        "nothing is set"
    );
    put("if-match", "*".into()).send().await.problem(412);
    let first = put("if-none-match", "*".into()).send().await;
    let first = first.header("etag").unwrap().to_owned();
    assert_eq!(world.get(path).send().await.header("etag"), Some(first.as_str()));
    put("if-match", first.clone()).send().await.expect(200);
    let stale = put("if-match", first.clone()).send().await.problem(412);
    assert!(stale.contains("changed since you read it"), "{stale}");
    let read = world.get(path).header("if-none-match", &first).send().await;
    assert_eq!(read.expect(200), config);
    let tag = read.header("etag").unwrap().to_owned();
    assert_eq!(
        world
            .get(path)
            .header("if-none-match", &tag)
            .send()
            .await
            .expect(304),
        Value::Null
    );
}
