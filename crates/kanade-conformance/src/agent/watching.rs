//! How an agent follows the catalog.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{AgentGroups, GroupName};
use kanade_ports::{Bucket, CatalogEvent, CatalogStream, Entry, Key};

use super::world::{Agent, World};
use crate::{
    AgentFactory,
    bus::wire::{SOON, text},
    catalog::shelf::{key, next, standing},
    within,
};

const STATUS: Bucket = Bucket::ScriptStatus;

pub async fn a_watch_tells_what_stands_and_then_every_change_in_order<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut empty = agent.watch(STATUS).await;
    assert_eq!(
        next(&mut empty).await,
        CatalogEvent::Current,
        "of an empty bucket there is nothing to say"
    );
    for (name, value) in [("a", "0"), ("b", "1"), ("gone", "1"), ("a", "1")] {
        world.put(STATUS, &key(name), value).await;
    }
    world.delete(STATUS, &key("gone")).await;
    let mut watch = watch_known(&world, &agent, STATUS).await;
    assert_eq!(
        standing(&mut watch).await,
        as_it_is(&world, STATUS).await,
        "each document once, in its newest version"
    );
    let mut expected = Vec::new();
    for (name, value) in [
        ("a", Some("2")),
        ("c", Some("1")),
        ("a", Some("3")),
        ("a", Some("3")),
        ("a", None),
        ("a", Some("")),
    ] {
        expected.push(change(&world, STATUS, name, value).await);
    }
    for wanted in expected {
        assert_eq!(
            next(&mut watch).await,
            wanted,
            "each change, in the order of its commit"
        );
    }
}

pub async fn two_watchers_each_get_everything<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    world.put(STATUS, &key("a"), "0").await;
    let mut watches = Vec::new();
    for agent in [&agent, &agent, &other] {
        let mut watch = watch_known(&world, agent, STATUS).await;
        assert_eq!(standing(&mut watch).await.len(), 1);
        watches.push(watch);
    }
    for number in 0..50 {
        let value = (number % 10 != 9).then(|| number.to_string());
        let wanted = change(&world, STATUS, "a", value.as_deref()).await;
        for watch in &mut watches {
            assert_eq!(
                next(watch).await,
                wanted,
                "change {number}, whoever else is told of it"
            );
        }
    }
}

pub async fn a_watch_that_begins_between_changes_misses_none<F: AgentFactory>() {
    const WATCHES: usize = 40;
    const WRITES_EACH: usize = 50;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let begun = AtomicUsize::new(0);
    let writing = async {
        let mut number = 0;
        while begun.load(Ordering::Relaxed) < WATCHES {
            // Spread over the time that a watch takes to begin.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            if number > WRITES_EACH * (begun.load(Ordering::Relaxed) + 1) {
                continue;
            }
            // Each its own document, so that one that is missed stays missed.
            let name = key(&format!("job-{number}"));
            world.put(STATUS, &name, "ACTIVE").await;
            if number % 7 == 0 {
                world.delete(STATUS, &name).await;
            }
            number += 1;
        }
    };
    let watching = async {
        let mut watches = Vec::new();
        for _ in 0..WATCHES {
            watches.push(agent.watch(STATUS).await);
            begun.fetch_add(1, Ordering::Relaxed);
        }
        watches
    };
    let ((), watches) = futures::join!(writing, watching);
    world.put(STATUS, &key("last"), "ACTIVE").await;
    let wanted = as_it_is(&world, STATUS).await;
    for (number, watch) in watches.into_iter().enumerate() {
        let found = follow(&agent, STATUS, watch, |documents| documents.contains_key("last")).await;
        assert_eq!(
            found, wanted,
            "who follows watch {number} has the bucket as it is"
        );
    }
}

pub async fn thousands_of_documents_come_before_current<F: AgentFactory>() {
    const DOCUMENTS: usize = 5000;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    for number in 0..DOCUMENTS {
        world.put(STATUS, &key(&format!("job-{number}")), "ACTIVE").await;
    }
    let mut watch = watch_known(&world, &agent, STATUS).await;
    assert_eq!(standing(&mut watch).await.len(), DOCUMENTS, "every one of them");
    let wanted = change(&world, STATUS, "job-1", Some("REVOKED")).await;
    assert_eq!(next(&mut watch).await, wanted, "and then what changes");
}

pub async fn each_bucket_is_watched_for_itself<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let watched = [
        (Bucket::ScriptStatus, key("backup")),
        (Bucket::ScriptCurrent, key("backup")),
        (Bucket::AgentConfig, Key::global_config()),
        (Bucket::AgentConfig, Key::pc_config(&agent.pc)),
        (Bucket::AgentGroups, Key::from(&agent.pc)),
    ];
    let mut watches = Vec::new();
    for (bucket, key) in watched {
        let mut watch = agent.watch(bucket).await;
        assert_eq!(next(&mut watch).await, CatalogEvent::Current);
        watches.push((bucket, key, watch));
    }
    for (bucket, key, _) in &watches {
        world.put(*bucket, key, format!("{bucket} {key}")).await;
    }
    for (bucket, key, watch) in &mut watches {
        // Two of them watch the same bucket, and hear of both documents in it.
        let told = loop {
            match next(watch).await {
                CatalogEvent::Put(entry) if entry.key == *key => break entry,
                CatalogEvent::Put(entry) => assert_eq!(*bucket, Bucket::AgentConfig, "{}", entry.key),
                other => panic!("two documents were put, not {other:?}"),
            }
        };
        assert_eq!(
            told.value,
            format!("{bucket} {key}"),
            "of its bucket and no other"
        );
    }
}

pub async fn a_slow_watcher_gets_everything_or_its_end<F: AgentFactory>() {
    const WRITES: usize = 3000;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut watch = agent.watch(STATUS).await;
    standing(&mut watch).await;
    for number in 0..WRITES {
        world.put(STATUS, &key(&format!("job-{number}")), "REVOKED").await;
    }
    world.put(STATUS, &key("last"), "ACTIVE").await;
    let mut heard = 0;
    let ended = loop {
        match within(SOON, "an event or the end", watch.next()).await {
            None => break true,
            Some(CatalogEvent::Put(entry)) if entry.key == key("last") => break false,
            Some(_) => heard += 1,
        }
    };
    assert!(
        ended || heard == WRITES,
        "a stream that skips changes must end; {heard} of {WRITES} came"
    );
    let again = standing(&mut watch_known(&world, &agent, STATUS).await).await;
    assert_eq!(again.len(), WRITES + 1, "watching again gives everything");
}

pub async fn a_watch_that_is_not_read_holds_up_nothing<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    let _unread = [
        agent.watch(Bucket::AgentConfig).await,
        agent.watch(Bucket::AgentConfig).await,
    ];
    let mut read = agent.watch(STATUS).await;
    standing(&mut read).await;
    let (mut commands, mut far) = (agent.commands().await, other.commands().await);
    let large = "x".repeat(250 << 10);
    for round in 0..100 {
        world
            .put(Bucket::AgentConfig, &Key::global_config(), large.clone())
            .await;
        let said = round.to_string();
        for (agent, commands) in [(&agent, &mut commands), (&other, &mut far)] {
            world.say(agent.commands_subject().as_str(), &said).await;
            assert_eq!(
                text(&crate::bus::wire::next(commands).await),
                said,
                "to {}",
                agent.pc
            );
        }
        let wanted = change(&world, STATUS, "a", Some(&said)).await;
        assert_eq!(next(&mut read).await, wanted, "another watch of the same agent");
    }
}

pub async fn a_watch_that_is_dropped_ends_alone<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut stays = agent.watch(STATUS).await;
    standing(&mut stays).await;
    for round in 0..30 {
        let mut leaves = agent.watch(STATUS).await;
        if round % 2 == 0 {
            standing(&mut leaves).await;
        }
        drop(leaves);
        let wanted = change(&world, STATUS, &format!("job-{round}"), Some("ACTIVE")).await;
        assert_eq!(next(&mut stays).await, wanted, "round {round}");
    }
}

pub async fn an_agent_that_joins_a_group_learns_its_configuration<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let group: GroupName = "blue".parse().unwrap();
    let of_group = Key::group_config(&group);
    world
        .put(Bucket::AgentConfig, &of_group, "{\"heartbeat_interval\":\"5s\"}")
        .await;
    let watch = agent.watch(Bucket::AgentConfig).await;
    let groups = serde_json::to_vec(&AgentGroups { groups: vec![group] });
    world
        .put(Bucket::AgentGroups, &Key::from(&agent.pc), groups.unwrap())
        .await;
    let known = |documents: &Documents| documents.contains_key(of_group.as_str());
    let documents = follow(&agent, Bucket::AgentConfig, watch, known).await;
    let found = agent.get(Bucket::AgentConfig, &of_group).await;
    assert_eq!(
        found.as_ref(),
        Some(&documents[of_group.as_str()].value),
        "asking gives the same"
    );
}

pub(super) type Documents = BTreeMap<String, Entry>;

/// What a follower of a watch knows once it knows `enough`; where the watch ends, it watches again.
pub(super) async fn follow(
    agent: &Agent,
    bucket: Bucket,
    mut watch: CatalogStream,
    enough: impl Fn(&Documents) -> bool,
) -> Documents {
    let (mut documents, mut current) = (Documents::new(), false);
    while !(current && enough(&documents)) {
        match within(SOON, "an event or the end of a watch", watch.next()).await {
            Some(CatalogEvent::Put(entry)) => drop(documents.insert(entry.key.to_string(), entry)),
            Some(CatalogEvent::Deleted(key)) => drop(documents.remove(key.as_str())),
            Some(CatalogEvent::Current) => {
                assert!(!current, "a watch becomes current once");
                current = true;
            }
            None => {
                watch = agent.watch(bucket).await;
                (documents, current) = (Documents::new(), false);
            }
        }
    }
    documents
}

/// A watch that begins when the agent can know everything of the bucket: a write may take a moment to get around.
pub(super) async fn watch_known<F: AgentFactory>(
    world: &World<F>,
    agent: &Agent,
    bucket: Bucket,
) -> CatalogStream {
    let wanted = as_it_is(world, bucket).await;
    let watch = agent.watch(bucket).await;
    follow(agent, bucket, watch, |documents| *documents == wanted).await;
    agent.watch(bucket).await
}

/// A bucket as the server has it.
pub(super) async fn as_it_is<F: AgentFactory>(world: &World<F>, bucket: Bucket) -> Documents {
    let entries = world.catalog.list(bucket).await.unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.key.to_string(), entry))
        .collect()
}

/// Writes or deletes a document; what watchers are to be told of it.
pub(super) async fn change<F: AgentFactory>(
    world: &World<F>,
    bucket: Bucket,
    name: &str,
    value: Option<&str>,
) -> CatalogEvent {
    let key = key(name);
    let Some(value) = value else {
        world.delete(bucket, &key).await;
        return CatalogEvent::Deleted(key);
    };
    world
        .put(bucket, &key, Bytes::copy_from_slice(value.as_bytes()))
        .await;
    let written = world.catalog.get(bucket, &key).await.unwrap();
    CatalogEvent::Put(written.expect("it was just written"))
}
