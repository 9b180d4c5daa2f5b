//! Publishing to whoever listens now.

use futures::{StreamExt, future::join_all};
use kanade_ports::BusErrorKind;

use super::wire::{kind, listen, next, pattern, payload, publish, subject, text, up_to};
use crate::BusFactory;

pub async fn publishing_to_nobody_succeeds<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    publish(&*bus, "kill.e-1", "").await;
    bus.flush().await.unwrap();
    let mut late = listen(&*bus, "kill.>").await;
    publish(&*bus, "kill.e-2", "second").await;
    assert_eq!(
        text(&next(&mut late).await),
        "second",
        "what was published before is not seen"
    );
}

pub async fn a_subscriber_gets_what_is_published_after_it_subscribed<F: BusFactory>() {
    let factory = F::fresh().await;
    let (here, there) = (factory.bus().await, factory.bus().await);
    let mut own = listen(&*here, "heartbeat.>").await;
    let mut other = listen(&*there, "heartbeat.>").await;
    // Subjects and payloads of any script.
    for (to, said) in [
        ("heartbeat.pc-1", "one"),
        ("heartbeat.pc.with.dots", ""),
        ("heartbeat.漢字", "ü🦀\0"),
    ] {
        publish(&*here, to, said).await;
        for subscription in [&mut own, &mut other] {
            let message = next(subscription).await;
            assert_eq!(
                (message.subject, message.payload),
                (subject(to), payload(said)),
                "as it was sent"
            );
            assert_eq!(message.reply, None, "nobody waits for an answer");
        }
    }
}

pub async fn patterns_decide_who_gets_what<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let patterns = [
        "t.a", "t.a.b", "t.a.*", "t.*", "t.*.b", "t.*.*", "t.>", "t.a.>", "t.a.b.c", "t.*.b.>", "t.A", "t.ä",
        "*.a.b",
    ];
    let subjects = [
        "t.a",
        "t.b",
        "t.a.b",
        "t.a.c",
        "t.b.b",
        "t.a.b.c",
        "t.a.b.c.d",
        "t.A",
        "t.ä",
        "t.aa",
    ];
    let mut subscriptions = Vec::new();
    for text in patterns {
        subscriptions.push(bus.subscribe(&pattern(text)).await.unwrap());
    }
    for to in subjects {
        publish(&*bus, to, to).await;
    }
    // A mark that reaches everybody tells that nothing more is to come.
    for to in patterns {
        publish(&*bus, &to.replace(['*', '>'], "b"), "end").await;
    }
    for (wanted, subscription) in patterns.into_iter().zip(&mut subscriptions) {
        let mut heard = up_to(subscription, "end").await;
        heard.pop();
        let matching: Vec<_> = subjects
            .into_iter()
            .filter(|to| pattern(wanted).matches(&subject(to)))
            .collect();
        assert_eq!(heard, matching, "{wanted}");
    }
}

pub async fn each_subscription_gets_its_own_copy<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut same = Vec::new();
    for _ in 0..3 {
        same.push(listen(&*bus, "commands.all").await);
    }
    publish(&*bus, "commands.all", "one").await;
    publish(&*bus, "commands.all", "two").await;
    for subscription in &mut same {
        assert_eq!(
            up_to(subscription, "two").await,
            ["one", "two"],
            "whoever else has the same pattern"
        );
    }
}

pub async fn messages_of_one_publisher_stay_in_order<F: BusFactory>() {
    const MESSAGES: usize = 200;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut subscription = listen(&*bus, "order.>").await;
    let publishers = (0..4).map(|publisher| {
        let factory = &factory;
        async move {
            let bus = factory.bus().await;
            for number in 0..MESSAGES {
                publish(
                    &*bus,
                    &format!("order.{publisher}.{}", number % 3),
                    &number.to_string(),
                )
                .await;
            }
        }
    });
    join_all(publishers).await;
    let mut heard = vec![Vec::new(); 4];
    for _ in 0..4 * MESSAGES {
        let message = next(&mut subscription).await;
        let publisher: usize = message
            .subject
            .as_str()
            .split('.')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        heard[publisher].push(text(&message).parse::<usize>().unwrap());
    }
    for (publisher, heard) in heard.iter().enumerate() {
        assert!(
            heard.iter().copied().eq(0..MESSAGES),
            "publisher {publisher}: {heard:?}"
        );
    }
}

pub async fn a_subscription_that_is_dropped_ends_alone<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut stays = listen(&*bus, "logs.fetch.pc-1").await;
    for _ in 0..20 {
        let leaves = listen(&*bus, "logs.fetch.pc-1").await;
        drop(leaves);
        drop(listen(&*bus, "logs.fetch.*").await);
    }
    publish(&*bus, "logs.fetch.pc-1", "one").await;
    assert_eq!(text(&next(&mut stays).await), "one", "who stays still hears");
    drop(stays);
    bus.flush().await.unwrap();
    let nobody = bus
        .request(&subject("logs.fetch.pc-1"), payload(""), super::wire::SOON)
        .await;
    assert_eq!(
        kind(nobody),
        Err(BusErrorKind::NoResponders),
        "and once it leaves, nobody listens"
    );
}

pub async fn a_slow_subscriber_misses_messages_and_disturbs_nobody<F: BusFactory>() {
    const MOST: usize = 200_000;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut slow = listen(&*bus, "noise.>").await;
    let mut fast = listen(&*bus, "noise.>").await;
    assert_eq!(bus.dropped(), 0, "nothing has been dropped yet");
    let mut sent = 0;
    while bus.dropped() == 0 {
        assert!(sent < MOST, "what a subscriber can be behind is bounded");
        publish(&*bus, "noise.x", &sent.to_string()).await;
        assert_eq!(
            text(&next(&mut fast).await),
            sent.to_string(),
            "who reads misses nothing"
        );
        sent += 1;
    }
    // Room again, so what comes now is heard again.
    let mut heard = Vec::new();
    heard.push(text(&next(&mut slow).await).parse::<usize>().unwrap());
    publish(&*bus, "noise.x", "last").await;
    loop {
        let said = text(&next(&mut slow).await);
        if said == "last" {
            break;
        }
        heard.push(said.parse().unwrap());
    }
    assert!(
        heard.is_sorted_by(|a, b| a < b),
        "what it got is in order, each once"
    );
    assert!(heard.len() < sent, "it missed something, as was counted");
    assert_eq!(text(&next(&mut fast).await), "last");
}

pub async fn large_messages_travel_and_larger_ones_are_refused<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut subscription = listen(&*bus, "large.>").await;
    // A broker may count some headers too.
    let most = factory.max_payload() - 1024;
    let large = bytes::Bytes::from(vec![b'x'; most]);
    bus.publish(&subject("large.one"), large.clone()).await.unwrap();
    let heard = next(&mut subscription).await;
    assert!(heard.payload == large, "{most} bytes arrive whole");
    let larger = bytes::Bytes::from(vec![b'x'; factory.max_payload() + 1]);
    let refused = bus.publish(&subject("large.two"), larger.clone()).await;
    assert_eq!(kind(refused), Err(BusErrorKind::TooLarge), "publish");
    let refused = bus
        .request(&subject("large.two"), larger.clone(), super::wire::SOON)
        .await;
    assert_eq!(kind(refused), Err(BusErrorKind::TooLarge), "request");
    let id = kanade_ports::MessageId("large".into());
    let refused = bus.publish_durable(&subject("results.large"), larger, id).await;
    assert_eq!(kind(refused), Err(BusErrorKind::TooLarge), "durable publish");
    publish(&*bus, "large.three", "small").await;
    assert_eq!(
        text(&next(&mut subscription).await),
        "small",
        "the bus goes on, without what was refused"
    );
}

pub async fn many_subscribers_each_hear_their_own<F: BusFactory>() {
    const AGENTS: usize = 300;
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    let mut agents = Vec::new();
    for agent in 0..AGENTS {
        agents.push(listen(&*bus, &format!("commands.pc.pc-{agent}")).await);
    }
    for agent in 0..AGENTS {
        publish(&*bus, &format!("commands.pc.pc-{agent}"), &agent.to_string()).await;
    }
    for (number, agent) in agents.iter_mut().enumerate() {
        assert_eq!(
            text(&next(agent).await),
            number.to_string(),
            "agent {number} hears what is for it"
        );
    }
    // Nothing else is in their queues: a second message to each is the next that each hears.
    for (number, agent) in agents.iter_mut().enumerate() {
        publish(&*bus, &format!("commands.pc.pc-{number}"), "again").await;
        assert_eq!(
            agent.next().await.as_ref().map(text).as_deref(),
            Some("again"),
            "agent {number}"
        );
    }
}
