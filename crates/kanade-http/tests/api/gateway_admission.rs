//! Which agents are let in.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use kanade_core::Abilities;
use kanade_http::{AcceptLimits, AgentToken, Auth, GatewaySettings, HttpSettings, NamedToken, TokenHash};
use kanade_memory::MemoryReleases;
use kanade_ports::{Releases, SystemClock};

use crate::{
    log::Log,
    remote::{KEY, Knock, OTHER_KEY},
    server::Server,
    world::World,
};

async fn with_tokens() -> World {
    World::with(tokens()).await
}

fn tokens() -> HttpSettings {
    let token = |name: &str, token: &str, pc_ids| AgentToken::new(name, TokenHash::of(token), pc_ids);
    HttpSettings {
        auth: Auth::Tokens(vec![NamedToken {
            name: "ci".into(),
            token: "t0ken-of-ci".into(),
        }]),
        gateway: GatewaySettings {
            tokens: vec![
                token("web", "t0ken-of-web", Some("web-*")),
                token("fleet", "t0ken-of-fleet", None),
            ],
            ..GatewaySettings::default()
        },
        ..HttpSettings::default()
    }
}

async fn serve(world: &World) -> Server {
    Server::start(world, AcceptLimits::default()).await
}

#[tokio::test]
async fn a_token_lets_in_the_agents_it_is_for() {
    let world = with_tokens().await;
    let server = serve(&world).await;
    // From afar and under any name, and whatever proxy lies between.
    let from_afar = |pc: &str| {
        Knock::new(pc)
            .with("host", "kanade.example")
            .with("x-forwarded-for", "203.0.113.9")
    };
    for (pc, token) in [
        ("web-1", "t0ken-of-web"),
        ("db-1", "t0ken-of-fleet"),
        ("web-2", "t0ken-of-fleet"),
    ] {
        let mut agent = from_afar(pc).token(token).at(&server).await.unwrap();
        assert!(agent.is_served().await);
    }
    for (knock, status, told) in [
        (from_afar("web-1"), 401, "a token is wanted"),
        (
            from_afar("web-1").token("t0ken-of-eve"),
            401,
            "not one of an agent",
        ),
        (
            from_afar("web-1").token("t0ken-of-ci"),
            401,
            "not one of an agent",
        ),
        (
            from_afar("web-1").token(&TokenHash::of("t0ken-of-web").to_string()),
            401,
            "not one of an agent",
        ),
        (
            from_afar("db-1").token("t0ken-of-web"),
            403,
            "not for agent `db-1`",
        ),
        (
            from_afar("web-1")
                .token("t0ken-of-web")
                .with("origin", "http://kanade.example"),
            403,
            "web page",
        ),
    ] {
        let refusal = knock.at(&server).await.unwrap_err();
        assert_eq!(refusal.status, status, "{told}");
        assert!(refusal.detail.contains(told), "{}", refusal.detail);
        assert_eq!(refusal.head.contains("www-authenticate: bearer"), status == 401);
    }
    // Nor does an agent's token open anything else.
    for token in ["t0ken-of-fleet", "t0ken-of-web"] {
        let call = world
            .get("/api/jobs")
            .header("authorization", &format!("Bearer {token}"));
        call.send().await.problem(401);
    }
}

#[tokio::test]
async fn where_operators_need_no_token_agents_from_afar_may_still_have_one() {
    let tokens = vec![AgentToken::new("fleet", TokenHash::of("t0ken"), None)];
    let gateway = GatewaySettings {
        tokens,
        ..GatewaySettings::default()
    };
    let world = World::with(HttpSettings {
        gateway,
        ..HttpSettings::default()
    })
    .await;
    let server = serve(&world).await;
    let from_afar = Knock::new("pc-1").with("host", "kanade.example").token("t0ken");
    assert!(from_afar.at(&server).await.is_ok());
    // Everything else stays where it was.
    for (path, status) in [("/api/jobs", 403), ("/api/agent/nothing", 403)] {
        let call = world.get(path).header("host", "kanade.example");
        assert_eq!(call.send().await.status, status, "{path}");
    }
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let world = World::new().await;
    let knock = || Knock::new("pc-1");
    let named = |query: &str| (format!("/api/agent/ws{query}"), knock());
    let here = |knock: Knock| (knock.path().to_owned(), knock);
    for ((path, knock), status, told) in [
        (here(knock().with("origin", "http://localhost")), 403, "web page"),
        (
            here(knock().with("host", "kanade.example")),
            403,
            "auth.agent_tokens",
        ),
        (
            here(knock().with("x-forwarded-for", "10.0.0.1")),
            403,
            "auth.agent_tokens",
        ),
        (
            here(knock().with("forwarded", "for=10.0.0.1")),
            403,
            "auth.agent_tokens",
        ),
        (
            here(knock().with("x-real-ip", "10.0.0.1")),
            403,
            "auth.agent_tokens",
        ),
        (named(""), 400, "pc_id"),
        (named("?pc_id="), 400, "pc_id"),
        (named("?pc_id=a%20b"), 400, "pc_id"),
        (named("?pc_id=a/b"), 400, "pc_id"),
        (named("?pc_id=.."), 400, "pc_id"),
        (named("?pc_id=a&pc_id=b"), 400, "pc_id"),
        (here(knock().without("kanade-agent-key")), 400, "kanade-agent-key"),
        (
            here(knock().with("kanade-agent-key", "fifteen-letters")),
            400,
            "kanade-agent-key",
        ),
        (
            here(knock().with("kanade-agent-key", &"x".repeat(257))),
            400,
            "kanade-agent-key",
        ),
        (
            here(knock().with("kanade-agent-key", "sixteen letters!")),
            400,
            "kanade-agent-key",
        ),
        (
            here(knock().without("sec-websocket-protocol")),
            400,
            "kanade.agent.v1",
        ),
        (
            here(knock().with("sec-websocket-protocol", "kanade.agent.v9")),
            400,
            "kanade.agent.v1",
        ),
        (
            here(knock().without("sec-websocket-key")),
            400,
            "Sec-WebSocket-Key",
        ),
        (here(knock().without("upgrade")), 426, "WebSocket"),
        (here(knock().with("connection", "keep-alive")), 426, "WebSocket"),
        (
            here(knock().with("sec-websocket-version", "8")),
            426,
            "version 13",
        ),
        // All is well, but there is no socket.
        (
            here(knock().with("sec-websocket-protocol", "other, kanade.agent.v1")),
            426,
            "cannot become",
        ),
    ] {
        let mut call = world.get(&path);
        for (name, value) in knock.headers() {
            call = call.header(name, value);
        }
        let detail = call.send().await.problem(status);
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let other = world.call(Method::POST, "/api/agent/ws?pc_id=pc-1").send().await;
    assert!(other.problem(405).contains("cannot be asked"));
}

#[tokio::test]
async fn the_log_says_who_came_and_why_he_left_and_no_secret() {
    let (log, _guard) = Log::capture();
    let world = with_tokens().await;
    let server = serve(&world).await;
    let knock = |token: &str| Knock::new("web-1").token(token);
    let agent = knock("t0ken-of-web").at(&server).await.unwrap();
    knock("t0ken-of-eve").at(&server).await.unwrap_err();
    for _ in 0..5 {
        knock("t0ken-of-web")
            .with("kanade-agent-key", OTHER_KEY)
            .at(&server)
            .await
            .unwrap_err();
    }
    let again = knock("t0ken-of-web").at(&server).await.unwrap();
    drop(agent);
    again.leave().await;
    world
        .until("it has left", async || log.text().contains("the agent has left"))
        .await;
    let text = log.text();
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("agent connected pc_id=web-1"), 1, "{text}");
    assert_eq!(
        lines("agent connected once more; its earlier connection is closed"),
        1,
        "{text}"
    );
    assert_eq!(lines("agent disconnected"), 2, "{text}");
    assert_eq!(lines("an agent was not let in"), 1, "{text}");
    assert!(text.contains("token=\"web\""), "{text}");
    for secret in ["t0ken", KEY, OTHER_KEY, "sha256:"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_token_of_agents_opens_their_downloads_and_no_others() {
    let releases = Arc::new(MemoryReleases::new(Arc::new(SystemClock)));
    let program = futures::stream::iter([Ok(Bytes::from_static(b"abc"))]);
    let version = "0.31.0".parse().unwrap();
    releases.put(&version, Box::pin(program)).await.unwrap();
    let abilities = Abilities {
        releases: Some(releases),
        ..Abilities::default()
    };
    let world = World::able(tokens(), abilities).await;
    let path = |pc: &str| format!("/api/agent/releases/0.31.0?pc_id={pc}");
    let as_agent = |method: Method, pc: &str, token: &str| {
        let call = world.call(method, &path(pc)).header("host", "kanade.example");
        call.header("authorization", &format!("Bearer {token}"))
    };
    let answer = as_agent(Method::GET, "web-1", "t0ken-of-web").send().await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "abc"));
    let answer = as_agent(Method::HEAD, "web-1", "t0ken-of-web").send().await;
    assert_eq!(answer.text(), "");
    assert_eq!(answer.header("content-length"), Some("3"));
    let digest = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    assert_eq!(answer.header("repr-digest"), Some(digest));
    for (pc, token, status) in [
        ("web-1", "t0ken-of-eve", 401),
        ("web-1", "t0ken-of-ci", 401),
        ("db-1", "t0ken-of-web", 403),
        ("", "t0ken-of-fleet", 400),
    ] {
        as_agent(Method::GET, pc, token).send().await.problem(status);
    }
    world.get(&path("web-1")).send().await.problem(401);
    let page = as_agent(Method::GET, "web-1", "t0ken-of-web").header("origin", "https://page.example");
    page.send().await.problem(403);
    let other = world
        .get("/api/agent/releases/1?pc_id=web-1")
        .header("authorization", "Bearer t0ken-of-web");
    other.send().await.problem(404);
    // Nor does it open those of operators.
    let call = world
        .get("/api/agents/releases/0.31.0")
        .header("authorization", "Bearer t0ken-of-web");
    call.send().await.problem(401);
}
