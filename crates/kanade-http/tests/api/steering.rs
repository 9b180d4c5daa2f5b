use serde_json::{Value, json};

use crate::world::World;

/// Fires in two waves, to pc-1 now and to pc-2 after an hour, and returns the execution.
async fn fire_in_waves(world: &World, gate: Option<Value>) -> String {
    world.job("backup").await;
    for (pc, group) in [("pc-1", "canary"), ("pc-2", "rest")] {
        let groups = json!({ "groups": [group] });
        world
            .put(&format!("/api/agents/{pc}/groups"))
            .json(&groups)
            .send()
            .await
            .expect(200);
    }
    let mut first = json!({ "group": "canary", "delay": "0s" });
    if let Some(gate) = gate {
        first["proceed_if"] = gate;
    }
    let waves = json!([first, { "group": "rest", "delay": "1h" }]);
    let plan = json!({ "rollout": { "strategy": "wave", "waves": waves } });
    let fired = world
        .post("/api/exec/backup")
        .json(&plan)
        .send()
        .await
        .expect(200);
    fired["exec_id"].as_str().unwrap().to_owned()
}

async fn execution(world: &World, exec: &str) -> Value {
    let detail = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    detail["execution"].clone()
}

#[tokio::test]
async fn an_execution_shows_its_waves() {
    let mut world = World::new().await;
    let gate = json!({ "success_ratio": 0.9, "within": "30m" });
    let exec = fire_in_waves(&world, Some(gate.clone())).await;
    let command = world.command().await;
    world.finished(&command, "pc-1", 1, "").await;
    world
        .until("the first wave is recorded as sent", async || {
            execution(&world, &exec).await["waves"][0]["sent_at"].is_string()
        })
        .await;
    let shown = execution(&world, &exec).await;
    let first = &shown["waves"][0];
    assert_eq!(
        (&first["wave"], &first["group"], &first["status"]),
        (&json!(0), &json!("canary"), &json!("done"))
    );
    assert_eq!(
        (&first["target_count"], &first["targets"]),
        (&json!(1), &json!({ "failed": 1 }))
    );
    assert_eq!(
        (&first["proceed_if"], &first["gate"]),
        (&gate, &json!({ "state": "open" }))
    );
    let second = &shown["waves"][1];
    assert_eq!(
        (&second["status"], &second["targets"]),
        (&json!("held"), &json!({ "waiting": 1 }))
    );
    assert!(
        second.get("sent_at").is_none() && second.get("gate").is_none(),
        "{second}"
    );
    let listed = world.get("/api/executions").send().await.expect(200);
    assert!(listed[0].get("waves").is_none(), "lists are short");
    let plain = world.fire("backup", &["pc-1"]).await;
    let plain = execution(&world, &plain).await;
    assert!(
        plain.get("waves").is_none() && plain.get("paused_at").is_none(),
        "{plain}"
    );
}

#[tokio::test]
async fn an_execution_is_paused_resumed_and_aborted() {
    let mut world = World::new().await;
    let exec = fire_in_waves(&world, None).await;
    world.command().await;
    let post = |how: &str| world.post(&format!("/api/executions/{exec}/{how}"));
    for how in ["pause", "pause"] {
        assert_eq!(post(how).send().await.status, 204, "also when it is paused");
        assert_eq!(world.last_audit().await["action"], "execution_pause");
    }
    let paused = execution(&world, &exec).await;
    assert_eq!(paused["paused_by"], "operator");
    assert_eq!(paused["waves"][1]["status"], "held");
    assert_eq!(post("resume").send().await.status, 204);
    assert_eq!(world.last_audit().await["action"], "execution_resume");
    let told = post("resume").send().await.problem(409);
    assert!(told.contains("not paused"), "{told}");

    assert_eq!(post("abort").send().await.status, 204);
    assert_eq!(world.last_audit().await["action"], "execution_abort");
    let aborted = execution(&world, &exec).await;
    assert_eq!(aborted["waves"][1]["status"], "withdrawn");
    assert!(aborted["aborted_at"].is_string() && aborted.get("killed_at").is_none());
    assert_eq!(post("abort").send().await.status, 204, "also when it is aborted");
    let told = post("pause").send().await.problem(409);
    assert!(told.contains("nothing of it is still to be sent"), "{told}");
    for how in ["pause", "resume", "abort"] {
        let told = world
            .post(&format!("/api/executions/none/{how}"))
            .send()
            .await
            .problem(404);
        assert!(told.contains("`none`"), "{told}");
    }
}

#[tokio::test]
async fn a_gate_that_cannot_be_is_refused_with_its_field() {
    let world = World::new().await;
    world.job("backup").await;
    let plain = json!({ "group": "g", "delay": "0s" });
    let gated = |gate: Value| json!({ "group": "g", "delay": "0s", "proceed_if": gate });
    let good = json!({ "success_ratio": 0.5, "within": "1m" });
    for (waves, field, told) in [
        (
            json!([gated(json!({ "success_ratio": 1.5, "within": "1m" })), plain]),
            "rollout.waves[0].proceed_if.success_ratio",
            "0 to 1",
        ),
        (
            json!([gated(json!({ "success_ratio": 0.5 })), plain]),
            "rollout.waves[0].proceed_if",
            "within",
        ),
        (
            json!([gated(json!({ "success_ratio": 0.5, "within": "0s" })), plain]),
            "rollout.waves[0].proceed_if.within",
            "more than `0s`",
        ),
        (
            json!([plain, gated(good)]),
            "rollout.waves[1].proceed_if",
            "no wave comes after",
        ),
    ] {
        let plan = json!({ "rollout": { "strategy": "wave", "waves": waves } });
        let answer = world.post("/api/exec/backup").json(&plan).send().await;
        let problem = answer.problem(400);
        assert!(problem.contains(told), "{problem}");
        assert_eq!(answer.field(), field, "{problem}");
    }
}

#[tokio::test]
async fn executions_are_killed_by_what_they_have_in_common() {
    let mut world = World::new().await;
    let staged = fire_in_waves(&world, None).await;
    let one = world.fire("backup", &["pc-1"]).await;
    world.job("other").await;
    let other = world.fire("other", &["pc-9", "pc-8"]).await;
    for _ in 0..4 {
        world.command().await;
    }
    let kill = |request: Value| world.post("/api/kill").json(&request);
    let ids = |killed: &Value| -> Vec<String> {
        let of = killed["executions"].as_array().unwrap();
        let mut ids: Vec<_> = of
            .iter()
            .map(|of| of["exec_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
        ids.sort();
        ids
    };
    for (request, wanted, targets) in [
        (json!({ "pc_id": "pc-1" }), sorted(&[&staged, &one]), 3),
        (json!({ "group": "rest" }), sorted(&[&staged]), 2),
        (json!({ "job_id": "backup" }), sorted(&[&staged, &one]), 3),
        (json!({ "all": true }), sorted(&[&staged, &one, &other]), 5),
        (json!({ "pc_id": "nobody" }), vec![], 0),
    ] {
        let mut dry = request.clone();
        dry["dry_run"] = json!(true);
        let would = kill(dry).send().await.expect(200);
        assert_eq!(
            (ids(&would), &would["targets"]),
            (wanted, &json!(targets)),
            "{request}"
        );
    }
    assert_ne!(world.last_audit().await["action"], "kill", "nothing was killed");
    for (request, field) in [
        (json!({}), "kill"),
        (json!({ "all": true }), "confirm"),
        (
            json!({ "all": true, "pc_id": "pc-1", "confirm": "kill all" }),
            "kill",
        ),
    ] {
        let answer = kill(request).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field);
    }

    let killed = kill(json!({ "group": "rest" })).send().await.expect(200);
    assert_eq!(
        (ids(&killed), killed.get("dry_run")),
        (vec![staged.clone()], None)
    );
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["payload"]["group"]),
        (&json!("kill"), &json!("rest"))
    );
    let killed = execution(&world, &staged).await;
    assert_eq!(
        (&killed["killed_by"], &killed["waves"][1]["status"]),
        (&json!("operator"), &json!("withdrawn"))
    );
    let killed = kill(json!({ "all": true, "confirm": "kill all" }))
        .send()
        .await
        .expect(200);
    assert_eq!(
        ids(&killed),
        sorted(&[&staged, &one, &other]),
        "one waits for its receipts still"
    );
    for exec in [&one, &other] {
        assert!(execution(&world, exec).await["killed_at"].is_string());
    }
}
