//! What the contract wants on the server, and whether it is there.

use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;
use kanade_ports::{BusError, Resource, Resources};
use serde::Deserialize;
use serde_json::json;

use crate::{
    bus::failed,
    link::{Fault, Link},
    plan,
};

pub(crate) struct NatsResources(Arc<Link>);

impl NatsResources {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    /// The names of all streams; buckets and object stores are streams too. One question, unless there are more than a
    /// thousand.
    async fn streams(&self) -> Result<HashSet<String>, Fault> {
        let mut names = HashSet::new();
        let mut asked = 0;
        loop {
            let page: Names = self.0.api("STREAM.NAMES", &json!({ "offset": asked })).await?;
            let streams = page.streams.unwrap_or_default();
            asked += streams.len();
            let ended = streams.is_empty() || asked >= page.total;
            names.extend(streams);
            if ended {
                return Ok(names);
            }
        }
    }
}

impl fmt::Debug for NatsResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsResources")
    }
}

#[async_trait]
impl Resources for NatsResources {
    async fn list(&self) -> Result<Vec<Resource>, BusError> {
        let there = self.streams().await;
        let there = there.map_err(|fault| failed("list the streams".into(), fault))?;
        let wanted = plan::streams(1);
        let resource = |stream: &plan::Stream| {
            let (kind, name) = stream.resource();
            Resource {
                kind,
                name: name.to_owned(),
                exists: there.contains(&stream.name),
            }
        };
        Ok(wanted.iter().map(resource).collect())
    }
}

#[derive(Deserialize)]
struct Names {
    total: usize,
    streams: Option<Vec<String>>,
}
