//! What only a disk that misbehaves shows: these tests run a data file on a simulated one.

mod cancel;
mod disk;
mod format;
mod large;
mod power;
mod trouble;
mod work;
