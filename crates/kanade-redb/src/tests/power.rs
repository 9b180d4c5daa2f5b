//! Power cuts, at every access to the disk.

use kanade_model::Timestamp;
use kanade_ports::{Change, ChangeSet, DeadLetter, ExecutionStore, Forget};

use super::{
    disk::{Disk, Trouble},
    work::{block_on, check, id, start, start_without_cache, steps_until_failure},
};
use crate::{Database, engine, fault::Fault};

const STEPS: usize = 8;

#[test]
fn after_a_power_cut_all_that_was_answered_is_there() {
    cut(start, 1);
}

#[test]
fn pages_that_are_written_early_do_not_matter_after_a_power_cut() {
    cut(start_without_cache, 7);
}

/// Cuts the power at every access, or at some, while work is done.
fn cut(start_work: fn(&Disk) -> Result<Database, Fault>, every: usize) {
    let image = Disk::new().after_power_cut(0);
    let work = |disk: &Disk| {
        block_on(async {
            match start_work(disk) {
                Ok(database) => steps_until_failure(&database, STEPS).await,
                Err(_) => Vec::new(),
            }
        })
    };
    let whole = Disk::holding(image.clone());
    whole.trouble(Trouble::None);
    work(&whole);
    for access in (0..whole.accesses()).step_by(every) {
        let disk = Disk::holding(image.clone());
        disk.trouble(Trouble::PowerCut(access));
        let told = work(&disk);
        for seed in 0..3 {
            let left = Disk::holding(disk.after_power_cut(access * 3 + seed));
            verify(&left);
            block_on(async { check(&start(&left).unwrap(), &told).await });
        }
    }
}

#[test]
fn a_power_cut_during_compaction_loses_nothing() {
    let disk = Disk::new();
    let told = block_on(async {
        let database = start(&disk).unwrap();
        let letters = waste(&database).await;
        let told = steps_until_failure(&database, STEPS).await;
        database.store().apply(&[ChangeSet::of(letters)]).await.unwrap();
        database.close().await.unwrap();
        told
    });
    let image = disk.after_power_cut(0);
    // Most of it is free, so it is compacted at the start.
    let started = |trouble| {
        let disk = Disk::holding(image.clone());
        disk.trouble(trouble);
        drop(start(&disk));
        disk
    };
    let whole = started(Trouble::None);
    let compacted = whole.after_power_cut(0).len();
    assert!(
        compacted < image.len() / 2,
        "{compacted} of {} bytes",
        image.len()
    );
    for access in 0..whole.accesses() {
        let disk = started(Trouble::PowerCut(access));
        for seed in 0..3 {
            let left = Disk::holding(disk.after_power_cut(access * 3 + seed));
            verify(&left);
            block_on(async { check(&start(&left).unwrap(), &told).await });
        }
    }
}

/// Fills the store with dead letters; gives what removes them.
async fn waste(database: &Database) -> Change {
    let letter = DeadLetter {
        subject: id("results.none"),
        payload: "?".repeat(5000),
        reason: "no JSON".into(),
        at: Timestamp::UNIX_EPOCH,
    };
    let sets = vec![ChangeSet::of(Change::DeadLetter(letter)); 300];
    database.store().apply(&sets).await.unwrap();
    Change::Forget(Forget {
        dead_letters: (1..=300).collect(),
        ..Forget::default()
    })
}

/// Has the engine compare every page with its checksum.
fn verify(disk: &Disk) {
    let opened = engine::builder(engine::CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(disk.device());
    opened.unwrap().close().unwrap();
}
