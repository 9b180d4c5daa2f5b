//! What is sent, and what becomes of each kind of answer.

use std::{error::Error as _, time::Duration};

use crate::double::{client_of, serve, soon};
use axum::{
    Json, Router,
    extract::{Path, Query},
    http::{HeaderMap, StatusCode, header},
    routing::{delete, get, post},
};
use kanade_client::{Client, Error, Precondition, Scope};
use kanade_model::{FanoutPlan, JobId, Target};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};

fn job(id: &str) -> JobId {
    id.parse().unwrap()
}

fn manifest() -> Value {
    json!({"id": "backup", "version": "1.0.0", "execute": {"shell": "sh", "script": "true", "timeout": "30s"}})
}

#[tokio::test]
async fn a_problem_keeps_status_sentence_and_field() {
    let router = Router::new().route(
        "/api/jobs",
        post(|| async {
            let problem = json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "field": "execute.timeout",
                "detail": "execute.timeout: `x` is not valid", "request_id": "r-1"
            });
            (
                StatusCode::BAD_REQUEST,
                [(header::CONTENT_TYPE, "application/problem+json")],
                problem.to_string(),
            )
        }),
    );
    let client = client_of(router).await;
    let manifest = serde_json::from_value(manifest()).unwrap();
    let error = client.put_job(&manifest, &Precondition::Any).await.unwrap_err();
    let Error::Problem { status, ref problem } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (status.as_u16(), problem.field.as_deref()),
        (400, Some("execute.timeout"))
    );
    assert_eq!(error.to_string(), "execute.timeout: `x` is not valid");
    assert!(!error.is_transient() && !error.is_connection());
}

#[tokio::test]
async fn a_problem_of_the_server_names_the_request_in_its_log() {
    let router = Router::new().fallback(|| async {
        let problem = json!({
            "type": "about:blank", "title": "Service Unavailable", "status": 503,
            "detail": "the store is busy", "request_id": "r-7"
        });
        (StatusCode::SERVICE_UNAVAILABLE, Json(problem))
    });
    let error = client_of(router)
        .await
        .agent(&"pc".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store is busy (request r-7 in the server's log)"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_answer_of_another_program_is_told_as_such() {
    let router = Router::new().fallback(|| async {
        (
            StatusCode::BAD_GATEWAY,
            "<html>\n  <h1>\u{1b}[31mBad   Gateway</h1>".to_owned() + &"x".repeat(500),
        )
    });
    let error = client_of(router).await.job(&job("backup")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/api/jobs/backup was answered 502 Bad Gateway: <html> <h1> [31mBad Gateway"),
        "{text}"
    );
    assert!(text.len() < 400 && !text.contains('\u{1b}'), "{text}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = serve(Router::new().fallback(|| async { Json(json!([])) })).await;
    let to = elsewhere.clone();
    let router =
        Router::new().fallback(move || async move { (StatusCode::FOUND, [(header::LOCATION, to)], "moved") });
    let error = client_of(router).await.script_statuses().await.unwrap_err();
    assert!(error.to_string().contains(&elsewhere), "{error}");
    assert_eq!(error.status(), Some(StatusCode::FOUND));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&address, None)
        .unwrap()
        .job(&job("backup"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no kanade server answers at {address}; is `kanade serve` running?")
    );
    assert!(error.is_connection() && error.is_transient() && error.source().is_some());
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_outcome_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut some = [0; 64];
            socket.read_exact(&mut some).await.unwrap();
        }
    });
    let error = soon(client.kill_job(&job("backup"))).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert!(error.to_string().contains("look whether it was made"), "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_the_wait() {
    let router = Router::new().fallback(std::future::pending::<()>);
    let client = client_of(router).await.with_timeout(Duration::from_millis(50));
    let error = soon(client.revoke(&job("backup"))).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_of_another_shape_names_the_request() {
    let router = Router::new().fallback(|| async { Json(json!({"unexpected": true})) });
    let error = client_of(router).await.job(&job("backup")).await.unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    assert!(error.to_string().contains("/api/jobs/backup"), "{error}");
}

#[tokio::test]
async fn token_and_source_go_with_every_request() {
    let router = Router::new().fallback(|headers: HeaderMap| async move {
        let text = |name| {
            headers
                .get(name)
                .map_or("-", |value| value.to_str().unwrap())
                .to_owned()
        };
        Json(json!({ text("x-kanade-source"): "ACTIVE", text("authorization"): "REVOKED" }))
    });
    let address = serve(router).await;
    let with = Client::new(&address, Some("s3cret\n"))
        .unwrap()
        .with_source("nightly-report")
        .unwrap();
    let sent = with.script_statuses().await.unwrap();
    let sent: Vec<&str> = sent.keys().map(JobId::as_str).collect();
    assert_eq!(sent, ["Bearer s3cret", "nightly-report"]);
    let without = Client::new(&address, None)
        .unwrap()
        .script_statuses()
        .await
        .unwrap();
    let without: Vec<&str> = without.keys().map(JobId::as_str).collect();
    assert_eq!(without, ["-", "cli"]);
}

#[tokio::test]
async fn an_id_with_slashes_reaches_the_server_whole() {
    let router = Router::new()
        .route(
            "/api/jobs/{id}/kill",
            post(|Path(id): Path<String>| async move { expect(&id, "a/b=c?d %2F ü") }),
        )
        .route(
            "/api/agents/{pc}/groups/{group}",
            delete(|Path((pc, group)): Path<(String, String)>| async move {
                expect(&pc, "pc.with.dots").and_then(|_| expect(&group, "all of/it"))?;
                Ok::<_, StatusCode>(Json(json!({"groups": []})))
            }),
        )
        .route(
            "/api/groups/{group}/config",
            delete(|Path(id): Path<String>| async move { expect(&id, "a/b") }),
        );
    let client = client_of(router).await;
    client.kill_job(&job("a/b=c?d %2F ü")).await.unwrap();
    client
        .leave_group(&"pc.with.dots".parse().unwrap(), &"all of/it".parse().unwrap())
        .await
        .unwrap();
    client
        .delete_config(&Scope::Group("a/b".parse().unwrap()))
        .await
        .unwrap();
}

fn expect(got: &str, wanted: &str) -> Result<StatusCode, StatusCode> {
    if got == wanted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(StatusCode::NOT_FOUND)
    }
}

#[tokio::test]
async fn a_fire_carries_its_key_and_its_plan() {
    let router = Router::new().route(
        "/api/exec/{job}",
        post(
            |Path(job): Path<String>, headers: HeaderMap, Json(plan): Json<Value>| async move {
                assert_eq!(plan, json!({"target": {"groups": ["lab"]}}));
                let key = headers["idempotency-key"].to_str().unwrap().to_owned();
                Json(
                    json!({"exec_id": key, "job_id": job, "version": "1", "target_count": 3, "subjects": []}),
                )
            },
        ),
    );
    let target = Target {
        groups: vec!["lab".parse().unwrap()],
        ..Target::default()
    };
    let plan = FanoutPlan {
        target,
        ..FanoutPlan::default()
    };
    let fired = client_of(router)
        .await
        .fire(&job("backup"), &plan, Some("key-1"))
        .await
        .unwrap();
    assert_eq!((fired.exec_id.as_str(), fired.target_count), ("key-1", 3));
}

#[tokio::test]
async fn what_was_read_can_be_changed_only_while_it_is_the_same() {
    let stored = || async { ([(header::ETAG, "\"7\"")], Json(with_live())) };
    let put = |headers: HeaderMap| async move {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let description = format!("{:?} {:?}", text(header::IF_MATCH), text(header::IF_NONE_MATCH));
        Json(json!({"id": "backup", "version": "1", "description": description, "inventory": false}))
    };
    let router = Router::new()
        .route("/api/jobs/{id}", get(stored))
        .route("/api/jobs", post(put));
    let client = client_of(router).await;
    let read = client.job(&job("backup")).await.unwrap();
    let manifest = read.document.manifest;
    for (when, headers) in [
        (Precondition::from(read.tag), r#"Some("\"7\"") None"#),
        (Precondition::Absent, r#"None Some("*")"#),
        (Precondition::Any, "None None"),
    ] {
        let stored = client.put_job(&manifest, &when).await.unwrap();
        assert_eq!(stored.description.as_deref(), Some(headers));
    }
}

fn with_live() -> Value {
    let mut job = manifest();
    job["live"] = json!({"running": 0, "pending": 0});
    job
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_what_is_wrong() {
    let router = Router::new().route(
        "/readyz",
        get(|| async {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({"ready": false, "checks": {"bus": "gone"}})),
            )
        }),
    );
    let ready = client_of(router).await.ready().await.unwrap();
    assert_eq!((ready.ready, ready.checks["bus"].as_str()), (false, "gone"));
    let router = Router::new().fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, "no upstream") });
    assert!(matches!(
        client_of(router).await.ready().await,
        Err(Error::Foreign { .. })
    ));
}

#[tokio::test]
async fn a_request_that_waits_for_an_agent_waits_longer_than_others() {
    let pong = |Query(query): Query<Vec<(String, String)>>| async move {
        assert_eq!(query, [("wait_secs".to_owned(), "30".to_owned())]);
        Json(json!({"heartbeat": {"pc_id": "pc", "at": "2026-05-01T08:30:00Z", "agent_version": "1"}}))
    };
    let router = Router::new()
        .route("/api/agents/{pc}/ping", post(pong))
        .fallback(std::future::pending::<()>);
    let client = client_of(router).await.with_timeout(Duration::ZERO);
    let pc = "pc".parse().unwrap();
    assert!(matches!(client.agent(&pc).await, Err(Error::TimedOut { .. })));
    let ping = client.ping(&pc, Duration::from_secs(30)).await.unwrap();
    assert_eq!(ping.heartbeat.pc_id, pc);
}
