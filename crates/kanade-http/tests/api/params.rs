//! Parameters over the API.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kanade_core::Abilities;
use kanade_http::HttpSettings;
use kanade_ports::{KeyKeeper, SealingKey, StoreError};
use serde_json::{Value, json};

use crate::world::{World, manifest};

#[derive(Default)]
struct Keeper(Mutex<Option<SealingKey>>);

#[async_trait]
impl KeyKeeper for Keeper {
    async fn key(&self) -> Result<Option<SealingKey>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn keep(&self, fresh: SealingKey) -> Result<SealingKey, StoreError> {
        Ok(self.0.lock().unwrap().get_or_insert(fresh).clone())
    }
}

async fn world() -> World {
    let abilities = Abilities {
        secrets: Some(Arc::new(Keeper::default())),
        ..Abilities::default()
    };
    World::able(HttpSettings::default(), abilities).await
}

fn deploy() -> Value {
    let mut deploy = manifest("deploy");
    deploy["params"] = json!({
        "region": {"type": "string", "pattern": "[a-z]+", "default": "eu"},
        "token": {"type": "string", "secret": true}
    });
    deploy
}

#[tokio::test]
async fn an_execution_shows_its_parameters_and_never_a_secret() {
    let mut world = world().await;
    world.post("/api/jobs").json(&deploy()).send().await.expect(200);
    let shown = world.get("/api/jobs/deploy").send().await.expect(200);
    assert_eq!(shown["params"], deploy()["params"]);
    let plan = json!({"target": {"pcs": ["pc-1"]}, "params": {"region": "us", "token": "hunter2"}});
    let fired = world.post("/api/exec/deploy").json(&plan).send().await;
    let exec = fired.expect(200)["exec_id"].as_str().unwrap().to_owned();
    assert_eq!(world.command().await.secrets["token"].0, "hunter2");
    let detail = world.get(&format!("/api/executions/{exec}")).send().await;
    assert_eq!(
        detail.expect(200)["params"],
        json!({"region": "us", "token": null})
    );
    for path in [
        "/api/executions",
        "/api/audit",
        &format!("/api/executions/{exec}/targets"),
    ] {
        let answer = world.get(path).send().await;
        answer.expect(200);
        assert!(!answer.text().contains("hunter2"), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_execution_without_parameters_is_shown_as_before() {
    let world = world().await;
    world.job("backup").await;
    let exec = world.fire("backup", &["pc-1"]).await;
    let detail = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    assert_eq!(detail.get("params"), None);
}

#[tokio::test]
async fn what_does_not_fit_is_a_400_with_its_field_and_without_secrets() {
    let world = world().await;
    for (params, field) in [
        (json!({"Region": {"type": "string"}}), "params.Region"),
        (
            json!({"region": {"type": "string", "pattern": "("}}),
            "params.region.pattern",
        ),
        (
            json!({"region": {"type": "number", "default": "x"}}),
            "params.region.default",
        ),
        (
            json!({"region": {"type": "string", "patern": "x"}}),
            "params.region.patern",
        ),
        (
            json!({"token": {"type": "string", "secret": true, "default": "hunter2"}}),
            "params.token.default",
        ),
    ] {
        let mut document = manifest("deploy");
        document["params"] = params;
        let answer = world.post("/api/jobs").json(&document).send().await;
        let detail = answer.problem(400);
        assert_eq!(answer.field(), field, "{detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    world.post("/api/jobs").json(&deploy()).send().await.expect(200);
    for (params, field) in [
        (json!({"regoin": "hunter2"}), "params.regoin"),
        (json!({"region": "EU"}), "params.region"),
        (json!({"token": "hunter2\u{0}"}), "params.token"),
        (json!({"token": ["hunter2"]}), "params.token"),
    ] {
        let plan = json!({"target": {"pcs": ["pc-1"]}, "params": params});
        let answer = world.post("/api/exec/deploy").json(&plan).send().await;
        let detail = answer.problem(400);
        assert_eq!(answer.field(), field, "{detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    let schedule = json!({
        "id": "nightly", "cron": "0 30 2 * * *", "job_id": "deploy", "target": {"all": true},
        "params": {"token": "hunter2"}
    });
    let answer = world.post("/api/schedules").json(&schedule).send().await;
    let detail = answer.problem(400);
    assert_eq!(answer.field(), "params.token", "{detail}");
    assert!(!detail.contains("hunter2"), "{detail}");
}

#[tokio::test]
async fn a_yaml_document_declares_parameters_too() {
    let world = world().await;
    let yaml = "id: deploy\nversion: 1.0.0\nexecute: {shell: sh, script: 'true', timeout: 5s}\nparams:\n  \
                force: {type: bool, default: false}\n  depth: {type: number, min: 1, max: 2.5, default: 2}\n";
    let put = world
        .post("/api/jobs")
        .text("application/yaml", yaml)
        .send()
        .await;
    put.expect(200);
    let shown = world.get("/api/jobs/deploy").send().await.expect(200);
    assert_eq!(
        shown["params"]["force"],
        json!({"type": "bool", "default": false})
    );
    assert_eq!(
        shown["params"]["depth"],
        json!({"type": "number", "min": 1, "max": 2.5, "default": 2})
    );
}
