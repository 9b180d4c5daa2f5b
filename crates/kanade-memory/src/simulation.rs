//! A fleet without processes, in a time of its own: a clock that jumps to the next moment somebody waits for, a network
//! that delays, loses, repeats and cuts as it is told, and agents that do on it what a script says. Everything that is
//! left to chance follows from seeds.
//!
//! It runs in a tokio runtime of one thread whose time is paused: there, time only passes while nobody has anything to
//! do, so hours take as long as what happens in them.

mod agent;
mod clock;
mod diary;
mod network;

pub use agent::{Conduct, Kind, SimulatedAgent, Surroundings, Temper};
pub use clock::SimulatedClock;
pub use diary::{Deed, Diary, Entry};
pub use network::{Line, Network, Weather};
