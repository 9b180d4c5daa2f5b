//! A disk that is full: writes fail and say so, reads go on, and when there is room everything goes on.

use std::error::Error;

use kanade_ports::{Bucket, Catalog, ErrorKind, ExecutionStore, Key, Outcome, Precondition, StoreError};

use super::world::{World, exec, finished, fire, job};

#[tokio::test]
async fn writes_fail_while_no_page_can_be_added() {
    let world = World::new().await;
    full_and_free_again(
        &world,
        // Fewer pages than there are means: no more than there are.
        async || world.database.on_writer("PRAGMA max_page_count = 1").await,
        async || world.database.on_writer("PRAGMA max_page_count = 1000000").await,
    )
    .await;
}

async fn full_and_free_again(world: &World, fill: impl AsyncFn(), free: impl AsyncFn()) {
    const LARGE: usize = 1 << 20;
    let (store, catalog) = (world.database.store(), world.database.catalog());
    let key: Key = (&job()).into();
    let document = "x".repeat(LARGE);
    let result = [finished(1, 0, &document)];
    store.apply(&[fire(1, 1)]).await.unwrap();

    for round in 0..3 {
        fill().await;
        for _ in 0..3 {
            says_the_disk_is_full(
                &store
                    .apply(&[fire(100 + round, 1), result[0].clone()])
                    .await
                    .unwrap_err(),
            );
            let put = catalog.put(Bucket::Jobs, &key, document.clone().into(), Precondition::Any);
            says_the_disk_is_full(&put.await.unwrap_err());
            let execution = store.execution(&exec(1)).await.unwrap().unwrap();
            assert_eq!(execution.counts.success(), 0, "reads go on");
            assert_eq!(catalog.list(Bucket::Jobs).await.unwrap(), []);
        }
        free().await;
        let small = store.apply(&[fire(10 + round, 1)]).await.unwrap();
        assert_eq!(small, [Outcome::Applied], "writes go on");
        assert_eq!(
            store.execution(&exec(100 + round)).await.unwrap(),
            None,
            "nothing was kept of what failed"
        );
    }
    assert_eq!(store.apply(&result).await.unwrap(), [Outcome::Applied]);
    let put = catalog.put(Bucket::Jobs, &key, document.into(), Precondition::Any);
    put.await.unwrap();
    let execution = store.execution(&exec(1)).await.unwrap().unwrap();
    assert_eq!(execution.counts.success(), 1);
}

fn says_the_disk_is_full(error: &StoreError) {
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let reason = error.source().unwrap().to_string();
    assert!(reason.contains("disk is full"), "{reason}");
}

#[cfg(target_os = "linux")]
mod real {
    use std::{
        fs::{self, File},
        io::{self, Write},
        path::{Path, PathBuf},
        process::Command,
    };

    use kanade_ports::{ErrorKind, ExecutionStore};

    use super::{full_and_free_again, says_the_disk_is_full};
    use crate::{
        Database,
        tests::world::{World, exec},
    };

    /// A small disk in memory, mounted as long as this lives.
    struct Disk(PathBuf);

    impl Disk {
        /// None where one may not mount, which is said aloud: the other test of this module then has to do.
        fn mount(at: &Path, size: &str) -> Option<Self> {
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
                .arg(at)
                .output();
            match mounted {
                Ok(output) if output.status.success() => Some(Self(at.to_owned())),
                other => {
                    eprintln!("NOT TESTED WITH A REAL DISK, for want of the right to mount one: {other:?}");
                    None
                }
            }
        }

        fn fill(&self) {
            let mut ballast = File::create(self.0.join("ballast")).unwrap();
            for chunk in [vec![0; 4096], vec![0; 1]] {
                let full = loop {
                    if let Err(error) = ballast.write_all(&chunk) {
                        break error;
                    }
                };
                assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
            }
        }

        fn free(&self) {
            fs::remove_file(self.0.join("ballast")).unwrap();
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            // Lazily: the database may still be closing its files.
            drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
        }
    }

    #[tokio::test]
    async fn writes_fail_while_a_real_disk_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::mount(folder.path(), "24m") else {
            return;
        };
        let world = World::at(folder).await;
        full_and_free_again(&world, async || disk.fill(), async || disk.free()).await;

        world.database.close().await.unwrap();
        let again = Database::open(&world.path()).await.unwrap();
        for kept in [1, 10, 11, 12] {
            assert!(again.store().execution(&exec(kept)).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn a_database_that_does_not_fit_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::mount(folder.path(), "64k") else {
            return;
        };
        let path = folder.path().join("kanade.db");
        let error = Database::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        says_the_disk_is_full(&error);
        let left: Vec<_> = fs::read_dir(&disk.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kanade.db-lock"]);
    }
}
