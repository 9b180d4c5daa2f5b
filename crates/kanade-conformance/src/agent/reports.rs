//! What agents report: results and events, which have to be kept, and heartbeats, which do not.

use std::collections::BTreeSet;

use futures::future::join_all;
use kanade_model::Subject;
use kanade_ports::{Bucket, BusErrorKind, Consumer, Durable, Message};

use super::world::World;
use crate::{
    AgentFactory,
    bus::wire::{SOON, acknowledge, batch, consume, next, outcome, payload},
    catalog::shelf::key,
    within,
};

pub async fn every_kind_of_report_arrives_as_it_was_sent<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let mut results = consume(&*world.bus, Durable::Results).await;
    let mut events = consume(&*world.bus, Durable::Events).await;
    for agent in [world.agent("pc-1").await, world.agent("pc.with.dots").await] {
        for report in [agent.started(1), agent.skipped(2), agent.killed(1)] {
            let sending = agent.send(&report);
            assert_eq!(acknowledge(&mut events, 1).await, [report], "subject and payload");
            assert_eq!(outcome(sending).await, Ok(()), "its sender knows that it is kept");
        }
        let sending = agent.send(&agent.result(1));
        assert_eq!(acknowledge(&mut results, 1).await, [agent.result(1)]);
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn heartbeats_reach_the_server_in_order<F: AgentFactory>() {
    const BEATS: i64 = 200;
    let world = World::<F>::new().await;
    let mut heard = world.listen("heartbeat.>").await;
    let agents = [world.agent("pc-1").await, world.agent("pc-2").await];
    let beating = agents.iter().map(|agent| async move {
        for number in 0..BEATS {
            agent.beat(number).await;
        }
    });
    join_all(beating).await;
    let mut counts = [0; 2];
    for _ in 0..2 * BEATS {
        let message = next(&mut heard).await;
        let mut expected = agents.iter().zip(&mut counts);
        let (_, count) = expected
            .find(|(agent, count)| message == agent.heartbeat(**count))
            .expect("the next heartbeat of one of them");
        *count += 1;
    }
    assert_eq!(counts, [BEATS; 2], "every one of each");
}

pub async fn a_result_is_answered_once_it_is_acknowledged_and_not_before<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut heard = world.listen("heartbeat.>").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending = agent.send(&agent.result(1));
    let in_hand = batch(&mut consumer, 9).await;
    assert_eq!(in_hand.messages(), [agent.result(1)]);
    // An answer would have overtaken these on the way back.
    for number in 0..20 {
        agent.beat(number).await;
        assert_eq!(
            next(&mut heard).await,
            agent.heartbeat(number),
            "it holds up nothing"
        );
    }
    if !world.factory.keeps_without_consumer() {
        assert!(!sending.is_finished(), "nobody keeps it until it is acknowledged");
    }
    in_hand.acknowledge().await.unwrap();
    assert_eq!(outcome(sending).await, Ok(()), "now somebody does");
}

pub async fn a_result_that_nobody_consumes_is_refused_or_kept<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    // A consumer of something else keeps nothing of this.
    let _other = consume(&*world.bus, Durable::Events).await;
    let sent = outcome(agent.send(&agent.result(1))).await;
    if world.factory.keeps_without_consumer() {
        assert_eq!(sent, Ok(()), "the bus keeps it by itself");
        let mut consumer = consume(&*world.bus, Durable::Results).await;
        assert_eq!(acknowledge(&mut consumer, 1).await, [agent.result(1)]);
    } else {
        assert_eq!(sent, Err(BusErrorKind::Unavailable), "nobody keeps it");
        let mut consumer = consume(&*world.bus, Durable::Results).await;
        let sending = agent.send(&agent.result(2));
        assert_eq!(
            acknowledge(&mut consumer, 1).await,
            [agent.result(2)],
            "it was not kept in secret either"
        );
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn a_batch_that_is_dropped_comes_again_and_is_answered<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending = agent.send(&agent.result(1));
    for _ in 0..5 {
        let batch = batch(&mut consumer, 9).await;
        assert_eq!(batch.messages(), [agent.result(1)], "as often as it is dropped");
    }
    assert_eq!(acknowledge(&mut consumer, 1).await, [agent.result(1)]);
    assert_eq!(outcome(sending).await, Ok(()), "in the end it is kept");
    let sending = agent.send(&agent.result(2));
    assert_eq!(
        acknowledge(&mut consumer, 1).await,
        [agent.result(2)],
        "what is acknowledged does not come again"
    );
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn an_outbox_outlasts_a_consumer_that_goes_away<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let reports: Vec<_> = (0..5).map(|number| agent.result(number)).collect();
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending: Vec<_> = reports
        .iter()
        .map(|report| agent.send_until_kept(report))
        .collect();
    let in_hand = batch(&mut consumer, 9).await;
    drop(consumer);
    drop(in_hand);
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let heard = collect(&mut consumer, reports.len()).await;
    assert_eq!(heard, subjects(&reports), "each came to the next consumer");
    let reading = read_for_ever(&mut consumer);
    let sent = join_all(sending.into_iter().map(outcome));
    within(
        SOON,
        "the end of every send",
        futures::future::select(Box::pin(reading), sent),
    )
    .await;
}

pub async fn results_sent_one_after_the_other_are_consumed_in_order<F: AgentFactory>() {
    const RESULTS: u32 = 60;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let reports: Vec<_> = (0..RESULTS).map(|number| agent.result(number)).collect();
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending = async {
        for report in &reports {
            assert_eq!(outcome(agent.send(report)).await, Ok(()));
        }
    };
    let (heard, ()) = futures::join!(acknowledge(&mut consumer, reports.len()), sending);
    assert_eq!(heard, reports, "in the order of their sending, each once");
}

pub async fn many_results_at_once_are_all_answered<F: AgentFactory>() {
    const RESULTS: u32 = 300;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    // Large enough that they do not all fit into a socket.
    let reports: Vec<_> = (0..RESULTS)
        .map(|number| agent.result_with(number, "x".repeat(20_000)))
        .collect();
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending: Vec<_> = reports.iter().map(|report| agent.send(report)).collect();
    let came = collect(&mut consumer, reports.len()).await;
    assert_eq!(came, subjects(&reports), "every one came");
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()), "every one is answered");
    }
}

pub async fn reports_that_wait_hold_up_nothing_else<F: AgentFactory>() {
    // More than an outbox has under way.
    const RESULTS: u32 = 100;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut heard = world.listen("heartbeat.>").await;
    let mut questions = agent.questions().await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let reports: Vec<_> = (0..RESULTS).map(|number| agent.result(number)).collect();
    let sending: Vec<_> = reports.iter().map(|report| agent.send(report)).collect();
    let in_hand = batch(&mut consumer, 1).await;
    let to = Subject::logs_fetch(&agent.pc);
    for round in 0..20 {
        agent.beat(round).await;
        assert_eq!(next(&mut heard).await, agent.heartbeat(round), "a sign of life");
        let (answer, ()) = futures::join!(world.ask(&to, "", SOON), async {
            let question = next(&mut questions).await;
            agent.bus.reply(&question, payload("log")).await.unwrap();
        });
        assert_eq!(answer, Ok(payload("log")), "an answer");
        let found = agent.get(Bucket::ScriptStatus, &key("backup")).await;
        assert_eq!(found, None, "a question");
    }
    in_hand.acknowledge().await.unwrap();
    collect(&mut consumer, reports.len() - 1).await;
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn reports_of_many_agents_all_arrive<F: AgentFactory>() {
    const AGENTS: u32 = 20;
    const EACH: u32 = 10;
    let world = World::<F>::new().await;
    let mut consumer = consume(&*world.bus, Durable::Events).await;
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        agents.push(world.agent(&format!("pc-{number}")).await);
    }
    let reports: Vec<Message> = agents
        .iter()
        .flat_map(|agent| (0..EACH).map(|number| agent.started(number)))
        .collect();
    let sending: Vec<_> = agents
        .iter()
        .flat_map(|agent| (0..EACH).map(|number| agent.send(&agent.started(number))))
        .collect();
    assert_eq!(collect(&mut consumer, reports.len()).await, subjects(&reports));
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()), "each agent has its own answers");
    }
}

pub async fn a_sender_that_goes_away_disturbs_nobody<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let sending = agent.send(&agent.result(1));
    drop(batch(&mut consumer, 9).await);
    sending.abort();
    let _ = sending.await;
    assert_eq!(
        acknowledge(&mut consumer, 1).await,
        [agent.result(1)],
        "what was taken over is delivered"
    );
    let sending = agent.send(&agent.result(2));
    assert_eq!(
        acknowledge(&mut consumer, 1).await,
        [agent.result(2)],
        "and the next one after it"
    );
    assert_eq!(outcome(sending).await, Ok(()), "which gets its own answer");
}

/// Acknowledges what comes until `count` different messages have come; their subjects.
pub(super) async fn collect(consumer: &mut Box<dyn Consumer>, count: usize) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    while heard.len() < count {
        let batch = batch(consumer, 16).await;
        heard.extend(subjects(batch.messages()));
        batch.acknowledge().await.unwrap();
    }
    heard
}

/// Acknowledges repetitions, for as long as it is polled.
pub(super) async fn read_for_ever(consumer: &mut Box<dyn Consumer>) {
    loop {
        consumer.next(16).await.unwrap().acknowledge().await.unwrap();
    }
}

pub(super) fn subjects(messages: &[Message]) -> BTreeSet<String> {
    messages
        .iter()
        .map(|message| message.subject.to_string())
        .collect()
}
