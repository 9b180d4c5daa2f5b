//! The port over the folder.

use std::{fmt, io, path::Path, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use kanade_model::Version;
use kanade_ports::{Clock, ErrorKind, Measure, Program, Release, ReleaseReader, Releases, StoreError};
use tokio::{fs::File, io::AsyncWriteExt, task::spawn_blocking};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::{
    folder::{Fault, Folder},
    record::{self, Record},
};

/// How much of a program is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// [`Releases`] as files in a folder that nobody else writes to.
pub struct FileReleases {
    folder: Arc<Folder>,
    clock: Arc<dyn Clock>,
}

impl FileReleases {
    /// Opens the folder, making it if there is none. What writes have left that did not come to their end is removed,
    /// so a folder has one user at a time. `clock` dates what is stored.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be made, read or written.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let opened = Folder::open(folder);
        let folder =
            opened.map_err(|fault| failed(&format!("open the releases in {}", folder.display()), fault))?;
        Ok(Self {
            folder: Arc::new(folder),
            clock,
        })
    }

    /// Does something in the folder, to its end, whether or not somebody still waits for it.
    async fn with<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Folder) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let done = spawn_blocking(move || work(&folder)).await;
        let done = done.unwrap_or_else(|ended| Err(io::Error::other(ended).into()));
        done.map_err(|fault| failed(doing, fault))
    }
}

impl fmt::Debug for FileReleases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileReleases")
    }
}

#[async_trait]
impl ReleaseReader for FileReleases {
    async fn find(&self, version: &Version) -> Result<Option<Release>, StoreError> {
        let wanted = version.clone();
        let found = self
            .with(&format!("look for release `{version}`"), move |folder| {
                folder.record(&wanted)
            })
            .await?;
        Ok(found.map(Record::release))
    }

    async fn get(&self, version: &Version) -> Result<Option<(Release, Program)>, StoreError> {
        let wanted = version.clone();
        let found = self
            .with(&format!("read release `{version}`"), move |folder| {
                folder.program(&wanted)
            })
            .await?;
        Ok(found.map(|(record, file)| {
            let program = ReaderStream::with_capacity(File::from_std(file), PIECE);
            (record.release(), program.boxed())
        }))
    }
}

#[async_trait]
impl Releases for FileReleases {
    async fn list(&self) -> Result<Vec<Release>, StoreError> {
        let records = self.with("list releases", Folder::records).await?;
        let mut releases: Vec<_> = records.into_iter().map(Record::release).collect();
        releases.sort_by(|one, other| one.version.cmp(&other.version));
        Ok(releases)
    }

    async fn put(&self, version: &Version, mut program: Program) -> Result<Release, StoreError> {
        let doing = format!("store release `{version}`");
        if let Err(error) = version.check() {
            return Err(StoreError::new(ErrorKind::Unsupported, doing).because(error));
        }
        let (file, path) = self.with(&doing, Folder::incoming).await?;
        let mut file = File::from_std(file);
        let mut measure = Measure::default();
        let written = async {
            while let Some(bytes) = program.try_next().await? {
                measure.take(&bytes);
                file.write_all(&bytes).await?;
            }
            file.flush().await?;
            file.sync_all().await
        };
        let written: io::Result<()> = written.await;
        written.map_err(|error| failed(&doing, error.into()))?;
        let release = Release {
            version: version.clone(),
            size: measure.size(),
            digest: measure.digest(),
            modified: self.clock.now(),
        };
        let record = Record::new(release.clone(), record::program_name(Uuid::new_v4()));
        let version = version.clone();
        self.with(&doing, move |folder| folder.release(path, &record, &version))
            .await?;
        Ok(release)
    }

    async fn delete(&self, version: &Version) -> Result<(), StoreError> {
        let wanted = version.clone();
        self.with(&format!("delete release `{version}`"), move |folder| {
            folder.delete(&wanted)
        })
        .await
    }
}

fn failed(doing: &str, fault: Fault) -> StoreError {
    let failed = |kind| StoreError::new(kind, doing);
    match fault {
        Fault::Io(error) => failed(ErrorKind::Unavailable).because(error),
        Fault::Unreadable(error) => failed(ErrorKind::Corrupt).because(error),
        Fault::Unsettled(error) => failed(ErrorKind::Indeterminate).because(error),
        Fault::Missing => failed(ErrorKind::NotFound),
    }
}
