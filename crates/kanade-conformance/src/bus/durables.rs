//! Durable messages: kept until a consumer has acknowledged them, delivered again until then.

use std::sync::Arc;

use futures::{FutureExt, future::join_all};
use kanade_ports::{BusErrorKind, Durable, MessageId};

use super::wire::{
    SOON, acknowledge, batch, consume, kind, listen, next, outcome, payload, send, send_until_kept, subject,
    text, texts, up_to,
};
use crate::{BusFactory, within};

pub async fn a_durable_message_is_answered_and_consumed<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending = send(&factory.bus().await, "results.r-1", "one ü");
    let heard = acknowledge(&mut consumer, 1).await;
    assert_eq!(heard[0].subject, subject("results.r-1"), "with its subject");
    assert_eq!(heard[0].payload, payload("one ü"), "with its payload");
    assert_eq!(outcome(sending).await, Ok(()), "its sender knows that it is kept");
}

pub async fn a_sender_without_a_consumer_is_told_or_kept<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    // A consumer of something else keeps nothing of this.
    let _other = consume(&*bus, Durable::Events).await;
    let sent = outcome(send(&bus, "results.r-1", "one")).await;
    if factory.keeps_without_consumer() {
        assert_eq!(sent, Ok(()), "the bus keeps it by itself");
        let mut consumer = consume(&*bus, Durable::Results).await;
        assert_eq!(
            texts(&acknowledge(&mut consumer, 1).await),
            ["one"],
            "for whoever consumes later"
        );
    } else {
        assert_eq!(sent, Err(BusErrorKind::Unavailable), "at once: nobody keeps it");
        let mut consumer = consume(&*bus, Durable::Results).await;
        let sending = send(&bus, "results.r-2", "two");
        assert_eq!(
            texts(&acknowledge(&mut consumer, 1).await),
            ["two"],
            "it was not kept in secret either"
        );
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn a_sender_waits_until_somebody_keeps_its_message<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending = send(&bus, "results.r-1", "one");
    let in_hand = batch(&mut consumer, 9).await;
    if !factory.keeps_without_consumer() {
        // The one thing that could answer is in our hand; let everything else that can run do so.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(
            !sending.is_finished(),
            "it is kept by nobody until it is acknowledged"
        );
    }
    in_hand.acknowledge().await.unwrap();
    assert_eq!(outcome(sending).await, Ok(()), "now it is");
}

pub async fn a_batch_that_is_dropped_comes_again_in_order<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    // One after the other, so that their order is known; each is taken and dropped before the next.
    let mut sending = Vec::new();
    for number in 1..=4 {
        sending.push(send(&bus, &format!("results.r-{number}"), &number.to_string()));
        loop {
            let seen = batch(&mut consumer, 9).await;
            let last = seen.messages().last().map(text);
            drop(seen);
            if last == Some(number.to_string()) {
                break;
            }
        }
    }
    let first = batch(&mut consumer, 2).await;
    assert_eq!(texts(first.messages()), ["1", "2"], "the oldest first");
    let second = batch(&mut consumer, 9).await;
    assert_eq!(
        texts(second.messages()),
        ["3", "4"],
        "what is in hand is not given twice"
    );
    drop(first);
    assert_eq!(
        texts(&acknowledge(&mut consumer, 2).await),
        ["1", "2"],
        "what was dropped comes again"
    );
    second.acknowledge().await.unwrap();
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()), "every one is kept in the end");
    }
}

pub async fn what_is_acknowledged_does_not_come_again<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Events).await;
    let sending = send(&bus, "events.started.e-1.pc-1", "one");
    acknowledge(&mut consumer, 1).await;
    assert_eq!(outcome(sending).await, Ok(()));
    drop(consumer);
    let mut consumer = consume(&*bus, Durable::Events).await;
    let sending = send(&bus, "events.started.e-1.pc-1", "two");
    assert_eq!(
        texts(&acknowledge(&mut consumer, 1).await),
        ["two"],
        "not even by another consumer"
    );
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn an_outbox_survives_a_consumer_that_goes_away<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending: Vec<_> = (0..5)
        .map(|number| send_until_kept(&bus, "results.r", &number.to_string()))
        .collect();
    let in_hand = batch(&mut consumer, 9).await;
    drop(consumer);
    drop(in_hand);
    let mut consumer = consume(&*bus, Durable::Results).await;
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 5 {
        let batch = batch(&mut consumer, 9).await;
        heard.extend(texts(batch.messages()));
        batch.acknowledge().await.unwrap();
    }
    join_all(sending.into_iter().map(outcome)).await;
    assert_eq!(heard.len(), 5, "every message came to the next consumer");
}

pub async fn a_batch_can_be_acknowledged_after_its_consumer_went_away<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending = send(&bus, "results.r-1", "one");
    let in_hand = batch(&mut consumer, 9).await;
    drop(consumer);
    within(SOON, "an acknowledgement", in_hand.acknowledge())
        .await
        .unwrap();
    assert_eq!(outcome(sending).await, Ok(()), "what was recorded is kept");
}

pub async fn each_durable_gets_its_own_messages<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut results = consume(&*bus, Durable::Results).await;
    let mut events = consume(&*bus, Durable::Events).await;
    let sending = [
        send(&bus, "results.r-1", "result"),
        send(&bus, "events.started.e-1.pc-1", "start"),
        send(&bus, "events.skipped.e-1.pc.2", "skip"),
        send(&bus, "events.kill.e-1.pc-1", "kill"),
    ];
    let mut of_events = texts(&acknowledge(&mut events, 3).await);
    of_events.sort();
    assert_eq!(of_events, ["kill", "skip", "start"], "events, of every kind");
    assert_eq!(texts(&acknowledge(&mut results, 1).await), ["result"], "results");
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn a_batch_holds_no_more_than_was_asked_for<F: BusFactory>() {
    const MESSAGES: usize = 50;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending: Vec<_> = (0..MESSAGES)
        .map(|number| send(&bus, "results.r", &number.to_string()))
        .collect();
    let mut heard = Vec::new();
    for max in [1, 7, 1, 1000, 3].into_iter().cycle() {
        // `batch` checks the number.
        let batch = batch(&mut consumer, max).await;
        heard.extend(texts(batch.messages()));
        batch.acknowledge().await.unwrap();
        if heard.len() == MESSAGES {
            break;
        }
    }
    heard.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert!(
        heard
            .iter()
            .map(|text| text.parse::<usize>().unwrap())
            .eq(0..MESSAGES),
        "each came once: {heard:?}"
    );
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn a_batch_says_when_nothing_else_was_waiting<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let mut sending: Vec<_> = (1..=5)
        .map(|number| send(&bus, &format!("results.r-{number}"), &number.to_string()))
        .collect();
    let (mut heard, mut in_hand) = (0, Vec::new());
    while heard < 5 {
        let given = batch(&mut consumer, 2).await;
        heard += given.messages().len();
        in_hand.push(given);
    }
    let last = in_hand.last().unwrap().caught_up();
    assert!(last.is_some(), "nothing waits behind the last");
    for given in in_hand {
        given.acknowledge().await.unwrap();
    }
    for sending in sending.drain(..) {
        assert_eq!(outcome(sending).await, Ok(()));
    }

    if factory.keeps_without_consumer() {
        drop(consumer);
        for number in 6..=8 {
            let text = number.to_string();
            let sending = send(&bus, &format!("results.r-{number}"), &text);
            assert_eq!(outcome(sending).await, Ok(()));
        }
        consumer = consume(&*bus, Durable::Results).await;
    } else {
        let mut in_hand = Vec::new();
        for number in 6..=8 {
            sending.push(send(&bus, &format!("results.r-{number}"), &number.to_string()));
            in_hand.push(batch(&mut consumer, 1).await);
        }
        // They come again, all at once.
        while in_hand.pop().is_some() {}
    }
    let mut heard = 0;
    while heard < 3 {
        let given = batch(&mut consumer, 1).await;
        heard += 1;
        assert_eq!(given.caught_up().is_some(), heard == 3, "after {heard} of 3");
        given.acknowledge().await.unwrap();
    }
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn messages_of_one_sender_are_consumed_in_order<F: BusFactory>() {
    const MESSAGES: usize = 60;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sender = Arc::clone(&bus);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let text = number.to_string();
            sender
                .publish_durable(&subject("results.r"), payload(&text), MessageId(text))
                .await
                .unwrap();
        }
    });
    let heard = acknowledge(&mut consumer, MESSAGES).await;
    assert!(
        texts(&heard)
            .into_iter()
            .eq((0..MESSAGES).map(|number| number.to_string())),
        "in the order of their sending"
    );
    outcome(sending).await;
}

pub async fn a_sender_that_goes_away_has_been_heard<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending = send(&bus, "results.r-1", "one");
    drop(batch(&mut consumer, 9).await);
    sending.abort();
    let _ = sending.await;
    assert_eq!(
        texts(&acknowledge(&mut consumer, 1).await),
        ["one"],
        "what was taken over is delivered"
    );
    let sending = send(&bus, "results.r-2", "two");
    assert_eq!(
        texts(&acknowledge(&mut consumer, 1).await),
        ["two"],
        "and the next one after it"
    );
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn a_reader_that_goes_away_takes_nothing_along<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let sending: Vec<_> = (0..20)
        .map(|number| send(&bus, "results.r", &number.to_string()))
        .collect();
    let mut heard = Vec::new();
    while heard.len() < 20 {
        // Asked for and given up again, at whatever point it has come to.
        for _ in 0..3 {
            if let Some(batch) = consumer.next(2).now_or_never() {
                let batch = batch.unwrap();
                heard.extend(texts(batch.messages()));
                batch.acknowledge().await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
    heard.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert!(
        heard.iter().map(|text| text.parse::<usize>().unwrap()).eq(0..20),
        "each came once: {heard:?}"
    );
    for sending in sending {
        assert_eq!(outcome(sending).await, Ok(()));
    }
}

pub async fn subscribers_see_durable_messages_too<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut consumer = consume(&*bus, Durable::Results).await;
    let mut waiting = listen(&*bus, "results.r-1").await;
    let sending = send(&bus, "results.r-1", "one");
    let in_hand = batch(&mut consumer, 9).await;
    assert_eq!(
        text(&next(&mut waiting).await),
        "one",
        "without waiting for the consumer"
    );
    in_hand.acknowledge().await.unwrap();
    assert_eq!(outcome(sending).await, Ok(()));
    bus.publish(&subject("results.r-1"), payload("end"))
        .await
        .unwrap();
    assert_eq!(up_to(&mut waiting, "end").await, ["end"], "and once");
}

pub async fn a_durable_message_to_a_listener_reaches_it<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut agent = listen(&*bus, "commands.pc.pc-1").await;
    let id = MessageId("send-1.1".into());
    let sent = bus
        .publish_durable(&subject("commands.pc.pc-1"), payload("run"), id)
        .await;
    assert_eq!(kind(sent), Ok(()), "who listens has it");
    assert_eq!(text(&next(&mut agent).await), "run");
}
