//! What whoever looks at a deployment as a whole asks first.

use std::time::Duration;

use http::header::AUTHORIZATION;
use kanade_http::{About, Auth, HttpSettings, NamedToken};
use kanade_model::{
    Heartbeat,
    api::{Check, Deployment, Verdict},
};
use kanade_ports::{Change, ChangeSet, Clock, ExecutionStore};
use serde_json::{Value, json};

use crate::world::{World, has_fields, id};

async fn groups(world: &World, pc: &str, groups: &[&str]) {
    world
        .put(&format!("/api/agents/{pc}/groups"))
        .json(&json!({ "groups": groups }))
        .send()
        .await
        .expect(200);
}

async fn aim(world: &World, plan: Value) -> Value {
    world
        .post("/api/targets/resolve")
        .json(&plan)
        .send()
        .await
        .expect(200)
}

/// An agent is heard of now, once.
async fn heard(world: &World, pc: &str) {
    let at = world.clock.now();
    let heartbeat = Heartbeat {
        pc_id: id(pc),
        at,
        agent_version: "1.2.3".into(),
        hostname: Some(format!("{pc}.example")),
        os_family: None,
    };
    let seen = ChangeSet::of(Change::AgentSeen { heartbeat, at });
    world.store.apply(&[seen]).await.unwrap();
}

fn ids(agents: &Value) -> Vec<&str> {
    let agents = agents.as_array().unwrap().iter();
    agents.map(|agent| agent["pc_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn runs_and_firings_are_counted_by_the_span_they_began_in() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.ran("backup", "pc-1", 0, "").await;
    world.clock.advance(Duration::from_secs(90));
    world.ran("backup", "pc-1", 1, "").await;
    world.ran("backup", "pc-2", 0, "").await;
    world.fire("backup", &["pc-3"]).await;

    let query = "/api/statistics?from=2026-05-01T07:59:00Z&to=2026-05-01T08:03:00Z&buckets=4";
    let statistics = world.get(query).send().await.expect(200);
    has_fields(&statistics, &["buckets", "complete"]);
    assert_eq!(statistics["complete"], true);
    let counts: Vec<_> = statistics["buckets"].as_array().unwrap().iter().collect();
    assert_eq!(
        counts,
        [
            &json!({ "at": "2026-05-01T07:59:00Z", "fired": 0, "succeeded": 0, "failed": 0 }),
            &json!({ "at": "2026-05-01T08:00:00Z", "fired": 1, "succeeded": 1, "failed": 0 }),
            &json!({ "at": "2026-05-01T08:01:00Z", "fired": 3, "succeeded": 1, "failed": 1 }),
            &json!({ "at": "2026-05-01T08:02:00Z", "fired": 0, "succeeded": 0, "failed": 0 }),
        ]
    );
    let day = world.get("/api/statistics").send().await.expect(200);
    assert_eq!(day["buckets"].as_array().unwrap().len(), 60);
}

#[tokio::test]
async fn a_time_that_is_none_is_refused() {
    let world = World::new().await;
    for (query, field) in [
        ("from=2026-05-01T08:00:00Z&to=2026-05-01T08:00:00Z", "to"),
        ("buckets=0", "buckets"),
        ("buckets=201", "buckets"),
        ("from=yesterday", "from"),
    ] {
        let answer = world.get(&format!("/api/statistics?{query}")).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{query}");
    }
}

#[tokio::test]
async fn whom_a_fire_would_hit_is_told_without_firing() {
    let mut world = World::new().await;
    heard(&world, "pc-1").await;
    world.clock.advance(Duration::from_secs(600));
    heard(&world, "pc-2").await;
    groups(&world, "pc-1", &["shop", "canary"]).await;
    groups(&world, "pc-9", &["shop"]).await;

    let told = |count: u64, alive: u64, unknown: &[&str]| json!({ "count": count, "alive": alive, "unknown": unknown });
    for (plan, wanted) in [
        (json!({ "target": { "all": true } }), told(2, 1, &[])),
        (json!({ "target": { "groups": ["shop"] } }), told(2, 0, &["pc-9"])),
        (
            json!({ "target": { "groups": ["shop"], "pcs": ["pc-2", "pc-1", "pc-7"] } }),
            told(4, 1, &["pc-7", "pc-9"]),
        ),
        (json!({ "target": {} }), told(0, 0, &[])),
        (
            json!({ "target": { "all": true },
                "rollout": { "strategy": "wave", "waves": [{ "group": "canary", "delay": "0s" }] } }),
            told(1, 0, &[]),
        ),
    ] {
        assert_eq!(aim(&world, plan.clone()).await, wanted, "{plan}");
    }
    assert_eq!(world.commands_so_far(), 0);
}

#[tokio::test]
async fn groups_are_listed_with_their_members_page_by_page() {
    let world = World::new().await;
    assert_eq!(world.get("/api/groups").send().await.expect(200), json!([]));
    groups(&world, "pc-1", &["shop", "canary"]).await;
    groups(&world, "pc-2", &["shop"]).await;
    let listed = world.get("/api/groups").send().await.expect(200);
    assert_eq!(
        listed,
        json!([{ "name": "canary", "members": 1 }, { "name": "shop", "members": 2 }])
    );

    let first = world.get("/api/groups/shop/members?limit=1").send().await;
    assert_eq!(first.expect(200), json!(["pc-1"]));
    let rest = world.get(&first.next().unwrap()).send().await;
    assert_eq!(rest.expect(200), json!(["pc-2"]));
    assert_eq!(rest.next(), None);
    let nobody = world.get("/api/groups/other/members").send().await.expect(200);
    assert_eq!(nobody, json!([]));
}

#[tokio::test]
async fn agents_are_found_by_name_group_and_sign_of_life() {
    let world = World::new().await;
    heard(&world, "Tokyo-1").await;
    world.clock.advance(Duration::from_secs(600));
    for pc in ["osaka-1", "osaka-2"] {
        heard(&world, pc).await;
    }
    groups(&world, "osaka-2", &["shop"]).await;
    for (query, wanted) in [
        ("q=tokyo", &["Tokyo-1"][..]),
        ("q=1.EXAMPLE", &["Tokyo-1", "osaka-1"]),
        ("q=nobody", &[]),
        ("group=shop", &["osaka-2"]),
        ("alive=true", &["osaka-1", "osaka-2"]),
        ("alive=false", &["Tokyo-1"]),
        ("alive=true&q=osaka&group=shop", &["osaka-2"]),
    ] {
        let found = world
            .get(&format!("/api/agents?{query}"))
            .send()
            .await
            .expect(200);
        assert_eq!(ids(&found), wanted, "{query}");
    }
    let first = world.get("/api/agents?q=osaka&limit=1").send().await;
    assert_eq!(ids(&first.expect(200)), ["osaka-1"]);
    let rest = world.get(&first.next().unwrap()).send().await;
    assert_eq!(ids(&rest.expect(200)), ["osaka-2"]);
    world.get("/api/agents?alive=perhaps").send().await.problem(400);
}

#[tokio::test]
async fn runs_of_a_time_are_listed_with_or_without_their_output() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.ran("backup", "pc-1", 0, "early").await;
    world.clock.advance(Duration::from_secs(60));
    world.ran("backup", "pc-2", 0, "late").await;
    let listed = |found: &Value| -> Vec<(String, String)> {
        let runs = found.as_array().unwrap().iter();
        let text = |run: &Value, field: &str| run[field].as_str().unwrap().to_owned();
        runs.map(|run| (text(run, "pc_id"), text(run, "stdout")))
            .collect()
    };
    let run = |pc: &str, stdout: &str| (pc.to_owned(), stdout.to_owned());
    for (query, wanted) in [
        ("until=2026-05-01T08:01:00Z", vec![run("pc-1", "early")]),
        (
            "until=2026-05-01T08:01:01Z",
            vec![run("pc-2", "late"), run("pc-1", "early")],
        ),
        ("output=false", vec![run("pc-2", ""), run("pc-1", "")]),
        ("output=false&stdout=early", vec![run("pc-1", "")]),
    ] {
        let found = world
            .get(&format!("/api/results?{query}"))
            .send()
            .await
            .expect(200);
        assert_eq!(listed(&found), wanted, "{query}");
    }
    let first = world
        .get("/api/results?limit=1&until=2026-05-01T08:01:01Z")
        .send()
        .await;
    let rest = world.get(&first.next().unwrap()).send().await.expect(200);
    assert_eq!(listed(&rest), [run("pc-1", "early")]);
}

#[tokio::test]
async fn a_caller_is_told_who_he_is() {
    let open = World::new().await;
    let nobody = open.get("/api/whoami").send().await.expect(200);
    assert_eq!(nobody, json!({ "mode": "none" }));

    let token = NamedToken {
        name: "ops".into(),
        token: "secret".into(),
    };
    let world = World::with(HttpSettings {
        auth: Auth::Tokens(vec![token]),
        ..HttpSettings::default()
    })
    .await;
    world.get("/api/whoami").send().await.problem(401);
    let known = world
        .get("/api/whoami")
        .header(AUTHORIZATION.as_str(), "Bearer secret");
    assert_eq!(
        known.send().await.expect(200),
        json!({ "mode": "token", "name": "ops" })
    );
}

#[tokio::test]
async fn a_server_tells_what_it_is_made_of_and_how_it_is() {
    let deployment = Deployment {
        version: "1.2.3".into(),
        store: "redb".into(),
        catalog: "nats".into(),
        bus: "nats".into(),
        data_dir: "/data".into(),
    };
    let about = About::new(deployment, || {
        Box::pin(async {
            vec![Check {
                check: "disk space".into(),
                verdict: Verdict::Warning,
                detail: "900 MiB are free, which is little".into(),
            }]
        })
    });
    let world = World::with(HttpSettings {
        about,
        ..HttpSettings::default()
    })
    .await;
    assert_eq!(
        world.get("/api/deployment").send().await.expect(200),
        json!({ "version": "1.2.3", "store": "redb", "catalog": "nats", "bus": "nats", "data_dir": "/data" })
    );
    assert_eq!(
        world.get("/api/doctor").send().await.expect(200),
        json!([{ "check": "disk space", "verdict": "warning", "detail": "900 MiB are free, which is little" }])
    );
}
