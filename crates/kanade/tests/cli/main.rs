//! The operator commands as a person or a program uses them: the real binary against a small server whose answers the
//! test chooses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod apply;
mod ask;
mod double;
mod follow;
mod import;
mod lists;
mod machine;
mod releases;
mod usage;
mod watch;
