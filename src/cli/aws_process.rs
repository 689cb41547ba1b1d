//! `tidegate aws-credential-process`: the `credential_process` of the AWS command line and SDKs.
//!
//! They call it at every command and keep nothing, so what it claimed is kept, mode 0600, in `$XDG_RUNTIME_DIR` (memory,
//! gone with the user's session), or where there is none in `$XDG_STATE_HOME` (`~/.local/state`, on disk). It is used only
//! while the server says that its grant is live. Many commands at once claim once: the file is locked meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{
    exit::{Done, Exit, Failure},
    global::Cx,
    obtain,
    private_file::{Pending, runtime_dir},
    request::Wish,
};
use crate::domain::{id::GrantId, time::Timestamp};

/// A copy that ends sooner is not handed out again.
const LEAST: Duration = Duration::from_secs(60);
/// Between two tries to get the lock.
const AGAIN: Duration = Duration::from_millis(50);

/// Print keys for the AWS command line and SDKs: `credential_process = tidegate aws-credential-process --target T`
#[derive(Debug, Args)]
pub struct AwsProcessArgs {
    /// The target, entitlement or grant
    #[arg(long, value_name = "TARGET")]
    pub target: String,
    /// What to ask for if there is no live grant; nothing is asked for without --reason
    #[command(flatten)]
    pub wish: Wish,
    /// Do not ask for access, even with --reason
    #[arg(long)]
    pub no_request: bool,
    /// Claim anew each time, and keep nothing: in $XDG_RUNTIME_DIR, or without it under $XDG_STATE_HOME (~/.local/state)
    #[arg(long)]
    pub no_cache: bool,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
}

/// Run it.
pub async fn run(args: AwsProcessArgs, cx: &Cx) -> Done {
    obtain::not_for_eyes(cx, args.reveal)?;
    let text = obtain::within(cx, keys(&args, cx)).await?;
    cx.ui.raw(text.as_bytes())?;
    Ok(Exit::Ok)
}

async fn keys(args: &AwsProcessArgs, cx: &Cx) -> Result<String, Failure> {
    let wish = (!args.no_request).then_some(&args.wish);
    let grant = obtain::grant(&args.target, wish, cx).await?;
    let place = if args.no_cache { None } else { place(&grant.id) };
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
    let text = obtain::claim(&grant, cx).await?.aws_process()?;
    if let Some(pending) = pending {
        pending.fill(text.as_bytes())?;
    }
    Ok(text)
}

/// Where a grant's copy is kept; `None` where no directory is the user's alone.
fn place(grant: &str) -> Option<PathBuf> {
    let grant: GrantId = grant.parse().ok()?;
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = || set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let dir = private_dir(&runtime_dir().or_else(state)?.join("tidegate"))?;
    Some(dir.join(format!("{grant}.aws.json")))
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
        let text = fs::read_to_string(path).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let expires: Timestamp = value.get("Expiration")?.as_str()?.parse().ok()?;
        (expires > now.plus_std(LEAST)).then_some(text)
    };
    for other in fs::read_dir(place.parent()?).ok()?.flatten() {
        let path = other.path();
        if path.to_string_lossy().ends_with(".aws.json") && good(&path).is_none() {
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
        let place = dir.join("g.aws.json");
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
            let at = now.plus_std(Duration::from_secs(seconds));
            fs::write(&path, serde_json::json!({"Expiration": at}).to_string()).unwrap();
            path
        };
        let (mine, other) = (put("a.aws.json", 900), put("b.aws.json", 30));
        assert!(kept(&mine, now).is_some());
        assert!(!other.exists() && mine.exists());
        assert!(kept(&mine, now.plus_std(Duration::from_secs(880))).is_none());
        assert!(!mine.exists());
    }
}
