use serde_json::json;

use crate::world::World;

const PATH: &str = "/api/agents/pc-1/groups";

#[tokio::test]
async fn groups_are_set_joined_and_left() {
    let world = World::new().await;
    assert_eq!(world.get(PATH).send().await.expect(200), json!({ "groups": [] }));
    let set = world
        .put(PATH)
        .json(&json!({ "groups": ["lab", "east", "lab"] }))
        .send()
        .await;
    assert_eq!(set.expect(200), json!({ "groups": ["east", "lab"] }));
    let joined = world.post(PATH).json(&json!({ "group": "canary" })).send().await;
    assert_eq!(joined.expect(200), json!({ "groups": ["canary", "east", "lab"] }));
    let left = world.delete(&format!("{PATH}/east")).send().await;
    assert_eq!(left.expect(200), json!({ "groups": ["canary", "lab"] }));
    assert_eq!(
        world.get(PATH).send().await.expect(200),
        json!({ "groups": ["canary", "lab"] })
    );
    let actions = world.get("/api/audit").send().await.expect(200);
    let actions: Vec<_> = actions
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    assert_eq!(actions, ["group_remove", "group_add", "groups_set"]);
}

#[tokio::test]
async fn a_fire_reaches_the_members_of_a_group() {
    let mut world = World::new().await;
    world.job("backup").await;
    world
        .put(PATH)
        .json(&json!({ "groups": ["lab"] }))
        .send()
        .await
        .expect(200);
    let plan = json!({ "target": { "groups": ["lab"] } });
    let fired = world
        .post("/api/exec/backup")
        .json(&plan)
        .send()
        .await
        .expect(200);
    assert_eq!(fired["subjects"], json!(["commands.pc.pc-1"]));
    world.command().await;
}

#[tokio::test]
async fn a_group_of_an_existing_fleet_with_any_name_can_be_left() {
    let world = World::new().await;
    let groups = json!({ "groups": ["Büro/Süd 2", "lab"] });
    world
        .document(kanade_ports::Bucket::AgentGroups, "pc-1", &groups)
        .await;
    let left = world
        .delete(&format!("{PATH}/B%C3%BCro%2FS%C3%BCd%202"))
        .send()
        .await;
    assert_eq!(left.expect(200), json!({ "groups": ["lab"] }));
}

#[tokio::test]
async fn a_name_that_is_not_valid_is_refused() {
    let world = World::new().await;
    for (body, field) in [
        (json!({ "group": "" }), "group"),
        (json!({ "group": "a b" }), "group"),
        (json!({ "group": 7 }), "group"),
        (json!({}), ""),
    ] {
        let answer = world.post(PATH).json(&body).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{body}");
    }
    world
        .put(PATH)
        .json(&json!({ "groups": ["ok", "not ok"] }))
        .send()
        .await
        .problem(400);
    world
        .put(PATH)
        .json(&json!({ "groups": "lab" }))
        .send()
        .await
        .problem(400);
    let pc = world
        .post("/api/agents/a%2Fb/groups")
        .json(&json!({ "group": "lab" }))
        .send()
        .await;
    assert!(
        pc.problem(400).contains("pc id"),
        "agents are created with strict ids only"
    );
    assert_eq!(world.get(PATH).send().await.expect(200), json!({ "groups": [] }));
}
