//! Too much of something: it waits, or ends.

use super::*;

/// The next `count` durable messages that arrive by the deadline, acknowledged.
async fn consumed(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<String> {
    let mut subjects = Vec::new();
    while subjects.len() < count {
        let batch = timeout(DEADLINE, consumer.next(count - subjects.len())).await;
        let batch: Box<dyn Batch> = batch.expect("messages come").unwrap();
        subjects.extend(batch.messages().iter().map(|message| message.subject.to_string()));
        batch.acknowledge().await.unwrap();
    }
    subjects
}

#[tokio::test]
async fn durable_messages_enter_the_bus_in_their_order_even_when_there_is_no_room() {
    let limits = BusLimits {
        durable_messages: 4,
        ..BusLimits::default()
    };
    let bus = EmbeddedBus::with_limits(limits);
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let mut agent = Server::over(&bus).agent(1 << 20).await;
    for number in 0..200 {
        agent.send(durable(number), b"{}").await;
    }
    let expected: Vec<String> = (0..200).map(|number| format!("results.{number}")).collect();
    assert_eq!(consumed(&mut consumer, 200).await, expected);
    for _ in 0..200 {
        assert!(matches!(agent.told().await.0, ServerFrame::Done { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_not_read_from_while_too_many_of_its_calls_wait() {
    let bus = EmbeddedBus::new();
    let mut consumer = bus.consume(Durable::Results).await.unwrap();
    let mut agent = Server::over(&bus).agent(16 << 10).await;
    let mut sent = 0;
    // The pipe and the reader's buffer take some more than what is worked on.
    while timeout(Duration::from_secs(1), agent.send(durable(sent), &[b'x'; 1000]))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 100, "it is still read from");
    }
    assert!(sent >= CALLS, "{sent}");
    let held = consumer.next(1000).await.unwrap();
    assert_eq!(held.messages().len(), CALLS);
    held.acknowledge().await.unwrap();
    // Reading goes on, and no call was lost.
    let waiting = tokio::spawn(async move {
        let rest = consumed(&mut consumer, sent - CALLS).await;
        (consumer, rest)
    });
    for _ in 0..sent {
        assert!(matches!(agent.told().await.0, ServerFrame::Done { .. }));
    }
    assert_eq!(waiting.await.unwrap().1.len(), sent - CALLS);
}

#[tokio::test(start_paused = true)]
async fn one_agent_takes_no_more_room_than_its_share_and_signs_of_life_always_pass() {
    let bus = EmbeddedBus::new();
    let mut results = bus.consume(Durable::Results).await.unwrap();
    let mut events = bus.consume(Durable::Events).await.unwrap();
    let mut server = Server::over(&bus);
    server.rooms = Rooms::new(3 << 20);
    let large = vec![b'x'; 1 << 20];
    // Three fit; the fourth waits for room.
    let mut greedy = server.agent(8 << 20).await;
    for number in 0..4 {
        greedy.send(durable(number), &large).await;
    }
    let held = loop {
        let batch = results.next(10).await.unwrap();
        if batch.messages().len() == 2 {
            break batch;
        }
        drop(batch);
        tokio::task::yield_now().await;
    };
    let mut other = server.agent(8 << 20).await;
    let mut heard = bus.subscribe(&"heartbeat.>".parse().unwrap()).await.unwrap();
    let heartbeat = Call::Publish {
        subject: subject("heartbeat.pc-2"),
    };
    other.send(heartbeat, b"{}").await;
    assert!(timeout(DEADLINE, heard.next()).await.unwrap().is_some());
    assert!(matches!(other.told().await.0, ServerFrame::Done { .. }));
    let event = Call::PublishDurable {
        subject: subject("events.started.e-1.pc-2"),
        message: "e".into(),
    };
    other.send(event, &large).await;
    assert!(
        timeout(Duration::from_secs(1), events.next(1)).await.is_err(),
        "there is no room"
    );
    held.acknowledge().await.unwrap();
    assert_eq!(consumed(&mut results, 2).await, ["results.2", "results.3"]);
    assert_eq!(consumed(&mut events, 1).await, ["events.started.e-1.pc-2"]);
}

#[tokio::test]
async fn a_kill_overtakes_a_flood_of_commands() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(4 << 10).await;
    // Many, so that chance does not help.
    let mut commands = Vec::new();
    for _ in 1..FEEDS {
        commands.push(agent.subscribe("commands.>").await);
    }
    let kills = agent.subscribe("kill.>").await;
    for _ in 0..500 {
        let payload = Bytes::from(vec![b'x'; 10 << 10]);
        bus.publish(&subject("commands.all"), payload).await.unwrap();
    }
    // The session fills the pipe and waits.
    let (first, _) = agent.told().await;
    assert!(
        matches!(first, ServerFrame::Message { of, .. } if commands.contains(&of)),
        "{first:?}"
    );
    bus.publish(&subject("kill.e-1"), Bytes::new()).await.unwrap();
    let mut before = 0;
    while let (ServerFrame::Message { of, .. }, _) = agent.told().await
        && of != kills
    {
        before += 1;
    }
    assert!(before <= 2, "{before} commands came before the kill");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_read_is_told_so_and_left() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 10).await;
    agent.subscribe("commands.all").await;
    let payload = Bytes::from(vec![b'x'; 100 << 10]);
    bus.publish(&subject("commands.all"), payload).await.unwrap();
    // It wakes up while the server says goodbye.
    tokio::time::sleep(GatewaySettings::default().write_timeout + Duration::from_secs(1)).await;
    assert!(matches!(agent.told().await.0, ServerFrame::Message { .. }));
    assert_eq!(agent.next().await, Err(close::TOO_SLOW));
    let end = agent.session.await.unwrap();
    assert!(end.contains("not taken"), "{end}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_reads_does_not_hold_its_session() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 10).await;
    agent.subscribe("commands.all").await;
    let payload = Bytes::from(vec![b'x'; 100 << 10]);
    bus.publish(&subject("commands.all"), payload).await.unwrap();
    let end = timeout(Duration::from_secs(30), agent.session).await;
    assert!(end.unwrap().unwrap().contains("not taken"));
    drop(agent.socket);
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_asked_for_signs_of_life_and_closed_when_there_are_none() {
    let mut agent = Server::over(&EmbeddedBus::new()).agent(1 << 10).await;
    let patience = GatewaySettings::default();
    // Reading answers pings.
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        let ping = agent.socket.next().await.unwrap().unwrap();
        assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
    }
    assert_eq!(started.elapsed(), patience.ping_every * 10);
    agent.socket.flush().await.unwrap();
    // Now it does not.
    tokio::time::sleep(patience.idle_timeout + Duration::from_secs(1)).await;
    assert_eq!(agent.next().await, Err(close::POLICY));
    assert!(agent.session.await.unwrap().contains("nothing was heard"));
}

#[tokio::test]
async fn an_agent_has_only_so_many_subscriptions() {
    let mut agent = Server::over(&EmbeddedBus::new()).agent(1 << 20).await;
    for _ in 0..FEEDS {
        agent.subscribe("commands.all").await;
    }
    let pattern: Pattern = "commands.all".parse().unwrap();
    for call in [Call::Subscribe { pattern }, Call::Watch { bucket: Bucket::Jobs }] {
        let told = agent.call(call).await;
        assert!(is_refused(&told, "at most 64"), "{told:?}");
    }
}
