//! Many documents on the broker: lists come from memory, whole from the first page on.

use kanade_nats_testing::{Proxy, Server as NatsServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Deployment, get, soon};
use crate::support::Server;

const JOBS: usize = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_jobs_are_listed_without_asking_the_broker_for_each() {
    let broker = NatsServer::start().await;
    let line = Proxy::to(&broker.url()).await;
    let mut deployment = Deployment::on(broker);
    write_jobs(&deployment).await;
    // From here on everything that the server asks of the broker passes where it is counted.
    deployment.place = Deployment::place(&line.url());
    let server = deployment.place.serve();
    let first = ids(&server).await;
    assert!(first == wanted(), "{} jobs on the first request", first.len());
    let before = line.requests();
    for _ in 0..10 {
        assert_eq!(ids(&server).await.len(), JOBS);
    }
    let asked = line.requests() - before;
    assert!(
        asked < 100,
        "{asked} messages to the broker for ten lists of {JOBS} jobs"
    );
    // The line does count: a request that must ask the broker is seen on it.
    let before = line.requests();
    get(&server, "/api/jobs/job-0001").await;
    let stored = super::post(&server, "/api/jobs", &job("job-0001")).await;
    assert_eq!(stored.status(), StatusCode::OK);
    soon("a write is counted", async || line.requests() > before).await;
}

fn job(id: &str) -> Value {
    json!({"id": id, "version": "1.0.0", "execute": {"shell": "sh", "script": "true", "timeout": "30s"}})
}

fn wanted() -> Vec<String> {
    (0..JOBS).map(|number| format!("job-{number:04}")).collect()
}

/// The ids of all jobs, page after page.
async fn ids(server: &Server) -> Vec<String> {
    let mut ids = Vec::new();
    let mut next = Some("/api/jobs".to_owned());
    while let Some(path) = next {
        let page = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        next = page.headers().get("link").map(|link| {
            let link = link.to_str().unwrap();
            let (_, rest) = link.split_once('<').unwrap();
            rest.split_once('>').unwrap().0.to_owned()
        });
        let jobs: Vec<Value> = page.json().await.unwrap();
        ids.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// As the server before left them.
async fn write_jobs(deployment: &Deployment) {
    let server = deployment.place.serve();
    assert_eq!(server.stop(), Some(0), "the buckets are there");
    let jetstream = deployment.jetstream().await;
    let mut written = Vec::new();
    for id in wanted() {
        let subject = format!("$KV.jobs.{id}");
        written.push(
            jetstream
                .publish(subject, job(&id).to_string().into())
                .await
                .unwrap(),
        );
    }
    for written in written {
        written.await.unwrap();
    }
}
