//! [`Catalog`](kanade_ports::Catalog), [`Bus`](kanade_ports::Bus) and [`Releases`](kanade_ports::Releases) on a NATS
//! server, with the subjects, streams and buckets that a kanade 0.30 fleet has.
//!
//! [`Nats::connect`] makes one connection, creates or widens what is missing on the server, and gives both ports,
//! which share the connection. [`NatsAgent::open`] is an agent's connection, which creates nothing.

mod acks;
mod agent;
mod bus;
mod catalog;
mod connection;
mod consumer;
mod feed;
mod follow;
mod inspect;
mod key;
mod link;
mod objects;
mod plan;
mod replay;
mod resources;
mod retained;
mod settings;
mod setup;

pub use agent::NatsAgent;
pub use connection::{ConnectError, Nats};
pub use inspect::{Inspected, Inspection, State};
pub use settings::{NatsAuth, NatsSettings, NatsTls};
