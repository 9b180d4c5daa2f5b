//! The real binary as real processes: from end to end, through crashes, and at its limits.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crash;
mod end_to_end;
mod fleet;
mod limits;
mod live;
mod nats;
mod net;
mod remote;
mod scenario;
mod simulated;
mod support;
mod update;
mod waves;
