//! One request: sent, its answer checked and read, what goes wrong told by kind.

use std::time::Duration;

use bytes::Bytes;
use kanade_model::api::Problem;
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{HeaderName, LOCATION},
    multipart::Form,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The most of a foreign answer that is shown, in characters.
const SHOWN: usize = 200;

/// A request that is being put together.
#[derive(Debug)]
pub(crate) struct Call {
    request: RequestBuilder,
    /// The method and the URL without its query, for messages.
    name: String,
    url: Url,
    timeout: Duration,
}

impl Call {
    pub(crate) fn new(request: RequestBuilder, name: String, url: Url, timeout: Duration) -> Self {
        Self {
            request,
            name,
            url,
            timeout,
        }
    }

    #[cfg(test)]
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn query<V: AsRef<str>>(mut self, pairs: &[(&str, V)]) -> Self {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_ref())).collect();
        if !pairs.is_empty() {
            self.request = self.request.query(&pairs);
        }
        self
    }

    pub(crate) fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        self.request = self.request.json(body);
        self
    }

    pub(crate) fn form(mut self, form: Form) -> Self {
        self.request = self.request.multipart(form);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Waits that much longer than for an ordinary request.
    pub(crate) fn patient(mut self, more: Duration) -> Self {
        self.timeout = self.timeout.saturating_add(more);
        self
    }

    /// Sends the request and returns an answer that says yes, its body unread.
    pub(crate) async fn send(self) -> Result<Answer, Error> {
        let timeout = self.timeout;
        self.answer(|request| request.timeout(timeout))
            .await?
            .accepted()
            .await
    }

    /// Sends the request and returns an answer that says yes, whose body may take for ever.
    pub(crate) async fn open(self) -> Result<Answer, Error> {
        let (request, after) = (self.name.clone(), self.timeout);
        let answer = async { self.answer(|request| request).await?.accepted().await };
        match tokio::time::timeout(after, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { request, after }),
        }
    }

    /// Sends the request and reads the answer.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.send().await?.json().await
    }

    /// Sends the request and reads the answer, which may come with a status that says no.
    pub(crate) async fn read_any<T: DeserializeOwned>(self) -> Result<T, Error> {
        let timeout = self.timeout;
        let answer = self.answer(|request| request.timeout(timeout)).await?;
        let (name, status) = (answer.name.clone(), answer.response.status());
        let body = answer.bytes().await?;
        match serde_json::from_slice(&body) {
            Ok(read) => Ok(read),
            Err(source) if status.is_success() => Err(Error::Decode {
                request: name,
                source,
            }),
            Err(_) => Err(refusal(name, status, &body)),
        }
    }

    /// Sends the request; the answer says nothing but yes.
    pub(crate) async fn done(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }

    async fn answer(self, finish: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Result<Answer, Error> {
        let Self {
            request,
            name,
            url,
            timeout,
        } = self;
        match finish(request).send().await {
            Ok(response) => Ok(Answer {
                response,
                name,
                timeout,
            }),
            Err(source) if source.is_connect() => Err(Error::Unreachable {
                url: origin(&url),
                source,
            }),
            Err(source) => Err(broken(name, timeout, source)),
        }
    }
}

/// What a server has answered.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) name: String,
    timeout: Duration,
}

impl Answer {
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let request = self.name.clone();
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|source| Error::Decode { request, source })
    }

    pub(crate) async fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).into_owned())
    }

    async fn accepted(self) -> Result<Self, Error> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let request = self.name.clone();
        if let Some(to) = self.header(&LOCATION).filter(|_| status.is_redirection()) {
            let text = format!("it points to {to}; use the address of the server itself");
            return Err(Error::Foreign {
                request,
                status,
                text,
            });
        }
        Err(refusal(request, status, &self.bytes().await?))
    }

    async fn bytes(self) -> Result<Bytes, Error> {
        let Self {
            response,
            name,
            timeout,
        } = self;
        response
            .bytes()
            .await
            .map_err(|source| broken(name, timeout, source))
    }
}

/// The error that an answer with such a status and body is.
pub(crate) fn refusal(request: String, status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Error::Problem {
            status,
            problem: Box::new(problem),
        },
        Err(_) => Error::Foreign {
            request,
            status,
            text: excerpt(body),
        },
    }
}

fn broken(request: String, timeout: Duration, source: reqwest::Error) -> Error {
    if source.is_timeout() {
        Error::TimedOut {
            request,
            after: timeout,
        }
    } else {
        Error::Interrupted {
            request,
            source: source.into(),
        }
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The beginning of a body in one line, without control characters.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
