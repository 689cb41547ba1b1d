//! Holds the policy set that runs, and changes it only for one that loads without a problem. Never blocks a decision.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{files::Files, problem::LoadError, set::PolicySet, targets::TargetDirectory};

/// The running policy set and where it comes from.
#[derive(Debug)]
pub struct PolicyEngine {
    dir: Option<PathBuf>,
    targets: Box<dyn TargetDirectory>,
    current: ArcSwap<PolicySet>,
    /// One reload at a time, so that an older set never replaces a newer one.
    reloading: Mutex<()>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// A new set runs.
    Changed {
        /// The version that ran.
        from: String,
        /// The version that runs.
        to: String,
    },
}

impl PolicyEngine {
    /// From a directory.
    pub fn load(dir: &Path, targets: Box<dyn TargetDirectory>) -> Result<Self, LoadError> {
        let set = PolicySet::build(Files::read(dir)?, targets.as_ref())?;
        Ok(Self::running(Some(dir.to_owned()), set, targets))
    }

    /// From texts, as those that ship in the binary; a reload finds them unchanged.
    pub fn from_files(files: Files, targets: Box<dyn TargetDirectory>) -> Result<Self, LoadError> {
        let set = PolicySet::build(files, targets.as_ref())?;
        Ok(Self::running(None, set, targets))
    }

    fn running(dir: Option<PathBuf>, set: PolicySet, targets: Box<dyn TargetDirectory>) -> Self {
        Self { dir, targets, current: ArcSwap::from_pointee(set), reloading: Mutex::new(()) }
    }

    /// The set that runs. Keep it for the length of one decision, so that all of it is of one version.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Read the directory again. On any problem the running set stays.
    pub fn reload(&self) -> Result<Reload, LoadError> {
        let Some(dir) = &self.dir else { return Ok(Reload::Unchanged) };
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(dir)?;
        let from = self.current().version().to_owned();
        if files.version() == from {
            return Ok(Reload::Unchanged);
        }
        let set = PolicySet::build(files, self.targets.as_ref())?;
        let to = set.version().to_owned();
        self.current.store(Arc::new(set));
        Ok(Reload::Changed { from, to })
    }
}
