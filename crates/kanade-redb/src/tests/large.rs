//! Files that are too large to be verified at every start.

use std::fs;

use kanade_ports::ErrorKind;

use crate::{
    Database,
    file::{Problem, look_at},
};

#[tokio::test]
async fn a_large_file_is_verified_only_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kanade.redb");
    let database = Database::open(&path).unwrap();
    let crashed = fs::read(&path).unwrap();
    database.close().await.unwrap();

    assert!(look_at(&path, 0).is_ok());
    for length in (4096..crashed.len()).step_by(4096) {
        fs::write(&path, &crashed[..length]).unwrap();
        let problem = look_at(&path, 0);
        assert!(
            matches!(problem, Err(Problem::Sentence(ErrorKind::Corrupt, _))),
            "{length} of {} bytes: {problem:?}",
            crashed.len()
        );
        assert!(fs::read(&path).unwrap() == crashed[..length], "it was changed");
    }
    fs::write(&path, &crashed).unwrap();
    assert!(look_at(&path, 0).is_ok());
}
