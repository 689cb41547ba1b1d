//! Key files: read only if nobody else can read them, written whole or not at all, never overwritten.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::ports::entropy::{Entropy, EntropyError};

const LARGEST: u64 = 16 * 1024;
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key file that cannot be used. The text names the file and says what to do; it never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Somebody else could read or change it.
    #[error("{} has mode {mode:04o}: others could read the keys; run `chmod {} {}`", path.display(), want, path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its mode now.
        mode: u32,
        /// The mode that it should have.
        want: &'static str,
    },
    /// Not a key of the expected kind.
    #[error("{} is not {want}; restore it from a backup, or move it away to have a new one made", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected.
        want: &'static str,
    },
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that does not fit into a file name.
    #[error("`{0}` cannot name a key: use 1 to 64 characters of a-z, 0-9 and `-`")]
    Name(String),
    /// No randomness, no key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The crypto library refused to make a key.
    #[error("no key could be made: {0}")]
    Generate(String),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { action, path, source }
}

/// Make the directory with mode 0700, or check that it has it.
pub fn open_dir(dir: &Path) -> Result<(), KeyFileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make the key directory", dir))?;
    let found = fs::metadata(dir).map_err(io_error("look at", dir))?;
    refuse_open(dir, found.permissions().mode(), "700")
}

fn refuse_open(path: &Path, mode: u32, want: &'static str) -> Result<(), KeyFileError> {
    let mode = mode & 0o7777;
    let others = mode & 0o077;
    if others == 0 { Ok(()) } else { Err(KeyFileError::TooOpen { path: path.to_owned(), mode, want }) }
}

/// The PKCS#8 bytes of a key file; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("open", path)(e)),
    };
    let found = file.metadata().map_err(io_error("look at", path))?;
    refuse_open(path, found.permissions().mode(), "600")?;
    let malformed = || KeyFileError::Malformed { path: path.to_owned(), want: "a private key in PEM (PKCS#8)" };
    if found.len() > LARGEST {
        return Err(malformed());
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1));
    file.read_to_string(&mut text).map_err(io_error("read", path))?;
    let body = text.trim().strip_prefix(BEGIN).and_then(|t| t.strip_suffix(END)).ok_or_else(malformed)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    Ok(Some(Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| malformed())?)))
}

/// Write a key file that does not exist yet, durably. If another process was faster, its file stays: read it again.
pub fn write_new(path: &Path, pkcs8: &[u8], entropy: &dyn Entropy) -> Result<(), KeyFileError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut random = [0_u8; 8];
    entropy.fill(&mut random)?;
    let temporary = dir.join(format!(".new-{}", hex::encode(random)));
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + 128));
    text.push_str(BEGIN);
    text.push('\n');
    for (i, c) in body.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push('\n');
    text.push_str(END);
    text.push('\n');
    let written = write_whole(&temporary, text.as_bytes()).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("write", path)(e)),
        _ => Ok(()),
    });
    let cleaned = fs::remove_file(&temporary);
    written?;
    cleaned.map_err(io_error("remove", &temporary))?;
    sync_dir(dir)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io_error("write", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

/// Make what happened in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<(), KeyFileError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error("sync", dir))
}

/// Remove a key file; none there is done.
pub fn remove(path: &Path) -> Result<(), KeyFileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(e)),
        _ => sync_dir(path.parent().unwrap_or_else(|| Path::new("."))),
    }
}

/// The names of the files in a directory.
pub fn names(dir: &Path) -> Result<Vec<String>, KeyFileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::entropy::SystemEntropy;

    #[test]
    fn a_key_file_is_private_and_survives() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        open_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
        let path = dir.join("a.pem");
        assert!(read(&path).unwrap().is_none());
        write_new(&path, &[7; 100], &SystemEntropy::new()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), &[7; 100]);
        write_new(&path, &[8; 100], &SystemEntropy::new()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), &[7; 100], "a key is never overwritten");
        assert_eq!(names(&dir).unwrap(), ["a.pem"], "nothing is left behind");
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.pem");
        write_new(&path, &[7; 100], &SystemEntropy::new()).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains("chmod 600"), "{text}");
        }
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(open_dir(home.path()).unwrap_err().to_string().contains("chmod 700"));
    }
}
