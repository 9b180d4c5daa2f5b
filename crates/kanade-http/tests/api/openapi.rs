//! The description of the API.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::World;

/// The routes of the contract and ours beside them.
const ROUTES: &[&str] = &[
    "DELETE /api/agents/releases/{version}",
    "DELETE /api/agents/{pc_id}/groups/{group}",
    "DELETE /api/freeze",
    "DELETE /api/groups/{name}/config",
    "DELETE /api/jobs/{id}",
    "DELETE /api/pcs/{pc_id}/config",
    "DELETE /api/schedules/{id}",
    "GET /api/agent/releases/{version}",
    "GET /api/agent/ws",
    "GET /api/agents",
    "GET /api/agents/releases",
    "GET /api/agents/releases/{version}",
    "GET /api/agents/{pc_id}/heartbeats",
    "GET /api/agents/{pc_id}",
    "GET /api/agents/{pc_id}/effective_config",
    "GET /api/agents/{pc_id}/groups",
    "GET /api/agents/{pc_id}/logs",
    "GET /api/audit",
    "GET /api/config",
    "GET /api/dead_letters",
    "GET /api/deployment",
    "GET /api/doctor",
    "GET /api/events",
    "GET /api/executions",
    "GET /api/executions/{exec_id}",
    "GET /api/executions/{exec_id}/targets",
    "GET /api/freeze",
    "GET /api/groups",
    "GET /api/groups/{name}/config",
    "GET /api/groups/{name}/members",
    "GET /api/health/fleet",
    "GET /api/inventory/by-job/{id}",
    "GET /api/inventory/jobs",
    "GET /api/inventory/{pc_id}",
    "GET /api/jobs",
    "GET /api/jobs/{id}",
    "GET /api/jobs/{id}/history",
    "GET /api/jetstream/status",
    "GET /api/openapi.json",
    "GET /api/pcs/{pc_id}/config",
    "GET /api/results",
    "GET /api/results/{result_id}",
    "GET /api/results/{result_id}/output",
    "GET /api/schedules",
    "GET /api/schedules/upcoming",
    "GET /api/schedules/{id}",
    "GET /api/schedules/{id}/preview",
    "GET /api/schedules/{id}/slots",
    "GET /api/scripts/status",
    "GET /api/statistics",
    "GET /api/whoami",
    "GET /health",
    "GET /livez",
    "GET /metrics",
    "GET /readyz",
    "POST /api/agents/publish",
    "POST /api/agents/rollout",
    "POST /api/agents/{pc_id}/groups",
    "POST /api/agents/{pc_id}/ping",
    "POST /api/exec/{job_id}",
    "POST /api/executions/{exec_id}/abort",
    "POST /api/executions/{exec_id}/kill",
    "POST /api/executions/{exec_id}/pause",
    "POST /api/executions/{exec_id}/resume",
    "POST /api/jobs",
    "POST /api/jobs/{id}/kill",
    "POST /api/kill",
    "POST /api/run",
    "POST /api/schedules",
    "POST /api/schedules/{id}/backfill",
    "POST /api/schedules/{id}/disable",
    "POST /api/schedules/{id}/enable",
    "POST /api/schedules/{id}/trigger",
    "POST /api/scripts/{job_id}/revoke",
    "POST /api/scripts/{job_id}/unrevoke",
    "POST /api/targets/resolve",
    "PUT /api/agents/{pc_id}/groups",
    "PUT /api/config",
    "PUT /api/freeze",
    "PUT /api/groups/{name}/config",
    "PUT /api/pcs/{pc_id}/config",
];

async fn document() -> Value {
    World::new()
        .await
        .get("/api/openapi.json")
        .send()
        .await
        .expect(200)
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations
                .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        })
}

#[tokio::test]
async fn every_route_is_described_and_every_described_route_is_there() {
    let document = document().await;
    let described: BTreeSet<String> = operations(&document).map(|(route, _)| route).collect();
    let wanted: BTreeSet<String> = ROUTES.iter().map(ToString::to_string).collect();
    assert_eq!(described, wanted);

    let world = World::new().await;
    for route in &described {
        let (method, path) = route.split_once(' ').unwrap();
        if path == "/api/events" {
            continue;
        }
        // A wait that is not valid, so that nothing waits.
        let path = format!("{}?wait_secs=0", path.replace(['{', '}'], ""));
        let answer = world.call(method.parse().unwrap(), &path).send().await;
        assert_ne!(answer.status.as_u16(), 405, "{route}");
        assert!(!answer.text().contains("there is nothing at"), "{route}");
    }
}

#[tokio::test]
async fn every_operation_has_a_name_a_summary_a_tag_and_its_errors() {
    let document = document().await;
    let mut names = BTreeSet::new();
    for (route, operation) in operations(&document) {
        let name = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{route} has no name"));
        assert!(names.insert(name), "{name} is there twice");
        assert!(
            !operation["summary"].as_str().unwrap_or_default().is_empty(),
            "{route} has no summary"
        );
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{route}");
        let responses = operation["responses"].as_object().unwrap();
        let succeeds = |status: &String| status.starts_with('2') || status == "101";
        assert!(responses.keys().any(succeeds), "{route}");
        for (status, response) in responses {
            assert!(
                !response["description"].as_str().unwrap().is_empty(),
                "{route} {status}"
            );
            let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
            let is_problem = status == "default" || status.starts_with(['4', '5']);
            let tells_itself = ["GET /readyz", "GET /api/health/fleet"].contains(&route.as_str());
            if is_problem && !tells_itself {
                assert_eq!(problem, "#/components/schemas/Problem", "{route} {status}");
            }
        }
        assert!(responses.contains_key("default"), "{route}");
    }
}

#[tokio::test]
async fn every_part_of_a_path_and_every_reference_is_described() {
    let document = document().await;
    for (route, operation) in operations(&document) {
        let no_parameters = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&no_parameters);
        let described: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let wanted: BTreeSet<&str> = route
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(described, wanted, "{route}");
        for parameter in parameters {
            assert!(
                !parameter["description"].as_str().unwrap_or_default().is_empty(),
                "{route} {parameter}"
            );
        }
    }
    let text = document.to_string();
    let references: BTreeSet<&str> = text
        .split("\"$ref\":\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn what_wants_a_token_says_so() {
    let document = document().await;
    for scheme in ["bearer", "agent"] {
        let scheme = &document["components"]["securitySchemes"][scheme];
        assert_eq!(scheme["scheme"], "bearer");
    }
    for (route, operation) in operations(&document) {
        if route.starts_with("GET /api/agent/") {
            // Without tokens for agents there is another way in.
            assert_eq!(operation["security"], serde_json::json!([{}, { "agent": [] }]));
            continue;
        }
        let open = ["GET /health", "GET /livez", "GET /readyz"].contains(&route.as_str());
        let requires = operation["security"]
            .as_array()
            .is_some_and(|ways| !ways.is_empty() && ways.iter().all(|way| way.get("bearer").is_some()));
        assert_eq!(requires, !open, "{route}");
        assert_eq!(operation["responses"].get("401").is_some(), !open, "{route}");
    }
}

#[tokio::test]
async fn the_document_is_the_same_every_time() {
    let first = kanade_http::openapi().to_json().unwrap();
    assert_eq!(first, kanade_http::openapi().to_json().unwrap());
    assert!(first.starts_with("{\"openapi\":\"3.1"), "{}", &first[..40]);
    let served = World::new().await.get("/api/openapi.json").send().await;
    assert_eq!(served.text(), first);
    assert_eq!(served.header("content-type"), Some("application/json"));
}

#[test]
fn the_page_knows_the_document_as_it_is() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../kanade-dashboard/ui/openapi.json");
    let kept = std::fs::read_to_string(kept).unwrap();
    let current = kanade_http::openapi().to_pretty_json().unwrap();
    assert!(
        kept.trim_end() == current,
        "crates/kanade-dashboard/ui/openapi.json is not current: run `cargo xtask dashboard --update-api`"
    );
}
