//! The permissions of `config/nats-server.conf`, by trying: what each role can do, and what it cannot. Whatever is tried
//! in vain is done with success by the server's role, so that each try could succeed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod old;
mod sayings;
#[path = "../support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, Event, Subscriber,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kanade_conformance::within;
use kanade_model::{PcId, Subject};
use kanade_nats::{Nats, NatsAgent};
use kanade_ports::{
    Bucket, CatalogEvent, Durable, Key, Message, MessageId, Precondition, PubSub, Subscription,
};
use serde_json::json;
use support::{Server, js, roles};
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(60);

/// A broker with the file's permissions, and the server on it.
struct World {
    broker: Server,
    server: Nats,
    /// The server's role without kanade.
    root: Client,
}

impl World {
    async fn new() -> Self {
        Self::on(roles::CONFIGURATION).await
    }

    async fn on(configuration: &str) -> Self {
        let broker = roles::broker(configuration).await;
        let settings = roles::settings(&broker, "kanade-server", roles::SERVER);
        let server = Nats::connect(settings).await.unwrap();
        let root =
            async_nats::ConnectOptions::with_user_and_password("kanade-server".into(), roles::SERVER.into());
        let root = root.connect(broker.url()).await.unwrap();
        Self { broker, server, root }
    }

    /// An agent as kanade has it.
    async fn agent(&self, pc: &str) -> NatsAgent {
        let settings = roles::settings(&self.broker, &format!("agent-{pc}"), roles::OTHERS);
        let agent = NatsAgent::open(settings, pc.parse().unwrap()).await.unwrap();
        roles::connected(&agent).await;
        agent
    }

    /// Somebody with a role's password and a mind of their own.
    async fn intruder(&self, user: &str, password: &str, inbox: &str) -> Intruder {
        let (refusals, heard) = watch::channel(Vec::new());
        let refusals = Arc::new(refusals);
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into())
            .custom_inbox_prefix(inbox)
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    refusals.send_modify(|all| all.push(error.to_string()));
                }
                std::future::ready(())
            });
        Intruder {
            client: options.connect(self.broker.url()).await.unwrap(),
            refusals: heard,
        }
    }

    async fn web_1(&self) -> Intruder {
        self.intruder("agent-web-1", roles::OTHERS, "_INBOX_web-1").await
    }

    /// The server's role, for the control.
    async fn nobody_s_fool(&self) -> Intruder {
        self.intruder("kanade-server", roles::SERVER, "_INBOX").await
    }

    /// Lets web-1 and web-2 be caught up, and keeps a Command for each.
    async fn keep_commands(&self) {
        let retained = self.server.retained();
        for pc in ["web-1", "web-2"] {
            let pc: PcId = pc.parse().unwrap();
            retained.admit(&pc).await.unwrap();
            let id = MessageId(format!("to {pc}"));
            let command = Bytes::from(format!("for {pc}"));
            retained
                .keep(&Subject::commands_pc(&pc), command, id)
                .await
                .unwrap();
        }
    }
}

struct Intruder {
    client: Client,
    refusals: watch::Receiver<Vec<String>>,
}

impl Intruder {
    /// Returns when something to this subject has been refused.
    async fn refused(&self, subject: &str) {
        let mut refusals = self.refusals.clone();
        let subject = format!("\"{subject}\"").to_ascii_lowercase();
        let named = |all: &Vec<String>| {
            all.iter()
                .any(|refusal| refusal.to_ascii_lowercase().contains(&subject))
        };
        refusals.wait_for(named).await.unwrap();
    }

    /// Whether what it says to a subject arrives. One or the other happens.
    async fn can_say(&self, world: &World, subject: &str, payload: &str) -> bool {
        let mut heard = world.root.subscribe(subject.to_owned()).await.unwrap();
        settled(&world.root).await;
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.client.publish(subject.to_owned(), payload).await.unwrap();
        let outcome = async {
            tokio::select! {
                _ = heard.next() => true,
                () = self.refused(subject) => false,
            }
        };
        within(SOON, &format!("an end of saying {subject}"), outcome).await
    }

    /// Whether it hears what is said to a subject when it listens to a pattern.
    async fn can_hear(&self, world: &World, pattern: &str, subject: &str) -> bool {
        let mut heard = self.client.subscribe(pattern.to_owned()).await.unwrap();
        let outcome = async {
            let mut again = tokio::time::interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = heard.next() => break true,
                    () = self.refused(pattern) => break false,
                    // The broker may not have taken in the subscription yet.
                    _ = again.tick() => world.root.publish(subject.to_owned(), Bytes::new()).await.unwrap(),
                }
            }
        };
        within(SOON, &format!("an end of listening to {pattern}"), outcome).await
    }
}

#[tokio::test]
async fn an_agent_hears_what_is_for_it_and_nothing_else() {
    let world = World::new().await;
    let (agent, control) = (world.web_1().await, world.nobody_s_fool().await);
    let hearings = [
        ("commands.all", "commands.all", true),
        ("commands.pc.web-1", "commands.pc.web-1", true),
        ("kill.>", "kill.e-1", true),
        ("logs.fetch.web-1", "logs.fetch.web-1", true),
        ("ping.web-1", "ping.web-1", true),
        ("_INBOX_web-1.>", "_INBOX_web-1.x", true),
        ("$KV.agent_groups.web-1", "$KV.agent_groups.web-1", true),
        ("$KV.script_status.>", "$KV.script_status.backup", true),
        ("commands.pc.web-2", "commands.pc.web-2", false),
        ("commands.pc.*", "commands.pc.web-2", false),
        ("commands.pc.>", "commands.pc.web-2", false),
        ("commands.*", "commands.all", false),
        ("commands.>", "commands.pc.web-2", false),
        ("commands.*.web-2", "commands.pc.web-2", false),
        ("*.pc.web-2", "commands.pc.web-2", false),
        ("commands.group.web", "commands.group.web", false),
        (">", "commands.pc.web-2", false),
        ("results.>", "results.r-1", false),
        ("results.*", "results.r-1", false),
        ("events.>", "events.started.e-1.web-2", false),
        ("output.>", "output.e-1.web-2", false),
        ("heartbeat.web-2", "heartbeat.web-2", false),
        ("heartbeat.>", "heartbeat.web-2", false),
        ("logs.fetch.*", "logs.fetch.web-2", false),
        ("ping.>", "ping.web-2", false),
        ("audit.>", "audit.operator.exec", false),
        ("_INBOX.>", "_INBOX.x", false),
        ("_INBOX_web-2.>", "_INBOX_web-2.x", false),
        ("_REPLY.>", "_REPLY.logs.fetch.web-2.x", false),
        ("$KV.agent_groups.>", "$KV.agent_groups.web-2", false),
        ("$KV.agent_groups.web-2", "$KV.agent_groups.web-2", false),
        ("$KV.jobs.>", "$KV.jobs.backup", false),
        ("$JS.>", "$JS.API.STREAM.NAMES", false),
        ("$JS.ACK.>", "$JS.ACK.EXEC.agent_replay_web-2.1.1.1.0.0", false),
    ];
    for (pattern, subject, allowed) in hearings {
        assert_eq!(
            agent.can_hear(&world, pattern, subject).await,
            allowed,
            "{pattern}"
        );
    }
    for (pattern, subject, _) in hearings {
        assert!(
            control.can_hear(&world, pattern, subject).await,
            "the server's role: {pattern}"
        );
    }
}

#[tokio::test]
async fn an_agent_reads_the_programs_that_it_updates_itself_to() {
    let world = World::new().await;
    let version = "1.0.0".parse().unwrap();
    let agent = world.agent("web-1").await.releases();
    assert!(agent.find(&version).await.unwrap().is_none());
    let program: Vec<u8> = (0..700_000_u32).map(|byte| byte.to_le_bytes()[1]).collect();
    let pieces = stream::iter([Ok(Bytes::from(program.clone()))]).boxed();
    let stored = world.server.releases().put(&version, pieces).await.unwrap();
    let (release, pieces) = agent.get(&version).await.unwrap().unwrap();
    assert_eq!((release.size, &release.digest), (stored.size, &stored.digest));
    let read: Vec<Bytes> = within(SOON, "the program", pieces.try_collect()).await.unwrap();
    assert!(read.concat() == program);
}

#[tokio::test]
async fn an_agent_gets_its_commands_and_what_was_kept_for_it_and_reports() {
    let world = World::new().await;
    let agent = world.agent("web-1").await;
    let (bus, catalog) = (agent.bus(), agent.catalog());
    let own: PcId = "web-1".parse().unwrap();
    let mut backlog = bus.backlog().await.unwrap().unwrap();
    assert!(
        backlog.next(1).await.is_err(),
        "nothing is kept for an agent before the server has heard of it"
    );

    // What is kept for it comes once the server has seen to that, and nothing of another's.
    world.keep_commands().await;
    let batch = within(SOON, "what was kept", backlog.next(9)).await.unwrap();
    assert_eq!(batch.messages().len(), 1);
    assert_eq!(batch.messages()[0].payload, "for web-1");
    drop(batch);
    let batch = within(SOON, "what was not acknowledged", backlog.next(9))
        .await
        .unwrap();
    assert_eq!(batch.messages()[0].payload, "for web-1");
    batch.acknowledge().await.unwrap();
    let info = js(&world.root, "CONSUMER.INFO.EXEC.agent_replay_web-1", json!({})).await;
    assert_eq!(
        (&info["num_ack_pending"], &info["num_pending"]),
        (&json!(0), &json!(0)),
        "it does not come again"
    );

    // It is told.
    let server = world.server.bus();
    for to in [
        Subject::commands_all(),
        Subject::commands_pc(&own),
        "kill.e-1".parse().unwrap(),
    ] {
        let mut heard = bus.subscribe(&to.clone().into()).await.unwrap();
        server.publish(&to, Bytes::new()).await.unwrap();
        assert_eq!(next(&mut heard).await.subject, to);
    }
    let to = Subject::logs_fetch(&own);
    let mut questions = bus.subscribe(&to.clone().into()).await.unwrap();
    let (answer, ()) = futures::join!(server.request(&to, Bytes::new(), SOON), async {
        let question = next(&mut questions).await;
        bus.reply(&question, "log".into()).await.unwrap();
    });
    assert_eq!(answer.unwrap(), "log");

    // It tells.
    let mut consumers = Vec::new();
    for durable in Durable::REPORTS {
        consumers.push(server.consume(*durable).await.unwrap());
    }
    for (consumer, to) in consumers
        .iter_mut()
        .zip(["results.r-1", "events.started.e-1.web-1"])
    {
        let subject: Subject = to.parse().unwrap();
        let sent = bus.publish_durable(&subject, "{}".into(), MessageId(to.into()));
        within(SOON, "a report to be kept", sent).await.unwrap();
        let batch = within(SOON, "a report", consumer.next(1)).await.unwrap();
        assert_eq!(batch.messages()[0].subject.as_str(), to);
        batch.acknowledge().await.unwrap();
    }
    let mut beats = server.subscribe(&"heartbeat.>".parse().unwrap()).await.unwrap();
    bus.publish(&Subject::heartbeat(&own), "{}".into()).await.unwrap();
    assert_eq!(next(&mut beats).await.subject.as_str(), "heartbeat.web-1");

    // It reads what it goes by, and hears of changes.
    let documents = world.server.catalog();
    for (bucket, key) in [
        (Bucket::AgentGroups, Key::from(&own)),
        (Bucket::AgentConfig, Key::pc_config(&own)),
        (Bucket::ScriptStatus, "backup".parse().unwrap()),
        (Bucket::ScriptCurrent, "backup".parse().unwrap()),
    ] {
        let mut watch = catalog.watch(bucket).await.unwrap();
        assert_eq!(watch.next().await, Some(CatalogEvent::Current), "{bucket}");
        documents
            .put(bucket, &key, "one".into(), Precondition::Any)
            .await
            .unwrap();
        let written = documents.get(bucket, &key).await.unwrap().unwrap();
        let told = within(SOON, "a change", watch.next()).await;
        assert_eq!(told, Some(CatalogEvent::Put(written.clone())), "{bucket}");
        assert_eq!(
            catalog.get(bucket, &key).await.unwrap(),
            Some(written),
            "{bucket}"
        );
        documents.delete(bucket, &key, Precondition::Any).await.unwrap();
        let told = within(SOON, "a deletion", watch.next()).await;
        assert_eq!(told, Some(CatalogEvent::Deleted(key)), "{bucket}");
    }
}

#[tokio::test]
async fn documents_of_other_agents_are_not_there() {
    let world = World::new().await;
    let agent = world.agent("web-1").await;
    let other: PcId = "web-2".parse().unwrap();
    let (server, catalog) = (world.server.catalog(), agent.catalog());
    let foreign = [
        (Bucket::AgentGroups, Key::from(&other)),
        (Bucket::AgentConfig, Key::pc_config(&other)),
    ];
    for (bucket, key) in &foreign {
        server
            .put(*bucket, key, "{}".into(), Precondition::Any)
            .await
            .unwrap();
        assert_eq!(
            catalog.get(*bucket, key).await.unwrap(),
            None,
            "{key} in {bucket}"
        );
        let mut watch = catalog.watch(*bucket).await.unwrap();
        assert_eq!(watch.next().await, Some(CatalogEvent::Current), "{bucket}");
    }
    let job: Key = "backup".parse().unwrap();
    server
        .put(Bucket::Jobs, &job, "a secret".into(), Precondition::Any)
        .await
        .unwrap();
    let asked = within(SOON, "the end of a question", catalog.get(Bucket::Jobs, &job)).await;
    assert!(asked.is_err(), "{asked:?}");
}

/// Whoever may ask JetStream for anything says where it shall answer, and the broker does not look whether they may say
/// something there.
#[tokio::test]
async fn what_an_agent_has_jetstream_answer_to_others_is_no_message_for_them() {
    let world = World::new().await;
    world.keep_commands().await;
    let thief = world.web_1().await;
    let victim = world.agent("web-2").await.bus();
    let mut commands = listen(&*victim, "commands.pc.web-2").await;
    let mut kills = listen(&*victim, "kill.>").await;
    let next_message = "$JS.API.CONSUMER.MSG.NEXT.EXEC.agent_replay_web-1";
    for (to, body, answer_to) in [
        // Its own Command, to be run by another.
        (next_message, "{\"batch\":1}", "commands.pc.web-2"),
        // Nothing, which is what a kill says.
        (next_message, "{\"batch\":1,\"no_wait\":true}", "kill.e-1"),
        ("$JS.API.DIRECT.GET.KV_script_status", "{\"seq\":1}", "kill.e-2"),
    ] {
        let mut seen = world.root.subscribe(answer_to).await.unwrap();
        settled(&world.root).await;
        let body = Bytes::from_static(body.as_bytes());
        thief
            .client
            .publish_with_reply(to, answer_to, body)
            .await
            .unwrap();
        within(SOON, "the broker to answer", seen.next()).await.unwrap();
    }
    let server = world.server.bus();
    server
        .publish(&"commands.pc.web-2".parse().unwrap(), "real".into())
        .await
        .unwrap();
    server
        .publish(&"kill.e-3".parse().unwrap(), Bytes::new())
        .await
        .unwrap();
    assert_eq!(next(&mut commands).await.payload, "real");
    assert_eq!(next(&mut kills).await.subject.as_str(), "kill.e-3");
}

/// What the documentation says of the limits of permissions.
#[tokio::test]
async fn an_acknowledgement_is_answered_wherever_its_sender_likes() {
    let world = World::new().await;
    world.keep_commands().await;
    let thief = world.web_1().await;
    let inbox = thief.client.new_inbox();
    let mut mail = thief.client.subscribe(inbox.clone()).await.unwrap();
    let asked = thief.client.publish_with_reply(
        "$JS.API.CONSUMER.MSG.NEXT.EXEC.agent_replay_web-1",
        inbox,
        "{\"batch\":1}".into(),
    );
    asked.await.unwrap();
    let command = within(SOON, "its own Command", mail.next()).await.unwrap();
    let mut kills = listen(&*world.agent("web-2").await.bus(), "kill.>").await;
    let ack = command.reply.unwrap();
    thief
        .client
        .publish_with_reply(ack, "kill.e-1", "+ACK".into())
        .await
        .unwrap();
    let heard = next(&mut kills).await;
    assert_eq!((heard.subject.as_str(), heard.payload.len()), ("kill.e-1", 0));
}

#[tokio::test]
async fn who_has_no_password_gets_nowhere() {
    let world = World::new().await;
    let no = async_nats::connect(world.broker.url()).await;
    assert!(no.is_err());
    let agent =
        async_nats::ConnectOptions::with_user_and_password("agent-web-1".into(), roles::SERVER.into());
    assert!(
        agent.connect(world.broker.url()).await.is_err(),
        "another's password"
    );
}

/// Returns when the broker has taken in what this client has sent so far.
async fn settled(client: &Client) {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    within(SOON, "an echo", echo.next()).await.unwrap();
}

async fn listen(bus: &dyn PubSub, to: &str) -> Subscription {
    bus.subscribe(&to.parse().unwrap()).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Message {
    within(SOON, "a message", subscription.next()).await.unwrap()
}
