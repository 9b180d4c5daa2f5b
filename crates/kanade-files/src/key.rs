//! The key that seals secrets, as a file that only the server's account may read.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use kanade_ports::{ErrorKind, KeyKeeper, SealingKey, StoreError};
use tempfile::Builder;
use tokio::task::spawn_blocking;

/// A [`KeyKeeper`] that keeps the key in hexadecimal digits, in a file of its own that is made at the first use.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Of this path, in a folder that exists. Nothing is read or written yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let done = spawn_blocking(move || work(&path)).await;
        done.unwrap_or_else(|ended| Err(io::Error::other(ended)))
            .map_err(|error| {
                let kind = match error.kind() {
                    io::ErrorKind::InvalidData => ErrorKind::Corrupt,
                    _ => ErrorKind::Unavailable,
                };
                StoreError::new(
                    kind,
                    format!("{doing} the key of secrets in {}", self.path.display()),
                )
                .because(error)
            })
    }
}

#[async_trait]
impl KeyKeeper for KeyFile {
    async fn key(&self) -> Result<Option<SealingKey>, StoreError> {
        self.with("read", read).await
    }

    async fn keep(&self, fresh: SealingKey) -> Result<SealingKey, StoreError> {
        self.with("make", move |path| keep(path, fresh)).await
    }
}

fn read(path: &Path) -> io::Result<Option<SealingKey>> {
    match fs::read_to_string(path) {
        Ok(text) => decode(text.trim_end()).map(Some).ok_or_else(|| {
            let what = "64 hexadecimal digits are wanted; put the right file back, a new key would not open what is sealed";
            io::Error::new(io::ErrorKind::InvalidData, what)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Written whole under another name first: a crash leaves the key or nothing.
fn keep(path: &Path, fresh: SealingKey) -> io::Result<SealingKey> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Such a file is for its owner only from the start.
    let mut draft = Builder::new().prefix(".secrets").tempfile_in(folder)?;
    draft.write_all(encode(&fresh).as_bytes())?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return read(path)?.ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        Err(error) => return Err(error.error),
    }
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = File::open;
    Ok(fresh)
}

fn encode(key: &SealingKey) -> String {
    let digits: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + "\n"
}

fn decode(text: &str) -> Option<SealingKey> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(SealingKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_key_stays_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let file = KeyFile::new(path.clone());
        assert_eq!(file.key().await.unwrap(), None);
        let first = SealingKey([0xab; 32]);
        assert_eq!(file.keep(first.clone()).await.unwrap(), first);
        assert_eq!(file.keep(SealingKey([1; 32])).await.unwrap(), first);
        assert_eq!(KeyFile::new(path.clone()).key().await.unwrap(), Some(first));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        for text in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            fs::write(&path, text).unwrap();
            let file = KeyFile::new(path.clone());
            assert_eq!(file.key().await.unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
            assert!(file.keep(SealingKey([1; 32])).await.is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
