//! The output of a run, as it is followed.

use std::time::Duration;

use kanade_http::{Auth, HttpSettings};
use kanade_model::{
    Command, OutputChunk,
    OutputStream::{self, Stderr, Stdout},
    ResultId, Subject,
};
use kanade_ports::PubSub;
use serde_json::{Value, json};

use crate::{
    events::Events,
    world::{World, encode, has_fields, id},
};

const PC: &str = "pc-1";

/// A run that goes on, and what its agent says of it.
struct Run {
    command: Command,
    id: ResultId,
    seq: u64,
    ends: [u64; 2],
}

impl Run {
    async fn begin(world: &mut World) -> Self {
        world.job("backup").await;
        world.fire("backup", &[PC]).await;
        let command = world.command().await;
        let id = world.started(&command, PC).await;
        Self {
            command,
            id,
            seq: 0,
            ends: [0, 0],
        }
    }

    fn chunk(&mut self, stream: OutputStream, text: &str) -> OutputChunk {
        let end = &mut self.ends[usize::from(stream == Stderr)];
        let chunk = OutputChunk {
            result_id: self.id,
            request_id: self.command.request_id,
            exec_id: self.command.exec_id.clone().unwrap(),
            pc_id: id(PC),
            seq: self.seq,
            stream,
            offset: *end,
            text: text.to_owned(),
            last: false,
        };
        self.seq += 1;
        *end = chunk.end();
        chunk
    }

    async fn print(&mut self, world: &World, stream: OutputStream, text: &str) {
        say(world, &self.chunk(stream, text)).await;
    }

    /// Something is left out.
    fn lose(&mut self, stream: OutputStream, bytes: u64) {
        self.ends[usize::from(stream == Stderr)] += bytes;
    }

    async fn last(&mut self, world: &World, text: &str) {
        let chunk = self.chunk(Stdout, text);
        say(world, &OutputChunk { last: true, ..chunk }).await;
    }

    fn path(&self) -> String {
        format!("/api/results/{}/output", self.id)
    }

    async fn follow(&self, world: &World) -> Events {
        Events::of(world.get(&self.path()).response().await)
    }

    async fn follow_after(&self, world: &World, event: &str) -> Events {
        let call = world.get(&self.path()).header("last-event-id", event);
        Events::of(call.response().await)
    }
}

async fn say(world: &World, chunk: &OutputChunk) {
    let subject = Subject::output(&chunk.exec_id, &chunk.pc_id);
    world.bus.publish(&subject, encode(chunk)).await.unwrap();
}

/// The next event: a piece as stream, text and what is missing before it.
async fn piece(events: &mut Events, world: &World) -> (String, String, u64) {
    let event = events.next(world).await;
    assert_eq!(event.name, "output", "{event:?}");
    has_fields(&event.data, &["type", "seq", "stream", "text", "dropped"]);
    let text = |field: &str| event.data[field].as_str().unwrap().to_owned();
    (
        text("stream"),
        text("text"),
        event.data["dropped"].as_u64().unwrap(),
    )
}

/// Everything up to the end: the texts per stream, how much is missing, and the end.
async fn rest(events: &mut Events, world: &World) -> (String, String, u64, Value) {
    let (mut stdout, mut stderr, mut dropped) = (String::new(), String::new(), 0);
    loop {
        let event = events.next(world).await;
        if event.name == "end" {
            assert_eq!(event.id, "end");
            events.ends().await;
            return (stdout, stderr, dropped, event.data);
        }
        let into = if event.data["stream"] == "stdout" {
            &mut stdout
        } else {
            &mut stderr
        };
        into.push_str(event.data["text"].as_str().unwrap());
        dropped += event.data["dropped"].as_u64().unwrap();
    }
}

fn told(stream: &str, text: &str, dropped: u64) -> (String, String, u64) {
    (stream.into(), text.into(), dropped)
}

#[tokio::test]
async fn a_run_is_followed_from_its_beginning_to_its_end() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    run.print(&world, Stdout, "one\n").await;
    let mut events = run.follow(&world).await;
    assert_eq!(piece(&mut events, &world).await, told("stdout", "one\n", 0));
    run.print(&world, Stderr, "grün\n").await;
    assert_eq!(piece(&mut events, &world).await, told("stderr", "grün\n", 0));
    let mut late = run.follow(&world).await;
    assert_eq!(piece(&mut late, &world).await, told("stdout", "one\n", 0));
    assert_eq!(piece(&mut late, &world).await, told("stderr", "grün\n", 0));

    run.last(&world, "two\n").await;
    world.finished(&run.command, PC, 3, "one\ntwo\n").await;
    for events in [&mut events, &mut late] {
        assert_eq!(piece(events, &world).await, told("stdout", "two\n", 0));
        let (stdout, stderr, dropped, end) = rest(events, &world).await;
        assert_eq!((stdout.as_str(), stderr.as_str(), dropped), ("", "", 0));
        has_fields(
            &end,
            &[
                "type",
                "result_id",
                "state",
                "exit_code",
                "finished_at",
                "complete",
            ],
        );
        assert_eq!(
            (
                &end["result_id"],
                &end["state"],
                &end["exit_code"],
                &end["complete"]
            ),
            (&json!(run.id), &json!("failed"), &json!(3), &json!(true))
        );
    }
}

#[tokio::test]
async fn a_run_that_has_ended_is_told_as_it_is_stored_and_resumed_anywhere() {
    let mut world = World::new().await;
    world.job("backup").await;
    let stdout = "€".repeat(20_000);
    world.fire("backup", &[PC]).await;
    let command = world.command().await;
    let mut result = world.result(&command, PC, 0, &stdout);
    result.stderr = "a warning\n".into();
    world
        .durable(&Subject::result(command.request_id), encode(&result))
        .await;
    let path = format!("/api/results/{}/output", result.run_id());
    let mut events = Events::of(world.get(&path).response().await);
    let first = events.next(&world).await;
    let head = first.data["text"].as_str().unwrap().to_owned();
    assert!(head.len() <= 16 * 1024 && first.data["seq"] == 0);
    let (more, stderr, dropped, end) = rest(&mut events, &world).await;
    assert_eq!((head.clone() + &more, dropped), (stdout.clone(), 0));
    assert_eq!(stderr, "a warning\n");
    assert_eq!(
        (&end["state"], &end["complete"]),
        (&json!("succeeded"), &json!(true))
    );

    let call = world.get(&path).header("last-event-id", &first.id);
    let mut events = Events::of(call.response().await);
    let (more, stderr, ..) = rest(&mut events, &world).await;
    assert_eq!((head + &more, stderr.as_str()), (stdout, "a warning\n"));
    // A browser that comes back after the end is told to stay away.
    let answer = world.get(&path).header("last-event-id", "end").send().await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn what_is_missing_is_told_whoever_lost_it() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    run.print(&world, Stdout, "kept\n").await;
    run.lose(Stdout, 1000);
    run.print(&world, Stdout, "after the agent's gap\n").await;
    drop(run.chunk(Stderr, "lost on the way"));
    run.print(&world, Stderr, "arrived\n").await;
    run.lose(Stdout, 7);
    run.last(&world, "").await;
    let mut events = run.follow(&world).await;
    for wanted in [
        told("stdout", "kept\n", 0),
        told("stdout", "after the agent's gap\n", 1000),
        told("stderr", "arrived\n", 15),
        told("stdout", "", 7),
    ] {
        assert_eq!(piece(&mut events, &world).await, wanted);
    }
    world.finished(&run.command, PC, 0, "all of it").await;
    let (.., end) = rest(&mut events, &world).await;
    assert_eq!(
        (&end["state"], &end["complete"]),
        (&json!("succeeded"), &json!(false))
    );
}

#[tokio::test]
async fn last_words_that_never_come_are_waited_for_and_missed() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    run.print(&world, Stdout, "one\n").await;
    let mut events = run.follow(&world).await;
    assert_eq!(piece(&mut events, &world).await, told("stdout", "one\n", 0));
    world.finished(&run.command, PC, 0, "one\ntwo\n").await;
    let (.., end) = rest(&mut events, &world).await;
    assert_eq!(end["complete"], false);
}

#[tokio::test]
async fn of_a_run_that_was_never_heard_the_stored_output_is_told_at_its_end() {
    let mut world = World::new().await;
    let run = Run::begin(&mut world).await;
    let mut events = run.follow(&world).await;
    world.finished(&run.command, PC, 0, "one\ntwo\n").await;
    let (stdout, _, _, end) = rest(&mut events, &world).await;
    assert_eq!((stdout.as_str(), &end["complete"]), ("one\ntwo\n", &json!(true)));
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_where_it_was() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    for text in ["one\n", "two\n"] {
        run.print(&world, Stdout, text).await;
    }
    let mut events = run.follow(&world).await;
    let first = events.next(&world).await;
    drop(events);
    let mut events = run.follow_after(&world, &first.id).await;
    assert_eq!(piece(&mut events, &world).await, told("stdout", "two\n", 0));
    drop(events);
    run.lose(Stdout, 10);
    run.last(&world, "three\n").await;
    world.finished(&run.command, PC, 0, "all").await;
    let mut events = run.follow_after(&world, &first.id).await;
    let (stdout, _, dropped, end) = rest(&mut events, &world).await;
    assert_eq!(
        (stdout.as_str(), dropped, &end["complete"]),
        ("two\nthree\n", 10, &json!(false))
    );

    // Once it is not kept any more, all that is known is the end.
    world
        .until("it is forgotten", async || {
            world.clock.advance(Duration::from_secs(30));
            let mut events = run.follow_after(&world, &first.id).await;
            let event = events.next(&world).await;
            event.name == "end" && event.data["complete"] == false
        })
        .await;
    world
        .get(&run.path())
        .header("last-event-id", "seventeen")
        .send()
        .await
        .problem(400);
}

#[tokio::test]
async fn a_slow_reader_misses_what_does_not_fit_and_is_told() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    let mut slow = run.follow(&world).await;
    run.print(&world, Stdout, "first\n").await;
    assert_eq!(piece(&mut slow, &world).await, told("stdout", "first\n", 0));
    let line = "x".repeat(8 * 1024);
    for _ in 0..100 {
        run.print(&world, Stdout, &line).await;
    }
    run.last(&world, "last\n").await;
    let mut other = run.follow(&world).await;
    // Whoever reads is told the newest quarter of a megabyte, and how much came before.
    for events in [&mut slow, &mut other] {
        let mut heard = (0, 0);
        loop {
            let (_, text, dropped) = piece(events, &world).await;
            heard = (heard.0 + text.len() as u64, heard.1 + dropped);
            if text == "last\n" {
                break;
            }
        }
        assert!(heard.0 <= 256 * 1024 && heard.0 > 200 * 1024, "{heard:?}");
        assert!(heard.0 + heard.1 >= 100 * 8 * 1024, "{heard:?}");
    }
}

#[tokio::test]
async fn nobody_speaks_for_the_run_of_another_agent() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    let mut chunk = run.chunk(Stdout, "forged\n");
    chunk.pc_id = id("pc-2");
    say(&world, &chunk).await;
    chunk.pc_id = id(PC);
    let subject = Subject::output(&chunk.exec_id, &id("pc-2"));
    world.bus.publish(&subject, encode(&chunk)).await.unwrap();
    world.bus.publish(&subject, "no chunk".into()).await.unwrap();
    chunk.text = "x".repeat(65 * 1024);
    say(&world, &chunk).await;
    chunk.text = "true\n".into();
    say(&world, &chunk).await;
    let mut events = run.follow(&world).await;
    assert_eq!(piece(&mut events, &world).await, told("stdout", "true\n", 0));
}

#[tokio::test]
async fn an_unknown_run_is_not_found_and_a_reader_needs_to_be_let_in() {
    let world = World::new().await;
    let path = "/api/results/00000000-0000-0000-0000-000000000001/output";
    world.get(path).send().await.problem(404);
    world.get("/api/results/none/output").send().await.problem(400);
    let world = World::with(HttpSettings {
        auth: Auth::Jwt {
            secret: "0123456789abcdef0123456789abcdef".into(),
        },
        ..HttpSettings::default()
    })
    .await;
    world.get(path).send().await.problem(401);
}

#[tokio::test]
async fn followers_count_as_streams_and_leave_their_place() {
    let mut world = World::with(HttpSettings {
        max_streams: 1,
        ..HttpSettings::default()
    })
    .await;
    let run = Run::begin(&mut world).await;
    let first = run.follow(&world).await;
    world.get(&run.path()).send().await.problem(503);
    drop(first);
    drop(run.follow(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_run_is_kept_alive_by_comments() {
    let mut world = World::new().await;
    let run = Run::begin(&mut world).await;
    let mut events = run.follow(&world).await;
    for _ in 0..3 {
        assert_eq!(events.block().await.as_deref(), Some(":"));
    }
}

#[tokio::test]
async fn a_run_that_is_lost_ends_too() {
    let mut world = World::new().await;
    let mut run = Run::begin(&mut world).await;
    run.print(&world, Stdout, "one\n").await;
    let mut events = run.follow(&world).await;
    assert_eq!(piece(&mut events, &world).await, told("stdout", "one\n", 0));
    world.clock.advance(Duration::from_secs(24 * 60 * 60));
    let (.., end) = rest(&mut events, &world).await;
    assert_eq!(
        (&end["state"], &end["exit_code"], &end["complete"]),
        (&json!("lost"), &json!(null), &json!(false))
    );
}
