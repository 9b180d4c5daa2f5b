//! The world of a test: the API over a running core in memory, and agents in the test's hand.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_http::HttpSettings;
use kanade_memory::{EmbeddedBus, ManualClock, MemoryReleases, SeededIds};
use kanade_model::{Command, EventStarted, ExecResult, Heartbeat, ResultId, Subject};
use kanade_ports::{Bucket, Catalog, Clock, ExecutionStore, MessageId, Precondition, PubSub, Subscription};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::faults::{FaultyCatalog, FaultyStore};

/// No condition takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What the clock shows at first.
pub(crate) const NOW: &str = "2026-05-01T08:00:00Z";

pub(crate) struct World {
    pub(crate) services: Services,
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) catalog: Arc<FaultyCatalog>,
    pub(crate) bus: Arc<EmbeddedBus>,
    pub(crate) router: Router,
    /// Every Command since the start.
    commands: Subscription,
    _running: Running,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(HttpSettings::default()).await
    }

    pub(crate) async fn with(settings: HttpSettings) -> Self {
        Self::able(settings, Abilities::default()).await
    }

    /// Of a deployment with these abilities; releases it keeps in any case.
    pub(crate) async fn able(settings: HttpSettings, mut abilities: Abilities) -> Self {
        let clock = ManualClock::new(NOW.parse().unwrap());
        let releases = || Arc::new(MemoryReleases::new(Arc::new(clock.clone()))) as _;
        abilities.releases.get_or_insert_with(releases);
        let (store, catalog, bus) = (Arc::default(), Arc::default(), Arc::new(EmbeddedBus::new()));
        let commands = bus.subscribe(&"commands.>".parse().unwrap()).await.unwrap();
        let ports = Ports {
            store: Arc::clone(&store) as Arc<dyn ExecutionStore>,
            catalog: Arc::clone(&catalog) as Arc<dyn Catalog>,
            bus: bus.clone(),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(SeededIds::new(1)),
            abilities,
        };
        let (services, running) = Services::start(ports, Settings::default()).await;
        Self {
            router: kanade_http::router(services.clone(), settings),
            services,
            clock,
            store,
            catalog,
            bus,
            commands,
            _running: running,
        }
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, waited).await.is_err() {
            panic!("waited in vain until {what}");
        }
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call {
            router: self.router.clone(),
            request: http::Request::builder().method(method).uri(path),
            body: Body::empty(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// A job that can be fired.
    pub(crate) async fn job(&self, job: &str) {
        self.post("/api/jobs")
            .json(&manifest(job))
            .send()
            .await
            .expect(200);
    }

    /// Fires a job at agents and returns its execution.
    pub(crate) async fn fire(&self, job: &str, pcs: &[&str]) -> String {
        let plan = json!({ "target": { "pcs": pcs } });
        let fired = self
            .post(&format!("/api/exec/{job}"))
            .json(&plan)
            .send()
            .await
            .expect(200);
        fired["exec_id"].as_str().unwrap().to_owned()
    }

    /// The next Command that reaches an agent.
    pub(crate) async fn command(&mut self) -> Command {
        let next = tokio::time::timeout(DEADLINE, self.commands.next());
        let message = next.await.expect("a command comes").unwrap();
        serde_json::from_slice(&message.payload).unwrap()
    }

    /// What has been sent to agents by now.
    pub(crate) fn commands_so_far(&mut self) -> usize {
        std::iter::from_fn(|| self.commands.next().now_or_never().flatten()).count()
    }

    /// An agent starts a Command.
    pub(crate) async fn started(&self, command: &Command, pc: &str) -> ResultId {
        let event = EventStarted {
            result_id: result_id(command, pc),
            request_id: command.request_id,
            exec_id: command.exec_id.clone().unwrap(),
            pc_id: id(pc),
            started_at: self.clock.now(),
            manifest_id: command.id.clone(),
            version: command.version.clone(),
        };
        let subject = Subject::started(&event.exec_id, &event.pc_id);
        self.durable(&subject, encode(&event)).await;
        event.result_id
    }

    /// An agent has run a Command; recorded when this returns.
    pub(crate) async fn finished(
        &self,
        command: &Command,
        pc: &str,
        exit_code: i32,
        stdout: &str,
    ) -> ResultId {
        let result = self.result(command, pc, exit_code, stdout);
        self.durable(&Subject::result(command.request_id), encode(&result))
            .await;
        result.run_id()
    }

    pub(crate) fn result(&self, command: &Command, pc: &str, exit_code: i32, stdout: &str) -> ExecResult {
        ExecResult {
            result_id: Some(result_id(command, pc)),
            request_id: command.request_id,
            exec_id: command.exec_id.clone(),
            pc_id: id(pc),
            exit_code,
            stdout: stdout.into(),
            stderr: String::new(),
            started_at: self.clock.now(),
            finished_at: self.clock.now(),
            manifest_id: Some(command.id.clone()),
            ended: None,
        }
    }

    /// A run from fire to end.
    pub(crate) async fn ran(&mut self, job: &str, pc: &str, exit_code: i32, stdout: &str) -> ResultId {
        self.fire(job, &[pc]).await;
        let command = self.command().await;
        self.finished(&command, pc, exit_code, stdout).await
    }

    /// Says something that is recorded when this returns.
    pub(crate) async fn durable(&self, subject: &Subject, payload: Bytes) {
        // Nobody can keep it before the projectors have come up.
        self.until("the message is recorded", async || {
            let message = MessageId(Uuid::new_v4().to_string());
            self.bus
                .publish_durable(subject, payload.clone(), message)
                .await
                .is_ok()
        })
        .await;
    }

    /// An agent shows life.
    pub(crate) async fn say_hello(&self, pc: &str) {
        let heartbeat = Heartbeat {
            pc_id: id(pc),
            at: self.clock.now(),
            agent_version: "1.2.3".into(),
            hostname: Some(format!("{pc}.example")),
            os_family: Some("linux".into()),
        };
        let subject = Subject::heartbeat(&heartbeat.pc_id);
        self.bus.publish(&subject, encode(&heartbeat)).await.unwrap();
    }

    /// An agent that is known from now on.
    pub(crate) async fn agent(&self, pc: &str) {
        self.until("the agent is known", async || {
            self.say_hello(pc).await;
            self.store.agent(&id(pc)).await.unwrap().is_some()
        })
        .await;
    }

    /// Writes a document as somebody else may have written it.
    pub(crate) async fn document(&self, bucket: Bucket, key: &str, text: &Value) {
        let value = Bytes::from(text.to_string());
        let key = key.parse().unwrap();
        self.catalog
            .put(bucket, &key, value, Precondition::Any)
            .await
            .unwrap();
    }

    /// The newest entry of the audit trail.
    pub(crate) async fn last_audit(&self) -> Value {
        self.get("/api/audit?limit=1").send().await.expect(200)[0].take()
    }
}

/// A request that is being put together.
pub(crate) struct Call {
    router: Router,
    request: http::request::Builder,
    body: Body,
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.text("application/json", &body.to_string())
    }

    pub(crate) fn text(mut self, media_type: &str, body: &str) -> Self {
        self.body = Body::from(body.to_owned());
        self.header(CONTENT_TYPE.as_str(), media_type)
    }

    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn build(self) -> (Router, Request) {
        (self.router, self.request.body(self.body).unwrap())
    }

    pub(crate) async fn response(self) -> Response {
        let (router, request) = self.build();
        router.oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let (parts, body) = self.response().await.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The JSON of an answer with this status; null for an empty one.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        match self.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&self.body).unwrap(),
        }
    }

    /// The detail of a problem with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], self.status.canonical_reason().unwrap());
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        problem["detail"].as_str().unwrap().to_owned()
    }

    /// The field that a problem names.
    #[track_caller]
    pub(crate) fn field(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        problem["field"].as_str().unwrap_or_default().to_owned()
    }

    /// Where the next page begins.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        let url = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
        Some(url.to_owned())
    }
}

/// Checks that an object has exactly these fields.
#[track_caller]
pub(crate) fn has_fields(object: &Value, fields: &[&str]) {
    let mut found: Vec<&str> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let mut wanted = fields.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn manifest(job: &str) -> Value {
    json!({
        "id": job, "version": "1.0.0", "execute": { "shell": "sh", "script": "echo hello", "timeout": "60s" }
    })
}

pub(crate) fn encode(message: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap().into()
}

fn result_id(command: &Command, pc: &str) -> ResultId {
    ResultId(Uuid::new_v5(&command.request_id.0, pc.as_bytes()))
}
