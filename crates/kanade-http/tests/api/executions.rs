use std::slice;

use kanade_ports::ErrorKind;
use serde_json::{Value, json};

use crate::world::{NOW, World, has_fields};

const EXECUTION: [&str; 10] = [
    "exec_id",
    "job_id",
    "version",
    "initiated_by",
    "initiated_at",
    "target_count",
    "success_count",
    "failure_count",
    "status",
    "targets",
];

#[tokio::test]
async fn a_fire_answers_what_it_set_in_motion() {
    let mut world = World::new().await;
    world.job("backup").await;
    let plan = json!({ "target": { "pcs": ["pc-2", "pc-1"] }, "jitter": "5s", "future": { "x": 1 } });
    let fired = world
        .post("/api/exec/backup")
        .json(&plan)
        .send()
        .await
        .expect(200);
    has_fields(
        &fired,
        &["exec_id", "job_id", "version", "target_count", "subjects"],
    );
    assert_eq!(
        (&fired["job_id"], &fired["version"]),
        (&json!("backup"), &json!("1.0.0"))
    );
    assert_eq!(fired["target_count"], 2);
    assert_eq!(fired["subjects"], json!(["commands.pc.pc-1", "commands.pc.pc-2"]));
    assert_eq!(world.last_audit().await["action"], "exec");
    let command = world.command().await;
    assert_eq!(json!(command.exec_id), fired["exec_id"]);
    assert_eq!(command.jitter_secs, Some(5));
}

#[tokio::test]
async fn a_fire_that_cannot_be_made_says_why() {
    let mut world = World::new().await;
    world.job("backup").await;
    let anyone = json!({ "target": { "pcs": ["pc-1"] } });
    let fire = |plan: &Value| world.post("/api/exec/backup").json(plan);
    for (plan, told) in [
        (json!({}), "`all`, `groups` or `pcs` must name somebody"),
        (json!({ "target": { "all": true } }), "no agent has reported"),
        (
            json!({ "target": { "groups": ["lab"] } }),
            "none of these groups has a member",
        ),
        (
            json!({ "target": { "pcs": ["a b"] } }),
            "pc id: `a b` is not valid",
        ),
        (
            json!({ "target": { "pcs": ["pc-1"] }, "jitter": "soon" }),
            "jitter: duration: `soon`",
        ),
        (json!({ "target": { "pcs": "pc-1" } }), "target.pcs: invalid type"),
        (
            json!({ "rollout": { "strategy": "wave", "waves": [] } }),
            "at least one wave is wanted",
        ),
        (
            json!({ "rollout": { "strategy": "wave", "waves": [{ "group": "lab", "delay": "x" }] } }),
            "rollout.waves[0].delay: ",
        ),
        (
            json!({ "target": { "pcs": ["pc-1"] }, "deadline_at": "tomorrow" }),
            "RFC 3339 is wanted",
        ),
    ] {
        let detail = fire(&plan).send().await.problem(400);
        assert!(detail.contains(told), "{plan}: {detail}");
    }
    let unknown = world.post("/api/exec/nope").json(&anyone).send().await;
    assert_eq!(unknown.problem(404), "job `nope` does not exist");
    world.post("/api/scripts/backup/revoke").send().await.expect(204);
    let revoked = fire(&anyone).send().await.problem(409);
    assert!(revoked.contains("`kanade unrevoke backup`"), "{revoked}");
    world
        .post("/api/exec/backup")
        .text("application/yaml", "target: {all: true}")
        .send()
        .await
        .problem(415);
    assert_eq!(world.commands_so_far(), 0);
    assert_eq!(world.get("/api/executions").send().await.expect(200), json!([]));
}

#[tokio::test]
async fn a_fire_that_cannot_be_recorded_sends_nothing() {
    let mut world = World::new().await;
    world.job("backup").await;
    let plan = json!({ "target": { "pcs": ["pc-1"] } });
    for (kind, told) in [
        (ErrorKind::Unavailable, "not available"),
        (ErrorKind::Indeterminate, "may have been done"),
    ] {
        world.store.fail_writes(Some(kind));
        let answer = world.post("/api/exec/backup").json(&plan).send().await;
        assert!(answer.problem(503).contains(told));
        assert_eq!(
            answer.header("retry-after").is_some(),
            kind == ErrorKind::Unavailable
        );
    }
    world.store.fail_writes(None);
    assert_eq!(world.commands_so_far(), 0);
    world
        .post("/api/exec/backup")
        .json(&plan)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn executions_are_listed_newest_first_and_by_job_and_status() {
    let mut world = World::new().await;
    for job in ["backup", "update"] {
        world.job(job).await;
    }
    let first = world.fire("backup", &["pc-1"]).await;
    let command = world.command().await;
    world.clock.advance(std::time::Duration::from_secs(1));
    let second = world.fire("update", &["pc-1", "pc-2"]).await;
    world.finished(&command, "pc-1", 0, "").await;

    let list = async |query: &str| {
        let listed = world
            .get(&format!("/api/executions{query}"))
            .send()
            .await
            .expect(200);
        let id = |execution: &Value| execution["exec_id"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [second.clone(), first.clone()]);
    assert_eq!(list("?limit=1").await, slice::from_ref(&second));
    assert_eq!(list("?job_id=backup").await, slice::from_ref(&first));
    assert_eq!(
        list("?job_id=back").await,
        Vec::<String>::new(),
        "a job id is not a pattern"
    );
    assert_eq!(list("?status=completed").await, [first]);
    assert_eq!(list("?status=pending&job_id=").await, [second]);
    let answer = world.get("/api/executions?status=done").send().await;
    assert!(
        answer
            .problem(400)
            .contains("pending running completed killed expired")
    );
    assert_eq!(answer.field(), "status");

    let listed = world.get("/api/executions").send().await.expect(200);
    has_fields(&listed[0], &EXECUTION);
    assert_eq!(listed[0]["initiated_by"], "operator");
    assert_eq!(listed[1]["initiated_at"], NOW);
    assert_eq!(listed[0]["targets"], json!({ "waiting": 2 }));
}

#[tokio::test]
async fn an_execution_shows_its_counts_and_runs() {
    let mut world = World::new().await;
    world.job("backup").await;
    let exec = world.fire("backup", &["pc-1", "pc-2", "pc-3"]).await;
    let commands = [
        world.command().await,
        world.command().await,
        world.command().await,
    ];
    world.finished(&commands[0], "pc-1", 0, "fine").await;
    world.finished(&commands[1], "pc-2", 3, "bad").await;
    world.started(&commands[2], "pc-3").await;

    let path = format!("/api/executions/{exec}");
    let detail = world.get(&path).send().await.expect(200);
    has_fields(&detail, &["execution", "results"]);
    has_fields(&detail["execution"], &EXECUTION);
    let counts =
        ["target_count", "success_count", "failure_count", "status"].map(|key| &detail["execution"][key]);
    assert_eq!(counts, [&json!(3), &json!(1), &json!(1), &json!("running")]);
    let results = detail["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for run in results {
        has_fields(
            run,
            &[
                "result_id",
                "request_id",
                "pc_id",
                "exit_code",
                "started_at",
                "finished_at",
            ],
        );
    }
    let open = results.iter().find(|run| run["pc_id"] == "pc-3").unwrap();
    assert_eq!(
        (&open["exit_code"], &open["finished_at"]),
        (&Value::Null, &Value::Null)
    );

    world.finished(&commands[2], "pc-3", 0, "").await;
    let done = world.get(&path).send().await.expect(200);
    assert_eq!(done["execution"]["status"], "completed");
    assert_eq!(done["execution"]["finished_at"], NOW);
}

#[tokio::test]
async fn targets_are_listed_by_agent_and_state() {
    let mut world = World::new().await;
    world.job("backup").await;
    let exec = world.fire("backup", &["pc-1", "pc-2", "pc-3"]).await;
    let command = world.command().await;
    world.finished(&command, "pc-1", 1, "").await;
    let path = format!("/api/executions/{exec}/targets");
    let targets = world.get(&path).send().await.expect(200);
    let fields = [
        "pc_id",
        "state",
        "attempt",
        "wave",
        "due_at",
        "result_id",
        "started_at",
        "finished_at",
        "exit_code",
        "detail",
        "receipt",
    ];
    let pcs: Vec<&Value> = targets
        .as_array()
        .unwrap()
        .iter()
        .map(|target| &target["pc_id"])
        .collect();
    assert_eq!(pcs, ["pc-1", "pc-2", "pc-3"]);
    for target in targets.as_array().unwrap() {
        has_fields(target, &fields);
    }
    assert_eq!(
        (&targets[0]["state"], &targets[0]["exit_code"]),
        (&json!("failed"), &json!(1))
    );
    let waiting = world.get(&format!("{path}?state=waiting&limit=1")).send().await;
    assert_eq!(waiting.expect(200)[0]["pc_id"], "pc-2");
    let rest = world.get(&waiting.next().unwrap()).send().await;
    assert_eq!(rest.expect(200)[0]["pc_id"], "pc-3");
    let none = world.get(&format!("{path}?state=killed")).send().await;
    assert_eq!(none.expect(200), json!([]));
    world.get(&format!("{path}?state=gone")).send().await.problem(400);
}

#[tokio::test]
async fn a_kill_is_recorded_and_published_before_it_is_answered() {
    let mut world = World::new().await;
    world.job("backup").await;
    let exec = world.fire("backup", &["pc-1", "pc-2"]).await;
    let commands = [world.command().await, world.command().await];
    world.started(&commands[0], "pc-1").await;
    let mut kills = kanade_ports::PubSub::subscribe(&*world.bus, &"kill.>".parse().unwrap())
        .await
        .unwrap();

    let path = format!("/api/executions/{exec}/kill");
    world
        .post(&path)
        .header("x-kanade-source", "cli")
        .send()
        .await
        .expect(204);
    use futures::{FutureExt, StreamExt};
    let killed = kills.next().now_or_never().flatten().expect("it is on the bus");
    assert_eq!(killed.subject.as_str(), format!("kill.{exec}"));
    let detail = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (
            &detail["execution"]["killed_by"],
            &detail["execution"]["killed_at"]
        ),
        (&json!("operator"), &json!(NOW))
    );
    let targets = world
        .get(&format!("/api/executions/{exec}/targets"))
        .send()
        .await
        .expect(200);
    assert_eq!(targets[0]["receipt"], "requested");
    assert_eq!(world.last_audit().await["action"], "execution_kill");
    world.post(&path).send().await.expect(204);
}

#[tokio::test]
async fn an_execution_that_is_not_there_is_named() {
    let world = World::new().await;
    for answer in [
        world.get("/api/executions/e-9").send().await,
        world.get("/api/executions/e-9/targets").send().await,
        world.post("/api/executions/e-9/kill").send().await,
    ] {
        assert_eq!(answer.problem(404), "execution `e-9` does not exist");
    }
    world.get("/api/executions/a%20b").send().await.problem(400);
}
