//! Agents, facts, audit entries, dead letters: what is newest counts, what is numbered stays numbered.

use std::time::Duration;

use kanade_model::{Heartbeat, InventoryHints};
use kanade_ports::{Agent, AuditQuery, Change, Facts, Outcome, PAGE_BYTES, Position};
use serde_json::json;

use super::{
    walk::{agents, audit as audit_entries, dead_letters, facts_by},
    world::{World, audit, audit_event, facts, found, heartbeat, id, letter, numbered, secs},
};
use crate::StoreFactory;

pub async fn the_newest_sign_of_life_counts<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([heartbeat("pc-1", secs(10)), heartbeat("pc-1", secs(20))])
        .await;
    let agent = world.store.agent(&id("pc-1")).await.unwrap();
    let wanted = Agent {
        pc_id: id("pc-1"),
        hostname: Some("pc-1.example".into()),
        os_family: Some("linux".into()),
        agent_version: Some("0.30.0".into()),
        last_heartbeat: secs(20),
        updated_at: secs(20).plus(Duration::from_millis(5)),
    };
    assert_eq!(agent, Some(wanted.clone()), "what it said last");
    assert_eq!(
        world.change(heartbeat("pc-1", secs(20))).await,
        Outcome::Applied,
        "the same one again is no older"
    );
    assert_eq!(
        world.change(heartbeat("pc-1", secs(15))).await,
        Outcome::Superseded,
        "an older one"
    );
    assert_eq!(
        world.store.agent(&id("pc-1")).await.unwrap(),
        Some(wanted),
        "changes nothing"
    );
}

pub async fn a_sign_of_life_without_names_leaves_them<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let bare = |pc: &str, at| Change::AgentSeen {
        heartbeat: Heartbeat {
            pc_id: id(pc),
            // The agent's clock is its own: it may stand before the one of the time before.
            at: secs(1),
            agent_version: "0.31.0".into(),
            hostname: None,
            os_family: None,
        },
        at,
    };
    world
        .all([
            heartbeat("pc-1", secs(10)),
            bare("pc-1", secs(20)),
            bare("pc-2", secs(20)),
        ])
        .await;
    let agent = world.store.agent(&id("pc-1")).await.unwrap().unwrap();
    assert_eq!(
        agent.hostname.as_deref(),
        Some("pc-1.example"),
        "the name stays known"
    );
    assert_eq!(agent.os_family.as_deref(), Some("linux"), "so does the system");
    assert_eq!(
        agent.agent_version.as_deref(),
        Some("0.31.0"),
        "the version is news"
    );
    assert_eq!(
        (agent.last_heartbeat, agent.updated_at),
        (secs(1), secs(20)),
        "by two clocks"
    );
    let agent = world.store.agent(&id("pc-2")).await.unwrap().unwrap();
    assert_eq!(
        (agent.hostname, agent.os_family),
        (None, None),
        "nobody has said them"
    );
}

pub async fn agents_are_listed_by_id<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let names = ["pc-10", "pc-2", "PC-2", "a.b.c", "ä", "pc-1", "漢字", "z"];
    world.all(names.map(|pc| heartbeat(pc, secs(1)))).await;
    let listed: Vec<_> = agents(&*world.store)
        .await
        .into_iter()
        .map(|agent| agent.pc_id.to_string())
        .collect();
    let mut wanted = names.map(ToOwned::to_owned);
    wanted.sort();
    assert_eq!(listed, wanted, "by the bytes of the id");
    let after = Position {
        at: 0,
        id: "pc-1".into(),
    };
    let page = world.store.agents(Some(&after), 2).await.unwrap();
    let listed: Vec<_> = page.items.iter().map(|agent| agent.pc_id.as_str()).collect();
    assert_eq!(listed, ["pc-10", "pc-2"], "what comes after a place");
}

pub async fn newer_facts_replace_older_ones<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let first = facts("pc-1", "inventory", secs(20), json!({"ram": 8}));
    world.all([found(first.clone())]).await;
    let older = facts("pc-1", "inventory", secs(19), json!({"ram": 4}));
    assert_eq!(
        world.change(found(older)).await,
        Outcome::Superseded,
        "older ones"
    );
    let same = facts("pc-1", "inventory", secs(20), json!({"ram": 4}));
    assert_eq!(
        world.change(found(same)).await,
        Outcome::Duplicate,
        "of the same time"
    );
    assert_eq!(
        world.store.facts_of(&id("pc-1")).await.unwrap(),
        [first],
        "neither is kept"
    );
    let hints: InventoryHints = serde_json::from_value(json!({
        "display": [{"field": "ram", "label": "Memory", "type": "bytes"}], "summary": ["ram", null, 1.5],
    }))
    .unwrap();
    let newer = Facts {
        hints,
        description: Some("Inventar äöü".into()),
        ..facts(
            "pc-1",
            "inventory",
            secs(21),
            json!({"ram": 16, "disks": [{"a": null}, [], "", -1.5e300]}),
        )
    };
    world.all([found(newer.clone())]).await;
    assert_eq!(
        world.store.facts_of(&id("pc-1")).await.unwrap(),
        [newer],
        "the newest, every field"
    );
}

pub async fn facts_are_listed_by_agent_and_by_job<F: StoreFactory>() {
    let world = World::<F>::new().await;
    for job in ["b", "a", "a/ü"] {
        for pc in ["pc-3", "pc-1", "pc-2", "pc-4"] {
            world
                .all([found(facts(pc, job, secs(1), json!({"of": job, "on": pc})))])
                .await;
        }
    }
    let of: Vec<_> = world.store.facts_of(&id("pc-2")).await.unwrap();
    let jobs: Vec<_> = of.iter().map(|facts| facts.job_id.as_str()).collect();
    assert_eq!(jobs, ["a", "a/ü", "b"], "about one agent, by job");
    let by = facts_by(&*world.store, &id("a")).await;
    let pcs: Vec<_> = by.iter().map(|facts| facts.pc_id.as_str()).collect();
    assert_eq!(pcs, ["pc-1", "pc-2", "pc-3", "pc-4"], "by one job, by agent");
    assert_eq!(
        by[1].facts,
        json!({"of": "a", "on": "pc-2"}),
        "with what was found"
    );
    assert!(
        facts_by(&*world.store, &id("c")).await.is_empty(),
        "a job that found nothing"
    );
    assert!(
        world.store.facts_of(&id("pc-9")).await.unwrap().is_empty(),
        "an agent about which nothing is known"
    );
}

pub async fn an_audit_event_is_recorded_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world.all([audit("one"), audit("two")]).await;
    assert_eq!(
        world.change(audit("one")).await,
        Outcome::Duplicate,
        "the same event again"
    );
    let twice = world
        .apply([audit("three"), audit("three")].map(kanade_ports::ChangeSet::of))
        .await;
    assert_eq!(
        twice,
        [Outcome::Applied, Outcome::Duplicate],
        "also within a batch"
    );
    let nameless = Change::Audit(kanade_model::AuditEvent {
        event_id: None,
        ..audit_event("nameless", secs(0))
    });
    world.all([nameless.clone(), nameless]).await;
    let entries = audit_entries(&*world.store, &AuditQuery::default()).await;
    let targets: Vec<_> = entries
        .iter()
        .map(|record| record.event.target.as_deref().unwrap())
        .collect();
    let wanted = ["nameless", "nameless", "three", "two", "one"];
    assert_eq!(
        targets, wanted,
        "newest first; events without an id cannot be told apart"
    );
    assert!(
        entries.is_sorted_by(|a, b| a.id > b.id),
        "each has its number, later ones are larger"
    );
}

pub async fn an_audit_entry_comes_back_as_it_was<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let event = kanade_model::AuditEvent {
        actor: "scheduler".into(),
        action: "job_upsert".into(),
        target: None,
        payload: serde_json::from_value(json!({
            "sub": "alice", "source": "cli", "": {"nested": [1, -2.5, null, true, "ü\u{0}"]},
        }))
        .unwrap(),
        ..audit_event("entry", secs(3))
    };
    world.all([Change::Audit(event.clone())]).await;
    let entries = audit_entries(&*world.store, &AuditQuery::default()).await;
    assert_eq!(entries.len(), 1, "one entry");
    assert_eq!(entries[0].event, event, "every field");
}

pub async fn dead_letters_are_numbered_and_kept<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let letters = ["", "{", "\0\u{fffd}", "last"].map(|payload| letter(payload, secs(5)));
    world.all(letters.clone().map(Change::DeadLetter)).await;
    // Two of the same are two: a letter has no name.
    world.all([Change::DeadLetter(letters[3].clone())]).await;
    let listed = dead_letters(&*world.store).await;
    assert!(listed.is_sorted_by(|a, b| a.id > b.id), "newest first, by number");
    let listed: Vec<_> = listed.into_iter().map(|record| record.letter).collect();
    let wanted: Vec<_> = [&letters[3], &letters[3], &letters[2], &letters[1], &letters[0]]
        .map(Clone::clone)
        .into();
    assert_eq!(listed, wanted, "every field");
}

pub async fn pages_of_large_records_end_at_four_mebibytes<F: StoreFactory>() {
    const EACH: usize = 200_000;
    const COUNT: usize = 30;
    let world = World::<F>::new().await;
    let text = "x".repeat(EACH);
    for number in 0..COUNT {
        let entry = kanade_model::AuditEvent {
            payload: serde_json::from_value(json!({"text": text})).unwrap(),
            ..audit_event(&numbered("event", number), secs(0))
        };
        world
            .all([
                Change::DeadLetter(letter(&text, secs(0))),
                Change::Audit(entry),
                found(facts(&numbered("pc", number), "inventory", secs(0), json!(text))),
            ])
            .await;
    }
    let query = AuditQuery {
        limit: 1000,
        ..AuditQuery::default()
    };
    let audit = world.store.audit(&query).await.unwrap();
    let letters = world.store.dead_letters(None, 1000).await.unwrap();
    let facts = world.store.facts_by(&id("inventory"), None, 1000).await.unwrap();
    for (what, items, next) in [
        ("audit entries", audit.items.len(), audit.next),
        ("dead letters", letters.items.len(), letters.next),
        ("facts", facts.items.len(), facts.next),
    ] {
        assert!(
            items * EACH <= PAGE_BYTES,
            "{items} {what} of {EACH} bytes are more than a page holds"
        );
        assert!(
            items * EACH >= PAGE_BYTES / 2,
            "{items} {what} of {EACH} bytes do not fill a page"
        );
        assert!(next.is_some(), "there are more {what}");
    }
    assert_eq!(
        audit_entries(&*world.store, &AuditQuery::default()).await.len(),
        COUNT,
        "no entry is missed"
    );
    assert_eq!(
        dead_letters(&*world.store).await.len(),
        COUNT,
        "no letter is missed"
    );
    assert_eq!(
        facts_by(&*world.store, &id("inventory")).await.len(),
        COUNT,
        "no facts are missed"
    );
}
