//! Lists: page after page, each fetched when it is needed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::double::client_of;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::header,
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use futures::{StreamExt, TryStreamExt};
use kanade_client::{Error, ExecutionQuery, Outcome, RunQuery};
use kanade_model::ExecutionStatus;
use serde_json::{Value, json};

type Asked = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

fn execution(n: usize) -> Value {
    json!({
        "exec_id": format!("e-{n}"), "job_id": "backup", "version": "1", "initiated_by": "operator",
        "initiated_at": "2026-05-01T08:30:00Z", "target_count": 1, "success_count": 1, "failure_count": 0,
        "status": "completed"
    })
}

/// Five executions: two on a page, the third page empty as of a text filter, then one.
async fn five(
    State(asked): State<Asked>,
    Query(query): Query<BTreeMap<String, String>>,
) -> impl IntoResponse {
    let place = query.get("cursor").cloned().unwrap_or_default();
    asked.lock().unwrap().push(query);
    let (items, next) = match place.as_str() {
        "" => (vec![1, 2], Some("a%2F")),
        "a/" => (vec![3, 4], Some("b")),
        "b" => (vec![], Some("c")),
        "c" => (vec![5], None),
        other => panic!("cursor {other}"),
    };
    let link = next.map(|cursor| {
        let target = format!("http://behind.a.proxy/api/executions?limit=2&cursor={cursor}");
        [(header::LINK, format!("<{target}>; rel=\"next\""))]
    });
    (
        AppendHeaders(link.into_iter().flatten()),
        Json(items.into_iter().map(execution).collect::<Vec<_>>()),
    )
}

#[tokio::test]
async fn a_list_goes_on_over_its_pages_with_the_same_filters() {
    let asked = Asked::default();
    let client = client_of(
        Router::new()
            .route("/api/executions", get(five))
            .with_state(asked.clone()),
    )
    .await;
    let query = ExecutionQuery {
        job_id: Some("a b".parse().unwrap()),
        status: Some(ExecutionStatus::Completed),
        page_size: Some(2),
    };
    let ids: Vec<String> = client
        .executions(&query)
        .map_ok(|execution| execution.exec_id.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids, ["e-1", "e-2", "e-3", "e-4", "e-5"]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 4);
    for query in asked.iter() {
        assert_eq!(
            (
                query["job_id"].as_str(),
                query["status"].as_str(),
                query["limit"].as_str()
            ),
            ("a b", "completed", "2")
        );
    }
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_fetched() {
    let asked = Asked::default();
    let client = client_of(
        Router::new()
            .route("/api/executions", get(five))
            .with_state(asked.clone()),
    )
    .await;
    let some: Vec<_> = client
        .executions(&ExecutionQuery::default())
        .take(2)
        .collect()
        .await;
    assert_eq!((some.len(), asked.lock().unwrap().len()), (2, 1));
    assert!(!asked.lock().unwrap()[0].contains_key("limit"));
}

#[tokio::test]
async fn a_list_that_leads_back_to_itself_ends_with_an_error() {
    let same = || async {
        (
            [(header::LINK, r#"</api/jobs?cursor=x>; rel="next""#)],
            Json(json!([])),
        )
    };
    let client = client_of(Router::new().route("/api/jobs", get(same))).await;
    let mut jobs = client.jobs();
    let error = jobs.try_next().await.unwrap_err();
    assert!(matches!(error, Error::Circular { .. }), "{error:?}");
    assert!(jobs.next().await.is_none());
}

#[tokio::test]
async fn filters_of_runs_have_their_wire_names() {
    let asked = Asked::default();
    let none = |State(asked): State<Asked>, Query(query): Query<BTreeMap<String, String>>| async move {
        asked.lock().unwrap().push(query);
        Json(json!([]))
    };
    let client = client_of(
        Router::new()
            .route("/api/results", get(none))
            .with_state(asked.clone()),
    )
    .await;
    let query = RunQuery {
        pc_id: Some("^pc-1$".into()),
        stderr: Some("a&b=c".into()),
        status: Some(Outcome::Failure),
        since: Some("2026-05-01T08:30:00Z".parse().unwrap()),
        ..RunQuery::default()
    };
    assert!(client.results(&query).next().await.is_none());
    let wanted = json!({
        "pc_id": "^pc-1$", "stderr": "a&b=c", "status": "failure", "since": "2026-05-01T08:30:00Z"
    });
    assert_eq!(json!(asked.lock().unwrap()[0]), wanted);
}

#[tokio::test]
async fn a_table_of_facts_is_whole_whatever_its_pages() {
    let page = |Query(query): Query<BTreeMap<String, String>>| async move {
        let (pc, next) = match query.get("cursor").map(String::as_str) {
            None => ("pc-1", Some("x")),
            _ => ("pc-2", None),
        };
        let rows = [json!({"pc_id": pc, "facts": {"ram": 1}, "collected_at": "2026-05-01T08:30:00Z"})];
        let link = next.map(|cursor| [(header::LINK, format!("</?cursor={cursor}>; rel=\"next\""))]);
        let table = Json(json!({"manifest_id": "hw", "display": [], "summary": null, "rows": rows}));
        match link {
            Some(link) => (link, table).into_response(),
            None => table.into_response(),
        }
    };
    let client = client_of(Router::new().route("/api/inventory/by-job/{id}", get(page))).await;
    let table = client.inventory_of_job(&"hw".parse().unwrap()).await.unwrap();
    let pcs: Vec<&str> = table.rows.iter().map(|row| row.pc_id.as_str()).collect();
    assert_eq!(pcs, ["pc-1", "pc-2"]);
}
