//! Asking and answering.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use kanade_ports::BusErrorKind;

use super::wire::{SOON, kind, listen, next, outcome, payload, publish, subject, text};
use crate::BusFactory;

pub async fn a_request_gets_its_answer<F: BusFactory>() {
    let factory = F::fresh().await;
    let (server, agent) = (factory.bus().await, factory.bus().await);
    let mut questions = listen(&*agent, "logs.fetch.*").await;
    let answering = tokio::spawn(async move {
        for answer in ["log of 漢字\n", ""] {
            let question = next(&mut questions).await;
            assert_eq!(question.payload, payload("tail"), "the question as it was asked");
            agent.reply(&question, payload(answer)).await.unwrap();
        }
    });
    for wanted in ["log of 漢字\n", ""] {
        let answer = server
            .request(&subject("logs.fetch.pc-1"), payload("tail"), SOON)
            .await
            .unwrap();
        assert_eq!(answer, payload(wanted), "the answer as it was given");
    }
    outcome(answering).await;
}

pub async fn a_request_to_nobody_fails_at_once<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let _others = listen(&*bus, "logs.fetch.pc-2").await;
    // Were it to wait for its time, the case would not end in its own.
    let never = Duration::from_secs(100_000);
    let refused = bus.request(&subject("logs.fetch.pc-1"), payload(""), never).await;
    assert_eq!(
        kind(refused),
        Err(BusErrorKind::NoResponders),
        "nobody listens there"
    );
}

pub async fn a_request_that_is_not_answered_times_out<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut silent = listen(&*bus, "ping.pc-1").await;
    let refused = bus
        .request(&subject("ping.pc-1"), payload(""), Duration::from_millis(20))
        .await;
    assert_eq!(
        kind(refused),
        Err(BusErrorKind::TimedOut),
        "somebody listens and says nothing"
    );
    let question = next(&mut silent).await;
    bus.reply(&question, payload("late")).await.unwrap();
    publish(&*bus, "ping.pc-1", "next").await;
    assert_eq!(
        text(&next(&mut silent).await),
        "next",
        "an answer that comes too late disturbs nobody"
    );
}

pub async fn the_first_of_several_answers_counts<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let (mut first, mut second) = (listen(&*bus, "ping.*").await, listen(&*bus, "ping.>").await);
    let asking = {
        let bus = factory.bus().await;
        tokio::spawn(async move { kind(bus.request(&subject("ping.pc-1"), payload(""), SOON).await) })
    };
    let (to_first, to_second) = (next(&mut first).await, next(&mut second).await);
    bus.reply(&to_first, payload("first")).await.unwrap();
    assert_eq!(
        outcome(asking).await,
        Ok(payload("first")),
        "the question has its answer"
    );
    bus.reply(&to_second, payload("second")).await.unwrap();
}

pub async fn answers_find_their_own_questions<F: BusFactory>() {
    const QUESTIONS: usize = 40;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut questions = listen(&*bus, "echo.>").await;
    let asking: Vec<_> = (0..QUESTIONS)
        .map(|number| {
            let factory = &factory;
            async move {
                let bus = factory.bus().await;
                let asked = number.to_string();
                let answer = bus
                    .request(&subject(&format!("echo.{number}")), payload(&asked), SOON)
                    .await;
                assert_eq!(
                    kind(answer),
                    Ok(payload(&asked)),
                    "question {number} gets its own answer"
                );
            }
        })
        .collect();
    let answering = async {
        let mut kept = Vec::new();
        for _ in 0..QUESTIONS {
            kept.push(next(&mut questions).await);
        }
        // The last one asked is answered first.
        for question in kept.iter().rev() {
            bus.reply(question, question.payload.clone()).await.unwrap();
        }
    };
    futures::join!(join_all(asking), answering);
}

pub async fn who_did_not_ask_gets_no_answer<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut heard = listen(&*bus, "heartbeat.>").await;
    publish(&*bus, "heartbeat.pc-1", "x").await;
    let message = heard.next().await.unwrap();
    let refused = bus.reply(&message, payload("answer")).await;
    assert!(refused.is_err(), "there is nobody to answer to");
}
