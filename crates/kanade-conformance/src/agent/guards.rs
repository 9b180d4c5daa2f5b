//! What an agent may do. Where it is trusted, it may do all of this.

use bytes::Bytes;
use kanade_model::{AgentGroups, PcId, Subject};
use kanade_ports::{Bucket, BusErrorKind, CatalogEvent, Durable, Key, Message, Subscription};
use serde_json::json;

use super::{
    watching::{Documents, follow},
    world::{Agent, World},
};
use crate::{
    AgentFactory,
    bus::wire::{SOON, acknowledge, consume, kind, next, outcome, pattern, payload, subject},
    catalog::shelf::{key, standing},
    within,
};

pub async fn an_agent_listens_to_what_is_for_it<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut allowed = Vec::new();
    for to in [
        "commands.all",
        "commands.pc.pc-1",
        "kill.>",
        "logs.fetch.pc-1",
        "ping.pc-1",
    ] {
        allowed.push(agent.listen(to).await);
    }
    let mut refused = Vec::new();
    for to in [
        ">",
        "*.>",
        "commands.>",
        "commands.*",
        "commands.pc.>",
        "commands.pc.*",
        "commands.pc.pc-2",
        "commands.pc.pc-1.x",
        "commands.pc.pc-1.>",
        "commands.*.pc-1",
        "results.>",
        "events.>",
        "heartbeat.>",
        "heartbeat.pc-2",
        "logs.fetch.*",
        "logs.fetch.pc-2",
        "logs.>",
        "ping.*",
        "ping.pc-10",
        "_INBOX.>",
        "$SYS.>",
    ] {
        let wanted = pattern(to);
        let subscribing = agent.bus.subscribe(&wanted);
        match kind(within(SOON, "a subscription", subscribing).await) {
            Ok(subscription) => {
                assert!(!world.factory.guards(), "{to} is not for it");
                refused.push(subscription);
            }
            Err(kind) => {
                assert!(
                    world.factory.guards(),
                    "{to} is allowed where an agent is trusted"
                );
                assert_eq!(kind, BusErrorKind::Refused, "{to}");
            }
        }
    }
    // What was refused has not broken what was allowed.
    world.say("commands.all", "one").await;
    next(&mut allowed[0]).await;
}

pub async fn an_agent_speaks_for_itself<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut heard = world.listen(">").await;
    let other = disguised(&agent, "pc-2");
    let in_disguise = Message {
        subject: agent.heartbeat(1).subject,
        ..other.heartbeat(1)
    };
    let to = |text: &str| Message {
        subject: subject(text),
        payload: payload("{\"pc_id\":\"pc-1\"}"),
        reply: None,
    };
    let foreign = [
        other.heartbeat(1),
        in_disguise,
        to("commands.all"),
        to("commands.pc.pc-1"),
        to("commands.pc.pc-2"),
        to("kill.e-1"),
        to("logs.fetch.pc-1"),
        to("ping.pc-2"),
        to("_INBOX.1"),
        to("heartbeat.pc-1.x"),
        to("somewhere.else"),
    ];
    for message in &foreign {
        assert_eq!(
            agent.publish(message).await,
            trusted(&world),
            "{}",
            message.subject
        );
    }
    agent.beat(2).await;
    only_where_trusted(&world, &mut heard, &foreign).await;
    assert_eq!(next(&mut heard).await, agent.heartbeat(2), "and what it may say");
}

pub async fn an_agent_reports_for_itself<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let _results = consume(&*world.bus, Durable::Results).await;
    // Somebody who keeps what a trusted agent may send to others.
    let mut heard = world.listen(">").await;
    let to = |text: &str| Message {
        subject: subject(text),
        payload: payload("{\"pc_id\":\"pc-1\"}"),
        reply: None,
    };
    let foreign = [
        to("commands.all"),
        to("commands.pc.pc-2"),
        to("kill.e-1"),
        to("logs.fetch.pc-2"),
        to("_INBOX.1"),
        to("somewhere.else"),
    ];
    for message in &foreign {
        assert_eq!(
            outcome(agent.send(message)).await,
            trusted(&world),
            "{}",
            message.subject
        );
    }
    agent.beat(1).await;
    only_where_trusted(&world, &mut heard, &foreign).await;
    assert_eq!(next(&mut heard).await, agent.heartbeat(1));
}

pub async fn a_report_about_another_agent_is_refused<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let other = disguised(&agent, "pc-2");
    let mut results = consume(&*world.bus, Durable::Results).await;
    let mut events = consume(&*world.bus, Durable::Events).await;
    let under = |subject: Subject, report: Message| Message { subject, ..report };
    let of_other = [
        (Durable::Results, other.result(1)),
        (Durable::Events, other.started(1)),
        (Durable::Events, other.skipped(1)),
        (Durable::Events, other.killed(1)),
        // The subject says one and the report another.
        (Durable::Events, under(agent.started(2).subject, other.started(2))),
        (Durable::Events, under(other.started(3).subject, agent.started(3))),
        (Durable::Events, under(agent.skipped(4).subject, other.skipped(4))),
        (Durable::Events, under(agent.killed(5).subject, other.killed(5))),
        // The end of its name is not its name.
        (Durable::Events, disguised(&agent, "x.pc-1").started(6)),
        (Durable::Events, disguised(&agent, "pc-1.x").killed(7)),
    ];
    for (durable, report) in &of_other {
        let sending = agent.send(report);
        if !world.factory.guards() {
            let consumer = match durable {
                Durable::Results => &mut results,
                _ => &mut events,
            };
            assert_eq!(acknowledge(consumer, 1).await, std::slice::from_ref(report));
        }
        assert_eq!(outcome(sending).await, trusted(&world), "{}", report.subject);
    }
    // Nothing of it stands before what the agent may say.
    let sending = agent.send(&agent.result(9));
    assert_eq!(acknowledge(&mut results, 1).await, [agent.result(9)]);
    assert_eq!(outcome(sending).await, Ok(()));
    let sending = agent.send(&agent.killed(9));
    assert_eq!(acknowledge(&mut events, 1).await, [agent.killed(9)]);
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn an_answer_to_a_question_that_was_not_asked_is_refused<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    let mut heard = world.listen(">").await;
    let forged = |reply: &Subject| Message {
        subject: Subject::logs_fetch(&agent.pc),
        payload: Bytes::new(),
        reply: Some(reply.clone()),
    };
    let mut questions = other.questions().await;
    let to = Subject::logs_fetch(&other.pc);
    let (answer, ()) = futures::join!(world.ask(&to, "for pc-2", SOON), async {
        let question = next(&mut questions).await;
        assert_eq!(next(&mut heard).await, question, "the question itself");
        let foreign = [
            question.reply.clone().unwrap(),
            subject("kill.e-1"),
            agent.commands_subject(),
            subject("_INBOX.1"),
        ];
        for reply in &foreign {
            let answered = agent.bus.reply(&forged(reply), payload("forged")).await;
            assert_eq!(kind(answered), trusted(&world), "{reply}");
        }
        let said = foreign.map(|subject| Message {
            subject,
            payload: payload("forged"),
            reply: None,
        });
        // Then the true one: of two connections either may be the faster.
        only_where_trusted(&world, &mut heard, &said).await;
        other.bus.reply(&question, payload("real")).await.unwrap();
        assert_eq!(next(&mut heard).await.payload, payload("real"), "and the answer");
    });
    let wanted = if world.factory.guards() { "real" } else { "forged" };
    assert_eq!(answer, Ok(payload(wanted)));
}

pub async fn an_agent_reads_its_own_documents_only<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let other: PcId = "pc-2".parse().unwrap();
    let groups = serde_json::to_vec(&AgentGroups {
        groups: vec!["blue".parse().unwrap()],
    })
    .unwrap();
    let foreign = [
        (Bucket::AgentGroups, Key::from(&other)),
        (Bucket::AgentConfig, Key::pc_config(&other)),
        (Bucket::Jobs, key("backup")),
        (Bucket::Schedules, key("nightly")),
    ];
    let own = [
        (Bucket::AgentGroups, Key::from(&agent.pc)),
        (Bucket::AgentConfig, Key::pc_config(&agent.pc)),
    ];
    let own_or_all = |own: usize, all: usize| if world.factory.guards() { own } else { all };
    // What stands when a watch begins, and what changes under it.
    for (bucket, key) in foreign.iter().chain(&own) {
        world.put(*bucket, key, groups.clone()).await;
    }
    let mut watches = Vec::new();
    for (bucket, key) in &own {
        let watch = agent.watch(*bucket).await;
        let is_own = |documents: &Documents| documents.contains_key(key.as_str());
        let known = follow(&agent, *bucket, watch, is_own).await;
        assert_eq!(known.len(), own_or_all(1, 2), "{bucket}: {known:?}");
        let mut watch = agent.watch(*bucket).await;
        assert_eq!(standing(&mut watch).await, known);
        watches.push(watch);
    }
    for (bucket, key) in &foreign {
        let found = agent.catalog.get(*bucket, key).await;
        let is_read = found.is_ok_and(|found| found.is_some());
        assert_eq!(is_read, !world.factory.guards(), "{key} in {bucket}");
        world.put(*bucket, key, "changed").await;
        world.delete(*bucket, key).await;
    }
    for (bucket, key) in &own {
        assert!(agent.get(*bucket, key).await.is_some(), "{key} in {bucket}");
        world.put(*bucket, key, "end").await;
    }
    for ((_, key), watch) in own.iter().zip(&mut watches) {
        let mut told = 0;
        loop {
            match crate::catalog::shelf::next(watch).await {
                CatalogEvent::Put(entry) if entry.key == *key => break,
                _ => told += 1,
            }
        }
        assert_eq!(told, own_or_all(0, 2), "of changes that are not its own");
    }
}

pub async fn an_agent_reads_the_jobs_that_agents_start_themselves<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let own_or_all = |own: usize, all: usize| if world.factory.guards() { own } else { all };
    let schedule = |job: &str, runs_on: &str| {
        json!({ "id": "nightly", "cron": "0 0 3 * * *", "job_id": job, "runs_on": runs_on }).to_string()
    };
    for name in ["backup", "secret"] {
        world.put(Bucket::Jobs, &key(name), format!("id: {name}")).await;
    }
    world
        .put(
            Bucket::Schedules,
            &key("by-server"),
            schedule("secret", "backend"),
        )
        .await;
    world
        .put(Bucket::Schedules, &key("by-agents"), schedule("backup", "agent"))
        .await;
    for (bucket, wanted, foreign) in [
        (Bucket::Schedules, key("by-agents"), key("by-server")),
        (Bucket::Jobs, key("backup"), key("secret")),
    ] {
        let watch = agent.watch(bucket).await;
        let is_told = |documents: &Documents| documents.contains_key(wanted.as_str());
        let known = follow(&agent, bucket, watch, is_told).await;
        assert_eq!(known.len(), own_or_all(1, 2), "{bucket}: {known:?}");
        let asked = agent.get(bucket, &wanted).await;
        assert_eq!(asked.as_ref(), Some(&known[wanted.as_str()].value), "{bucket}");
        let read = agent.get(bucket, &foreign).await;
        assert_eq!(read.is_none(), world.factory.guards(), "{foreign} in {bucket}");
    }
}

/// What `agent` says when it gives itself another name.
fn disguised(agent: &Agent, pc: &str) -> Agent {
    Agent {
        pc: pc.parse().unwrap(),
        bus: agent.bus.clone(),
        catalog: agent.catalog.clone(),
    }
}

/// What becomes of what only a trusted agent may do.
fn trusted<F: AgentFactory>(world: &World<F>) -> Result<(), BusErrorKind> {
    if world.factory.guards() {
        Err(BusErrorKind::Refused)
    } else {
        Ok(())
    }
}

/// What a trusted agent has said has arrived; what another one has said has not.
async fn only_where_trusted<F: AgentFactory>(world: &World<F>, heard: &mut Subscription, said: &[Message]) {
    if world.factory.guards() {
        return;
    }
    for message in said {
        let mut arrived = next(heard).await;
        // A broker answers those who give it something to keep, and whoever listens to everything hears that too.
        while arrived.subject.as_str().starts_with("_INBOX.") && !said.contains(&arrived) {
            arrived = next(heard).await;
        }
        assert_eq!(arrived, *message);
    }
}
