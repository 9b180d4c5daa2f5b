//! What becomes of reports whose connection is lost: an outbox gets every one of them to the server.

use futures::{FutureExt, StreamExt, future::join_all};
use kanade_ports::{Durable, Message};

use super::{
    losses::until_it_is_noticed,
    reports::{collect, read_for_ever, subjects},
    world::{World, passes},
};
use crate::{
    AgentFactory,
    bus::wire::{SOON, batch, consume, outcome},
    within,
};

pub async fn a_report_under_way_when_the_connection_is_lost_comes_to_an_end<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let report = agent.result(1);
    let sending = agent.send(&report);
    let in_hand = batch(&mut consumer, 9).await;
    let Some(cut) = world.cut(&agent).await else {
        in_hand.acknowledge().await.unwrap();
        assert_eq!(outcome(sending).await, Ok(()), "nothing is lost here");
        return world.is_never_cut(&agent).await;
    };
    let sent = outcome(sending).await;
    assert!(
        sent.is_ok_and(|()| world.factory.keeps_without_consumer()) || sent.is_err_and(passes),
        "nobody has said yet that it is kept: {sent:?}"
    );
    drop(in_hand);
    cut.mend();
    // Sent again, as it is not known what became of it; the server may see it twice.
    let again = agent.send_until_kept(&report);
    let heard = collect(&mut consumer, 1);
    assert_eq!(within(SOON, "the report", heard).await, subjects(&[report]));
    let reading = Box::pin(read_for_ever(&mut consumer));
    within(
        SOON,
        "its answer",
        futures::future::select(reading, Box::pin(outcome(again))),
    )
    .await;
}

pub async fn a_report_begun_without_a_connection_arrives_later<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut consumer = consume(&*world.bus, Durable::Events).await;
    let cut = world.cut(&agent).await;
    if cut.is_some() {
        until_it_is_noticed(&agent).await;
    }
    let reports: Vec<Message> = (0..20).map(|number| agent.started(number)).collect();
    let sending: Vec<_> = reports
        .iter()
        .map(|report| agent.send_until_kept(report))
        .collect();
    if let Some(cut) = cut {
        cut.mend();
    }
    assert_eq!(
        collect(&mut consumer, reports.len()).await,
        subjects(&reports),
        "every one"
    );
    let reading = Box::pin(read_for_ever(&mut consumer));
    let sent = join_all(sending.into_iter().map(outcome));
    within(SOON, "every answer", futures::future::select(reading, sent)).await;
}

pub async fn many_reports_survive_lost_connections<F: AgentFactory>() {
    const ROUNDS: u32 = 6;
    const EACH: u32 = 30;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;
    let (mut reports, mut sending) = (Vec::new(), Vec::new());
    let mut heard = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let fresh: Vec<Message> = (0..EACH)
            .map(|number| agent.result(round * EACH + number))
            .collect();
        sending.extend(fresh.iter().map(|report| agent.send_until_kept(report)));
        reports.extend(fresh);
        let mut reconnections = agent.bus.reconnections();
        // Some have been acknowledged, some are in hand, some under way when it happens.
        heard.extend(collect(&mut consumer, 3).await);
        let in_hand = batch(&mut consumer, 5).await;
        if let Some(cut) = world.cut(&agent).await {
            drop(in_hand);
            cut.mend();
            within(SOON, "the connection to be made again", reconnections.next()).await;
        }
    }
    let wanted = subjects(&reports);
    // What was answered may still have to be read, and what was read may be sent again and want another reader.
    let reading = async {
        let mut sent = join_all(sending.into_iter().map(outcome)).map(drop).fuse();
        let mut is_answered = false;
        while !is_answered || heard != wanted {
            tokio::select! {
                () = &mut sent, if !is_answered => is_answered = true,
                batch = consumer.next(16) => {
                    let batch = batch.unwrap();
                    heard.extend(subjects(batch.messages()));
                    batch.acknowledge().await.unwrap();
                }
            }
        }
    };
    within(SOON, "every answer", reading).await;
    assert_eq!(
        heard, wanted,
        "what an outbox was told to be kept has come, all of it"
    );
}
