//! The core as its users see it, over memory backends, a clock in the test's hand and an agent double on the bus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_ports;
mod broker;
mod committing;
mod documents;
mod firing;
mod holding;
mod killing;
mod pacing;
mod params;
mod presence;
mod projecting;
mod races;
mod retained;
mod scheduling;
mod steering;
mod upkeep;
mod world;
mod years;
