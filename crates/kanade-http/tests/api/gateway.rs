//! Agents on other machines.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kanade_http::{AcceptLimits, GatewaySettings, HttpSettings};
use kanade_model::{Command, Subject};
use kanade_ports::{
    Bucket, BusErrorKind,
    frame::{Call, ServerFrame, close},
};
use serde_json::json;

use crate::{
    remote::{Knock, OTHER_KEY},
    server::{NEVER, Server},
    world::{World, encode},
};

async fn with(gateway: GatewaySettings) -> World {
    World::with(HttpSettings {
        gateway,
        ..HttpSettings::default()
    })
    .await
}

async fn serve(world: &World) -> Server {
    Server::start(world, AcceptLimits::default()).await
}

fn report(world: &World, command: &Command, pc: &str) -> (Call, Vec<u8>) {
    let call = Call::PublishDurable {
        subject: Subject::result(command.request_id),
        message: format!("{}-{pc}", command.request_id),
    };
    (call, encode(&world.result(command, pc, 0, "hello")).to_vec())
}

#[tokio::test]
async fn an_agent_hears_a_command_and_its_result_is_recorded_before_it_is_answered() {
    let mut world = World::new().await;
    world.job("backup").await;
    let server = serve(&world).await;
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    let commands = agent.subscribe("commands.pc.pc-1").await;
    let exec = world.fire("backup", &["pc-1"]).await;
    let (told, payload) = agent.told().await;
    let ServerFrame::Message { of, subject, .. } = told else {
        panic!("{told:?}")
    };
    assert_eq!((of, subject.as_str()), (commands, "commands.pc.pc-1"));
    let command: Command = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        command.exec_id.as_ref().map(ToString::to_string).as_ref(),
        Some(&exec)
    );

    world
        .durable(&"results.warm-up".parse().unwrap(), "{}".into())
        .await;
    world.store.hold_commits();
    let (call, payload) = report(&world, &command, "pc-1");
    let id = agent.send(call, &payload).await;
    // What is asked for meanwhile is answered meanwhile.
    for _ in 0..50 {
        assert!(agent.is_served().await);
    }
    world.store.release_commits();
    assert_eq!(agent.told().await.0, ServerFrame::Done { id });
    let execution = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    assert_eq!(execution["execution"]["status"], "completed");
    let unused = world.command().await;
    assert_eq!(unused.request_id, command.request_id);
}

#[tokio::test]
async fn a_heartbeat_and_the_documents_of_an_agent_come_through() {
    let world = World::new().await;
    let server = serve(&world).await;
    world
        .document(
            Bucket::AgentConfig,
            "global",
            &json!({ "heartbeat_interval": "5s" }),
        )
        .await;
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    let id = agent
        .send(
            Call::Get {
                bucket: Bucket::AgentConfig,
                key: "global".parse().unwrap(),
            },
            b"",
        )
        .await;
    let (found, text) = agent.told().await;
    assert!(
        matches!(found, ServerFrame::Found { id: of, revision: Some(_) } if of == id),
        "{found:?}"
    );
    assert_eq!(text, "{\"heartbeat_interval\":\"5s\"}");
    let heartbeat = json!({ "pc_id": "pc-1", "at": "2026-05-01T08:00:00Z", "agent_version": "1.2.3" });
    let subject = "heartbeat.pc-1".parse().unwrap();
    let told = agent.call(Call::Publish { subject }, &encode(&heartbeat)).await;
    assert!(matches!(told, ServerFrame::Done { .. }), "{told:?}");
    world
        .until("the agent is known", async || {
            world.get("/api/agents/pc-1").send().await.status == 200
        })
        .await;
}

#[tokio::test]
async fn what_is_not_an_agents_business_is_refused_and_the_connection_goes_on() {
    let world = World::new().await;
    let server = serve(&world).await;
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    for call in [
        Call::Publish {
            subject: "commands.all".parse().unwrap(),
        },
        Call::PublishDurable {
            subject: "results.x".parse().unwrap(),
            message: "m".into(),
        },
        Call::Subscribe {
            pattern: "commands.>".parse().unwrap(),
        },
        Call::Reply {
            to: "kill.e-1".parse().unwrap(),
        },
    ] {
        let told = agent.call(call.clone(), b"{}").await;
        let refused = matches!(
            told,
            ServerFrame::Failed {
                kind: BusErrorKind::Refused,
                ..
            }
        );
        assert!(refused, "{call:?}: {told:?}");
    }
    assert!(agent.is_served().await);
}

#[tokio::test]
async fn an_agent_that_comes_back_replaces_itself_and_nobody_else() {
    let world = World::new().await;
    let server = serve(&world).await;
    let mut first = Knock::new("pc-1").at(&server).await.unwrap();
    assert!(first.is_served().await);
    let mut second = Knock::new("pc-1").at(&server).await.unwrap();
    assert_eq!(first.next().await.unwrap_err(), close::REPLACED);
    assert!(second.is_served().await);

    let stranger = Knock::new("pc-1").with("kanade-agent-key", OTHER_KEY);
    let refusal = stranger.at(&server).await.unwrap_err();
    assert_eq!(refusal.status, 409);
    for remedy in ["stop that one", "id of its own", "timed out"] {
        assert!(refusal.detail.contains(remedy), "{}", refusal.detail);
    }
    assert!(second.is_served().await);
    let mut elsewhere = Knock::new("pc-2")
        .with("kanade-agent-key", OTHER_KEY)
        .at(&server)
        .await
        .unwrap();
    assert!(elsewhere.is_served().await);

    second.leave().await;
    let mut stranger = stranger.at(&server).await.unwrap();
    assert!(stranger.is_served().await);
}

#[tokio::test]
async fn there_are_only_so_many_agents_and_they_are_no_connections() {
    let world = with(GatewaySettings {
        max_agents: 2,
        ..GatewaySettings::default()
    })
    .await;
    let limits = AcceptLimits {
        max_connections: 1,
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut first = Knock::new("pc-1").at(&server).await.unwrap();
    let mut second = Knock::new("pc-2").at(&server).await.unwrap();
    let refusal = Knock::new("pc-3").at(&server).await.unwrap_err();
    assert_eq!(refusal.status, 503);
    assert!(refusal.head.contains("retry-after: 5"), "{}", refusal.head);
    assert!(first.is_served().await && second.is_served().await);
    let mut again = Knock::new("pc-2").at(&server).await.unwrap();
    assert!(again.is_served().await);
    first.leave().await;
    assert!(Knock::new("pc-3").at(&server).await.is_ok());
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_is_closed() {
    let settings = GatewaySettings {
        ping_every: NEVER,
        idle_timeout: Duration::from_millis(100),
        ..GatewaySettings::default()
    };
    let world = with(settings).await;
    let server = serve(&world).await;
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    assert_eq!(agent.next().await.unwrap_err(), close::POLICY);
    // Another may come at once, though this one has not hung up.
    let stranger = Knock::new("pc-1").with("kanade-agent-key", OTHER_KEY);
    assert!(stranger.at(&server).await.is_ok());
}

#[tokio::test]
async fn one_that_answers_pings_stays() {
    let settings = GatewaySettings {
        ping_every: Duration::from_millis(5),
        idle_timeout: Duration::from_secs(5),
        ..GatewaySettings::default()
    };
    let world = with(settings).await;
    let server = serve(&world).await;
    let mut agent = Knock::new("pc-1").at(&server).await.unwrap();
    for _ in 0..20 {
        assert!(agent.socket.next().await.unwrap().unwrap().is_ping());
    }
    assert!(agent.is_served().await);
}

#[tokio::test]
async fn at_a_stop_agents_are_told_and_waited_for() {
    let world = World::new().await;
    let limits = AcceptLimits {
        drain: NEVER,
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let mut agents = Vec::new();
    for number in 0..20 {
        let knock = Knock::new(&format!("pc-{number}"));
        agents.push(knock.at(&server).await.unwrap());
    }
    // One that is in the middle of something, and one that hears nothing any more.
    world.store.hold_commits();
    let call = Call::PublishDurable {
        subject: "results.018f0000-0000-7000-8000-000000000001".parse().unwrap(),
        message: "m".into(),
    };
    agents[0].send(call, b"{}").await;
    let _deaf = agents.pop();
    let serving = server.stop();
    for agent in &mut agents {
        let goodbye = loop {
            if let Err(goodbye) = agent.next().await {
                break goodbye;
            }
        };
        assert_eq!(goodbye, close::GOING_AWAY);
    }
    drop(agents);
    Server::stopped(serving).await;
}

#[tokio::test]
async fn a_stop_waits_for_agents_that_are_still_being_told() {
    let world = World::new().await;
    let limits = AcceptLimits {
        drain: NEVER,
        ..AcceptLimits::default()
    };
    let server = Server::start(&world, limits).await;
    let deaf = Knock::new("pc-1").at(&server).await.unwrap();
    let mut serving = server.stop();
    // It has not closed its side, so the goodbye may not have arrived yet.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!((&mut serving).now_or_never().is_none());
    drop(deaf);
    Server::stopped(serving).await;
}
