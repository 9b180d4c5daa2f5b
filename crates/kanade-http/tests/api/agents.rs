use futures::StreamExt;
use kanade_model::Subject;
use kanade_ports::PubSub;
use serde_json::{Value, json};

use crate::world::{NOW, World, has_fields, id};

const AGENT: [&str; 6] = [
    "pc_id",
    "hostname",
    "os_family",
    "agent_version",
    "last_heartbeat",
    "updated_at",
];

#[tokio::test]
async fn agents_are_listed_by_id() {
    let world = World::new().await;
    assert_eq!(world.get("/api/agents").send().await.expect(200), json!([]));
    for pc in ["pc.with.dots", "pc-1"] {
        world.agent(pc).await;
    }
    let listed = world.get("/api/agents").send().await.expect(200);
    let pcs: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| &agent["pc_id"])
        .collect();
    assert_eq!(pcs, ["pc-1", "pc.with.dots"]);
    has_fields(&listed[0], &AGENT);
    let agent = world.get("/api/agents/pc-1").send().await.expect(200);
    assert_eq!(agent, listed[0]);
    assert_eq!(
        agent,
        json!({
            "pc_id": "pc-1", "hostname": "pc-1.example", "os_family": "linux", "agent_version": "1.2.3",
            "last_heartbeat": NOW, "updated_at": NOW
        })
    );
    assert_eq!(
        world.get("/api/agents/pc-9").send().await.problem(404),
        "agent `pc-9` does not exist"
    );
    world.get("/api/agents/a%20b").send().await.problem(400);
}

#[tokio::test]
async fn a_ping_answers_the_next_sign_of_life() {
    let world = World::new().await;
    let mut pings = world.bus.subscribe(&"ping.pc-1".parse().unwrap()).await.unwrap();
    let pinged = tokio::spawn(world.post("/api/agents/pc-1/ping").send());
    pings.next().await.expect("the agent is asked");
    world.say_hello("pc-1").await;
    let answer = pinged.await.unwrap().expect(200);
    has_fields(&answer, &["heartbeat"]);
    has_fields(
        &answer["heartbeat"],
        &["pc_id", "at", "agent_version", "hostname", "os_family"],
    );
    let audit = world.last_audit().await;
    assert_eq!(
        (&audit["action"], &audit["target"]),
        (&json!("ping"), &json!("pc-1"))
    );
}

#[tokio::test]
async fn a_ping_that_nobody_answers_ends_in_its_time() {
    let world = World::new().await;
    let mut pings = world.bus.subscribe(&"ping.>".parse().unwrap()).await.unwrap();
    let pinged = tokio::spawn(world.post("/api/agents/pc-1/ping?wait_secs=7").send());
    pings.next().await.expect("the agent is asked");
    world
        .until("the ping has ended", async || {
            world.clock.advance(std::time::Duration::from_secs(1));
            pinged.is_finished()
        })
        .await;
    let detail = pinged.await.unwrap().problem(408);
    assert_eq!(detail, "agent `pc-1` gave no sign of life within 7s");
    for wait in ["0", "301", "-1", "soon"] {
        let answer = world
            .post(&format!("/api/agents/pc-1/ping?wait_secs={wait}"))
            .send()
            .await;
        assert!(answer.problem(400).contains("a number from 1 to 300"));
        assert_eq!(answer.field(), "wait_secs");
    }
}

#[tokio::test]
async fn a_log_is_read_from_its_agent() {
    let world = World::new().await;
    let mut asked = world
        .bus
        .subscribe(&Subject::logs_fetch(&id("pc-1")).into())
        .await
        .unwrap();
    let bus = world.bus.clone();
    let agent = tokio::spawn(async move {
        let mut tails = Vec::new();
        for _ in 0..2 {
            let request = asked.next().await.unwrap();
            let wanted: Value = serde_json::from_slice(&request.payload).unwrap();
            tails.push(wanted["tail_lines"].clone());
            bus.reply(&request, "first\nsecond ✓\n".into()).await.unwrap();
        }
        tails
    });
    let answer = world.get("/api/agents/pc-1/logs").send().await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, "first\nsecond ✓\n")
    );
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    world.get("/api/agents/pc-1/logs?tail=7").send().await;
    assert_eq!(agent.await.unwrap(), [500, 7]);
}

#[tokio::test]
async fn a_log_of_an_agent_that_is_not_connected_is_a_bad_gateway() {
    let world = World::new().await;
    let answer = world.get("/api/agents/pc-1/logs").send().await;
    assert_eq!(answer.problem(502), "agent `pc-1` is not connected");
    for tail in ["0", "10001", "all"] {
        let answer = world
            .get(&format!("/api/agents/pc-1/logs?tail={tail}"))
            .send()
            .await;
        answer.problem(400);
        assert_eq!(answer.field(), "tail");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_come_in_time_is_a_gateway_timeout() {
    let world = World::new().await;
    let _deaf = world
        .bus
        .subscribe(&Subject::logs_fetch(&id("pc-1")).into())
        .await
        .unwrap();
    let answer = world.get("/api/agents/pc-1/logs").send().await;
    assert_eq!(
        answer.problem(504),
        "agent `pc-1` did not send its log within 10s"
    );
}

#[tokio::test]
async fn when_an_agent_has_shown_life_can_be_asked() {
    let world = World::new().await;
    world.agent("pc-1").await;
    let found = world.get("/api/agents/pc-1/heartbeats").send().await.expect(200);
    has_fields(&found, &["pc_id", "from", "span_secs", "counts"]);
    assert_eq!(
        (&found["pc_id"], &found["span_secs"]),
        (&json!("pc-1"), &json!(300))
    );
    let counts: Vec<u64> = serde_json::from_value(found["counts"].clone()).unwrap();
    assert!(counts.iter().sum::<u64>() >= 1, "{counts:?}");
    world
        .get("/api/agents/nobody/heartbeats")
        .send()
        .await
        .problem(404);
}
