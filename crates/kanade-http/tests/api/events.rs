//! Live events, through the router. Over a socket: see `sockets`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use futures::StreamExt;
use http_body_util::BodyDataStream;
use kanade_http::{Auth, HttpSettings};
use kanade_ports::Bucket;
use serde_json::{Value, json};

use crate::world::{DEADLINE, World, has_fields};

/// A reader of events.
pub(crate) struct Events {
    body: BodyDataStream<axum::body::Body>,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Events {
    async fn open(world: &World, query: &str) -> Self {
        let response = world.get(&format!("/api/events{query}")).response().await;
        Self::of(response)
    }

    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: BodyDataStream::new(response.into_body()),
            text: String::new(),
        }
    }

    /// The next event or comment as it came, but for the one that every stream begins with; none at the end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block == ": following" {
                    continue;
                }
                return Some(block);
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event, while time passes.
    pub(crate) async fn next(&mut self, world: &World) -> Event {
        let passing = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                world.clock.advance(Duration::from_millis(100));
            }
        };
        let block = tokio::select! {
            block = tokio::time::timeout(DEADLINE, self.block()) => block.expect("an event comes").expect("not the end"),
            () = passing => unreachable!("time does not end"),
        };
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            block
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .unwrap_or_default()
                .to_owned()
        };
        Event {
            id: field("id"),
            name: field("event"),
            data: serde_json::from_str(&field("data")).unwrap(),
        }
    }

    pub(crate) async fn ends(&mut self) {
        let end = tokio::time::timeout(DEADLINE, self.block())
            .await
            .expect("the stream ends");
        assert_eq!(end, None);
    }
}

#[tokio::test]
async fn what_happens_is_told_by_name_with_ids_in_order() {
    let mut world = World::new().await;
    world.job("backup").await;
    let mut events = Events::open(&world, "").await;
    world.job("backup").await;
    let written = events.next(&world).await;
    assert_eq!((written.name.as_str(), written.id.as_str()), ("catalog", "1"));
    assert_eq!(
        written.data,
        json!({ "type": "catalog", "bucket": "jobs", "key": "backup", "deleted": false })
    );

    let exec = world.fire("backup", &["pc-1"]).await;
    let command = world.command().await;
    world.started(&command, "pc-1").await;
    let (mut run, mut execution) = (None, None);
    let mut last = 1;
    while run.is_none() || execution.is_none() {
        let event = events.next(&world).await;
        let id: usize = event.id.parse().unwrap();
        assert_eq!(id, last + 1);
        last = id;
        match event.name.as_str() {
            "run" => run = Some(event.data),
            "execution" if event.data["status"] == "running" => execution = Some(event.data),
            _ => {}
        }
    }
    let run = run.unwrap();
    has_fields(
        &run,
        &["type", "result_id", "exec_id", "pc_id", "exit_code", "state"],
    );
    assert_eq!(
        (&run["exec_id"], &run["state"]),
        (&json!(exec), &json!("running"))
    );
    let execution = execution.unwrap();
    assert_eq!(
        (&execution["type"], &execution["exec_id"]),
        (&json!("execution"), &json!(exec))
    );
    let shown = world
        .get(&format!("/api/executions/{exec}"))
        .send()
        .await
        .expect(200);
    let mut told = execution;
    told.as_object_mut().unwrap().remove("type");
    assert_eq!(
        told, shown["execution"],
        "an event holds what a question would answer"
    );
}

#[tokio::test]
async fn signs_of_life_are_told() {
    let world = World::new().await;
    world.agent("pc-1").await;
    let mut events = Events::open(&world, "?types=agent").await;
    world.clock.advance(Duration::from_secs(30));
    world.say_hello("pc-1").await;
    let event = events.next(&world).await;
    has_fields(&event.data, &["type", "pc_id", "last_heartbeat"]);
    assert_eq!(
        (event.name.as_str(), &event.data["pc_id"]),
        ("agent", &json!("pc-1"))
    );
}

#[tokio::test]
async fn a_reader_chooses_types_and_an_execution() {
    let mut world = World::new().await;
    world.job("backup").await;
    let other = world.fire("backup", &["pc-1"]).await;
    let other_command = world.command().await;
    let exec = world.fire("backup", &["pc-2"]).await;
    let command = world.command().await;
    let mut runs = Events::open(&world, &format!("?types=run&exec_id={exec}")).await;
    let mut documents = Events::open(&world, "?types=catalog").await;
    world.finished(&other_command, "pc-1", 0, "").await;
    world.finished(&command, "pc-2", 3, "").await;
    world.job("update").await;
    let run = runs.next(&world).await.data;
    assert_eq!(
        (&run["exec_id"], &run["exit_code"], &run["state"]),
        (&json!(exec), &json!(3), &json!("failed"))
    );
    assert_ne!(run["exec_id"], json!(other));
    assert_eq!(documents.next(&world).await.data["key"], "update");
    for (query, field) in [
        ("types=runs", "types"),
        ("types=run,", "types"),
        ("exec_id=a%20b", "exec_id"),
    ] {
        let answer = world.get(&format!("/api/events?{query}")).send().await;
        answer.problem(400);
        assert_eq!(answer.field(), field);
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_or_comes_back_is_told_that_it_missed_something() {
    let world = World::new().await;
    let mut slow = Events::open(&world, "?types=catalog").await;
    for _ in 0..5000 {
        let key = "backup".parse().unwrap();
        world.services.live.document_changed(Bucket::Jobs, &key, false);
    }
    let first = slow.next(&world).await;
    assert_eq!(
        (first.name.as_str(), &first.data),
        ("lagged", &json!({ "type": "lagged", "missed": 904 }))
    );
    assert_eq!(slow.next(&world).await.name, "catalog", "and then it goes on");

    let response = world
        .get("/api/events")
        .header("last-event-id", "17")
        .response()
        .await;
    let first = Events::of(response).next(&world).await;
    assert_eq!(
        (first.name.as_str(), &first.data["missed"]),
        ("lagged", &json!(0))
    );
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_by_comments() {
    let world = World::new().await;
    let mut events = Events::open(&world, "").await;
    for _ in 0..3 {
        assert_eq!(events.block().await.as_deref(), Some(":"));
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_token_it_was_opened_with() {
    let secret = "0123456789abcdef0123456789abcdef";
    let auth = Auth::Jwt {
        secret: secret.into(),
    };
    let world = World::with(HttpSettings {
        auth,
        ..HttpSettings::default()
    })
    .await;
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let claims = json!({ "sub": "ann", "aud": "kanade", "exp": end });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let call = world
        .get("/api/events")
        .header("authorization", &format!("Bearer {token}"));
    let mut events = Events::of(call.response().await);
    let end = kanade_model::Timestamp::UNIX_EPOCH.plus(Duration::from_secs(end));
    world.clock.set(end.minus(Duration::from_secs(1)));
    assert!(futures::poll!(std::pin::pin!(events.block())).is_pending());
    world.clock.set(end);
    events.ends().await;
}

#[tokio::test]
async fn there_are_only_so_many_streams_at_once() {
    let world = World::with(HttpSettings {
        max_streams: 1,
        ..HttpSettings::default()
    })
    .await;
    let first = Events::open(&world, "").await;
    world.get("/api/events").send().await.problem(503);
    world.get("/api/jobs").send().await.expect(200);
    drop(first);
    drop(Events::open(&world, "").await);
}
