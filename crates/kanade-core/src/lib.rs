//! What kanade does: fire, kill, project, look after, over the ports and nothing else. No backend, no web framework.
//!
//! [`Services::start`] wires it up; each service is a small value that handlers call:
//!
//! - [`Jobs`], [`Schedules`], [`Agents`]: documents of the catalog, with their rules;
//! - [`Fires`], [`Kills`]: what starts and what stops;
//! - [`Scheduler`], [`Freezes`]: what fires by itself, and what keeps it from doing so;
//! - [`Fires`], [`Kills`], [`Steering`]: what starts, what stops, what waits;
//! - [`Releases`]: the programs agents update themselves to;
//! - [`Fleet`]: how all of it is;
//! - [`Live`]: what happens now.
//!
//! Around them run the loops: the [`Committer`], the [`Dispatcher`], the projectors, the presence of agents, the
//! repetition of kills, the gates between waves, upkeep.

mod agent_ports;
mod agents;
mod aim;
mod audit;
mod audit_stream;
mod committer;
mod counters;
mod dispatch;
mod documents;
mod error;
mod fire;
mod fleet;
mod freeze;
mod hold;
pub mod import;
mod jobs;
mod kill;
mod live;
mod output;
mod presence;
mod project;
mod releases;
mod retained;
mod scheduler;
mod schedules;
mod secrets;
mod services;
mod settings;
pub mod shape;
mod statistics;
mod steer;
mod upkeep;
mod view;

pub use agent_ports::AgentPorts;
pub use agents::{Agents, Scope};
pub use audit::Audit;
pub use committer::{Committer, Observer};
pub use counters::{Counters, Family};
pub use dispatch::Dispatcher;
pub use documents::{Document, Documents, Stored};
pub use error::{Error, Result, chain};
pub use fire::{Fires, Firing, Repeatable};
pub use fleet::{ACTIVE_WITHIN, Fleet};
pub use freeze::Freezes;
pub use hold::{HISTORY_IMPORTED, Holds, Marks, STARTED_FRESH, held};
pub use jobs::{Jobs, ListedJob};
pub use kill::Kills;
pub use live::Live;
pub use output::{Following, Outputs, Place, Told};
pub use presence::HeartbeatRecord;
pub use releases::{Releases, RolledOut, Upload};
pub use scheduler::Scheduler;
pub use schedules::Schedules;
pub use services::{Abilities, Ports, Running, Services};
pub use settings::Settings;
pub use statistics::{Counts, MOST_BUCKETS, Spans};
pub use steer::Steering;
pub use view::CatalogView;
