//! What the files of a deployment tell of a secret: nothing.

use std::{path::Path, time::Duration};

use kanade_core::{Repeatable, Services};
use kanade_model::{Caller, FanoutPlan, Manifest};
use kanade_ports::{Precondition, SendState};
use serde_json::json;

use super::Deployment;
use crate::config::Config;

const SECRET: &str = "correct-horse-battery-staple";
const PLAIN: &str = "a-value-for-all-to-see";

#[tokio::test]
async fn the_files_of_sqlite_tell_no_secret() {
    fire_and_look("sqlite").await;
}

#[tokio::test]
async fn the_files_of_redb_tell_no_secret() {
    fire_and_look("redb").await;
}

async fn fire_and_look(kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("kanade.toml");
    let text = format!(
        "data_dir = '{}'\n[store]\nkind = '{kind}'\n[catalog]\nkind = '{kind}'\n",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file)).unwrap();
    let deployment = Deployment::open(&config).await.unwrap();
    let (services, running) = Services::start(deployment.ports.clone(), config.core_settings()).await;
    let job: Manifest = serde_json::from_value(json!({
        "id": "deploy", "version": "1", "execute": {"shell": "sh", "script": "true", "timeout": "5s"},
        "params": {"token": {"type": "string", "secret": true}, "region": {"type": "string"}}
    }))
    .unwrap();
    let caller = Caller::operator();
    services.jobs.put(&job, Precondition::Any, &caller).await.unwrap();
    let plan: FanoutPlan = serde_json::from_value(json!({
        "target": {"pcs": ["pc-1"]}, "params": {"token": SECRET, "region": PLAIN}
    }))
    .unwrap();
    let repeatable = Repeatable {
        key: "k".into(),
        fingerprint: "f".into(),
    };
    let fired = services
        .fires
        .fire(&job.id, &plan, &caller, Some(repeatable))
        .await
        .unwrap();
    let sent = async {
        while services.store.sends(&fired.exec_id).await.unwrap()[0].state != SendState::Sent {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
    // Also what a write-ahead log holds while the files are open.
    assert!(holds(&data, PLAIN), "the test looks at the right files");
    assert!(!holds(&data, SECRET));
    drop(services);
    running.stop(Duration::from_secs(5)).await;
    deployment.close().await.unwrap();
    assert!(holds(&data, PLAIN) && !holds(&data, SECRET));
    assert!(data.join("secrets.key").exists());
}

fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let content = std::fs::read(path).unwrap();
        content
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}
