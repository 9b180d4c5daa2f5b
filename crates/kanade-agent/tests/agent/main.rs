//! The agent from outside: Commands and kills go in over a bus, processes run, messages come out.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod admission;
mod backlog;
mod delivery;
mod groups;
mod kills;
mod params;
mod presence;
mod restart;
mod runs;
mod schedules;
mod world;
