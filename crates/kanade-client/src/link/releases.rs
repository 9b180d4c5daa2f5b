//! Programs that an agent updates itself to, from the server that it is connected to.

use std::{io, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kanade_model::{Timestamp, Version};
use kanade_ports::{ErrorKind, Program, Release, ReleaseReader, StoreError};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue, LAST_MODIFIED},
};
use tokio::time::timeout;

use super::AgentLink;
use crate::{client::causes, request::refusal};

/// RFC 9530.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const CONTENT_LENGTH: HeaderName = HeaderName::from_static("content-length");
/// A download of which for so long nothing comes is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Knows where programs are and who asks for them.
pub(super) struct Downloads {
    http: reqwest::Client,
    /// Of the gateway: `…/api/agent/ws?pc_id=…`.
    gateway: Url,
    authorization: Option<HeaderValue>,
    patience: Duration,
}

impl Downloads {
    pub(super) fn new(
        http: reqwest::Client,
        gateway: &Url,
        authorization: Option<HeaderValue>,
        patience: Duration,
    ) -> Self {
        Self {
            http,
            gateway: gateway.clone(),
            authorization,
            patience,
        }
    }

    fn url(&self, version: &Version) -> Url {
        let mut url = self.gateway.clone();
        url.path_segments_mut()
            .expect("http and https have a path")
            .pop()
            .extend(["releases", version.as_str()]);
        url
    }

    /// The answer, if it tells of a release.
    async fn ask(
        &self,
        method: Method,
        version: &Version,
        doing: &str,
    ) -> Result<Option<(Release, Response)>, StoreError> {
        // A URL that has them as a segment means another path.
        if matches!(version.as_str(), "" | "." | "..") {
            return Ok(None);
        }
        let unavailable = |why: String| StoreError::new(ErrorKind::Unavailable, doing).because(why);
        let url = self.url(version);
        let name = format!("{method} {}", url.path());
        let mut request = self.http.request(method.clone(), url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = timeout(self.patience, request.send())
            .await
            .map_err(|_| unavailable(format!("the server did not answer within {:?}", self.patience)))?
            .map_err(|error| unavailable(causes(&error)))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(Some((told(version, &response), response)));
        }
        let body = match method {
            Method::HEAD => Vec::new(),
            _ => timeout(self.patience, response.bytes())
                .await
                .ok()
                .and_then(Result::ok)
                .map(Into::into)
                .unwrap_or_default(),
        };
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(unavailable(refusal(name, status, &body).to_string())),
        }
    }
}

/// What the head of an answer tells of a release.
fn told(version: &Version, response: &Response) -> Release {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    Release {
        version: version.clone(),
        size: header(CONTENT_LENGTH)
            .and_then(|size| size.parse().ok())
            .unwrap_or(0),
        digest: header(REPR_DIGEST)
            .and_then(Release::digest_of)
            .unwrap_or_default(),
        modified: header(LAST_MODIFIED)
            .and_then(Timestamp::from_http_date)
            .unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

#[async_trait]
impl ReleaseReader for AgentLink {
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError> {
        let doing = format!("look for release `{version}`");
        let found = self.0.downloads.ask(Method::HEAD, version, &doing).await?;
        Ok(found.map(|(release, _)| release))
    }

    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError> {
        let doing = format!("read release `{version}`");
        let found = self.0.downloads.ask(Method::GET, version, &doing).await?;
        Ok(found.map(|(release, response)| (release, program(response))))
    }
}

fn program(response: Response) -> Program {
    let pieces = stream::unfold(Some(response), |response| async move {
        let mut response = response?;
        match timeout(SILENCE, response.chunk()).await {
            Ok(Ok(piece)) => Some((Ok(piece?), Some(response))),
            Ok(Err(error)) => Some((Err(io::Error::other(causes(&error))), None)),
            Err(_) => Some((
                Err(io::Error::new(io::ErrorKind::TimedOut, "no more of it comes")),
                None,
            )),
        }
    });
    pieces.boxed()
}
