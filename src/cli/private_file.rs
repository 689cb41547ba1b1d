//! Files that hold secrets: mode 0600 from the first byte, in place at once or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::exit::Failure;
use crate::ports::entropy::{Entropy as _, SystemEntropy};

fn random_name(prefix: &str) -> Result<String, Failure> {
    let text = SystemEntropy::new().text(12).map_err(|e| Failure::local(e.to_string()))?;
    Ok(format!("{prefix}{}", text.expose()))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Write a new file with mode 0600; one that is there is an error.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// A file that takes its place when its content is complete. Made before a secret is asked for, so that a secret is
/// never minted for a place where it cannot be put.
pub struct Pending {
    path: PathBuf,
    draft: PathBuf,
    file: File,
    /// What is there may be written over.
    replaces: bool,
    done: bool,
}

impl Pending {
    /// Reserve the place of a file that is ours to replace.
    pub fn reserve(path: &Path) -> Result<Self, Failure> {
        Self::make(path, true)
    }

    /// Reserve the place of a new file: one that is there is somebody's, and holds more than this one secret perhaps.
    pub fn reserve_new(path: &Path) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::local(format!("{} is there already", path.display()))
                .kept("No secret was asked for, and the file is as it was.")
                .next("give another place with --out, or --force to write over it"));
        }
        Self::make(path, false)
    }

    fn make(path: &Path, replaces: bool) -> Result<Self, Failure> {
        let unusable = |e: &dyn std::fmt::Display| {
            Failure::local(format!("{} cannot be written: {e}", path.display()))
                .kept("No secret was asked for.")
                .next("give another place with --out")
        };
        let name = path.file_name().filter(|_| !path.is_dir()).ok_or_else(|| unusable(&"it is a directory"))?;
        let draft = path.with_file_name(random_name(&format!(".{}.", name.to_string_lossy()))?);
        let file = create(&draft).map_err(|e| unusable(&e))?;
        Ok(Self { path: path.to_owned(), draft, file, replaces, done: false })
    }

    /// Put the content in place.
    pub fn fill(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| if self.replaces { fs::rename(&self.draft, &self.path) } else { self.link() });
        written.map_err(|e| Failure::local(format!("{} could not be written: {e}", self.path.display())))?;
        self.done = true;
        Ok(())
    }

    /// Unlike a renaming, this fails if somebody made the file meanwhile.
    fn link(&self) -> io::Result<()> {
        fs::hard_link(&self.draft, &self.path)?;
        fs::remove_file(&self.draft)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// A directory with mode 0700 that goes away with everything in it.
pub struct TempDir(PathBuf);

/// The user's run-time directory: in memory, and gone with the session.
pub fn runtime_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute() && p.is_dir())
}

impl TempDir {
    /// A fresh one: in the user's run-time directory (memory) if there is one, else in the temporary directory.
    pub fn new() -> Result<Self, Failure> {
        let path = runtime_dir().unwrap_or_else(std::env::temp_dir).join(random_name("tidegate-")?);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| Failure::local(format!("no private directory could be made at {}: {e}", path.display())))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_lie_in_files_that_others_cannot_read() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "old").unwrap();
        Pending::reserve(&file).unwrap().fill(b"new").unwrap();
        assert_eq!((fs::read(&file).unwrap(), mode(&file), mode(dir.path())), (b"new".to_vec(), 0o600, 0o700));
        assert!(Pending::reserve_new(&file).is_err(), "what is there is not ours");
        let other = dir.path().join("other");
        let (first, second) = (Pending::reserve_new(&other).unwrap(), Pending::reserve_new(&other).unwrap());
        first.fill(b"first").unwrap();
        assert!(second.fill(b"second").is_err());
        assert_eq!((fs::read(&other).unwrap(), mode(&other)), (b"first".to_vec(), 0o600));
        fs::remove_file(&other).unwrap();
        drop(Pending::reserve(&file).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft that was not filled is gone");
        assert!(Pending::reserve(dir.path()).is_err());
        assert!(write_new(&file, b"x").is_err(), "nothing is written over");
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }
}
