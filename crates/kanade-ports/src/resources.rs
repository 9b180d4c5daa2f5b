//! What a deployment has on its broker, for those who look after it.

use async_trait::async_trait;

use crate::BusError;

/// Something that the wire contract wants on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its name in the contract: `RESULTS`, `jobs`, `agent_releases`, …
    pub name: String,
    /// Whether it is there.
    pub exists: bool,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// A stream of messages.
    Stream,
    /// A bucket of documents.
    Bucket,
    /// An object store.
    ObjectStore,
}

/// Knows what should be on the broker and looks. Only a bus with a broker has this.
#[async_trait]
pub trait Resources: Send + Sync + 'static {
    /// Every resource of the contract, in its order.
    ///
    /// # Errors
    /// When the broker does not answer.
    async fn list(&self) -> Result<Vec<Resource>, BusError>;
}
