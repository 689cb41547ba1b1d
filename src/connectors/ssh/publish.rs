//! Keeps the published revocation list equal to what the ledger says.
//!
//! The file is replaced whole (written beside, synced, renamed, directory synced): `sshd` refuses every key login if
//! its list cannot be read, so there is never a moment without a good one. One writing at a time; callers that come
//! while one is under way share the next.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use super::krl::{self, Krl};
use crate::{
    connectors::call::within,
    domain::time::Timestamp,
    ports::{clock::Clock, connector::Fault, entropy::Entropy, revocations::Revocations},
};

/// Readable by the user that `sshd` drops to, writable by us.
const MODE: u32 = 0o644;

/// A serial stays listed for so long after its expiry: a host whose clock is late would accept it otherwise.
const LATEST_CLOCK: Duration = Duration::from_mins(5);

/// The published list of one target.
pub struct Publisher {
    pub target: String,
    pub path: PathBuf,
    /// The authority's public key in SSH wire form.
    pub ca: Vec<u8>,
    pub limit: Duration,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub ledger: Arc<dyn Revocations>,
    pub writing: Arc<Mutex<()>>,
    pub asked: AtomicU64,
    pub served: AtomicU64,
}

impl Publisher {
    /// Publish what the ledger says now, at the earliest after this call began.
    pub async fn publish(self: &Arc<Self>) -> Result<(), Fault> {
        let ticket = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let this = Arc::clone(self);
        // A task of its own: if the caller gives up, the lock is held until the file system has answered, so that a
        // late writer can never overwrite a newer list.
        let work = tokio::spawn(async move {
            let _alone = this.writing.lock().await;
            if this.served.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            let upto = this.asked.load(Ordering::Acquire);
            let serials = this.revoked(this.clock.now()).await?;
            let writer = Arc::clone(&this);
            let written = tokio::task::spawn_blocking(move || writer.write_if_changed(&serials)).await;
            written.map_err(|e| Fault::Unavailable(format!("the revocation list was not written: {e}")))??;
            this.served.fetch_max(upto, Ordering::AcqRel);
            Ok(())
        });
        within(self.limit, "publishing the revocation list", async {
            work.await.unwrap_or_else(|e| Err(Fault::Unavailable(format!("the revocation list was not written: {e}"))))
        })
        .await
    }

    /// Serials that are revoked and may not have expired by a host's clock.
    async fn revoked(&self, now: Timestamp) -> Result<BTreeSet<u64>, Fault> {
        let since = now.minus_std(LATEST_CLOCK);
        let revoked = within(self.limit, "the ledger", self.ledger.revoked(&self.target, since)).await?;
        Ok(revoked.into_iter().map(|issued| issued.serial).collect())
    }

    /// A fresh list, as bytes.
    pub async fn fresh(&self) -> Result<Vec<u8>, Fault> {
        let now = self.clock.now();
        Ok(self.bytes(&self.revoked(now).await?, now))
    }

    fn bytes(&self, serials: &BTreeSet<u64>, now: Timestamp) -> Vec<u8> {
        krl::write(&self.ca, &format!("tidegate {}", self.target), serials, now)
    }

    fn write_if_changed(&self, serials: &BTreeSet<u64>) -> Result<(), Fault> {
        let same =
            self.read_now().is_ok_and(|(list, _)| list.serials.ranges.is_empty() && list.serials.single == *serials);
        if same && fs::metadata(&self.path).is_ok_and(|m| m.permissions().mode() & 0o7777 == MODE) {
            return Ok(());
        }
        self.replace(&self.bytes(serials, self.clock.now()))
    }

    /// If nothing is published yet, publish the empty list, so that `sshd` can start. Blocks.
    pub fn write_first(&self) -> Result<(), Fault> {
        if self.path.exists() {
            return Ok(());
        }
        self.replace(&self.bytes(&BTreeSet::new(), self.clock.now()))
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), Fault> {
        let mut random = [0_u8; 8];
        self.entropy.fill(&mut random).map_err(|e| Fault::Unavailable(e.to_string()))?;
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        let temporary = dir.join(format!(".tidegate-krl-{}", hex::encode(random)));
        let written = self.replace_through(&temporary, dir, bytes);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|e| Fault::Unavailable(format!("cannot publish {}: {e}", self.path.display())))
    }

    fn replace_through(&self, temporary: &Path, dir: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        // After the fact, for the process's umask may be stricter.
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        File::open(dir)?.sync_all()
    }

    /// What is published, read back and parsed, with its SHA-256. Blocks.
    pub fn read_now(&self) -> Result<(Krl, String), String> {
        let bytes = fs::read(&self.path).map_err(|e| format!("cannot read {}: {e}", self.path.display()))?;
        let list = krl::read(&bytes, &self.ca).map_err(|e| format!("{}: {e}", self.path.display()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        Ok((list, hex::encode(digest)))
    }

    /// The same, off the runtime's threads and within the time limit.
    pub async fn read(self: &Arc<Self>) -> Result<(Krl, String), String> {
        let this = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || this.read_now());
        match tokio::time::timeout(self.limit, reading).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("{} was not read within {} s", self.path.display(), self.limit.as_secs())),
        }
    }
}
