//! A typed client of the kanade HTTP API: one method per route, lists as streams that fetch page after page, and
//! [`Client::events`], which keeps a live connection and says when it had to start again.
//!
//! ```no_run
//! # async fn example() -> Result<(), kanade_client::Error> {
//! use futures::TryStreamExt;
//! use kanade_client::{Client, ExecutionQuery};
//! use kanade_model::{FanoutPlan, Target};
//!
//! let client = Client::new("http://127.0.0.1:8080", None)?;
//! let plan = FanoutPlan { target: Target { all: true, ..Target::default() }, ..FanoutPlan::default() };
//! let fired = client.fire(&"backup".parse().expect("a job id"), &plan, None).await?;
//! println!("{} is aimed at {} agents", fired.exec_id, fired.target_count);
//! let mut executions = client.executions(&ExecutionQuery::default());
//! while let Some(execution) = executions.try_next().await? {
//!     println!("{} {}", execution.exec_id, execution.status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`AgentLink`] is something else: the bus and the catalog of an agent that runs on another machine than its server.

mod agents;
mod client;
mod documents;
mod error;
mod events;
mod executions;
mod link;
mod output;
mod page;
mod records;
mod releases;
mod request;
mod schedules;
mod sse;

pub use agents::Scope;
pub use client::Client;
pub use documents::{Precondition, Tag, Tagged};
pub use error::Error;
pub use events::{EventFilter, EventKind, Update};
pub use executions::{ExecutionQuery, Outcome, RunQuery, TargetQuery};
pub use link::{AgentLink, LinkSettings, LinkState, LinkTiming};
pub use output::OutputUpdate;
pub use page::Items;
pub use records::AuditQuery;
pub use releases::Program;
pub use reqwest::StatusCode;
