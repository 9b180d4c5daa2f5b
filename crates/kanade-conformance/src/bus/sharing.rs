//! Several consumers of one durable: they share its messages, and what one leaves the others get.

use std::sync::Arc;

use kanade_ports::{Bus, Durable};

use super::wire::{SOON, batch, consume, outcome, send, send_until_kept, texts};
use crate::{BusFactory, within};

pub async fn several_consumers_share_the_messages<F: BusFactory>() {
    const MESSAGES: usize = 60;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let (heard, mut all) = tokio::sync::mpsc::unbounded_channel();
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut consumer = consume(&*factory.bus().await, Durable::Results).await;
        let heard = heard.clone();
        readers.push(tokio::spawn(async move {
            loop {
                let batch = consumer.next(4).await.unwrap();
                texts(batch.messages())
                    .into_iter()
                    .for_each(|text| heard.send(text).unwrap());
                batch.acknowledge().await.unwrap();
            }
        }));
    }
    let sending: Vec<_> = (0..MESSAGES)
        .map(|number| send(&bus, "results.r", &number.to_string()))
        .collect();
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()), "somebody acknowledges each");
    }
    let mut numbers = Vec::new();
    while numbers.len() < MESSAGES {
        let text = within(SOON, "every message", all.recv()).await.unwrap();
        numbers.push(text.parse::<usize>().unwrap());
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    numbers.sort_unstable();
    assert!(
        numbers.into_iter().eq(0..MESSAGES),
        "each message went to one of them"
    );
    assert!(all.try_recv().is_err(), "and none to two");
}

pub async fn what_one_consumer_drops_another_gets<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut first = consume(&*bus, Durable::Results).await;
    let sending = send(&bus, "results.r-1", "one");
    let in_hand = batch(&mut first, 9).await;
    let mut second = consume(&*factory.bus().await, Durable::Results).await;
    drop(in_hand);
    drop(first);
    let again = batch(&mut second, 9).await;
    assert_eq!(texts(again.messages()), ["one"], "the other one gets it");
    again.acknowledge().await.unwrap();
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn an_idle_consumer_that_leaves_disturbs_nobody<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus: Arc<dyn Bus> = factory.bus().await;
    let mut stays = consume(&*bus, Durable::Events).await;
    for round in 0..10 {
        let mut leaves = consume(&*bus, Durable::Events).await;
        let waiting = tokio::spawn(async move { leaves.next(1).await.map(|batch| texts(batch.messages())) });
        tokio::task::yield_now().await;
        let sending = send_until_kept(&bus, "events.started.e.pc", &round.to_string());
        waiting.abort();
        let _ = waiting.await;
        // Whether the one that left had taken it or not, it comes here.
        let batch = batch(&mut stays, 9).await;
        assert_eq!(texts(batch.messages()), [round.to_string()], "round {round}");
        batch.acknowledge().await.unwrap();
        outcome(sending).await;
    }
}
