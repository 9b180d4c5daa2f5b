//! A server with answers of the test's choosing, which remembers what it was asked; and the binary to ask it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command};

/// No command takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An answer of the server.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Json(StatusCode, Value, Vec<(&'static str, String)>),
    Text(&'static str),
    /// Events by name, then silence on an open connection.
    Events(Vec<Value>),
    /// The connection breaks within the answer.
    Broken,
}

impl Reply {
    pub(crate) fn json(value: Value) -> Self {
        Self::Json(StatusCode::OK, value, Vec::new())
    }

    pub(crate) fn tagged(value: Value, tag: &str) -> Self {
        Self::Json(StatusCode::OK, value, vec![("etag", format!("\"{tag}\""))])
    }

    /// A page, with the cursor of the next one.
    pub(crate) fn page(items: Value, next: &str) -> Self {
        Self::Json(
            StatusCode::OK,
            items,
            vec![("link", format!("</list?cursor={next}>; rel=\"next\""))],
        )
    }

    pub(crate) fn done() -> Self {
        Self::Json(StatusCode::NO_CONTENT, Value::Null, Vec::new())
    }

    pub(crate) fn problem(status: u16, detail: &str) -> Self {
        let problem = json!({"type": "about:blank", "title": "No", "status": status, "detail": detail});
        Self::Json(StatusCode::from_u16(status).unwrap(), problem, Vec::new())
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(StatusCode::NO_CONTENT, ..) => StatusCode::NO_CONTENT.into_response(),
            Self::Json(status, value, more) => {
                let mut response = (status, axum::Json(value)).into_response();
                for (name, value) in more {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                response
            }
            Self::Text(text) => text.into_response(),
            Self::Events(events) => {
                let written = events.into_iter().map(|event| {
                    let name = event["type"].as_str().unwrap().to_owned();
                    Ok::<_, io::Error>(Bytes::from(format!("event: {name}\ndata: {event}\n\n")))
                });
                let body = Body::from_stream(stream::iter(written).chain(stream::pending()));
                ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
            }
            Self::Broken => {
                let broken = stream::iter([
                    Ok(Bytes::from("{")),
                    Err(io::Error::from(io::ErrorKind::BrokenPipe)),
                ]);
                Body::from_stream(broken).into_response()
            }
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET /api/jobs?limit=5`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Debug, Default)]
struct Script {
    /// Answers by request line, without its query if it stands there without; the last one is repeated.
    answers: HashMap<String, Vec<Reply>>,
    requests: Vec<Request>,
}

/// The server.
#[derive(Debug, Clone)]
pub(crate) struct Double {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
}

impl Double {
    /// A server that answers 404 to everything.
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script }
    }

    /// Answers a request (`GET /api/jobs`, with or without a query), after the answers given before.
    pub(crate) fn on(self, line: &str, reply: Reply) -> Self {
        self.script
            .lock()
            .unwrap()
            .answers
            .entry(line.to_owned())
            .or_default()
            .push(reply);
        self
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }

    /// The lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    /// The only request with this method.
    pub(crate) fn only(&self, method: &str) -> Request {
        let mut of: Vec<Request> = self
            .requests()
            .into_iter()
            .filter(|request| request.line.starts_with(method))
            .collect();
        assert_eq!(of.len(), 1, "one {method} in {:?}", self.lines());
        of.remove(0)
    }

    /// A command against this server.
    pub(crate) async fn kanade(&self, arguments: &[&str]) -> Ended {
        self.kanade_with(arguments, "").await
    }

    /// The same with something on standard input.
    pub(crate) async fn kanade_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = kanade(["--server", &self.url].iter().chain(arguments));
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may have ended.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
            .await
            .expect("it ends")
            .unwrap();
        Ended {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let mut script = script.lock().unwrap();
    let line = format!("{method} {uri}");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    script.requests.push(Request {
        line: line.clone(),
        headers,
        body,
    });
    let path = format!("{method} {}", uri.path());
    let key = if script.answers.contains_key(&line) {
        line
    } else {
        path
    };
    match script.answers.get_mut(&key) {
        None => Reply::problem(404, &format!("there is nothing at {key}")),
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
    }
}

/// The binary with arguments, outputs captured, without what the environment of the test would tell it.
pub(crate) fn kanade(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kanade"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("KANADE_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What it printed, if it ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What it printed as JSON, if it ended well.
    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What it said about its failure, if it ended with this code.
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}
