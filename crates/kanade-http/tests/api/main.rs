//! The API through its router, over a core in memory, with agents in the test's hand. One module per resource.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod audit;
mod auth;
mod config;
mod dead_letters;
mod events;
mod executions;
mod faults;
mod fleet;
mod gateway;
mod gateway_abuse;
mod gateway_admission;
mod groups;
mod health;
mod idempotency;
mod inventory;
mod jobs;
mod jobs_conditional;
mod jobs_documents;
mod limits;
mod log;
mod openapi;
mod output;
mod overview;
mod pages;
mod paging;
mod params;
mod problems;
mod releases;
mod remote;
mod results;
mod run;
mod schedules;
mod scripts;
mod server;
mod slots;
mod sockets;
mod steering;
mod tls;
mod world;
