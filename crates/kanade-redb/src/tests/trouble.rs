//! Disks that fail for a while, under a store that goes on.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kanade_ports::{Bucket, Catalog, CatalogEvent, CatalogReader, ErrorKind, Precondition};
use tokio::time::timeout;

use super::{
    disk::{Disk, Trouble},
    work::{Told, block_on, check, id, start, start_without_cache, step, steps_until_failure},
};

const STEPS: usize = 5;

/// How many accesses the steps take on a new disk.
fn accesses(image: &[u8]) -> u64 {
    let disk = Disk::holding(image.to_vec());
    let database = start(&disk).unwrap();
    disk.trouble(Trouble::None);
    let told = block_on(steps_until_failure(&database, STEPS));
    assert_eq!(told, [Told::Kept; STEPS]);
    disk.accesses()
}

fn new_image() -> Vec<u8> {
    Disk::new().after_power_cut(0)
}

#[test]
fn one_failed_access_costs_one_commit_at_most() {
    let image = new_image();
    for number in 0..accesses(&image) {
        let disk = Disk::holding(image.clone());
        // Every other time, pages are written before the commit, too.
        let database = match number % 2 {
            0 => start(&disk).unwrap(),
            _ => start_without_cache(&disk).unwrap(),
        };
        disk.trouble(Trouble::Once(number));
        let told = block_on(async {
            let mut told = Vec::new();
            for number in 0..STEPS {
                let mut answer = step(&database, number).await;
                if answer == Told::NotKept {
                    check(&database, &[told.as_slice(), &[answer]].concat()).await;
                    answer = step(&database, number).await;
                }
                assert_eq!(answer, Told::Kept, "step {number}");
                told.push(answer);
            }
            check(&database, &told).await;
            told
        });
        // Of what was answered nothing waits for a flush that is still to come.
        let left = Disk::holding(disk.after_power_cut(number));
        block_on(async { check(&start(&left).unwrap(), &told).await });
    }
}

#[test]
fn one_failed_read_is_not_seen() {
    let disk = Disk::holding(new_image());
    let told = block_on(async {
        let database = start_without_cache(&disk).unwrap();
        let told = steps_until_failure(&database, STEPS).await;
        database.close().await.unwrap();
        told
    });
    let read = |trouble| {
        disk.trouble(Trouble::None);
        let database = start_without_cache(&disk).unwrap();
        disk.trouble(trouble);
        block_on(check(&database, &told));
        disk.reads()
    };
    for number in 0..read(Trouble::None) {
        read(Trouble::Read(number));
    }
}

#[test]
fn one_failed_read_costs_one_commit_at_most() {
    let disk = Disk::holding(new_image());
    let mut told = block_on(steps_until_failure(&start_without_cache(&disk).unwrap(), STEPS));
    let mut failed = 0;
    for number in 0..12 {
        disk.trouble(Trouble::None);
        let database = start_without_cache(&disk).unwrap();
        disk.trouble(Trouble::Read(number));
        block_on(async {
            let answer = step(&database, told.len()).await;
            assert_ne!(answer, Told::Unknown);
            failed += usize::from(answer == Told::NotKept);
            told.push(answer);
            check(&database, &told).await;
        });
    }
    assert!(failed > 0, "no commit met a failed read");
}

#[test]
fn a_disk_that_takes_no_writes_is_read_and_written_again_when_it_does() {
    let image = new_image();
    for number in 0..accesses(&image) {
        let disk = Disk::holding(image.clone());
        let database = start(&disk).unwrap();
        disk.trouble(Trouble::Stuck(number));
        block_on(async {
            let mut told = steps_until_failure(&database, STEPS).await;
            if told.last() == Some(&Told::Kept) {
                return;
            }
            check(&database, &told).await;
            let failed = told.len();
            for later in 0..2 {
                let answer = step(&database, failed + later).await;
                assert_eq!(answer, Told::NotKept, "a later step");
                told.push(answer);
                check(&database, &told).await;
            }
            disk.trouble(Trouble::None);
            told.push(step(&database, failed + 2).await);
            assert_eq!(told.last(), Some(&Told::Kept));
            check(&database, &told).await;
            database.close().await.unwrap();
            check(&start(&disk).unwrap(), &told).await;
        });
    }
}

#[test]
fn a_compaction_that_fails_does_no_harm() {
    let disk = Disk::holding(new_image());
    let mut told = block_on(steps_until_failure(&start(&disk).unwrap(), 2 * STEPS));
    let mut failed = 0;
    for number in 0..20 {
        disk.trouble(Trouble::None);
        let database = start(&disk).unwrap();
        disk.trouble(Trouble::Once(number));
        block_on(async {
            if let Err(error) = database.compact().await {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                failed += 1;
            }
            check(&database, &told).await;
            told.push(step(&database, told.len()).await);
            assert_eq!(told.last(), Some(&Told::Kept));
            check(&database, &told).await;
        });
    }
    assert!(failed > 5, "only {failed} compactions met a failed access");
}

#[test]
fn a_full_disk_is_read_and_written_again_once_there_is_room() {
    let disk = Disk::holding(new_image());
    let database = start(&disk).unwrap();
    block_on(async {
        let mut told = vec![step(&database, 0).await, step(&database, 1).await];
        for round in 0..3 {
            disk.trouble(Trouble::Room(disk.blocks() + 30 + round * 7));
            let mut failures = 0;
            while failures < 2 {
                let answer = step(&database, told.len()).await;
                assert!(matches!(answer, Told::Kept | Told::NotKept));
                failures += usize::from(answer == Told::NotKept);
                told.push(answer);
                check(&database, &told).await;
            }
            disk.trouble(Trouble::None);
            for _ in 0..2 {
                told.push(step(&database, told.len()).await);
                assert_eq!(told.last(), Some(&Told::Kept));
            }
            check(&database, &told).await;
        }
    });
}

#[test]
fn a_watcher_hears_of_what_was_written_and_is_cut_off_where_that_is_unknown() {
    let image = new_image();
    let mut seen = [0; 3];
    for number in 0..accesses(&image).min(40) {
        let disk = Disk::holding(image.clone());
        let database = start(&disk).unwrap();
        disk.trouble(Trouble::Stuck(number));
        block_on(async {
            let catalog = database.catalog();
            let mut watch = catalog.watch(Bucket::Jobs).await.unwrap();
            assert_eq!(watch.next().await, Some(CatalogEvent::Current));
            let told = step(&database, 3).await;
            seen[told as usize] += 1;
            match told {
                Told::Kept => {
                    let event = timeout(Duration::from_secs(10), watch.next()).await.unwrap();
                    assert!(matches!(event, Some(CatalogEvent::Put(_))), "{event:?}");
                }
                Told::Unknown => {
                    assert_eq!(
                        timeout(Duration::from_secs(10), watch.next()).await.unwrap(),
                        None
                    );
                }
                Told::NotKept => {
                    disk.trouble(Trouble::None);
                    let (key, later) = (id("later"), Bytes::from("later"));
                    let put = catalog.put(Bucket::Jobs, &key, later, Precondition::Any);
                    put.await.unwrap();
                    let event = timeout(Duration::from_secs(10), watch.next()).await.unwrap();
                    let Some(CatalogEvent::Put(entry)) = event else {
                        panic!("{event:?}");
                    };
                    assert_eq!(entry.key.as_str(), "later");
                }
            }
        });
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
