//! Servers for these tests.

pub(crate) use kanade_nats_testing::*;
