//! Who is in charge of a ledger (promise P10): a restored backup or a cloned node only observes.
//!
//! Two marks are compared at start. The ledger remembers the fingerprint of the database that it lives in: a copy lives
//! in another one. The data directory remembers how many audit events the ledger had: a restored backup has fewer.
//! The latter doubt is kept in a file: it does not go away by itself when the ledger grows again.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::store::Store;

const FINGERPRINT: &str = "fingerprint";

/// The marks of one node.
#[derive(Debug, Clone)]
pub struct Custody {
    mark: PathBuf,
    doubted: PathBuf,
    doubt: Option<String>,
}

impl Custody {
    /// Compare the marks; a new ledger is taken charge of.
    pub(super) async fn establish(store: &Store, data_dir: &Path) -> anyhow::Result<Self> {
        let (mark, doubted) = (data_dir.join("ledger.mark"), data_dir.join("ledger.doubt"));
        let here = store.fingerprint().await.context("cannot tell which database this is")?;
        let remembered = store.meta(FINGERPRINT).await?;
        // The mark first: another broker of the same node may be moving it on.
        let marked = match std::fs::read_to_string(&mark) {
            Ok(text) => Some(text.trim().parse::<u64>().ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", mark.display())),
        };
        let size = store.audit_size().await?;
        let doubt = match (remembered, marked) {
            // An empty ledger where there was one is no new ledger: all that is live would look like orphans.
            (None, None | Some(Some(0))) if size == 0 => {
                store.remember(FINGERPRINT, &here).await?;
                None
            }
            (Some(there), _) if there != here => Some("the ledger was copied from another database".to_owned()),
            (None, _) => Some("the ledger does not remember its database".to_owned()),
            (Some(_), Some(None)) => Some(format!("{} cannot be read as a number of events", mark.display())),
            (Some(_), Some(Some(marked))) if marked > size => {
                let doubt = format!("the ledger has {size} events, and this node has seen {marked}: it was restored");
                std::fs::write(&doubted, &doubt).with_context(|| format!("cannot write {}", doubted.display()))?;
                Some(doubt)
            }
            _ => match std::fs::read_to_string(&doubted) {
                Ok(before) => Some(before.trim().to_owned()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", doubted.display())),
            },
        };
        Ok(Self { mark, doubted, doubt })
    }

    /// Is there doubt?
    pub const fn observing(&self) -> bool {
        self.doubt.is_some()
    }

    /// Why there is doubt.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// Remember how far the ledger has come.
    pub fn remember(&self, size: u64) -> std::io::Result<()> {
        let next = self.mark.with_extension(format!("mark.{}.new", std::process::id()));
        let mut file = std::fs::File::create(&next)?;
        file.write_all(size.to_string().as_bytes())?;
        // A mark that a power failure tore is none.
        file.sync_all()?;
        std::fs::rename(next, &self.mark)
    }

    /// An administrator says go: this is the ledger from now on.
    pub async fn settle(&self, store: &Store) -> anyhow::Result<()> {
        let here = store.fingerprint().await?;
        store.remember(FINGERPRINT, &here).await?;
        self.remember(store.audit_size().await?).context("cannot write the mark of the ledger")?;
        match std::fs::remove_file(&self.doubted) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.doubted.display()))
            }
            _ => Ok(()),
        }
    }

    /// Has somebody said go since?
    pub async fn settled_since(&self, store: &Store, data_dir: &Path) -> bool {
        Self::establish(store, data_dir).await.is_ok_and(|fresh| !fresh.observing())
    }
}
