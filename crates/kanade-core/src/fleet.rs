//! How the fleet is as a whole: agents, broker, recent runs. Asked for by monitoring, again and again by many, so what
//! was found out is told for a few seconds, and whoever asks meanwhile waits for the same answer.

use std::{sync::Arc, time::Duration};

use kanade_model::{
    Timestamp,
    api::{BrokerResource, BrokerStatus, FleetAgents, FleetBroker, FleetHealth, FleetStatus, RecentResults},
};
use kanade_ports::{Clock, ExecutionStore, MAX_LIMIT, Resource, ResourceKind, Resources};
use tokio::sync::Mutex;

use crate::error::{Result, chain};

/// An agent that has not been heard of for longer is stale.
pub const ACTIVE_WITHIN: Duration = Duration::from_secs(120);
/// How old an answer may be.
const TOLD_AGAIN: Duration = Duration::from_secs(5);
/// Runs that started within this are recent.
const WINDOW_HOURS: u32 = 24;
/// How many successes, and how many failures, are counted at most: what keeps the cost the same in a large fleet.
const COUNTED: usize = 100_000;

/// The fleet as a whole. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    store: Arc<dyn ExecutionStore>,
    resources: Option<Arc<dyn Resources>>,
    clock: Arc<dyn Clock>,
    newest: Arc<Mutex<Option<FleetHealth>>>,
}

impl Fleet {
    pub(crate) fn new(
        store: Arc<dyn ExecutionStore>,
        resources: Option<Arc<dyn Resources>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            resources,
            clock,
            newest: Arc::default(),
        }
    }

    /// How the fleet is, or was a few seconds ago.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn health(&self) -> Result<FleetHealth> {
        let mut newest = self.newest.lock().await;
        let now = self.clock.now();
        if let Some(health) = newest.as_ref()
            && health.observed_at <= now
            && now.since(health.observed_at) < TOLD_AGAIN
        {
            return Ok(health.clone());
        }
        let (agents, jetstream, recent_results) =
            tokio::try_join!(self.agents(), self.broker(), self.recent(now))?;
        let health = FleetHealth {
            status: status(&agents, &jetstream),
            agents,
            jetstream,
            recent_results,
            observed_at: now,
        };
        *newest = Some(health.clone());
        Ok(health)
    }

    /// What should be on the broker, and whether it is. Nothing where there is no broker.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn resources(&self) -> Result<BrokerStatus> {
        let resources = match &self.resources {
            Some(resources) => resources.list().await?,
            None => Vec::new(),
        };
        let of = |kind| {
            let of_kind = resources.iter().filter(|resource| resource.kind == kind);
            of_kind
                .map(|resource| BrokerResource {
                    name: resource.name.clone(),
                    exists: resource.exists,
                })
                .collect()
        };
        Ok(BrokerStatus {
            streams: of(ResourceKind::Stream),
            kv_buckets: of(ResourceKind::Bucket),
            object_stores: of(ResourceKind::ObjectStore),
        })
    }

    /// How many agents there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn agents(&self) -> Result<FleetAgents> {
        let now = self.clock.now();
        let (mut known, mut active) = (0, 0);
        let mut after = None;
        loop {
            let page = self.store.agents(after.as_ref(), MAX_LIMIT).await?;
            for agent in &page.items {
                known += 1;
                // By the server's clock: an agent whose own is wrong is there all the same.
                active += u64::from(now.since(agent.updated_at) <= ACTIVE_WITHIN);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(FleetAgents {
            known,
            active,
            stale: known - active,
        })
    }

    /// A broker that does not answer is something to be told, not a failure of the question.
    async fn broker(&self) -> Result<FleetBroker> {
        let Some(resources) = &self.resources else {
            return Ok(summary(&[], None));
        };
        Ok(match resources.list().await {
            Ok(resources) => summary(&resources, None),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot ask the broker what is there");
                summary(&[], Some(error.to_string()))
            }
        })
    }

    async fn recent(&self, now: Timestamp) -> Result<RecentResults> {
        let since = now.minus(Duration::from_secs(u64::from(WINDOW_HOURS) * 3600));
        let tally = self.store.tally(since, None, COUNTED).await?;
        Ok(RecentResults {
            window_hours: WINDOW_HOURS,
            total: tally.ended,
            failed: tally.failed,
        })
    }
}

fn summary(resources: &[Resource], error: Option<String>) -> FleetBroker {
    let missing: Vec<String> = resources
        .iter()
        .filter(|resource| !resource.exists)
        .map(|resource| resource.name.clone())
        .collect();
    FleetBroker {
        all_ok: missing.is_empty() && error.is_none(),
        healthy: (resources.len() - missing.len()) as u64,
        total: resources.len() as u64,
        missing,
        error,
    }
}

fn status(agents: &FleetAgents, broker: &FleetBroker) -> FleetStatus {
    match agents {
        _ if !broker.all_ok => FleetStatus::Degraded,
        FleetAgents { known: 0, .. } => FleetStatus::Unknown,
        FleetAgents { active: 0, .. } => FleetStatus::Degraded,
        _ => FleetStatus::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_the_worst_in_one_word() {
        let there = |exists| Resource {
            kind: ResourceKind::Stream,
            name: "RESULTS".into(),
            exists,
        };
        let no_broker = summary(&[], None);
        let well = summary(&[there(true)], None);
        let lacking = summary(&[there(true), there(false)], None);
        let silent = summary(&[], Some("NATS did not answer in time".into()));
        assert_eq!(
            (lacking.healthy, lacking.total, lacking.missing.as_slice()),
            (1, 2, &["RESULTS".to_owned()][..])
        );
        for (known, active, broker, wanted) in [
            (0, 0, &no_broker, FleetStatus::Unknown),
            (0, 0, &well, FleetStatus::Unknown),
            (3, 3, &no_broker, FleetStatus::Ok),
            (3, 1, &well, FleetStatus::Ok),
            (3, 0, &well, FleetStatus::Degraded),
            (3, 3, &lacking, FleetStatus::Degraded),
            (0, 0, &silent, FleetStatus::Degraded),
            (3, 3, &silent, FleetStatus::Degraded),
        ] {
            let agents = FleetAgents {
                known,
                active,
                stale: known - active,
            };
            assert_eq!(status(&agents, broker), wanted, "{agents:?} {broker:?}");
        }
    }
}
