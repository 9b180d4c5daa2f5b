//! What an agent reads of the catalog.

use kanade_model::{AgentGroups, GroupName};
use kanade_ports::{Bucket, Key};

use super::{watching::watch_known, world::World};
use crate::{
    AgentFactory,
    bus::wire::SOON,
    catalog::shelf::{key, standing},
    within,
};

pub async fn a_document_is_read_in_its_newest_version<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    // Old fleets have jobs of such names.
    for key in [key("backup"), key("a/b = c"), key("漢字.x")] {
        for (bucket, versions) in [
            (Bucket::ScriptStatus, ["ACTIVE", "REVOKED", "ACTIVE"]),
            (Bucket::ScriptCurrent, ["1.0", "", "1.1\n{}\n"]),
        ] {
            for value in versions {
                world.put(bucket, &key, value).await;
                let found = agent
                    .catalog
                    .get(bucket, &key)
                    .await
                    .unwrap()
                    .expect("it was put");
                let written = world.catalog.get(bucket, &key).await.unwrap().unwrap();
                assert_eq!(found, written, "as the server has it, without delay");
                assert_eq!(found.value, value);
            }
            world.delete(bucket, &key).await;
            assert_eq!(agent.get(bucket, &key).await, None, "it was deleted");
        }
    }
}

pub async fn a_document_that_is_not_there_is_not_found<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    world.put(Bucket::ScriptCurrent, &key("backup"), "1.0").await;
    for name in ["backup", "Backup", "backup.", "back"] {
        let found = agent.get(Bucket::ScriptStatus, &key(name)).await;
        assert_eq!(found, None, "{name} has no status");
    }
    assert_eq!(agent.get(Bucket::AgentConfig, &Key::global_config()).await, None);
    assert_eq!(agent.get(Bucket::AgentGroups, &Key::from(&agent.pc)).await, None);
}

pub async fn a_large_document_travels<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let (global, large) = (Key::global_config(), "x".repeat(300 << 10));
    world.put(Bucket::AgentConfig, &global, large.clone()).await;
    let found = agent.get(Bucket::AgentConfig, &global).await.unwrap();
    assert!(found == large.as_bytes(), "300 KiB are read");
    let told = standing(&mut watch_known(&world, &agent, Bucket::AgentConfig).await).await;
    assert!(
        told[global.as_str()].value == large.as_bytes(),
        "and told by a watch"
    );
}

pub async fn an_agent_reads_what_it_goes_by<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc.with.dots").await;
    let group: GroupName = "blue / west".parse().unwrap();
    let groups = serde_json::to_vec(&AgentGroups {
        groups: vec![group.clone()],
    });
    let (own, of_group) = (Key::pc_config(&agent.pc), Key::group_config(&group));
    let documents = [
        (Bucket::AgentGroups, Key::from(&agent.pc), groups.unwrap()),
        (Bucket::AgentConfig, Key::global_config(), b"{}".to_vec()),
        (Bucket::AgentConfig, of_group, b"{ }".to_vec()),
        (Bucket::AgentConfig, own, b"{  }".to_vec()),
        (Bucket::ScriptStatus, key("backup"), b"REVOKED".to_vec()),
        (Bucket::ScriptCurrent, key("backup"), b"1.2".to_vec()),
    ];
    for (bucket, key, value) in &documents {
        world.put(*bucket, key, value.clone()).await;
    }
    for (bucket, key, value) in &documents {
        let read = async {
            // Of which group it is may take a moment to get around.
            while agent.catalog.get(*bucket, key).await.ok().flatten().is_none() {
                tokio::task::yield_now().await;
            }
        };
        within(SOON, "a document of its own", read).await;
        assert_eq!(
            agent.get(*bucket, key).await.unwrap(),
            *value,
            "{key} in {bucket}"
        );
    }
}
