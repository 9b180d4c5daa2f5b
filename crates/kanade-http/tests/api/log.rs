//! What the log says about requests.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use kanade_http::{Auth, HttpSettings, NamedToken};
use kanade_ports::ErrorKind;
use tracing_subscriber::fmt::MakeWriter;

use crate::{faults::DRIVER_TEXT, world::World};

/// A log in memory.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What this thread logs from now on.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines that tell of a request.
    fn lines(&self, id: &str) -> Vec<String> {
        let text = self.text();
        text.lines()
            .filter(|line| line.contains("kanade_http::trace") && line.contains(id))
            .map(Into::into)
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn every_request_is_logged_once_with_its_id() {
    let (log, _guard) = Log::capture();
    let world = World::new().await;
    world
        .get("/api/jobs?limit=5")
        .header("x-request-id", "fine-1")
        .send()
        .await
        .expect(200);
    world
        .get("/api/nope")
        .header("x-request-id", "lost-1")
        .send()
        .await
        .problem(404);
    let fine = log.lines("fine-1");
    assert_eq!(fine.len(), 1, "{fine:?}");
    assert!(
        fine[0].contains("INFO") && fine[0].contains("status=200"),
        "{fine:?}"
    );
    assert!(
        fine[0].contains("/api/jobs") && !fine[0].contains("limit"),
        "{fine:?}"
    );
    let lost = log.lines("lost-1");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].contains("there is nothing at"), "{lost:?}");
}

#[tokio::test]
async fn the_log_has_the_cause_that_the_caller_is_not_told() {
    let (log, _guard) = Log::capture();
    let world = World::new().await;
    world.store.fail_reads(Some(ErrorKind::Unavailable));
    let answer = world
        .get("/api/executions")
        .header("x-request-id", "away-1")
        .send()
        .await;
    assert!(!answer.text().contains(DRIVER_TEXT));
    let lines = log.lines("away-1");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("ERROR") && lines[0].contains(DRIVER_TEXT),
        "{lines:?}"
    );

    world
        .get("/api/inventory/panic")
        .header("x-request-id", "bug-1")
        .send()
        .await
        .problem(500);
    let lines = log.lines("bug-1");
    assert!(
        lines.len() == 1 && lines[0].contains("asked to panic"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn no_token_is_ever_logged() {
    let (log, _guard) = Log::capture();
    let tokens = vec![NamedToken {
        name: "ci".into(),
        token: "t0ken".into(),
    }];
    let world = World::with(HttpSettings {
        auth: Auth::Tokens(tokens),
        ..HttpSettings::default()
    })
    .await;
    for token in ["t0ken", "t0ken-of-nobody"] {
        let call = world
            .get("/api/jobs")
            .header("authorization", &format!("Bearer {token}"));
        call.send().await;
    }
    let text = log.text();
    assert!(text.contains("/api/jobs") && !text.contains("t0ken"), "{text}");
}
