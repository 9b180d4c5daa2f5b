//! The world of a case of releases: fresh ones, and storing and reading them in few words.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kanade_model::Version;
use kanade_ports::{ErrorKind, Measure, Program, Release, ReleaseReader, Releases, StoreError};

use crate::{ReleasesFactory, harness::Rng, within};

/// By then, whatever must come has come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Releases of a case's own.
pub(crate) struct Depot<F> {
    factory: F,
    pub(crate) releases: Arc<dyn Releases>,
    /// The same for an agent.
    reader: Arc<dyn ReleaseReader>,
}

impl<F: ReleasesFactory> Depot<F> {
    pub(crate) async fn new() -> Self {
        let factory = F::fresh().await;
        let releases = factory.open().await;
        Self::of(factory, releases).await
    }

    async fn of(factory: F, releases: Arc<dyn Releases>) -> Self {
        let reader = factory.reader(&releases).await;
        Self {
            factory,
            releases,
            reader,
        }
    }

    /// The same releases after a clean stop and a start; whether they are kept.
    pub(crate) async fn reopened(self) -> (Self, bool) {
        let Self {
            factory,
            releases,
            reader,
        } = self;
        drop(reader);
        let releases = factory.reopen(releases).await;
        let survives = factory.survives_reopen();
        (Self::of(factory, releases).await, survives)
    }

    pub(crate) async fn put(&self, name: &str, program: &[u8]) -> Release {
        let name = version(name);
        let stored = self.releases.put(&name, in_pieces(program, 1 << 16));
        within(SOON, "a program is stored", stored).await.unwrap()
    }

    /// The program of a version, all of it, as every question about it says it is.
    pub(crate) async fn get(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.releases.get(&version(name)).await.unwrap();
        let known = self.releases.find(&version(name)).await.unwrap();
        assert_eq!(
            found.as_ref().map(|(release, _)| release),
            known.as_ref(),
            "{name}"
        );
        let (release, program) = found?;
        let bytes = read(program).await.unwrap();
        is_of(&release, &bytes);
        Some(bytes)
    }

    /// The same as an agent gets it.
    pub(crate) async fn get_as_agent(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.reader.get(&version(name)).await.unwrap();
        let known = self.reader.find(&version(name)).await.unwrap();
        let digest = |release: &Release| (release.version.clone(), release.size, release.digest.clone());
        assert_eq!(
            found.as_ref().map(|(release, _)| digest(release)),
            known.as_ref().map(digest),
            "{name}"
        );
        let (release, program) = found?;
        let bytes = read(program).await.unwrap();
        is_of(&release, &bytes);
        Some(bytes)
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        let listed = self.releases.list().await.unwrap();
        listed.iter().map(|release| release.version.to_string()).collect()
    }
}

pub(crate) fn version(name: &str) -> Version {
    name.parse().unwrap()
}

/// A program in pieces of a size that the backend has not chosen.
pub(crate) fn in_pieces(program: &[u8], size: usize) -> Program {
    let pieces: Vec<io::Result<Bytes>> = program
        .chunks(size)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

/// The same, and then it breaks off.
pub(crate) fn broken(program: &[u8]) -> Program {
    let fails = stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
    in_pieces(program, 1 << 16).chain(fails).boxed()
}

/// The same, and then it never ends.
pub(crate) fn endless(program: &[u8]) -> Program {
    in_pieces(program, 1 << 16).chain(stream::pending()).boxed()
}

/// Bytes that compress badly and differ for each seed.
pub(crate) fn program(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Rng::new(seed);
    (0..size)
        .map(|_| u8::try_from(random.below(256)).unwrap())
        .collect()
}

pub(crate) async fn read(program: Program) -> io::Result<Vec<u8>> {
    let all = program.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    within(SOON, "a program comes to its end", all).await
}

/// Checks that a program is the one that a release tells of.
#[track_caller]
pub(crate) fn is_of(release: &Release, bytes: &[u8]) {
    let mut measure = Measure::default();
    measure.take(bytes);
    assert_eq!(release.size, measure.size(), "the size of {}", release.version);
    assert_eq!(
        release.digest,
        measure.digest(),
        "the digest of {}",
        release.version
    );
}

pub(crate) fn kind<T>(answer: Result<T, StoreError>) -> Result<T, ErrorKind> {
    answer.map_err(|error| error.kind())
}
