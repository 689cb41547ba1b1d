//! What helpers keep that are called at every command: the copy of a credential, until it is of no more use.
//!
//! Kept with mode 0600 in `$XDG_RUNTIME_DIR` (memory, gone with the user's session), or where there is none in
//! `$XDG_STATE_HOME` (`~/.local/state`, on disk), and used only while the server says that its grant is live. Many
//! commands at once claim once: the file is locked meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    credential::Credential,
    exit::Failure,
    global::Cx,
    obtain,
    private_file::{Pending, runtime_dir},
};
use crate::{
    broker::view::GrantView,
    domain::{id::GrantId, time::Timestamp},
};

/// A copy that ends sooner is not handed out again.
const LEAST: Duration = Duration::from_secs(60);
/// Between two tries to get the lock.
const AGAIN: Duration = Duration::from_millis(50);
/// What the files' names end with.
const SUFFIX: &str = ".kept.json";

/// A copy, in the shape that its helper prints.
#[derive(Serialize, Deserialize)]
struct Copy {
    expires_at: Timestamp,
    text: String,
}

/// The copy of a grant's credential in one shape: the one that is kept, or a new one, which is kept if that is wanted.
pub async fn claimed(
    grant: &GrantView,
    shape: &str,
    keep: bool,
    cx: &Cx,
    render: impl Fn(&Credential) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let place = if keep { place(&grant.id, shape) } else { None };
    // Held to the end: whoever comes meanwhile finds what this one claims.
    let _lock = match &place {
        Some(place) => Some(locked(place).await?),
        None => None,
    };
    if let Some(kept) = place.as_deref().and_then(|p| kept(p, cx.ui.now())) {
        return Ok(kept);
    }
    // The place is made before anything is claimed.
    let pending = place.as_deref().map(Pending::reserve).transpose()?;
    let credential = obtain::claim(grant, cx).await?;
    let text = render(&credential)?;
    if let (Some(pending), Ok(expires_at)) = (pending, credential.expires_at.parse()) {
        let copy = Copy { expires_at, text: text.clone() };
        let bytes = serde_json::to_vec(&copy).map_err(|e| Failure::local(e.to_string()))?;
        // It is claimed: that it cannot be kept is no reason to lose it.
        if let Err(why) = pending.fill(&bytes) {
            cx.ui.note(&format!("the copy is not kept: {}", why.what));
        }
    }
    Ok(text)
}

/// Forget the copies in one shape: whoever got one says that it is of no use.
pub fn forget(shape: &str) {
    let Some(files) = kept_in().and_then(|dir| fs::read_dir(dir).ok()) else { return };
    let ending = format!(".{shape}{SUFFIX}");
    for file in files.flatten().filter(|file| file.file_name().to_string_lossy().ends_with(&ending)) {
        let _ = fs::remove_file(file.path());
    }
}

/// Where a grant's copy is kept; `None` where no directory is the user's alone.
fn place(grant: &str, shape: &str) -> Option<PathBuf> {
    let grant: GrantId = grant.parse().ok()?;
    Some(kept_in()?.join(format!("{grant}.{shape}{SUFFIX}")))
}

/// The directory of the copies, if there is one that is the user's alone.
fn kept_in() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = || set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    private_dir(&runtime_dir().or_else(state)?.join("tidegate"))
}

/// The directory, made if need be, if nobody else may look into it.
fn private_dir(dir: &Path) -> Option<PathBuf> {
    let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let found = fs::symlink_metadata(dir).ok().filter(fs::Metadata::is_dir)?;
    (found.mode() & 0o777 == 0o700).then(|| dir.to_owned())
}

/// The lock of a place, once nobody else holds it. The caller's time-out bounds the waiting.
async fn locked(place: &Path) -> Result<File, Failure> {
    let path = place.with_extension("lock");
    let unusable = |e: &dyn std::fmt::Display| {
        Failure::local(format!("{} cannot be locked: {e}", path.display())).next("give --no-cache")
    };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| unusable(&e))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(AGAIN).await,
            Err(fs::TryLockError::Error(e)) => return Err(unusable(&e)),
        }
    }
}

/// The copy, if it will still be of use. What has expired goes away here, that of other grants too.
fn kept(place: &Path, now: Timestamp) -> Option<String> {
    let good = |path: &Path| {
        let copy: Copy = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        (copy.expires_at > now.plus_std(LEAST)).then_some(copy.text)
    };
    for other in fs::read_dir(place.parent()?).ok()?.flatten() {
        let path = other.path();
        if path.to_string_lossy().ends_with(SUFFIX) && good(&path).is_none() {
            let _ = fs::remove_file(&path);
        }
    }
    good(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_the_users_alone_and_one_at_a_time_uses_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let dir = private_dir(&home.path().join("state/tidegate")).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let place = dir.join("g.aws.kept.json");
        let held = locked(&place).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(120), locked(&place)).await.is_err());
        drop(held);
        locked(&place).await.unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private_dir(&dir).is_none(), "others may look into it");
    }

    #[test]
    fn only_a_copy_that_is_of_use_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let put = |name: &str, seconds: u64| {
            let path = dir.path().join(name);
            let copy = Copy { expires_at: now.plus_std(Duration::from_secs(seconds)), text: "keys".into() };
            fs::write(&path, serde_json::to_string(&copy).unwrap()).unwrap();
            path
        };
        let (mine, other) = (put("a.aws.kept.json", 900), put("b.kube.kept.json", 30));
        assert_eq!(kept(&mine, now).as_deref(), Some("keys"));
        assert!(!other.exists() && mine.exists());
        assert!(kept(&mine, now.plus_std(Duration::from_secs(880))).is_none());
        assert!(!mine.exists());
    }
}
