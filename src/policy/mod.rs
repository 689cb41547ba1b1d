//! Policy: the catalog and Cedar. Loads and validates a directory of files, decides on requests, approvals and claims,
//! and says why. Never performs anything, never speaks to a target, never reads a clock.
//!
//! `files` are read → `catalog` and `rules` are checked → a `set` is assembled and the `engine` runs it → `decide`
//! answers. `cases`, `lint`, `explain` and `matrix` are the tools behind `tidegate policy`.

mod action;
mod cases;
mod catalog;
mod decide;
mod declared;
mod engine;
mod explain;
mod facts;
mod files;
mod lint;
mod matrix;
mod obligations;
mod problem;
mod rules;
pub mod seed;
mod set;
mod targets;

pub use self::{
    action::Action,
    cases::{TestReport, identities, test, test_set},
    engine::{PolicyEngine, Reload},
    explain::explain,
    files::Files,
    lint::{lint, lint_set},
    matrix::{matrix, ordinary},
    obligations::Obligations,
    problem::{LoadError, Problem},
    rules::Rule,
    set::PolicySet,
    targets::{NamedTargets, TargetDirectory, UncheckedTargets},
};

#[cfg(test)]
mod tests;
