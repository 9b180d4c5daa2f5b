//! The agent's own key: a random text in its folder, by which a server knows that it is the same agent coming back.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use uuid::Uuid;

const FILE: &str = "key";
/// Longer than any key, so that another file in its place is not read to its end.
const LONGEST: u64 = 1024;

/// The key of the agent whose folder this is: 64 hexadecimal digits, made at the first call. Only the user who runs the
/// agent can read the file. Folder and file are made when they are missing.
///
/// # Errors
/// When the folder cannot be used, or `key` in it is no key (then the error is `InvalidData`).
pub fn agent_key(folder: &Path) -> io::Result<String> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    match File::open(&path) {
        Ok(file) => read(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(folder)?;
            read(File::open(&path)?)
        }
        Err(error) => Err(error),
    }
}

/// Writes a new key under another name first, so that a crash or a full disk leaves no half of one. When two do this at
/// the same time, the key of the first stays.
fn create(folder: &Path) -> io::Result<()> {
    let draft = folder.join(format!("{FILE}.{}", Uuid::new_v4().simple()));
    let written = write(&draft).and_then(|()| match std::fs::hard_link(&draft, folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = std::fs::remove_file(&draft);
    written.and(removed)
}

fn write(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let (one, two) = (Uuid::new_v4().simple(), Uuid::new_v4().simple());
    write!(file, "{one}{two}")?;
    file.sync_all()
}

fn read(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_owned())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "`key` in the agent's folder is damaged; remove it, and the agent makes a new one",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("new/agent");
        let key = agent_key(&inside).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(agent_key(&inside).unwrap(), key);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(agent_key(other.path()).unwrap(), key);
        assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn those_who_make_it_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let making: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| agent_key(folder.path()).unwrap()))
                .collect();
            making.into_iter().map(|made| made.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        agent_key(folder.path()).unwrap();
        let mode = std::fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_key_is_told_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "short", &"x".repeat(64), &"a".repeat(2000)] {
            std::fs::write(folder.path().join(FILE), damaged).unwrap();
            let error = agent_key(folder.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged:?}");
            assert_eq!(
                std::fs::read_to_string(folder.path().join(FILE)).unwrap(),
                damaged
            );
        }
    }
}
