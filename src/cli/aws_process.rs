//! `tidegate aws-credential-process`: the `credential_process` of the AWS command line and SDKs.
//!
//! They call it at every command and keep nothing, so what it claimed is kept for the user's session in
//! `$XDG_RUNTIME_DIR` (memory, mode 0600), and used only while the server says that its grant is live.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{
    exit::{Done, Exit, Failure},
    global::Cx,
    obtain,
    private_file::Pending,
    request::Wish,
};
use crate::domain::{id::GrantId, time::Timestamp};

/// A copy that ends sooner is not handed out again.
const LEAST: Duration = Duration::from_secs(60);

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
    /// Claim anew each time
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

/// Where a grant's copy is kept; `None` where there is no memory of the user's session.
fn place(grant: &str) -> Option<PathBuf> {
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute() && p.is_dir())?;
    let dir = run.join("tidegate");
    let _ = fs::DirBuilder::new().mode(0o700).create(&dir);
    let grant: GrantId = grant.parse().ok()?;
    dir.is_dir().then(|| dir.join(format!("{grant}.aws.json")))
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
