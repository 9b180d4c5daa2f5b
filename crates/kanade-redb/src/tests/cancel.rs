//! Callers that go away, and readers beside a commit.

use std::{future::poll_fn, task::Poll};

use kanade_ports::ExecutionStore;

use super::{
    disk::Disk,
    work::{Told, block_on, check, exec, sets, start, step},
};

#[test]
fn a_batch_whose_caller_goes_away_during_the_commit_is_kept_whole() {
    let disk = Disk::new();
    let database = start(&disk).unwrap();
    block_on(async {
        let store = database.store();
        disk.close_gate();
        let batch = sets(0);
        let mut apply = store.apply(&batch);
        let begun = poll_fn(|context| Poll::Ready(apply.as_mut().poll(context)));
        assert!(begun.await.is_pending());
        let waiting = disk.clone();
        tokio::task::spawn_blocking(move || waiting.wait_for_flush())
            .await
            .unwrap();
        drop(apply);
        // Nobody waits for the commit, and nothing of it shows yet.
        assert_eq!(store.execution(&exec(0)).await.unwrap(), None);
        disk.open_gate();
        assert_eq!(step(&database, 1).await, Told::Kept);
        check(&database, &[Told::Kept, Told::Kept]).await;
    });
}

#[test]
fn a_batch_whose_caller_goes_away_before_its_turn_leaves_nothing() {
    let disk = Disk::new();
    let database = start(&disk).unwrap();
    block_on(async {
        let store = database.store();
        disk.close_gate();
        let (first, second) = (sets(0), sets(1));
        let running = tokio::spawn({
            let store = database.store();
            async move { store.apply(&first).await }
        });
        let waiting = disk.clone();
        tokio::task::spawn_blocking(move || waiting.wait_for_flush())
            .await
            .unwrap();
        let mut apply = store.apply(&second);
        let begun = poll_fn(|context| Poll::Ready(apply.as_mut().poll(context)));
        assert!(begun.await.is_pending());
        drop(apply);
        disk.open_gate();
        running.await.unwrap().unwrap();
        check(&database, &[Told::Kept, Told::NotKept]).await;
    });
}
