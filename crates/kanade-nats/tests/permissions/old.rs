//! Agents and command lines of 0.30.

use super::*;

#[tokio::test]
async fn the_command_line_of_0_30_can_do_its_work_and_no_more() {
    let world = World::new().await;
    let operator = world.intruder("operator", roles::OTHERS, "_INBOX").await;
    for (subject, allowed) in [
        ("kill.e-1", true),
        ("commands.pc.web-1", true),
        ("$KV.script_status.backup", true),
        ("$KV.agent_groups.web-1", true),
        ("$KV.agent_config.groups.web", true),
        ("commands.all", false),
        ("results.r-1", false),
        ("events.started.e-1.web-1", false),
        ("heartbeat.web-1", false),
        ("$KV.jobs.backup", false),
        ("$KV.schedules.nightly", false),
        ("$KV.script_current.backup", false),
        ("$JS.API.STREAM.DELETE.KV_script_status", false),
        ("$JS.API.STREAM.PURGE.EXEC", false),
        ("$JS.API.CONSUMER.CREATE.EXEC.thief", false),
    ] {
        assert_eq!(operator.can_say(&world, subject, "").await, allowed, "{subject}");
    }
    assert!(
        operator.can_hear(&world, "results.*", "results.r-1").await,
        "it waits for what it has run"
    );
    assert!(!operator.can_hear(&world, "commands.>", "commands.pc.web-1").await);
    read_bucket(&operator.client, "script_status", "backup").await;
}

#[tokio::test]
async fn agents_of_0_30_can_do_their_work_with_the_rights_that_are_told_apart() {
    let uncommented: String = roles::CONFIGURATION
        .lines()
        .map(|line| line.replacen("#: ", "", 1) + "\n")
        .collect();
    assert_ne!(uncommented, roles::CONFIGURATION);
    let world = World::on(&uncommented).await;
    let old = world.intruder("agents-0.30", roles::OTHERS, "_INBOX").await;
    let jetstream = jetstream::new(old.client.clone());
    let stream = jetstream.get_stream("EXEC").await.unwrap();
    let config = pull::Config {
        durable_name: Some("agent_replay_old-1".into()),
        filter_subject: "commands.>".into(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = stream
        .get_or_create_consumer("agent_replay_old-1", config)
        .await
        .unwrap();
    let mut replay = consumer.messages().await.unwrap();
    let mut live = old.client.subscribe("commands.pc.old-1").await.unwrap();
    let pc: PcId = "old-1".parse().unwrap();
    world.server.retained().admit(&pc).await.unwrap();
    let retained = world.server.retained();
    retained
        .keep(&Subject::commands_pc(&pc), "one".into(), MessageId("1".into()))
        .await
        .unwrap();
    assert_eq!(
        within(SOON, "a Command", live.next()).await.unwrap().payload,
        "one"
    );
    let replayed = within(SOON, "its copy", replay.next()).await.unwrap().unwrap();
    assert_eq!(replayed.payload, "one");
    replayed.double_ack().await.unwrap();
    for subject in ["results.r-1", "events.started.e-1.old-1"] {
        jetstream
            .publish(subject, "{}".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    assert!(old.can_say(&world, "heartbeat.old-1", "{}").await);
    let key: Key = "backup".parse().unwrap();
    let catalog = world.server.catalog();
    catalog
        .put(Bucket::ScriptStatus, &key, "ACTIVE".into(), Precondition::Any)
        .await
        .unwrap();
    read_bucket(&old.client, "script_status", "backup").await;
    let to = Subject::logs_fetch(&pc);
    let mut questions = old.client.subscribe(to.as_str().to_owned()).await.unwrap();
    settled(&old.client).await;
    let (answer, ()) = futures::join!(
        async { world.server.bus().request(&to, Bytes::new(), SOON).await },
        async {
            let question = questions.next().await.unwrap();
            old.client
                .publish(question.reply.unwrap(), "log".into())
                .await
                .unwrap();
        }
    );
    assert_eq!(answer.unwrap(), "log");
    for (subject, payload) in [
        ("commands.pc.old-1", ""),
        ("kill.e-1", ""),
        ("$KV.script_status.backup", "REVOKED"),
    ] {
        assert!(!old.can_say(&world, subject, payload).await, "{subject}");
    }
}

/// What KV clients do to read a bucket: look at it, ask for a document, and watch it by a consumer of their own.
async fn read_bucket(client: &Client, bucket: &str, key: &str) {
    let stream = format!("KV_{bucket}");
    let info = within(
        SOON,
        "a bucket",
        js(client, &format!("STREAM.INFO.{stream}"), json!({})),
    )
    .await;
    assert_eq!(info["config"]["name"], json!(stream));
    let got = client.request(
        format!("$JS.API.DIRECT.GET.{stream}.$KV.{bucket}.{key}"),
        Bytes::new(),
    );
    let got = within(SOON, "a document", got).await.unwrap();
    assert_eq!(got.status, None, "{got:?}");
    let inbox = client.new_inbox();
    let mut watch: Subscriber = client.subscribe(inbox.clone()).await.unwrap();
    let consumer = json!({"stream_name": stream, "config": {
        "name": "watch", "deliver_subject": inbox, "deliver_policy": "last_per_subject", "ack_policy": "none",
        "filter_subject": format!("$KV.{bucket}.>"), "mem_storage": true, "num_replicas": 1,
    }});
    let path = format!("CONSUMER.CREATE.{stream}.watch.$KV.{bucket}.>");
    let made = within(SOON, "a consumer", js(client, &path, consumer)).await;
    assert_eq!(made.get("error"), None, "{made}");
    let told = within(SOON, "a document", watch.next()).await.unwrap();
    assert_eq!(told.subject.as_str(), format!("$KV.{bucket}.{key}"));
    let gone = within(
        SOON,
        "its end",
        js(client, &format!("CONSUMER.DELETE.{stream}.watch"), json!({})),
    )
    .await;
    assert_eq!(gone["success"], json!(true));
}
