//! What an agent needs to tick by itself, in a file: the documents as it knew them last, and when jobs succeeded.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use kanade_model::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::file;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Bucket → key → document.
    pub(crate) documents: BTreeMap<String, BTreeMap<String, String>>,
    /// Job → when a run of it last succeeded here.
    pub(crate) successes: BTreeMap<JobId, Timestamp>,
}

/// The file.
pub(crate) struct Memory {
    path: PathBuf,
    /// What is in it, and what is to be.
    kept: Arc<Mutex<Kept>>,
    /// Held while it is written.
    writing: tokio::sync::Mutex<()>,
}

impl Memory {
    /// Reads it. One that cannot be understood counts for nothing.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("schedules.json");
        let kept = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "what was kept of schedules is damaged; it counts for nothing");
                Kept::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read what was kept of schedules");
                }
                Kept::default()
            }
        };
        Self {
            path,
            kept: Arc::new(Mutex::new(kept)),
            writing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn documents(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.kept().documents.clone()
    }

    pub(crate) fn success(&self, job: &JobId) -> Option<Timestamp> {
        self.kept().successes.get(job).copied()
    }

    /// Changes what is kept; on the disk when this returns, as far as the disk takes it.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut Kept)) {
        let _writing = self.writing.lock().await;
        let text = {
            let mut kept = self.kept();
            let before = kept.clone();
            change(&mut kept);
            if *kept == before {
                return;
            }
            serde_json::to_vec(&*kept).expect("all keys are text")
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || file::replace(&path, &text)).await;
        if let Err(error) = written.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            tracing::error!(path = %self.path.display(), %error, "cannot keep what is needed to tick without a server");
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while locked")
    }
}
