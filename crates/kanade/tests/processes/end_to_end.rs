//! The main job from end to end, with the real binary and real processes: register, fire, watch, kill, revoke, delete,
//! stop and start again. One test a deployment; only the configuration differs.

use crate::{
    scenario::{self, Survives},
    support::Place,
};

#[test]
fn sqlite_and_sqlite() {
    the_main_job("sqlite", "sqlite", Survives::Both);
}

#[test]
fn redb_and_redb() {
    the_main_job("redb", "redb", Survives::Both);
}

#[test]
fn memory_and_memory() {
    the_main_job("memory", "memory", Survives::Nothing);
}

#[test]
fn sqlite_and_redb() {
    the_main_job("sqlite", "redb", Survives::Both);
}

#[test]
fn redb_and_sqlite() {
    the_main_job("redb", "sqlite", Survives::Both);
}

fn the_main_job(store: &str, catalog: &str, survives: Survives) {
    let place = Place::new(store, catalog);
    let server = scenario::the_main_job(&place, place.demo(), 3, Some("demo-1"), survives, |server| {
        assert_eq!(server.stop(), Some(0), "SIGTERM ends the server in order");
        place.demo()
    });
    assert_eq!(server.stop(), Some(0));
}
