//! What a server can tell of itself, as far as the API does not know it by itself.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kanade_model::api;
use tokio::{sync::Mutex, time::Instant};

/// Checks may touch disks and brokers: what they found is told again for this long.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

type Examine = dyn Fn() -> BoxFuture<'static, Vec<api::Check>> + Send + Sync;

/// What was found, and when.
type Found = (Instant, Vec<api::Check>);

/// What the deployment is made of, and how to look whether it is well. Cheap to clone.
#[derive(Clone)]
pub struct About {
    pub(crate) deployment: api::Deployment,
    examine: Arc<Examine>,
    found: Arc<Mutex<Option<Found>>>,
}

impl About {
    /// A deployment, and what looks at it as `kanade doctor` does.
    pub fn new(
        deployment: api::Deployment,
        examine: impl Fn() -> BoxFuture<'static, Vec<api::Check>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            deployment,
            examine: Arc::new(examine),
            found: Arc::default(),
        }
    }

    /// What the checks find, or found a few seconds ago. One at a time looks.
    pub(crate) async fn checks(&self) -> Vec<api::Check> {
        let mut found = self.found.lock().await;
        if let Some((at, checks)) = found.as_ref()
            && at.elapsed() < TOLD_AGAIN
        {
            return checks.clone();
        }
        let checks = (self.examine)().await;
        *found = Some((Instant::now(), checks.clone()));
        checks
    }
}

impl Default for About {
    fn default() -> Self {
        let deployment = api::Deployment {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: String::new(),
            catalog: String::new(),
            bus: String::new(),
            data_dir: String::new(),
        };
        Self::new(deployment, || Box::pin(async { Vec::new() }))
    }
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About")
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}
