//! What is noted about updates, in a file that is always whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kanade_model::Version;
use serde::{Deserialize, Serialize};

use crate::file::{self, sync_folder};

/// How an update stands. Another version of this program may have written it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Noted {
    /// A program that was installed and has not shown life yet.
    pub(super) trial: Option<Trial>,
    /// A program that is not tried again.
    pub(super) failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) version: Version,
    pub(super) digest: String,
    /// The version before.
    pub(super) from: Version,
    /// How often it was started.
    pub(super) starts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) version: Version,
    pub(super) digest: String,
    pub(super) why: String,
}

impl Failed {
    pub(super) fn is(&self, version: &Version, digest: &str) -> bool {
        self.version == *version && self.digest == digest
    }
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    folder: PathBuf,
    pub(super) steps: Steps,
}

impl Record {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            steps: Steps::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("update.json")
    }

    /// What is noted. A file that cannot be understood keeps no agent from starting.
    pub(super) fn read(&self) -> Noted {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Noted::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read how an update stands");
                return Noted::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "what is noted about updates is damaged; it counts for nothing");
            Noted::default()
        })
    }

    /// When this returns, it is on the disk.
    pub(super) fn write(&self, noted: &Noted) -> io::Result<()> {
        let path = self.path();
        if *noted == Noted::default() {
            self.steps.take()?;
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_folder(&self.folder),
            };
        }
        self.steps.take()?;
        file::replace(&path, &serde_json::to_vec(noted)?)
    }
}

/// Changes on the disk, before each of which a test may stop the machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    #[cfg(test)]
    left: Option<std::sync::Arc<std::sync::atomic::AtomicUsize>>,
}

impl Steps {
    #[cfg(test)]
    pub(super) fn breaking(after: usize) -> Self {
        Self {
            left: Some(std::sync::Arc::new(after.into())),
        }
    }

    #[cfg_attr(
        not(test),
        expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "only tests stop machines"
        )
    )]
    pub(super) fn take(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &self.left {
            use std::sync::atomic::Ordering::Relaxed;
            left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .map_err(|_| io::Error::other("the machine has stopped"))?;
        }
        Ok(())
    }
}
