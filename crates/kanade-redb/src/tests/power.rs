//! Power cuts, at every access to the disk.

use super::{
    disk::{Disk, Trouble},
    work::{block_on, check, start, steps_until_failure},
};
use crate::engine;

const STEPS: usize = 8;

#[test]
fn after_a_power_cut_all_that_was_answered_is_there() {
    let begin = Disk::new();
    let image = begin.after_power_cut(0);
    drop(begin);
    let whole = Disk::holding(image.clone());
    whole.trouble(Trouble::None);
    block_on(async {
        let database = start(&whole).unwrap();
        steps_until_failure(&database, STEPS).await;
    });
    for cut in 0..whole.accesses() {
        let disk = Disk::holding(image.clone());
        disk.trouble(Trouble::PowerCut(cut));
        let told = block_on(async {
            match start(&disk) {
                Ok(database) => steps_until_failure(&database, STEPS).await,
                Err(_) => Vec::new(),
            }
        });
        for seed in 0..3 {
            let left = Disk::holding(disk.after_power_cut(cut * 3 + seed));
            verify(&left);
            block_on(async {
                let database = start(&left).unwrap();
                check(&database, &told).await;
            });
        }
    }
}

/// Has the engine compare every page with its checksum.
fn verify(disk: &Disk) {
    let opened = engine::builder()
        .set_check_integrity_on_open(true)
        .create_with_backend(disk.device());
    opened.unwrap().close().unwrap();
}
