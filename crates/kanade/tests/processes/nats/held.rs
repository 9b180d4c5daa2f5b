//! Schedules that ask where their job has succeeded before, on a broker that another server used: held until it is said
//! what counts.

use serde_json::json;

use super::{Deployment, get, keep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_of_another_server_are_held_until_somebody_says_what_counts() {
    let deployment = Deployment::new().await;
    let jetstream = deployment.jetstream().await;
    // The buckets as a server makes them; its store is another one.
    let before = Deployment::place(&deployment.broker.url()).serve();
    assert_eq!(before.stop(), Some(0));
    let job =
        json!({"id": "job", "version": "1", "execute": {"shell": "cmd", "script": "ver", "timeout": "30s"}});
    keep(&jetstream, "$KV.jobs.job", job.to_string()).await;
    for (id, mode) in [("once", "once_per_pc"), ("always", "every_tick")] {
        let schedule =
            json!({"id": id, "cron": "0 0 3 * * *", "job_id": "job", "target": {"all": true}, "mode": mode});
        keep(&jetstream, &format!("$KV.schedules.{id}"), schedule.to_string()).await;
    }

    let held = async |arguments: &[&str]| {
        let server = deployment.place.serve_with(arguments);
        let schedules = get(&server, "/api/schedules").await;
        let held: Vec<String> = schedules
            .as_array()
            .unwrap()
            .iter()
            .filter(|schedule| !schedule["held"].is_null())
            .map(|schedule| schedule["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(server.stop(), Some(0));
        held
    };
    assert_eq!(held(&[]).await, ["once"]);
    assert_eq!(held(&[]).await, ["once"], "a restart settles nothing");
    assert!(held(&["--start-fresh"]).await.is_empty());
    assert!(held(&[]).await.is_empty(), "it was said once");
}
