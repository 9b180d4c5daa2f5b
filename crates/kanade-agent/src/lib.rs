//! The agent: runs scripts on an endpoint, over any bus ([`PubSub`](kanade_ports::PubSub)).
//!
//! [`Agent::start`] listens for Commands, kills, pings and requests for its log. What it guarantees:
//!
//! - **Nothing accepted is lost, nothing runs twice.** A Command is in the journal, on disk, before anything is done
//!   about it. A `request_id` that was seen before is not run again, also across a restart. What had not started when
//!   the agent went away is started when it is back; what had started is reported as failed, `interrupted`, and its
//!   processes are ended (on Linux also after a crash of the agent).
//! - **Results arrive.** Results, start events, refusals and receipts are on disk until the bus has them. A result that
//!   is too large for the bus is cut until it fits, and says so.
//! - **A kill works at any time.** Before the Command, during its jitter or in the queue, no process is started; during
//!   the run, the whole tree gets TERM, and KILL two seconds later. A receipt is sent at once, the result follows. After
//!   the end, nothing happens.
//! - **What must not start does not.** A revoked job, another pinned version, a deadline, and knowledge that is too old
//!   are looked at before and after the wait, and a refusal is told.
//! - **It stays small.** The number of runs in hand and running, the memory for output, and the memory for messages on
//!   their way are bounded; so is what it remembers of requests and kills.
//!
//! - **It tells what is printed while a run goes on**, to whoever listens: at most 64 KiB a second of a run, never at the
//!   cost of the script, and with marks where something is left out. The result does not depend on it.
//! - **It ticks by itself.** Schedules that agents run fire here, each slot once, also without a server and after a
//!   restart.
//! - **It follows its version.** Where the configuration names another one, [`Updates`] gets it, tries it out, and goes
//!   back if it does not come up. No script is interrupted for it.
//!
//! A full disk makes it refuse new Commands (the server sends them again) and send its reports from memory.

mod admission;
mod agent;
mod backoff;
mod config;
mod error;
mod file;
#[cfg(test)]
mod full_disk_tests;
mod in_hand;
mod inbox;
mod intake;
mod journal;
mod key;
mod knowledge;
mod live;
mod logs;
mod outbox;
mod output;
mod params;
mod presence;
mod process;
mod report;
mod run;
mod schedules;
#[cfg(unix)]
mod tree;
mod update;

pub use agent::Agent;
pub use config::{AgentConfig, AgentLimits};
pub use error::StartError;
pub use key::agent_key;
pub use logs::LogTail;
pub use update::{Candidate, Standing, Step, UpdateSettings, UpdateTiming, Updates};
