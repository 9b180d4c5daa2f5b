//! Releases of the agent, and the fleet as a whole.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use kanade_model::{Version, api};
use reqwest::{
    Body, Method,
    multipart::{Form, Part},
};

use crate::{Client, Error, request::Answer};

/// How much longer than an ordinary request publishing a program may take: programs are large and lines may be slow.
const PUBLISH: Duration = Duration::from_secs(15 * 60);

/// A program that is being read.
pub type Program = BoxStream<'static, io::Result<Bytes>>;

/// Releases.
impl Client {
    /// Every release, by version.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn releases(&self) -> Result<Vec<api::Release>, Error> {
        self.call(Method::GET, &["api", "agents", "releases"])?
            .read()
            .await
    }

    /// Publishes a program of `size` bytes, sent as it is read. Windows programs tell their version themselves, others
    /// need one.
    ///
    /// # Errors
    /// A program whose version is missing or not valid, or that is too large; a conflict when the version is of another
    /// program, which agents are to update to; [`Error::Interrupted`] when the program cannot be read to its end.
    pub async fn publish(
        &self,
        program: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        size: u64,
        version: Option<&Version>,
    ) -> Result<api::Published, Error> {
        let file = Part::stream_with_length(Body::wrap_stream(program), size).file_name("kanade");
        let mut form = Form::new();
        if let Some(version) = version {
            form = form.text("version", version.to_string());
        }
        self.call(Method::POST, &["api", "agents", "publish"])?
            .form(form.part("file", file))
            .patient(PUBLISH)
            .read()
            .await
    }

    /// A program and its bytes.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn release(&self, version: &Version) -> Result<(u64, Program), Error> {
        let call = self.call(Method::GET, &["api", "agents", "releases", version.as_str()])?;
        let Answer { response, .. } = call.open().await?;
        let size = response.content_length().unwrap_or(0);
        let bytes = response.bytes_stream();
        Ok((size, bytes.map(|bytes| bytes.map_err(io::Error::other)).boxed()))
    }

    /// Deletes a release that no agent is to update to.
    ///
    /// # Errors
    /// A conflict that names the configuration which says so, not found.
    pub async fn delete_release(&self, version: &Version) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "agents", "releases", version.as_str()])?
            .done()
            .await
    }

    /// Tells agents to update to a release.
    ///
    /// # Errors
    /// Not found, a scope that may not be written.
    pub async fn rollout(&self, request: &api::RolloutRequest) -> Result<api::RolledOut, Error> {
        self.call(Method::POST, &["api", "agents", "rollout"])?
            .json(request)
            .read()
            .await
    }
}

/// The fleet as a whole.
impl Client {
    /// How the fleet is; an answer also when it is not well.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn fleet_health(&self) -> Result<api::FleetHealth, Error> {
        self.call(Method::GET, &["api", "health", "fleet"])?
            .read_any()
            .await
    }

    /// What of the wire contract is on the broker; nothing where there is none.
    ///
    /// # Errors
    /// Unavailable when the broker does not answer.
    pub async fn jetstream_status(&self) -> Result<api::BrokerStatus, Error> {
        self.call(Method::GET, &["api", "jetstream", "status"])?
            .read()
            .await
    }
}
