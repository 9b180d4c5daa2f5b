//! Errors: always problem details, never a library's own text, never a driver's.

use http::Method;
use kanade_ports::ErrorKind;
use serde_json::json;

use crate::{
    faults::DRIVER_TEXT,
    world::{World, has_fields, manifest},
};

#[tokio::test]
async fn a_problem_has_exactly_the_documented_fields() {
    let world = World::new().await;
    let answer = world.get("/api/jobs?limit=0").send().await;
    answer.problem(400);
    let problem = answer.expect(400);
    has_fields(
        &problem,
        &["type", "title", "status", "detail", "field", "request_id"],
    );
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let world = World::new().await;
    for path in ["/", "/api", "/api/nope", "/api/jobs/", "/favicon.ico"] {
        let detail = world.get(path).send().await.problem(404);
        assert_eq!(detail, format!("there is nothing at `{path}`"));
    }
}

#[tokio::test]
async fn an_unknown_method_is_a_problem_that_says_what_is_allowed() {
    let world = World::new().await;
    let answer = world.call(Method::PATCH, "/api/jobs").send().await;
    let detail = answer.problem(405);
    assert!(
        detail.contains("`/api/jobs` cannot be asked to `PATCH`"),
        "{detail}"
    );
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
}

#[tokio::test]
async fn a_request_keeps_its_id_and_gets_one_if_it_has_none() {
    let world = World::new().await;
    let given = world
        .get("/api/nope")
        .header("x-request-id", "mine-1")
        .send()
        .await;
    assert_eq!(given.header("x-request-id"), Some("mine-1"));
    assert_eq!(given.expect(404)["request_id"], "mine-1");
    let fresh = world.get("/health").send().await;
    let id = fresh.header("x-request-id").unwrap();
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    let bad = world
        .get("/health")
        .header("x-request-id", "two words")
        .send()
        .await;
    assert_ne!(bad.header("x-request-id"), Some("two words"));
}

#[tokio::test]
async fn a_full_disk_is_told_without_the_drivers_words_and_reads_go_on() {
    let world = World::new().await;
    world.job("backup").await;
    world.store.fail_writes(Some(ErrorKind::Unavailable));
    let answer = world.post("/api/scripts/backup/revoke").send().await;
    assert_eq!(
        answer.problem(503),
        "commit changes: the storage is not available"
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(!answer.text().contains(DRIVER_TEXT));
    world.get("/api/jobs").send().await.expect(200);
    world.get("/api/executions").send().await.expect(200);
    world.store.fail_writes(None);
    world.post("/api/scripts/backup/revoke").send().await.expect(204);
}

#[tokio::test]
async fn every_route_that_reads_answers_a_problem_when_the_store_is_away() {
    let world = World::new().await;
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    for path in [
        "/api/executions",
        "/api/executions/e-1",
        "/api/executions/e-1/targets",
        "/api/results",
        "/api/results/00000000-0000-0000-0000-000000000001",
        "/api/agents",
        "/api/agents/pc-1",
        "/api/audit",
        "/api/inventory/by-job/hw",
    ] {
        let answer = world.get(path).send().await;
        assert!(
            answer.problem(503).contains("the storage is not available"),
            "{path}"
        );
        assert!(!answer.text().contains(DRIVER_TEXT), "{path}");
    }
    world.store.fail_reads(Some(ErrorKind::Corrupt));
    world.get("/api/executions").send().await.problem(500);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_a_problem_of_the_server() {
    let world = World::new().await;
    world
        .document(kanade_ports::Bucket::Jobs, "odd", &json!({ "id": "odd" }))
        .await;
    let answer = world.get("/api/jobs/odd").send().await;
    assert_eq!(
        answer.problem(500),
        "read job `odd`: what is stored there cannot be read"
    );
    assert_eq!(
        world.get("/api/jobs").send().await.expect(200),
        json!([]),
        "one bad job does not hide the others"
    );
}

#[tokio::test]
async fn a_parameter_is_given_once_and_in_utf8() {
    let world = World::new().await;
    let answer = world.get("/api/results?limit=1&limit=2").send().await;
    assert_eq!(answer.problem(400), "limit: the parameter is given twice");
    let answer = world.get("/api/jobs/%ff").send().await;
    answer.problem(400);
    assert_eq!(answer.field(), "id");
    world
        .get("/api/results?unknown=1&limit=1")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_body_with_wrong_parts_is_a_problem_on_every_route() {
    let world = World::new().await;
    for (method, path) in [
        (Method::POST, "/api/jobs"),
        (Method::POST, "/api/schedules"),
        (Method::POST, "/api/exec/backup"),
        (Method::PUT, "/api/agents/pc-1/groups"),
        (Method::POST, "/api/agents/pc-1/groups"),
        (Method::PUT, "/api/config"),
        (Method::PUT, "/api/groups/lab/config"),
        (Method::PUT, "/api/pcs/pc-1/config"),
        (Method::POST, "/api/run"),
    ] {
        let call = || world.call(method.clone(), path);
        assert!(
            call()
                .text("application/json", "{")
                .send()
                .await
                .problem(400)
                .contains("not valid JSON"),
            "{path}"
        );
        call().text("application/json", "7").send().await.problem(400);
        call().text("text/plain", "{}").send().await.problem(415);
        call().send().await.problem(415);
        let large = format!("\"{}\"", "x".repeat(2 << 20));
        assert!(
            call()
                .text("application/json", &large)
                .send()
                .await
                .problem(413)
                .contains("larger than"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_a_client_may_not_know_of_our_additions_does_no_harm() {
    let world = World::new().await;
    let call = world
        .post("/api/jobs")
        .text("application/json; charset=utf-8", &manifest("x").to_string());
    call.header("accept", "text/html")
        .header("x-odd", "1")
        .send()
        .await
        .expect(200);
}
