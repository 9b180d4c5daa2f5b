//! What an agent that is somebody else's process may do with the server's ports: say what it has done, hear what is for
//! it, read the documents it works by. This is the one place that decides; whatever carries its calls only carries.

mod bus;
mod catalog;

use std::sync::Arc;

use kanade_model::PcId;
use kanade_ports::{Bus, Catalog, CatalogReader, PubSub};

use crate::CatalogView;

/// The ports of one agent: its own subjects and the documents it reads, nothing else. What it may not do is `Refused`;
/// a document that is not for it is not there. Made anew for each connection: it remembers which requests the agent
/// has been asked, and so may answer.
#[derive(Clone)]
pub struct AgentPorts {
    /// Messages to it and from it.
    pub bus: Arc<dyn PubSub>,
    /// The documents it reads.
    pub catalog: Arc<dyn CatalogReader>,
}

impl AgentPorts {
    pub(crate) fn new(pc: &PcId, bus: Arc<dyn Bus>, catalog: Arc<dyn Catalog>, view: CatalogView) -> Self {
        Self {
            bus: Arc::new(bus::OwnBus::new(pc.clone(), bus, view.clone())),
            catalog: Arc::new(catalog::OwnCatalog::new(pc.clone(), catalog, view)),
        }
    }
}
