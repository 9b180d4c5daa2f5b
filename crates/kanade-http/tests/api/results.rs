use kanade_model::Subject;
use serde_json::{Value, json};

use crate::world::{NOW, World, encode, has_fields};

const RUN: [&str; 12] = [
    "result_id",
    "request_id",
    "exec_id",
    "pc_id",
    "exit_code",
    "stdout",
    "stderr",
    "started_at",
    "finished_at",
    "job_id",
    "version",
    "state",
];

async fn pcs(world: &World, query: &str) -> Vec<String> {
    let listed = world
        .get(&format!("/api/results{query}"))
        .send()
        .await
        .expect(200);
    let pc = |run: &Value| run["pc_id"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(pc).collect()
}

#[tokio::test]
async fn runs_are_listed_newest_first_with_their_output() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.ran("backup", "pc-1", 0, "hello").await;
    world.clock.advance(std::time::Duration::from_secs(1));
    world.ran("backup", "pc-2", 2, "oops").await;
    let listed = world.get("/api/results").send().await.expect(200);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    has_fields(&listed[0], &RUN);
    assert_eq!(
        (&listed[0]["pc_id"], &listed[0]["state"]),
        (&json!("pc-2"), &json!("failed"))
    );
    assert_eq!(
        (&listed[1]["stdout"], &listed[1]["started_at"]),
        (&json!("hello"), &json!(NOW))
    );
    assert_eq!(
        (&listed[1]["job_id"], &listed[1]["version"]),
        (&json!("backup"), &json!("1.0.0"))
    );
}

#[tokio::test]
async fn a_run_is_found_by_its_id() {
    let mut world = World::new().await;
    world.job("backup").await;
    let id = world.ran("backup", "pc-1", 0, "hello").await;
    let run = world.get(&format!("/api/results/{id}")).send().await.expect(200);
    has_fields(&run, &RUN);
    assert_eq!((&run["result_id"], &run["stdout"]), (&json!(id), &json!("hello")));
    let unknown = "00000000-0000-0000-0000-000000000009";
    let answer = world.get(&format!("/api/results/{unknown}")).send().await;
    assert_eq!(answer.problem(404), format!("result `{unknown}` does not exist"));
    world.get("/api/results/nine").send().await.problem(400);
}

#[tokio::test]
async fn filters_are_unanchored_regular_expressions() {
    let mut world = World::new().await;
    for job in ["backup", "update"] {
        world.job(job).await;
    }
    world.ran("backup", "lab-1", 0, "all fine").await;
    world.ran("update", "lab-2", 1, "an error 42").await;
    let exec = world.fire("update", &["office-1"]).await;
    let command = world.command().await;
    let mut result = world.result(&command, "office-1", 0, "fine");
    result.stderr = "warning".into();
    world
        .durable(&Subject::result(command.request_id), encode(&result))
        .await;

    for (query, found) in [
        ("?pc_id=lab", &["lab-1", "lab-2"][..]),
        ("?pc_id=^lab-1$", &["lab-1"]),
        ("?job_id=pdat", &["lab-2", "office-1"]),
        ("?stdout=error%20%5Cd%2B", &["lab-2"]),
        ("?stderr=warn", &["office-1"]),
        (&format!("?exec_id={exec}"), &["office-1"]),
        ("?status=success&job_id=update", &["office-1"]),
        ("?status=failure", &["lab-2"]),
        ("?status=running", &[]),
        ("?pc_id=&stdout=&status=&since=", &["lab-1", "lab-2", "office-1"]),
    ] {
        let mut got = pcs(&world, query).await;
        got.sort();
        assert_eq!(got, found, "{query}");
    }
}

#[tokio::test]
async fn since_counts_from_the_start_of_a_run() {
    let mut world = World::new().await;
    world.job("backup").await;
    world.ran("backup", "pc-1", 0, "").await;
    world.clock.advance(std::time::Duration::from_secs(60));
    world.ran("backup", "pc-2", 0, "").await;
    assert_eq!(pcs(&world, "?since=2026-05-01T08:01:00Z").await, ["pc-2"]);
    assert_eq!(pcs(&world, "?since=2026-05-01T10:00:00%2B02:00").await.len(), 2);
}

#[tokio::test]
async fn a_filter_that_is_not_valid_is_named() {
    let world = World::new().await;
    for (query, field) in [
        ("pc_id=(", "pc_id"),
        ("job_id=[", "job_id"),
        ("exec_id=*", "exec_id"),
        ("stdout=(%3Fz)", "stdout"),
        ("stderr=a{999999999}", "stderr"),
        ("status=done", "status"),
        ("since=yesterday", "since"),
    ] {
        let answer = world.get(&format!("/api/results?{query}")).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field, "{query}");
    }
}

#[tokio::test]
async fn a_page_ends_at_four_mebibytes() {
    let mut world = World::new().await;
    world.job("noisy").await;
    for pc in ["pc-1", "pc-2", "pc-3", "pc-4", "pc-5", "pc-6"] {
        world.ran("noisy", pc, 0, &"x".repeat(900 << 10)).await;
    }
    let first = world.get("/api/results").send().await;
    assert_eq!(first.expect(200).as_array().unwrap().len(), 4);
    let rest = world.get(&first.next().unwrap()).send().await;
    assert_eq!(rest.expect(200).as_array().unwrap().len(), 2);
    assert_eq!(rest.next(), None);
}
