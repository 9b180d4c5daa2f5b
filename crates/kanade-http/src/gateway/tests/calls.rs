//! What becomes of calls.

use super::*;

#[tokio::test]
async fn a_ping_is_answered() {
    let mut agent = Server::over(&EmbeddedBus::new()).agent(1 << 10).await;
    agent.socket.send(Message::Ping("there?".into())).await.unwrap();
    let pong = timeout(DEADLINE, agent.socket.next()).await.unwrap();
    assert_eq!(pong.unwrap().unwrap(), Message::Pong("there?".into()));
}

#[tokio::test]
async fn one_that_is_replaced_is_told_so() {
    let mut agent = Server::over(&EmbeddedBus::new()).agent(1 << 10).await;
    agent.replaced.cancel();
    assert_eq!(agent.next().await, Err(close::REPLACED));
}

#[tokio::test]
async fn documents_are_found_and_followed() {
    let catalog = Arc::new(MemoryCatalog::default());
    let put = async |key: &str, value: &'static str| {
        let key = key.parse().unwrap();
        catalog
            .put(
                Bucket::ScriptStatus,
                &key,
                Bytes::from_static(value.as_bytes()),
                Precondition::Any,
            )
            .await
            .unwrap()
    };
    let revision = put("backup", "ACTIVE").await;
    let mut agent = Server::with(EmbeddedBus::new(), Arc::clone(&catalog))
        .agent(1 << 20)
        .await;
    let get = |key: &str| Call::Get {
        bucket: Bucket::ScriptStatus,
        key: key.parse().unwrap(),
    };
    let id = agent.send(get("backup"), b"").await;
    let found = ServerFrame::Found {
        id,
        revision: Some(revision),
    };
    assert_eq!(agent.told().await, (found, Bytes::from_static(b"ACTIVE")));
    let found = agent.call(get("nothing")).await;
    assert!(
        matches!(found, ServerFrame::Found { revision: None, .. }),
        "{found:?}"
    );

    let watched = agent
        .call(Call::Watch {
            bucket: Bucket::ScriptStatus,
        })
        .await;
    let of = answered(&watched).unwrap();
    let key = "backup".parse().unwrap();
    let there = ServerFrame::Put { of, key, revision };
    assert_eq!(agent.told().await, (there, Bytes::from_static(b"ACTIVE")));
    assert_eq!(agent.told().await.0, ServerFrame::Current { of });
    put("backup", "REVOKED").await;
    let (changed, value) = agent.told().await;
    assert!(matches!(changed, ServerFrame::Put { .. }), "{changed:?}");
    assert_eq!(value, "REVOKED");
    catalog
        .delete(
            Bucket::ScriptStatus,
            &"backup".parse().unwrap(),
            Precondition::Any,
        )
        .await
        .unwrap();
    let (gone, _) = agent.told().await;
    assert!(matches!(gone, ServerFrame::Deleted { .. }), "{gone:?}");
    agent.call(Call::End { of }).await;
    put("backup", "ACTIVE").await;
    agent.call(get("backup")).await;
    assert!(
        agent.socket.next().now_or_never().is_none(),
        "nothing of the watch"
    );
}

#[tokio::test]
async fn a_request_is_answered_through_its_reply() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 20).await;
    let of = agent.subscribe("ping.pc-1").await;
    let asked = {
        let bus = bus.clone();
        tokio::spawn(async move {
            bus.request(&subject("ping.pc-1"), Bytes::from_static(b"?"), DEADLINE)
                .await
        })
    };
    let (request, payload) = agent.told().await;
    let ServerFrame::Message {
        of: from,
        reply: Some(to),
        ..
    } = request
    else {
        panic!("{request:?}");
    };
    assert_eq!((from, &payload[..]), (of, &b"?"[..]));
    agent.send(Call::Reply { to }, b"!").await;
    assert_eq!(asked.await.unwrap().unwrap(), "!");
}

#[tokio::test]
async fn a_subscription_that_was_ended_says_nothing_more() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 20).await;
    let of = agent.subscribe("commands.all").await;
    bus.publish(&subject("commands.all"), Bytes::new()).await.unwrap();
    assert!(matches!(agent.told().await.0, ServerFrame::Message { .. }));
    agent.call(Call::End { of }).await;
    bus.publish(&subject("commands.all"), Bytes::new()).await.unwrap();
    // Answered like any other: it may just have ended by itself.
    agent.call(Call::End { of }).await;
    assert!(agent.socket.next().now_or_never().is_none());
    for _ in 0..3 * FEEDS {
        let of = agent.subscribe("commands.all").await;
        agent.call(Call::End { of }).await;
    }
}

#[tokio::test]
async fn what_a_newer_agent_calls_is_refused_and_what_fits_no_frame_is_left_out() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 20).await;
    let newer = Message::Binary(Bytes::from_static(
        b"{\"id\":9,\"call\":\"dance\",\"how\":\"fast\"}\n",
    ));
    agent.socket.send(newer).await.unwrap();
    let (told, _) = agent.told().await;
    assert!(is_refused(&told, "does not know this call"), "{told:?}");
    agent.subscribe("commands.>").await;
    let long = subject(&format!("commands.{}", "x".repeat(5000)));
    bus.publish(&long, Bytes::new()).await.unwrap();
    bus.publish(&subject("commands.all"), Bytes::new()).await.unwrap();
    let (told, _) = agent.told().await;
    assert!(
        matches!(&told, ServerFrame::Message { subject, .. } if subject.as_str() == "commands.all"),
        "{told:?}"
    );
}

#[tokio::test]
async fn failures_are_told_and_the_connection_goes_on() {
    let bus = EmbeddedBus::new();
    let mut agent = Server::over(&bus).agent(1 << 20).await;
    let told = agent.call(durable(1)).await;
    let ServerFrame::Failed { kind, detail, .. } = told else {
        panic!("{told:?}");
    };
    assert_eq!(kind, BusErrorKind::Unavailable);
    assert!(detail.contains("results.1"), "{detail}");
    agent.subscribe("commands.all").await;
}

#[tokio::test]
async fn the_end_of_a_subscription_is_told() {
    let bus = EmbeddedBus::new();
    let ending = Ending(bus.clone());
    let mut agent = Server::with(ending, Arc::default()).agent(1 << 20).await;
    let of = agent.subscribe("commands.all").await;
    bus.publish(&subject("commands.all"), Bytes::new()).await.unwrap();
    assert!(matches!(agent.told().await.0, ServerFrame::Message { .. }));
    assert_eq!(agent.told().await.0, ServerFrame::Ended { of });
}

#[tokio::test]
async fn what_an_agent_used_is_left_when_it_goes() {
    let bus = EmbeddedBus::new();
    let server = Server::over(&bus);
    let agents = join_all((0..10).map(|_| server.agent(1 << 20))).await;
    for mut agent in agents {
        agent.subscribe("ping.pc-1").await;
        agent.socket.close(None).await.unwrap();
        let end = timeout(DEADLINE, agent.session).await.unwrap().unwrap();
        assert!(end.contains("has left"), "{end}");
    }
    let asked = bus.request(&subject("ping.pc-1"), Bytes::new(), DEADLINE).await;
    assert_eq!(asked.unwrap_err().kind(), BusErrorKind::NoResponders);
}

/// A bus whose subscriptions end after one message.
struct Ending(EmbeddedBus);

#[async_trait]
impl PubSub for Ending {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.0.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        self.0.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        let messages = self.0.subscribe(pattern).await?;
        Ok(Subscription::new(messages.take(1)))
    }

    async fn reply(&self, to: &Carried, payload: Bytes) -> Result<(), BusError> {
        self.0.reply(to, payload).await
    }

    fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
