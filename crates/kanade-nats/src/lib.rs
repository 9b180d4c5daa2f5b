//! [`Catalog`](kanade_ports::Catalog) and [`Bus`](kanade_ports::Bus) on a NATS server, with the subjects, streams and
//! buckets that a kanade 0.30 fleet has.
//!
//! [`Nats::connect`] makes one connection, creates or widens what is missing on the server, and gives both ports,
//! which share the connection.

mod acks;
mod bus;
mod catalog;
mod connection;
mod consumer;
mod feed;
mod key;
mod link;
mod plan;
mod settings;
mod setup;

pub use connection::{ConnectError, Nats};
pub use settings::{NatsAuth, NatsSettings, NatsTls};
