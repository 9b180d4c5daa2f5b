use std::{sync::atomic::Ordering, time::Duration};

use kanade_core::Error;
use kanade_model::{ConfigScope, Schedule, ScriptStatus};
use kanade_ports::{Bucket, Catalog, Precondition};
use serde_json::json;

use crate::world::{World, id, manifest, operator};

fn nightly() -> Schedule {
    let document =
        json!({"id": "nightly", "cron": "0 0 2 * * *", "job_id": "backup", "target": {"all": true}});
    serde_json::from_value(document).unwrap()
}

#[tokio::test]
async fn a_job_that_a_schedule_refers_to_is_not_deleted() {
    let world = World::new().await;
    world.job("backup").await;
    world
        .services
        .schedules
        .put(&nightly(), Precondition::Any, &operator())
        .await
        .unwrap();
    let delete = async || {
        world
            .services
            .jobs
            .delete(&id("backup"), Precondition::Any, &operator())
            .await
    };
    let refused = delete().await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "job `backup` is referenced by schedule `nightly`; remove the schedule first"
    );
    assert_eq!(
        world.services.jobs.status(&id("backup")).await.unwrap(),
        ScriptStatus::Active
    );
    world
        .services
        .schedules
        .delete(&id("nightly"), Precondition::Any, &operator())
        .await
        .unwrap();
    delete().await.unwrap();
    assert!(matches!(delete().await.unwrap_err(), Error::NotFound { .. }));
    assert_eq!(
        world.services.jobs.status(&id("backup")).await.unwrap(),
        ScriptStatus::Revoked
    );
    assert_eq!(
        world.audit_actions().await,
        ["job_upsert", "schedule_upsert", "schedule_delete", "job_delete"]
    );
}

#[tokio::test]
async fn a_deletion_that_fails_halfway_says_so_and_how_to_go_back() {
    let world = World::new().await;
    world.job("backup").await;
    world.catalog.keep_jobs.store(true, Ordering::SeqCst);
    let error = world
        .services
        .jobs
        .delete(&id("backup"), Precondition::Any, &operator())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is now revoked") && error.to_string().contains("kanade unrevoke backup")
    );
    assert_eq!(
        world.audit_actions().await.last().unwrap(),
        "job_delete_failed_post_revoke"
    );
}

#[tokio::test]
async fn a_schedule_for_a_job_that_does_not_exist_is_refused() {
    let world = World::new().await;
    let error = world
        .services
        .schedules
        .put(&nightly(), Precondition::Any, &operator())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "job_id"),
        "{error}"
    );
}

#[tokio::test]
async fn disabling_with_cascade_also_revokes_the_job() {
    let world = World::new().await;
    world.job("backup").await;
    world
        .services
        .schedules
        .put(&nightly(), Precondition::Any, &operator())
        .await
        .unwrap();
    let disabled = world
        .services
        .schedules
        .disable(&id("nightly"), true, &operator())
        .await
        .unwrap();
    assert!(!disabled.enabled);
    assert!(!world.services.schedules.list()[0].document.enabled);
    assert_eq!(
        world.services.jobs.status(&id("backup")).await.unwrap(),
        ScriptStatus::Revoked
    );
}

#[tokio::test]
async fn of_two_who_change_the_same_version_one_is_told() {
    let world = World::new().await;
    world.job("backup").await;
    let read = world
        .services
        .jobs
        .get(&id("backup"))
        .await
        .unwrap()
        .manifest
        .revision;
    let put = async |version| {
        world
            .services
            .jobs
            .put(&manifest("backup", version), Precondition::At(read), &operator())
            .await
    };
    put("2").await.unwrap();
    assert!(matches!(
        put("3").await.unwrap_err(),
        Error::Changed { what: "job", .. }
    ));
    let versions: Vec<String> = world
        .services
        .jobs
        .history(&id("backup"))
        .await
        .unwrap()
        .into_iter()
        .map(|stored| stored.document.version.to_string())
        .collect();
    assert_eq!(versions, ["2", "1.0.0"]);
}

#[tokio::test]
async fn what_was_written_shows_at_once_also_around_a_cut_watch() {
    let world = World::new().await;
    for round in 0..10 {
        let name = format!("job-{round}");
        world.job(&name).await;
        let listed = world.services.jobs.list().await;
        assert!(
            listed.iter().any(|job| job.manifest.document.id.as_str() == name),
            "{name} shows in the list"
        );
    }
    world.catalog.cut.send_modify(|cuts| *cuts += 1);
    // Written while nobody watches.
    let unseen = manifest("unseen", "1");
    let text = serde_json::to_vec(&unseen).unwrap();
    world
        .catalog
        .put(Bucket::Jobs, &id("unseen"), text.into(), Precondition::Any)
        .await
        .unwrap();
    world
        .advance_until(
            Duration::from_millis(50),
            "the view has read it again",
            async || world.services.jobs.list().await.len() == 11,
        )
        .await;
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_left_out_of_lists_and_told_when_asked_for() {
    let world = World::new().await;
    world.job("good").await;
    world
        .catalog
        .put(Bucket::Jobs, &id("bad"), "{}".into(), Precondition::Any)
        .await
        .unwrap();
    world
        .until("it is heard of", async || {
            !world.services.jobs.list().await.is_empty()
        })
        .await;
    assert_eq!(world.services.jobs.list().await.len(), 1);
    let error = world.services.jobs.get(&id("bad")).await.unwrap_err();
    assert!(error.to_string().contains("read job `bad`"), "{error}");
}

#[tokio::test]
async fn many_who_join_groups_at_once_all_do() {
    let world = World::new().await;
    let agents = &world.services.agents;
    let joins =
        (0..8).map(|n| async move { agents.join(&id("pc-1"), &id(&format!("g{n}")), &operator()).await });
    for joined in futures::future::join_all(joins).await {
        joined.unwrap();
    }
    assert_eq!(agents.groups(&id("pc-1")).await.unwrap().groups.len(), 8);
    let scope = ConfigScope {
        heartbeat_interval: Some(id("5s")),
        ..Default::default()
    };
    agents
        .set_config(&kanade_core::Scope::Group(id("g3")), &scope, &operator())
        .await
        .unwrap();
    let (effective, warnings) = agents.effective_config(&id("pc-1")).await.unwrap();
    assert_eq!((effective.heartbeat_interval, warnings.len()), (id("5s"), 0));
}
